# services.archibald-guest: takes the settings that the host hands over at each start, tells the host
# when the machine is ready, and has the checks. The unit files are those of the Debian image.
{ config, lib, pkgs, ... }:
let
  inherit (lib) mkIf mkOption types;
  cfg = config.services.archibald-guest;
  inherit (config.archibald) derived;
  unit = name: derived.guest.unit "/usr/lib/systemd/system/archibald-guest-${name}.service";
  words = value: lib.concatMap (part: lib.splitString " " part) (lib.flatten [ value ]);
  # Debian calls its SSH unit ssh.service.
  known = map (name: if name == "ssh.service" then "sshd.service" else name);
  order = section: {
    after = known (words (section.After or [ ]));
    before = known (words (section.Before or [ ]));
    wants = words (section.Wants or [ ]);
    conflicts = words (section.Conflicts or [ ]);
  };
  setup = unit "setup";
  ready = unit "ready";

  # What is applied at each start, besides accounts, keys and name. Everything else that the Debian image
  # renders at boot (PipeWire, rtirq, sshd) is part of the system here: /etc is a link into the store.
  atBoot = [ "etc/hosts" "etc/resolv.conf" ];
  templates = pkgs.linkFarm "archibald-templates" (
    map (path: { name = path; path = derived.guest.path "/usr/share/archibald/templates/${path}"; }) atBoot
    ++ [
      {
        # /etc/systemd/network is the system's. networkd takes the first file by name that fits.
        name = "run/systemd/network/05-archibald.network";
        path = derived.guest.path "/usr/share/archibald/templates/etc/systemd/network/10-archibald.network";
      }
    ]
  );
  path = [
    config.systemd.package
    pkgs.util-linux
    pkgs.jack-example-tools
    pkgs.su
  ];
  # With the programs that it asks, and with PipeWire's libjack for those of JACK: sudo and units start
  # it without the variables of a session.
  command = pkgs.writeShellScriptBin "archibald-guest" (''
    export PATH=${lib.makeBinPath path}:/run/current-system/sw/bin:$PATH
  '' + lib.optionalString config.services.pipewire.jack.enable ''
    export LD_LIBRARY_PATH=${config.services.pipewire.package.jack}/lib
  '' + ''
    exec ${cfg.package}/bin/archibald-guest "$@"
  '');
in
{
  options.services.archibald-guest = {
    enable = mkOption {
      type = types.bool;
      default = true;
      description = "Whether the machine takes settings from the host that started it.";
    };
    package = mkOption {
      type = types.package;
      default = (import ../packages.nix { inherit pkgs; }).archibald-guest;
      defaultText = lib.literalExpression "archibald.packages.x86_64-linux.archibald-guest";
      description = "The archibald-guest package.";
    };
  };

  config = mkIf cfg.enable {
    environment.systemPackages = [ command ];

    systemd.services.archibald-guest-setup = order setup.Unit // {
      description = setup.Unit.Description;
      wantedBy = [ "sysinit.target" ];
      unitConfig = {
        inherit (setup.Unit) ConditionCredential DefaultDependencies;
      };
      serviceConfig = setup.Service // {
        ExecStart = "${command}/bin/archibald-guest setup";
        # Where archibald-guest looks for them on every system.
        BindReadOnlyPaths = "${templates}:/usr/share/archibald/templates";
      };
    };

    systemd.services.archibald-guest-ready = order ready.Unit // {
      description = ready.Unit.Description;
      wantedBy = [ "multi-user.target" ];
      unitConfig = { inherit (ready.Unit) ConditionCredential; };
      serviceConfig = ready.Service // {
        ExecStart = "${command}/bin/archibald-guest ready";
      };
    };

    # Names by which archibald-guest knows a unit.
    systemd.services.sshd.aliases = [ "ssh.service" ];
    # The key that the host hands over, so that it knows whom it talks to; sshd makes one of its own
    # there when there is none. Another key of the same kind would be shown in its place.
    services.openssh.hostKeys = [{ type = "ed25519"; path = "/run/archibald/ssh_host_ed25519_key"; }];
    systemd.tmpfiles.rules = [
      "d /run/archibald 0755 root root -"
      # What `archibald-guest check` plays and asks, where it looks for it.
      "L+ /usr/sbin/sshd - - - - ${pkgs.openssh}/bin/sshd"
      "L+ /usr/share/archibald/check - - - - ${derived.guest.path "/usr/share/archibald/check"}"
    ];
  };
}
