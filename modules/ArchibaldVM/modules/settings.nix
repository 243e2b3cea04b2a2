# The machine file as options. Every number of the machine stands in archibald.toml; here is only what
# type each has, and what follows from them.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  guest = import ../guest-files.nix { inherit lib; };
  cpus = import ../cpus.nix { inherit lib; };
  cfg = config.archibald;
  machine = cfg.machine;
  defaults = lib.importTOML ../../../archibald.toml;

  cpuSet = types.strMatching "([0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*)?";
  size = types.strMatching "[0-9]+ ?[KMGT]iB";
  network = types.strMatching "[0-9]+\\.[0-9]+\\.[0-9]+\\.[0-9]+/[0-9]+";
  key = type: description: mkOption { inherit type description; };
  table = options: mkOption {
    type = types.submodule { inherit options; };
    description = "A table of the machine file.";
    default = { };
  };

  given = if cfg.machineFile == null then { } else lib.importTOML cfg.machineFile;
  isolated = machine.realtime.isolated;
  everywhere = cpus.all machine.machine.vcpus;
  housekeeping = cpus.format (cpus.without isolated everywhere);
  audioCpus = if isolated == "" then housekeeping else isolated;
  user = if machine.users == [ ] then { name = ""; } else builtins.head machine.users;

  # "10.0.2.15/24" -> "10.0.2.0/24"
  networkOf = address:
    let
      parts = lib.splitString "/" address;
      prefix = lib.toInt (builtins.elemAt parts 1);
      power = n: if n == 0 then 1 else 2 * power (n - 1);
      mask = position:
        let bits = prefix - 8 * position; in
        if bits >= 8 then 255 else if bits <= 0 then 0 else 256 - power (8 - bits);
      bytes = map lib.toInt (lib.splitString "." (builtins.head parts));
      masked = map (n: toString (builtins.bitAnd (builtins.elemAt bytes n) (mask n))) (lib.range 0 3);
    in
    "${builtins.concatStringsSep "." masked}/${toString prefix}";
in
{
  options.archibald = {
    machineFile = mkOption {
      type = types.nullOr types.path;
      default = null;
      description = ''
        A machine file (archibald.toml). What it leaves out is as in the one of the repository, which
        is used when this is null.
      '';
    };

    machine = {
      name = key (types.strMatching "[a-zA-Z0-9-]{1,63}") "Name of the machine.";
      machine = table {
        arch = key (types.enum [ "x86_64" ]) "Processor architecture.";
        vcpus = key (types.ints.between 1 64) "Number of virtual CPUs.";
        cpu = mkOption { type = types.nullOr types.str; default = null; description = "QEMU's processor model."; };
        memory = key size "Memory of the machine.";
        disk = key size "Size of its disk.";
      };
      image = table {
        os = key (types.enum [ "debian" "nixos" ]) "The builder of the image.";
        packages = key (types.listOf types.str) "Packages beyond the image's own, by their names in nixpkgs.";
        mirror = mkOption { type = types.nullOr types.str; default = null; description = "Debian's mirror; not used here."; };
      };
      realtime = table {
        host-cpus = key cpuSet "CPUs of the host for the machine alone.";
        isolated = key cpuSet "CPUs of the machine for audio alone.";
        audio-priority = key (types.ints.between 1 97) "SCHED_FIFO priority of the audio graph.";
        irq-priority = key (types.ints.between 1 98) "SCHED_FIFO priority of the sound card's interrupt threads.";
      };
      audio = table {
        server = key (types.enum [ "pipewire" "jack" ]) "Who owns the audio graph.";
        rate = key types.ints.positive "Sample rate in Hz.";
        quantum = key types.ints.positive "Frames in one period.";
      };
      network = table {
        mode = key (types.enum [ "user" "bridge" ]) "How the machine's card is joined to the host.";
        bind = key types.str "Address of the host that forwarded ports are bound to.";
        forward = key (types.listOf (types.strMatching "[0-9]+(-[0-9]+)?:[0-9]+(-[0-9]+)?(/(tcp|udp))?")) "Forwarded ports, HOST:GUEST.";
        bridge = key types.str "The host's bridge.";
        host-address = key network "The host's address on it.";
        guest-address = key network "The machine's address on it.";
      };
      devices = table {
        pci = key (types.listOf types.str) "Devices handed over by VFIO.";
        usb = key (types.listOf types.str) "USB devices handed over.";
        shares = key (types.listOf (types.strMatching "/[^: ]+(:/[^: ]+)?(:ro)?")) "Folders of the host.";
        sound = key (types.enum [ "off" "none" "pipewire" "jack" "alsa" ]) "What QEMU plays the machine's sound card through.";
      };
      users = mkOption {
        description = "Who logs in; the first one runs the audio session.";
        type = types.listOf (types.submodule {
          options = {
            name = key (types.strMatching "[a-z_][a-z0-9_-]*") "Login name.";
            password = mkOption { type = types.nullOr types.str; default = null; description = "Password in the clear; null: by key alone."; };
            groups = mkOption { type = types.listOf types.str; default = (builtins.head defaults.users).groups; description = "Supplementary groups."; };
            authorized-keys = mkOption { type = types.listOf types.str; default = [ ]; description = "Public keys."; };
          };
        });
      };
      streamdb = table {
        enable = key types.bool "Whether the store runs.";
        port = key types.port "Its TCP port in the machine.";
        open = key types.bool "Whether a machine on a bridge lets in who has no token.";
      };
      cluster = table {
        controller = mkOption {
          type = types.nullOr (types.strMatching "[a-zA-Z0-9.-]+(:[0-9]+)?");
          default = null;
          description = "Where slurmctld of the cluster listens that the machine is a node of; null: of none.";
        };
        munge-key = mkOption { type = types.str; default = "/etc/munge/munge.key"; description = "The cluster's munge key on the host."; };
      };
    };

    derived = mkOption {
      internal = true;
      readOnly = true;
      type = types.attrsOf types.raw;
      description = "What follows from the machine file; what other modules share.";
    };
  };

  config.archibald = {
    # Weak, so that a module may say `archibald.machine.audio.quantum = 64;` as well.
    machine = builtins.mapAttrs
      (_: part: if builtins.isAttrs part then builtins.mapAttrs (_: lib.mkDefault) part else lib.mkDefault part)
      (lib.recursiveUpdate defaults (given // {
        realtime = {
          # A machine file that does not say: all but the first, as `archibald` takes it.
          isolated = cpus.format (builtins.tail everywhere);
        } // given.realtime or { };
      }));

    derived = rec {
      inherit guest cpus housekeeping audioCpus user;
      # The network that only the host can reach: QEMU's own in user mode.
      address = if machine.network.mode == "user" then "10.0.2.15/24" else machine.network.guest-address;
      # Its network, as sshd and systemd want it: one whose host part is not zero stops sshd.
      onlyHost = networkOf address;
      gateway =
        if machine.network.mode == "user" then "10.0.2.2"
        else builtins.head (lib.splitString "/" machine.network.host-address);
      # What the guest's templates may name, as in crates/guest/src/template.rs.
      values = {
        NAME = machine.name;
        RATE = machine.audio.rate;
        QUANTUM = machine.audio.quantum;
        AUDIO_PRIORITY = machine.realtime.audio-priority;
        # As far below the graph as JACK2 puts its clients.
        CLIENT_PRIORITY = lib.foldl' (a: b: if a > b then a else b) 1 [ (machine.realtime.audio-priority - 5) ];
        IRQ_PRIORITY = machine.realtime.irq-priority;
        AUDIO_CPUS = audioCpus;
        AUDIO_CPU_LIST = cpus.spaced (cpus.parse audioCpus);
        HOUSEKEEPING = housekeeping;
        STREAMDB_PORT = machine.streamdb.port;
        PASSWORD_FROM = onlyHost;
      };
      render = path: guest.fill values (guest.template path);
    };
  };
}
