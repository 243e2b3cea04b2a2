# musnix at the revision that flake.nix names, as far as the modules use it (there: modules/{base,kernel,
# other,rtirq}.nix). Its silence about kernels before 6.12 is kept: the modules must notice.
{ config, lib, pkgs, ... }:
let
  inherit (lib) mkIf mkOption types;
  option = type: default: mkOption { inherit type default; };
  flag = option types.bool false;
  cfg = config.musnix;
  limit = item: type: value: { domain = "@audio"; inherit item type value; };
in
{
  options.musnix = {
    enable = flag;
    alsaSeq.enable = option types.bool true;
    rtcqs.enable = flag;
    kernel.realtime = flag;
    kernel.packages = option types.raw pkgs.linuxPackages;
    das_watchdog.enable = option types.bool cfg.kernel.realtime;
    rtirq = {
      enable = flag;
      nameList = option types.str "snd usb i8042";
      prioHigh = option types.int 90;
      prioDecr = option types.int 5;
      prioLow = option types.int 51;
      resetAll = option types.int 0;
      nonThreaded = option types.str "rtc snd";
      highList = option types.str "";
    };
  };

  config = lib.mkMerge [
    (mkIf cfg.enable {
      boot.kernel.sysctl."vm.swappiness" = 10;
      boot.kernelModules = lib.optionals cfg.alsaSeq.enable [ "snd-seq" "snd-rawmidi" ];
      boot.kernelParams = [ "threadirqs" ];
      powerManagement.cpuFreqGovernor = "performance";
      environment.systemPackages = lib.optional cfg.rtcqs.enable
        (pkgs.writeTextDir "bin/rtcqs" "");
      environment.sessionVariables = lib.genAttrs
        (map (kind: "${kind}_PATH") [ "CLAP" "DSSI" "LADSPA" "LV2" "LXVST" "VST3" "VST" ])
        (_: lib.mkDefault "$HOME/.nix-profile/lib:/run/current-system/sw/lib");
      security.pam.loginLimits = [
        (limit "memlock" "-" "unlimited")
        (limit "rtprio" "-" "99")
        (limit "nofile" "soft" "99999")
        (limit "nofile" "hard" "99999")
      ];
      services.udev.extraRules = ''
        KERNEL=="rtc0", GROUP="audio"
        KERNEL=="hpet", GROUP="audio"
        DEVPATH=="/devices/virtual/misc/cpu_dma_latency", OWNER="root", GROUP="audio", MODE="0660"
      '';
    })
    (mkIf cfg.kernel.realtime {
      boot.kernelPackages =
        if lib.versionAtLeast cfg.kernel.packages.kernel.version "6.12" then
          pkgs.linuxPackagesFor
            (cfg.kernel.packages.kernel.override {
              ignoreConfigErrors = true;
              structuredExtraConfig = {
                EXPERT = lib.kernel.yes;
                PREEMPT_RT = lib.kernel.yes;
                RT_GROUP_SCHED = lib.kernel.no;
              };
            })
        else cfg.kernel.packages;
    })
    { services.das_watchdog.enable = cfg.das_watchdog.enable; }
    (mkIf cfg.rtirq.enable {
      environment.etc."rtirq.conf".source = pkgs.writeText "rtirq.conf" ''
        RTIRQ_NAME_LIST="${cfg.rtirq.nameList}"
        RTIRQ_PRIO_HIGH=${toString cfg.rtirq.prioHigh}
        RTIRQ_PRIO_DECR=${toString cfg.rtirq.prioDecr}
        RTIRQ_PRIO_LOW=${toString cfg.rtirq.prioLow}
        RTIRQ_RESET_ALL=${toString cfg.rtirq.resetAll}
        RTIRQ_NON_THREADED="${cfg.rtirq.nonThreaded}"
      '';
      systemd.services.rtirq = {
        description = "IRQ thread tuning for realtime kernels";
        after = [ "multi-user.target" "sound.target" ];
        wantedBy = [ "multi-user.target" ];
        serviceConfig = { Type = "oneshot"; RemainAfterExit = true; };
      };
    })
  ];
}
