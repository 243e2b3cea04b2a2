# Options of nixpkgs, each with its type there. Above each group: the file that declares it.
{ config, lib, pkgs, ... }:
let
  inherit (lib) mkOption types;
  option = type: default: mkOption { inherit type default; };
  flag = option types.bool false;
  cfg = config.virtualisation;
  variant = cfg.vmVariant.virtualisation;
in
{
  options.virtualisation = {
    # nixos/modules/virtualisation/build-vm.nix: the system once more with qemu-vm.nix. Here only what
    # qemu-vm.nix declares.
    vmVariant = option (types.submodule ./qemu-vm.nix) { };

    # nixos/modules/virtualisation/libvirtd.nix
    libvirtd = {
      enable = flag;
      onBoot = option (types.enum [ "start" "ignore" ]) "start";
      allowedBridges = option (types.listOf types.str) [ "virbr0" ];
      qemu.runAsRoot = option types.bool true;
    };
  };

  # nixos/modules/security/polkit.nix
  options.security.polkit.enable = flag;

  config = {
    assertions = [
      {
        assertion = cfg.libvirtd.enable -> config.security.polkit.enable;
        message = "The libvirtd module currently requires Polkit to be enabled.";
      }
    ];
    users.groups = lib.mkIf cfg.libvirtd.enable { libvirtd = { }; qemu-libvirtd = { }; };
    systemd.services = lib.mkIf cfg.libvirtd.enable { libvirtd.serviceConfig.Type = "notify"; };

    # nixos/modules/virtualisation/qemu-vm.nix: $out/bin/run-${system.name}-vm
    system.build.vm = pkgs.runCommand "run-${config.system.name}-vm" { } ''
      ${config.system.build.toplevel} ${builtins.toJSON variant}
    '';
  };
}
