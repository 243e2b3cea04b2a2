# Options of nixpkgs, each with its type there. Above each group: the file that declares it.
{ lib, pkgs, ... }:
let
  inherit (lib) mkOption types;
  option = type: default: mkOption { inherit type default; };
  names = option (types.listOf types.str) [ ];

  # nixos/lib/systemd-unit-options.nix
  unitOptions = {
    description = option types.str "";
    after = names;
    before = names;
    wants = names;
    requires = names;
    bindsTo = names;
    conflicts = names;
    wantedBy = names;
    aliases = names;
    unitConfig = option (types.attrsOf types.anything) { };
  };
  service = types.submodule {
    options = unitOptions // {
      enable = option types.bool true;
      path = option (types.listOf (types.oneOf [ types.package types.str ])) [ ];
      environment = option (types.attrsOf (types.nullOr (types.oneOf [ types.str types.path types.package ]))) { };
      script = option types.lines "";
      preStart = option types.lines "";
      serviceConfig = option (types.attrsOf types.anything) { };
    };
  };
in
{
  options = {
    # nixos/modules/system/boot/kernel.nix
    boot.kernelPackages = option types.raw pkgs.linuxPackages;
    boot.kernelParams = option (types.listOf (types.strMatching "([^\"[:space:]]|\"[^\"]*\")+")) [ ];
    boot.kernelModules = names;
    boot.initrd.availableKernelModules = names;
    boot.initrd.kernelModules = names;

    # nixos/modules/system/boot/systemd/initrd.nix
    boot.initrd.systemd.enable = option types.bool false;
    boot.initrd.systemd.package = option types.package pkgs.systemd;
    boot.initrd.systemd.services = option (types.attrsOf service) { };

    # nixos/modules/system/boot/modprobe.nix; nixos/modules/config/sysctl.nix; nixos/modules/system/boot/stage-2.nix
    boot.extraModprobeConfig = option types.lines "";
    boot.kernel.sysctl = option (types.attrsOf (types.nullOr (types.oneOf [ types.bool types.str types.int ]))) { };
    boot.postBootCommands = option types.lines "";

    # nixos/modules/system/boot/loader/grub/grub.nix, systemd-boot/systemd-boot.nix, efi.nix
    boot.loader.grub.enable = option types.bool true;
    boot.loader.systemd-boot.enable = option types.bool false;
    boot.loader.efi.canTouchEfiVariables = option types.bool false;

    # nixos/modules/system/boot/systemd.nix, systemd/user.nix, systemd/tmpfiles.nix
    systemd.package = option types.package pkgs.systemd;
    systemd.services = option (types.attrsOf service) { };
    systemd.user.services = option (types.attrsOf service) { };
    systemd.tmpfiles.rules = names;
  };
}
