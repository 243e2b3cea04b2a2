# A node of a Slurm cluster, and folders of the host, as the machine file says. The unit is the Debian
# image's; archibald-guest puts the munge key in its place at each start.
{ config, lib, pkgs, ... }:
let
  inherit (config.archibald) derived machine;
  joined = machine.cluster.controller != null;
  unit = derived.guest.unit "/usr/lib/systemd/system/archibald-node.service";
  words = value: lib.concatMap (part: lib.splitString " " part) (lib.flatten [ value ]);
  # "-/usr/bin/timeout 10 /usr/bin/scontrol ..."
  here = lib.replaceStrings
    [ "/usr/sbin/slurmd" "/usr/bin/scontrol" "/usr/bin/timeout" ]
    [ "${pkgs.slurm}/bin/slurmd" "${pkgs.slurm}/bin/scontrol" "${pkgs.coreutils}/bin/timeout" ];
  controller = machine.cluster.controller;

  # "/srv/farm:/mnt/farm:ro"
  share = place: text:
    let
      parts = lib.splitString ":" text;
      readOnly = lib.last parts == "ro";
      folders = if readOnly then lib.init parts else parts;
    in
    lib.nameValuePair (lib.last folders) {
      device = "share${toString place}";
      fsType = "9p";
      options = [
        "trans=virtio"
        "version=9p2000.L"
        "msize=524288"
        "nofail"
        # Homes are made first, and jobs begin last.
        "x-systemd.after=archibald-guest-setup.service"
        "x-systemd.before=archibald-node.service"
      ] ++ lib.optional readOnly "ro";
    };
in
{
  config = lib.mkMerge [
    { fileSystems = builtins.listToAttrs (lib.imap0 share machine.devices.shares); }
    (lib.mkIf joined {
      assertions = [{
        assertion = machine.network.mode == "bridge";
        message = "cluster.controller of the machine file: a node of a cluster needs network.mode = \"bridge\"";
      }];
      services.munge.enable = true;
      # By which the Debian image's unit and archibald-guest know it.
      systemd.services.munged.aliases = [ "munge.service" ];
      # slurm.conf comes from the controller and names its SlurmUser.
      users.users.slurm = { isSystemUser = true; group = "slurm"; };
      users.groups.slurm = { };
      networking.firewall.allowedTCPPorts = [ 6818 ];
      systemd.services.archibald-node = {
        description = unit.Unit.Description;
        wantedBy = [ "multi-user.target" ];
        wants = words unit.Unit.Wants;
        after = words unit.Unit.After;
        unitConfig = { inherit (unit.Unit) ConditionCredential; };
        environment.CONTROLLER = if lib.hasInfix ":" controller then controller else "${controller}:6817";
        serviceConfig = unit.Service // {
          ExecStart = here unit.Service.ExecStart;
          ExecStop = map here unit.Service.ExecStop;
        };
      };
      environment.systemPackages = [ pkgs.slurm ];
    })
  ];
}
