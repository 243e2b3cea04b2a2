# Who logs in. Groups of the machine file that nothing declares would be dropped silently by NixOS, so
# they are an error here.
{ config, lib, ... }:
let
  cfg = config.archibald;
  # Debian's group of those who may become root is NixOS' wheel.
  groupsOf = user: map (group: if group == "sudo" then "wheel" else group) user.groups;
  undeclared = user: builtins.filter (group: !(config.users.groups ? ${group})) (groupsOf user);
in
{
  users.groups = {
    pipewire = { };
    audio = { };
    video = { };
  };

  # The settings handed over at each start may bring further users and other passwords.
  users.mutableUsers = true;
  users.users = builtins.listToAttrs (map
    (user: {
      inherit (user) name;
      value = {
        isNormalUser = true;
        linger = user.name == cfg.derived.user.name;
        extraGroups = groupsOf user;
        initialPassword = user.password;
        openssh.authorizedKeys.keys = user.authorized-keys;
      };
    })
    cfg.machine.users);

  # The machine is the boundary, as on the Debian image (sudoers.d/archibald).
  security.sudo.wheelNeedsPassword = false;

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
