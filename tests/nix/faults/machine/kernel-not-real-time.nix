# expect: is not real-time (PREEMPT_RT: not set)
{ lib, pkgs, ... }: {
  musnix.kernel.realtime = lib.mkForce false;
  boot.kernelPackages = pkgs.linuxPackages;
}
