# Options of nixpkgs, each with its type there. Above each group: the file that declares it.
{ config, lib, pkgs, ... }:
let
  inherit (lib) mkOption types;
  option = type: default: mkOption { inherit type default; };
  flag = option types.bool false;
  cfg = config.services;
in
{
  options.services = {
    # nixos/modules/services/networking/ssh/sshd.nix
    openssh = {
      enable = flag;
      openFirewall = option types.bool true;
      ports = option (types.listOf types.port) [ 22 ];
      hostKeys = option (types.listOf types.attrs) [ ];
      authorizedKeysFiles = option (types.listOf types.str) [ ];
      extraConfig = option types.lines "";
      settings = option
        (types.submodule {
          freeformType = types.attrsOf (types.nullOr (types.oneOf [ types.bool types.int types.str (types.listOf types.str) ]));
          options = {
            PermitRootLogin = option (types.enum [ "yes" "without-password" "prohibit-password" "forced-commands-only" "no" ]) "prohibit-password";
            PasswordAuthentication = option (types.nullOr types.bool) true;
            KbdInteractiveAuthentication = option (types.nullOr types.bool) true;
            X11Forwarding = option (types.nullOr types.bool) false;
          };
        })
        { };
    };

    # nixos/modules/services/desktops/pipewire/pipewire.nix
    pipewire = {
      enable = flag;
      audio.enable = flag;
      alsa.enable = flag;
      jack.enable = flag;
      pulse.enable = flag;
      systemWide = flag;
      package = option types.package pkgs.pipewire;
      configPackages = option (types.listOf types.package) [ ];
      # nixos/modules/services/desktops/pipewire/wireplumber.nix
      wireplumber.enable = option types.bool cfg.pipewire.enable;
      wireplumber.configPackages = option (types.listOf types.package) [ ];
    };

    # nixos/modules/services/audio/jack.nix
    jack.jackd.enable = flag;

    # nixos/modules/services/hardware/udev.nix; nixos/modules/services/misc/das_watchdog.nix
    udev.extraRules = option types.lines "";
    udev.packages = option (types.listOf types.path) [ ];
    das_watchdog.enable = flag;

    # nixos/modules/services/security/munge.nix
    munge = {
      enable = flag;
      password = option types.path "/etc/munge/munge.key";
    };

    # nixos/modules/services/networking/dnsmasq.nix
    dnsmasq = {
      enable = flag;
      resolveLocalQueries = option types.bool true;
      settings = option (types.submodule { freeformType = types.attrsOf types.anything; }) { };
    };
  };

  # What these modules do besides, as far as other options depend on it.
  config = {
    assertions = [
      {
        assertion = cfg.pipewire.enable && cfg.pipewire.jack.enable -> !cfg.jack.jackd.enable;
        message = "PipeWire based JACK emulation doesn't use the JACK service.";
      }
    ];
    networking.firewall.allowedTCPPorts = lib.mkIf (cfg.openssh.enable && cfg.openssh.openFirewall) cfg.openssh.ports;
    environment.systemPackages = lib.mkIf cfg.das_watchdog.enable [ pkgs.das_watchdog ];
  };
}
