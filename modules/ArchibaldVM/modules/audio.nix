# The audio graph: PipeWire with the Debian image's own config files, or JACK2 in its place.
{ config, lib, pkgs, ... }:
let
  cfg = config.archibald;
  inherit (cfg.derived) guest render;
  isPipewire = cfg.machine.audio.server == "pipewire";
  dropIn = daemon: pkgs.writeTextDir "share/pipewire/${daemon}.conf.d/50-archibald.conf"
    (render "/etc/pipewire/${daemon}.conf.d/50-archibald.conf");
  jackd = guest.unit "/usr/lib/systemd/user/jackd.service";
in
{
  services.pipewire = lib.mkIf isPipewire {
    enable = true;
    audio.enable = true;
    alsa.enable = true;
    jack.enable = true;
    pulse.enable = true;
    # Package files, since /etc/pipewire is one link into the store. In a virtual machine PipeWire's own
    # files raise the quantum to 1024; rules in these have the last word.
    configPackages = map dropIn [ "pipewire" "pipewire-pulse" "client" "jack" ];
    wireplumber.enable = true;
    wireplumber.configPackages = [
      (pkgs.writeTextDir "share/wireplumber/wireplumber.conf.d/zz-archibald.conf"
        (render "/etc/wireplumber/wireplumber.conf.d/zz-archibald.conf"))
    ];
  };

  # Units start with the lingering user's session, not with the first client: the port for the host
  # (4713) is opened by the service itself.
  systemd.user.services = {
    pipewire.wantedBy = lib.mkIf isPipewire [ "default.target" ];
    pipewire-pulse.wantedBy = lib.mkIf isPipewire [ "default.target" ];

    jackd = lib.mkIf (!isPipewire) {
      description = jackd.Unit.Description;
      wantedBy = [ "default.target" ];
      path = [ pkgs.jack2 ];
      unitConfig.ConditionUser = jackd.Unit.ConditionUser;
      environment = {
        RATE = toString cfg.machine.audio.rate;
        QUANTUM = toString cfg.machine.audio.quantum;
        PRIORITY = toString cfg.machine.realtime.audio-priority;
      };
      serviceConfig = jackd.Service // {
        ExecStart = "${pkgs.runtimeShell} ${guest.path "/usr/lib/archibald/start-jackd"}";
        CPUAffinity = cfg.derived.audioCpus;
      };
    };
  };

  environment.systemPackages = [
    pkgs.alsa-utils
    pkgs.jack-example-tools
    pkgs.pulseaudio
    pkgs.supercollider
  ] ++ lib.optional (!isPipewire) pkgs.jack2;

  environment.sessionVariables.QT_QPA_PLATFORM = "offscreen";
}
