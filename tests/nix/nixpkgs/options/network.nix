# Options of nixpkgs, each with its type there. Above each group: the file that declares it.
{ lib, ... }:
let
  inherit (lib) mkOption types;
  option = type: default: mkOption { inherit type default; };
  flag = option types.bool false;
  names = option (types.listOf types.str) [ ];
  # nixos/lib/systemd-lib.nix, unitOption: a value, or several
  setting = types.either (types.oneOf [ types.bool types.int types.str ]) (types.listOf (types.oneOf [ types.bool types.int types.str ]));
  section = option (types.attrsOf setting) { };

  # nixos/modules/services/networking/firewall.nix
  range = types.attrsOf types.port;
  ports = {
    allowedTCPPorts = option (types.listOf types.port) [ ];
    allowedUDPPorts = option (types.listOf types.port) [ ];
    allowedTCPPortRanges = option (types.listOf range) [ ];
    allowedUDPPortRanges = option (types.listOf range) [ ];
  };
in
{
  options.networking = {
    # nixos/modules/tasks/network-interfaces.nix
    hostName = option (types.strMatching "|[a-zA-Z0-9]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9])?") "nixos";
    useDHCP = option types.bool true;
    useNetworkd = flag;
    nameservers = names;
    bridges = option
      (types.attrsOf (types.submodule {
        options.interfaces = mkOption { type = types.listOf types.str; };
        options.rstp = flag;
      }))
      { };
    interfaces = option
      (types.attrsOf (types.submodule {
        options.ipv4.addresses = option
          (types.listOf (types.submodule {
            options.address = mkOption { type = types.str; };
            options.prefixLength = mkOption { type = types.ints.between 0 32; };
          }))
          [ ];
      }))
      { };

    # nixos/modules/services/networking/firewall.nix
    firewall = ports // {
      enable = option types.bool true;
      interfaces = option (types.attrsOf (types.submodule { options = ports; })) { };
    };

    # nixos/modules/services/networking/nat.nix
    nat.enable = flag;
    nat.internalInterfaces = names;
    nat.externalInterface = option (types.nullOr types.str) null;
  };

  # nixos/modules/system/boot/resolved.nix
  options.services.resolved.enable = flag;

  # nixos/modules/system/boot/networkd.nix
  options.systemd.network.wait-online.enable = option types.bool true;
  options.systemd.network.networks = option
    (types.attrsOf (types.submodule {
      options = {
        matchConfig = section;
        networkConfig = section;
        linkConfig = section;
        address = names;
        routes = option (types.listOf (types.attrsOf setting)) [ ];
      };
    }))
    { };
}
