# Who logs in. Groups of the machine file that nothing declares would be dropped silently by NixOS, so
# they are an error here.
{ config, lib, ... }:
let
  cfg = config.archibald;
  undeclared = user: builtins.filter (group: !(config.users.groups ? ${group})) user.groups;
in
{
  users.groups = {
    pipewire = { };
    audio = { };
    video = { };
    # Who may become root, by the name that the machine file and archibald-guest use; NixOS' own is wheel.
    sudo = { };
  };

  # The settings handed over at each start may bring further users and other passwords.
  users.mutableUsers = true;
  users.users = builtins.listToAttrs (map
    (user: {
      inherit (user) name;
      value = {
        isNormalUser = true;
        linger = user.name == cfg.derived.user.name;
        extraGroups = user.groups;
        initialPassword = user.password;
        openssh.authorizedKeys.keys = user.authorized-keys;
      };
    })
    cfg.machine.users);

  security.sudo.extraConfig = cfg.derived.guest.read "/etc/sudoers.d/archibald";

  # The shell of accounts that are made at a start, for users that the image was not built with.
  systemd.tmpfiles.rules = [ "L+ /bin/bash - - - - /run/current-system/sw/bin/bash" ];

  assertions = [
    {
      assertion = cfg.machine.users != [ ];
      message = "The machine file names no user, so nobody could log in.";
    }
  ] ++ map
    (user: {
      assertion = undeclared user == [ ];
      message = ''
        ${user.name} is to be in ${lib.concatStringsSep ", " (undeclared user)}, and nothing declares
        such a group. Declare it in users.groups or take it out of archibald.toml.
      '';
    })
    cfg.machine.users;

  i18n.defaultLocale = "C.UTF-8";
}
