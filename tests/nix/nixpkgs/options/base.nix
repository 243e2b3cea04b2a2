# Options of nixpkgs, each with its type there. Above each group: the file that declares it.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  option = type: default: mkOption { inherit type default; };
  flag = option types.bool false;
in
{
  options = {
    # nixos/modules/misc/assertions.nix
    assertions = option (types.listOf types.unspecified) [ ];
    warnings = option (types.listOf types.str) [ ];

    # nixos/modules/misc/nixpkgs.nix
    nixpkgs.overlays = option (types.listOf types.raw) [ ];

    # nixos/modules/misc/version.nix; nixos/modules/system/activation/top-level.nix; nixos/modules/system/build.nix
    system.stateVersion = mkOption { type = types.str; };
    system.name = option types.str config.networking.hostName;
    system.checks = option (types.listOf types.package) [ ];
    system.build = mkOption {
      default = { };
      type = types.lazyAttrsOf types.unspecified;
    };

    # nixos/modules/system/etc/etc.nix
    environment.etc = option
      (types.attrsOf (types.submodule {
        options = {
          text = option (types.nullOr types.lines) null;
          source = option (types.nullOr types.path) null;
          mode = option types.str "symlink";
        };
      }))
      { };

    # nixos/modules/config/system-path.nix; nixos/modules/config/system-environment.nix
    environment.systemPackages = option (types.listOf types.package) [ ];
    environment.sessionVariables = option
      (types.attrsOf (types.oneOf [ (types.listOf (types.oneOf [ types.int types.str types.path ])) types.int types.str types.path ]))
      { };

    # nixos/modules/config/i18n.nix
    i18n.defaultLocale = option types.str "en_US.UTF-8";

    # nixos/modules/config/users-groups.nix
    users.mutableUsers = option types.bool true;
    users.groups = option
      (types.attrsOf (types.submodule {
        options.gid = option (types.nullOr types.int) null;
        options.members = option (types.listOf types.str) [ ];
      }))
      { };
    users.users = option
      (types.attrsOf (types.submodule {
        options = {
          isNormalUser = flag;
          isSystemUser = flag;
          linger = flag;
          description = option types.str "";
          group = option types.str "";
          extraGroups = option (types.listOf types.str) [ ];
          initialPassword = option (types.nullOr types.str) null;
          # nixos/modules/services/networking/ssh/sshd.nix
          openssh.authorizedKeys.keys = option (types.listOf types.str) [ ];
        };
      }))
      { };

    # nixos/modules/security/pam.nix
    security.pam.loginLimits = option
      (types.listOf (types.submodule {
        options = {
          domain = mkOption { type = types.str; };
          type = mkOption { type = types.enum [ "-" "hard" "soft" ]; };
          item = mkOption {
            type = types.enum [
              "core"
              "data"
              "fsize"
              "memlock"
              "nofile"
              "rss"
              "stack"
              "cpu"
              "nproc"
              "as"
              "maxlogins"
              "maxsyslogins"
              "priority"
              "locks"
              "sigpending"
              "msgqueue"
              "nice"
              "rtprio"
            ];
          };
          value = mkOption { type = types.oneOf [ types.str types.int ]; };
        };
      }))
      [ ];

    # nixos/modules/security/sudo.nix; nixos/modules/security/rtkit.nix
    security.sudo.extraConfig = option types.lines "";
    security.rtkit.enable = flag;

    # nixos/modules/tasks/filesystems.nix; nixos/modules/config/swap.nix
    fileSystems = option
      (types.attrsOf (types.submodule {
        options = {
          device = option (types.nullOr types.str) null;
          fsType = option types.str "auto";
          options = option (types.listOf types.str) [ "defaults" ];
          autoResize = flag;
        };
      }))
      { };
    swapDevices = option (types.listOf (types.submodule { options.device = mkOption { type = types.str; }; })) [ ];

    # nixos/modules/tasks/cpu-freq.nix
    powerManagement.cpuFreqGovernor = option (types.nullOr types.str) null;

    # nixos/modules/config/nix.nix
    nix.settings = option
      (types.submodule {
        freeformType = types.attrsOf types.anything;
        options.experimental-features = option (types.listOf types.str) [ ];
      })
      { };
  };

  # nixos/modules/config/users-groups.nix: groups that every system has.
  config.users.groups = lib.genAttrs
    [ "root" "wheel" "disk" "kmem" "tty" "audio" "video" "dialout" "users" "utmp" "adm" "input" "kvm" "render" ]
    (_: { });
}
