# The real-time kernel and who may use it: musnix for the kernel, rtirq and the watchdog; kernel
# arguments, sysctls, limits and device rules from the files of guest/root.
{ config, lib, pkgs, ... }:
let
  cfg = config.archibald;
  inherit (cfg.derived) guest housekeeping;
  isolated = cfg.machine.realtime.isolated;
  kernel = config.boot.kernelPackages.kernel;
  # musnix turns PREEMPT_RT on in a kernel that has it (6.12 and later) and leaves older ones as they
  # are, without a word. Both must be seen: the version, and the option in what is really built.
  asked = kernel.structuredExtraConfig.PREEMPT_RT.tristate or "not set";
in
{
  options.archibald.kernelPackages = lib.mkOption {
    type = lib.types.raw;
    default = pkgs.linuxPackages_6_12;
    defaultText = lib.literalExpression "pkgs.linuxPackages_6_12";
    description = "The kernel to build with PREEMPT_RT: Linux 6.12 or later.";
  };

  config = {
    musnix = {
      enable = true;
      kernel.realtime = true;
      kernel.packages = cfg.kernelPackages;
      rtcqs.enable = true;
      das_watchdog.enable = true;
      rtirq = {
        enable = true;
        prioHigh = cfg.machine.realtime.irq-priority;
        # Of no meaning since handlers cannot be taken out of their threads; musnix's own default
        # would name the sound card.
        nonThreaded = "";
      };
    };

    assertions = [
      {
        assertion = lib.versionAtLeast kernel.version "6.12";
        message = ''
          The kernel is Linux ${kernel.version}: before 6.12 musnix leaves it without PREEMPT_RT and
          says nothing. Set archibald.kernelPackages to pkgs.linuxPackages_6_12 or later.
        '';
      }
      {
        assertion = asked == "y";
        message = ''
          The kernel ${kernel.version} is not real-time (PREEMPT_RT: ${asked}). Something sets
          boot.kernelPackages over musnix's; set archibald.kernelPackages instead.
        '';
      }
    ];
    # musnix ignores errors in the kernel's configuration, so what came out is looked at as well.
    system.checks = [
      (pkgs.runCommand "preempt-rt" { } ''
        grep -qx CONFIG_PREEMPT_RT=y ${kernel.configfile} || {
          echo "the kernel's configuration came out without PREEMPT_RT" >&2
          exit 1
        }
        touch $out
      '')
    ];

    # musnix adds threadirqs itself; naming it twice would put it there twice.
    boot.kernelParams = lib.subtractLists [ "threadirqs" ] (guest.list ../../../guest/kernel-arguments)
      ++ lib.optionals (isolated != "") [
      "isolcpus=managed_irq,domain,${isolated}"
      "nohz_full=${isolated}"
      "rcu_nocbs=${isolated}"
      "irqaffinity=${housekeeping}"
    ];
    boot.extraModprobeConfig = guest.read "/etc/modprobe.d/archibald.conf";
    # Sorts before NixOS' own 60-nixos.conf, which repeats one of them (musnix: vm.swappiness).
    environment.etc."sysctl.d/50-archibald.conf".text = guest.read "/etc/sysctl.d/50-archibald.conf";
    environment.etc."systemd/journald.conf.d/50-archibald.conf".text =
      guest.read "/etc/systemd/journald.conf.d/50-archibald.conf";

    # After musnix's own entries: pam_limits takes the last one that fits.
    security.pam.loginLimits = lib.mkAfter (guest.limits "/etc/security/limits.d/99-archibald.conf");
    services.udev.extraRules = guest.read "/etc/udev/rules.d/60-archibald.rules";
    # rtkit refuses a user without a session, silently; the limits above serve instead.
    security.rtkit.enable = false;
    swapDevices = lib.mkForce [ ];
  };
}
