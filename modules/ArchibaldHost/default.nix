# The host: a standard kernel that keeps CPUs, devices and memory for the machine. `archibald doctor`
# says what is missing on a host of another distribution.
{ config, lib, pkgs, ... }:
let
  inherit (lib) mkOption types;
  cfg = config.archibald.host;
  cpus = import ../ArchibaldVM/cpus.nix { inherit lib; };
  file = lib.importTOML cfg.machineFile;
  fromFile = file.realtime.host-cpus or "";
  dedicated = cpus.parse cfg.cpus;
  others = cpus.format (cpus.without cfg.cpus (cpus.all cfg.cpuCount));
  address = lib.splitString "/" cfg.address;
in
{
  options.archibald.host = {
    machineFile = mkOption {
      type = types.path;
      default = ../../archibald.toml;
      description = "The machine file; bridge, addresses and CPUs are taken from it.";
    };
    cpuCount = mkOption {
      type = types.ints.positive;
      default = 4;
      description = "How many CPUs the host has (nproc --all).";
    };
    cpus = mkOption {
      type = types.strMatching "([0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*)?";
      default = if fromFile != "" then fromFile else "2-3";
      defaultText = "realtime.host-cpus of the machine file, or \"2-3\"";
      description = "CPUs kept for the machine; \"\" shares all of them. Wants a restart of the host.";
    };
    vfioIds = mkOption {
      type = types.listOf (types.strMatching "[0-9a-f]{4}:[0-9a-f]{4}");
      default = [ ];
      example = [ "8086:a170" ];
      description = ''
        VENDOR:DEVICE (lspci -nn) of the devices handed to the machine. Every device with that number is
        claimed, and all others of its IOMMU group must go along.
      '';
    };
    hugepages = mkOption {
      type = types.ints.unsigned;
      default = 0;
      example = 4;
      description = "How many pages of 1 GiB to keep for the machine's memory.";
    };
    bridge = mkOption {
      type = types.str;
      default = file.network.bridge;
      defaultText = "network.bridge of the machine file";
      description = "The bridge that the machine's card is joined to.";
    };
    address = mkOption {
      type = types.str;
      default = file.network.host-address;
      defaultText = "network.host-address of the machine file";
      description = "The host's address on the bridge.";
    };
    users = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "alice" ];
      description = "Who may start machines: gets the groups kvm and libvirtd.";
    };
  };

  config = {
    boot.kernelParams = [
      # Intel has it off by default, AMD on; each kernel overlooks the other's.
      "intel_iommu=on"
      "iommu=pt"
    ] ++ lib.optionals (cfg.cpus != "") [
      "isolcpus=managed_irq,domain,${cfg.cpus}"
      "nohz_full=${cfg.cpus}"
      "rcu_nocbs=${cfg.cpus}"
      "irqaffinity=${others}"
      "nosoftlockup"
      "skew_tick=1"
    ] ++ lib.optionals (cfg.hugepages > 0) [
      "default_hugepagesz=1G"
      "hugepagesz=1G"
      "hugepages=${toString cfg.hugepages}"
    ];
    boot.kernelModules = [ "vhost_net" ];
    # Before the drivers that would take the devices.
    boot.initrd.kernelModules = lib.optionals (cfg.vfioIds != [ ]) [ "vfio_pci" "vfio" "vfio_iommu_type1" ];
    boot.extraModprobeConfig = lib.optionalString (cfg.vfioIds != [ ]) ''
      options vfio-pci ids=${lib.concatStringsSep "," cfg.vfioIds}
    '';
    boot.kernel.sysctl."vm.swappiness" = 10;

    assertions = [
      {
        assertion = builtins.all (cpu: cpu < cfg.cpuCount) dedicated;
        message = ''
          archibald.host.cpus is "${cfg.cpus}", and the host has ${toString cfg.cpuCount} CPUs. Set
          archibald.host.cpuCount to what `nproc --all` says; the kernel ignores a wrong CPU silently.
        '';
      }
      {
        assertion = others != "";
        message = "archibald.host.cpus leaves no CPU for the host itself.";
      }
    ];

    networking.bridges.${cfg.bridge}.interfaces = [ ];
    networking.interfaces.${cfg.bridge}.ipv4.addresses = [{
      address = builtins.head address;
      prefixLength = lib.toInt (builtins.elemAt address 1);
    }];
    # The machine asks the host for names; everything else of the host stays closed to it.
    services.dnsmasq = {
      enable = true;
      resolveLocalQueries = false;
      settings = { interface = cfg.bridge; bind-dynamic = true; };
    };
    networking.firewall.enable = true;
    networking.firewall.interfaces.${cfg.bridge} = {
      allowedTCPPorts = [ 53 ];
      allowedUDPPorts = [ 53 ];
    };
    networking.nat = {
      enable = true;
      internalInterfaces = [ cfg.bridge ];
    };

    # libvirtd asks it who may start machines.
    security.polkit.enable = true;
    virtualisation.libvirtd = {
      enable = true;
      onBoot = "ignore";
      qemu.runAsRoot = false;
      # Its default network has the same addresses as the machine file's bridge and is not needed.
      allowedBridges = [ cfg.bridge ];
    };
    # The daemon answers in time under load. Real time is for its own threads alone: what it starts
    # begins at normal priority, and each vCPU thread gets its own.
    systemd.services.libvirtd.serviceConfig = {
      CPUSchedulingPolicy = "rr";
      CPUSchedulingPriority = 1;
      CPUSchedulingResetOnFork = true;
    };

    security.pam.loginLimits = [
      { domain = "@kvm"; type = "-"; item = "rtprio"; value = "98"; }
      { domain = "@kvm"; type = "-"; item = "memlock"; value = "unlimited"; }
    ];
    services.udev.extraRules = ''
      SUBSYSTEM=="vfio", GROUP="kvm", MODE="0660"
    '';
    users.groups.kvm = { };
    users.users = builtins.listToAttrs (map
      (name: { inherit name; value.extraGroups = [ "kvm" "libvirtd" ]; })
      cfg.users);

    environment.systemPackages = [
      (import ../ArchibaldVM/packages.nix { inherit pkgs; }).archibald
      pkgs.qemu_kvm
      pkgs.pciutils
      pkgs.bridge-utils
    ];
    nix.settings.experimental-features = [ "nix-command" "flakes" ];
  };
}
