# What the machine boots from: the runner of `nix build .#archibaldos-vm-image`, and a disk with kernel
# and initrd beside it that `archibald` takes.
{ config, lib, pkgs, modulesPath, ... }:
let
  cfg = config.archibald;
  inherit (cfg) machine;
  # "4 GiB" in MiB
  mebibytes = text:
    let
      parts = builtins.match "([0-9]+) ?([KMGT])iB" text;
      factor = { M = 1; G = 1024; T = 1024 * 1024; };
    in
    lib.toInt (builtins.head parts) * factor.${builtins.elemAt parts 1};
  forward = text:
    let
      parts = builtins.match "([0-9]+):([0-9]+)(/(tcp|udp))?" text;
      at = builtins.elemAt parts;
    in
    {
      from = "host";
      proto = if at 3 == null then "tcp" else at 3;
      host = { address = machine.network.bind; port = lib.toInt (at 0); };
      guest.port = lib.toInt (at 1);
    };
  # The runner's forwards know no ranges; `archibald up` forwards those too.
  single = builtins.filter (text: builtins.match ".*-.*" text == null) machine.network.forward;

  disk = import (modulesPath + "/../lib/make-disk-image.nix") {
    inherit config lib pkgs;
    format = "qcow2";
    partitionTableType = "none";
    installBootLoader = false;
    copyChannel = false;
    additionalSpace = "2048M";
    label = "archibald";
  };
  toplevel = config.system.build.toplevel;
in
{
  # Booted by its kernel directly; the runner of the vm variant has file systems of its own.
  boot.loader.grub.enable = false;
  boot.initrd.availableKernelModules = [ "virtio_pci" "virtio_blk" "ext4" ];
  boot.initrd.systemd.enable = true;
  # `archibald up` tries KVM with kernel and initrd alone: a guest has run, and that is all there is to
  # show. The Debian image's /init knows the same word.
  boot.initrd.systemd.services.archibald-trial = {
    description = "End of the trial of an accelerator";
    wantedBy = [ "initrd.target" ];
    before = [ "initrd-root-device.target" ];
    unitConfig = { DefaultDependencies = false; ConditionKernelCommandLine = "archibald.trial"; };
    serviceConfig = {
      Type = "oneshot";
      ExecStart = "${config.boot.initrd.systemd.package}/bin/systemctl --force --force poweroff";
    };
  };
  fileSystems."/" = {
    device = "/dev/vda";
    fsType = "ext4";
    options = [ "noatime" ];
    autoResize = true;
  };

  # `run-nixos-vm` is run-${system.name}-vm.
  system.name = "nixos";
  system.stateVersion = "26.05";

  virtualisation.vmVariant = {
    virtualisation = {
      cores = machine.machine.vcpus;
      memorySize = mebibytes machine.machine.memory;
      diskSize = mebibytes machine.machine.disk;
      graphics = false;
      forwardPorts = map forward single;
      # The runner's own choice works with KVM and without.
      qemu.options = lib.optional (machine.machine.cpu != null) "-cpu ${machine.machine.cpu}";
    };
  };

  system.build.archibaldDisk = pkgs.runCommand "archibaldos-vm-qcow2" { } ''
    mkdir $out
    ln -s ${disk}/nixos.qcow2 $out/nixos.qcow2
    cp ${toplevel}/kernel $out/kernel
    cp ${toplevel}/initrd $out/initrd
    # What the launcher adds to its own arguments: where the system lies on the disk.
    echo "init=${toplevel}/init" > $out/kernel-arguments
    echo ${config.boot.kernelPackages.kernel.modDirVersion} > $out/kernel-release
  '';
}
