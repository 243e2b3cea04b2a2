# Options of nixpkgs' nixos/modules/virtualisation/qemu-vm.nix, each with its type there. They exist only
# in the vm variant and in the machines of a NixOS test.
{ lib, ... }:
let
  inherit (lib) mkOption types;
  option = type: default: mkOption { inherit type default; };
in
{
  options.virtualisation = {
    cores = option types.ints.positive 1;
    memorySize = option types.ints.positive 1024;
    diskSize = option (types.either (types.enum [ "auto" ]) types.ints.positive) 1024;
    graphics = option types.bool true;
    qemu.options = option (types.listOf types.str) [ ];
    forwardPorts = option
      (types.listOf (types.submodule {
        options = {
          from = option (types.enum [ "host" "guest" ]) "host";
          proto = option (types.enum [ "tcp" "udp" ]) "tcp";
          host.address = option types.str "";
          host.port = mkOption { type = types.port; };
          guest.address = option types.str "";
          guest.port = mkOption { type = types.port; };
        };
      }))
      [ ];
  };
}
