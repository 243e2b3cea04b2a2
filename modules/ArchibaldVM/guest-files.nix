# The files of guest/root as Nix sees them. They are the reference for both builders: what a file there
# says is read here, not said again.
{ lib }:
let
  inherit (builtins) concatMap filter foldl' head map match readFile;
  root = ../../guest/root;
  lines = text: filter (line: line != "") (map lib.trim (lib.splitString "\n" text));
  isComment = line: lib.hasPrefix "#" line || lib.hasPrefix ";" line;
  words = line: filter (word: word != "") (lib.splitString " " (builtins.replaceStrings [ "\t" ] [ " " ] line));
  withoutComments = text: filter (line: !(isComment line)) (lines text);
  add = set: key: value: set // {
    ${key} = if !(set ? ${key}) then value else lib.flatten [ set.${key} value ];
  };
in
rec {
  read = path: readFile (root + path);
  path = path: root + path;

  # A rendered-at-boot template, to be rendered with `fill`.
  template = path: read "/usr/share/archibald/templates${path}";

  # `text` with every @NAME@ replaced; one without a value is an error, as it is in the guest.
  fill = values: text:
    let
      names = builtins.attrNames values;
      filled = builtins.replaceStrings (map (name: "@${name}@") names) (map (name: toString values.${name}) names) text;
      left = match ".*@([A-Z_]+)@.*" (builtins.replaceStrings [ "\n" ] [ " " ] filled);
    in
    if left == null then filled else throw "a template names @${head left}@, which has no value";

  # A unit file: { Unit = { After = …; }; Service = { … }; }, a key given twice as a list.
  unit = path:
    let
      step = state: line:
        let
          section = match "\\[(.*)]" line;
          pair = match "([^=]+)=(.*)" line;
        in
        if section != null then state // { at = head section; }
        else state // {
          units = state.units // {
            ${state.at} = add (state.units.${state.at} or { }) (head pair) (builtins.elemAt pair 1);
          };
        };
    in
    (foldl' step { at = ""; units = { }; } (withoutComments (read path))).units;

  # limits.d(5), as `security.pam.loginLimits` wants it.
  limits = path: map
    (line:
      let w = words line; at = builtins.elemAt w; in
      { domain = at 0; type = at 1; item = at 2; value = at 3; })
    (withoutComments (read path));

  # sysctl.d(5): key = value; a leading `-` lets the key be absent.
  sysctls = path: builtins.listToAttrs (map
    (line:
      let pair = match "-?([^= ]+) *= *(.*)" line; in
      { name = head pair; value = builtins.elemAt pair 1; })
    (withoutComments (read path)));

  # guest/packages and lists like it.
  list = file: concatMap (line: words (head (lib.splitString "#" line))) (lines (readFile file));

}
