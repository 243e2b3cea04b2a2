# As docs/nixos.md has it.
{ pkgs, ... }:
{
  archibald.machine.audio.quantum = 64;
  archibald.machine.machine.vcpus = 4;
  archibald.machine.realtime.isolated = "1-3";
  archibald.machine.image.packages = [ "gdb" ];
  archibald.kernelPackages = pkgs.linuxPackages_6_12;
  environment.systemPackages = [ pkgs.stress-ng ];
}
