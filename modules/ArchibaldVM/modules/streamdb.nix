# services.streamdb: the store. The unit's hardening is read from the Debian image's unit file.
{ config, lib, pkgs, ... }:
let
  inherit (lib) mkEnableOption mkIf mkOption types;
  cfg = config.services.streamdb;
  inherit (config.archibald) derived machine;
  unit = derived.guest.unit "/usr/lib/systemd/system/streamdb.service";
  onBridge = machine.network.mode == "bridge";
  ownState = cfg.dataDir == "/var/lib/streamdb";
in
{
  options.services.streamdb = {
    enable = mkEnableOption "StreamDB, the store that host and machine share";
    package = mkOption {
      type = types.package;
      default = (import ../packages.nix { inherit pkgs; }).streamdb;
      defaultText = lib.literalExpression "archibald.packages.x86_64-linux.streamdb";
      description = "The StreamDB package.";
    };
    address = mkOption {
      type = types.str;
      default = "0.0.0.0";
      example = "127.0.0.1";
      description = "Address to listen on. Who may come is decided by `allowFrom` besides.";
    };
    port = mkOption {
      type = types.port;
      description = "TCP port; that of the machine file unless set.";
    };
    dataDir = mkOption {
      type = types.path;
      default = "/var/lib/streamdb";
      description = ''
        Where the store's files are. Another directory than the default must exist and belong to the
        user `streamdb`, which is declared then; the default one is made and kept by systemd.
      '';
    };
    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = "Whether to open `port` in the firewall.";
    };
    allowFrom = mkOption {
      type = types.listOf types.str;
      # On a bridge, network.bind opens the machine to others, as `archibald` does it.
      default = if onBridge && !lib.hasPrefix "127." machine.network.bind then [ "any" ] else [ derived.onlyHost ];
      defaultText = "the network that only the host can reach; on a bridge that network.bind opens, any";
      example = [ "192.168.122.0/24" ];
      description = "Networks that may connect, loopback besides (IPAddressAllow).";
    };
    tokenFile = mkOption {
      type = types.nullOr types.str;
      # archibald-guest puts it there, from what the machine is told at each start.
      default = if onBridge && !machine.streamdb.open then "/run/credstore/streamdb.token" else null;
      defaultText = "null; on a bridge the file of the token that is handed over, unless streamdb.open";
      example = "/run/keys/streamdb";
      description = ''
        File of the tokens that clients must show, lines of `TOKEN [read|write [PREFIX]]`. systemd reads
        it as root; it never enters the store. null: everybody from `allowFrom` may read and write.
      '';
    };
    cpuAffinity = mkOption {
      type = types.str;
      default = derived.housekeeping;
      defaultText = "the CPUs that are not isolated";
      example = "0-1";
      description = "CPUs it may run on: it keeps off the audio CPUs.";
    };
  };

  config = lib.mkMerge [
    {
      services.streamdb = {
        enable = lib.mkDefault machine.streamdb.enable;
        port = lib.mkDefault machine.streamdb.port;
      };
    }
    (mkIf cfg.enable {
      systemd.services.streamdb = {
        description = unit.Unit.Description;
        wantedBy = [ "multi-user.target" ];
        serviceConfig = unit.Service // {
          ExecStart = lib.concatStringsSep " " ([
            "${cfg.package}/bin/streamdb serve"
            "--data ${if ownState then "\${STATE_DIRECTORY}" else cfg.dataDir}"
            "--listen ${cfg.address}:${toString cfg.port}"
          ] ++ (if cfg.tokenFile == null then [ "--open" ] else [ "--token-file \${CREDENTIALS_DIRECTORY}/token" ]));
          IPAddressAllow = [ "localhost" ] ++ cfg.allowFrom;
          CPUAffinity = cfg.cpuAffinity;
        } // lib.optionalAttrs (cfg.tokenFile != null) {
          LoadCredential = "token:${cfg.tokenFile}";
        } // lib.optionalAttrs (!ownState) {
          DynamicUser = false;
          User = "streamdb";
          Group = "streamdb";
          StateDirectory = "";
          ReadWritePaths = cfg.dataDir;
        };
      };
      users = mkIf (!ownState) {
        users.streamdb = { isSystemUser = true; group = "streamdb"; };
        groups.streamdb = { };
      };
      networking.firewall.allowedTCPPorts = mkIf cfg.openFirewall [ cfg.port ];
      environment.systemPackages = [ cfg.package ];
    })
  ];
}
