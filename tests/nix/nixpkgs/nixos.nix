# nixosSystem and the machine of a NixOS test over the declared options: what is defined is checked
# against its declaration, all of it, and assertions hold or the evaluation ends.
{ lib, packages }:
let
  inherit (builtins) attrNames attrValues concatLists concatMap concatStringsSep filter isAttrs isFunction isList mapAttrs;

  withOverlays = overlays: lib.foldl' (pkgs: overlay: pkgs // overlay (packages // pkgs) pkgs) packages overlays;

  # Values without functions and derivations, so that every one of them is evaluated and can be shown.
  plain = value:
    if isFunction value then "<function>"
    else if isAttrs value && value.type or null == "derivation" then
      if value ? text then { file = value.name; inherit (value) text; } // lib.optionalAttrs (value ? path) { inherit (value) path; }
      else if value ? entries then { farm = value.name; inherit (value) entries; }
      else value.pname or value.name
    else if isAttrs value then mapAttrs (_: plain) value
    else if isList value then map plain value
    else value;

  # What NixOS itself does not look at or finds out only when it runs.
  groupsOf = user: lib.optional (user.group != "") user.group ++ user.extraGroups;
  named = pattern: text: concatMap (part: if isList part then part else [ ]) (builtins.split pattern text);
  inconsistencies = config:
    let
      groups = attrNames config.users.groups;
      unknown = what: wanted: concatMap
        (group: lib.optional (!(lib.elem group groups)) "${what} names the group ${group}, which nothing declares")
        wanted;
    in
    concatLists (lib.mapAttrsToList (name: user: unknown "users.users.${name}" (groupsOf user)) config.users.users)
    ++ unknown "security.pam.loginLimits"
      (concatMap (l: lib.optional (lib.hasPrefix "@" l.domain) (lib.removePrefix "@" l.domain)) config.security.pam.loginLimits)
    ++ unknown "services.udev.extraRules" (named "GROUP=\"([a-z0-9_-]+)\"" config.services.udev.extraRules)
    ++ unknown "systemd.tmpfiles.rules"
      (concatMap
        (rule:
          let word = filter (w: w != "") (lib.splitString " " rule); in
          lib.optional (builtins.length word > 4 && builtins.elemAt word 4 != "-") (builtins.elemAt word 4))
        config.systemd.tmpfiles.rules);

  nixosSystem = { system ? "x86_64-linux", modules, specialArgs ? { } }:
    let
      evaluated = lib.evalModules {
        specialArgs = specialArgs // { modulesPath = toString ./nixos/modules; };
        modules = [ ./options/base.nix ./options/boot.nix ./options/network.nix ./options/services.nix ./options/virtualisation.nix ]
          ++ modules
          ++ [{
          _module.args.pkgs = withOverlays evaluated.config.nixpkgs.overlays;
          system.build.toplevel =
            if failed != [ ] then throw "Failed assertions:\n- ${concatStringsSep "\n- " failed}"
            else
              derivation {
                name = "nixos-system-${config.system.name}";
                inherit system;
                builder = "/bin/sh";
                configuration = builtins.toJSON shown;
              };
        }];
      };
      inherit (evaluated) config;
      failed = map (a: a.message) (filter (a: !a.assertion) config.assertions) ++ inconsistencies config;
      shown = plain (removeAttrs config [ "_module" "assertions" "lib" ] // {
        system = removeAttrs config.system [ "build" ];
        virtualisation = removeAttrs config.virtualisation [ "vmVariant" ];
        boot = config.boot // { kernelPackages = { inherit (config.boot.kernelPackages) kernel; }; };
        archibald = removeAttrs (config.archibald or { }) [ "derived" "kernelPackages" ];
        nixpkgs = { };
        musnix = { };
      });
    in
    evaluated // { inherit shown; };
in
{
  inherit nixosSystem;
  packages = packages // {
    # nixos/lib/testing: each node is a system of its own.
    testers.runNixOSTest = { name, nodes, testScript }: derivation {
      name = "vm-test-run-${name}";
      system = "x86_64-linux";
      builder = "/bin/sh";
      inherit testScript;
      nodes = map
        (node: (nixosSystem { modules = [ ./options/qemu-vm.nix node ]; }).config.system.build.toplevel)
        (attrValues nodes);
    };
  };
}
