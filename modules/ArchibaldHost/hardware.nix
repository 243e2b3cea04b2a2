# Replace this file by your own host's before `nixos-rebuild switch --flake .#host`:
#   nixos-generate-config --show-hardware-config > modules/ArchibaldHost/hardware.nix
# What stands here is the layout of the NixOS manual, by label, so that the flake evaluates.
{
  boot.loader.systemd-boot.enable = true;
  boot.loader.efi.canTouchEfiVariables = true;
  fileSystems."/" = { device = "/dev/disk/by-label/nixos"; fsType = "ext4"; };
  fileSystems."/boot" = { device = "/dev/disk/by-label/boot"; fsType = "vfat"; };
  networking.hostName = "archibald-host";
  networking.useDHCP = true;
  system.stateVersion = "26.05";
}
