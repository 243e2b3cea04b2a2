# Option types: what a value must be (`check`) and what several definitions make together (`merge`).
# Names and meanings as in nixpkgs' lib/types.nix.
{ lib }:
let
  inherit (builtins)
    all attrNames concatMap concatStringsSep elem head isAttrs isBool isFloat isFunction isInt
    isList isPath isString length listToAttrs map;

  show = concatStringsSep ".";
  values = map (d: d.value);

  # For messages: enough of a value to recognise it.
  brief = value:
    if lib.isDerivation value then "<package ${value.name or "?"}>"
    else if isFunction value then "<function>"
    else if isAttrs value then "{ ${concatStringsSep " " (attrNames value)} }"
    else if isList value then "[ ${concatStringsSep " " (map brief value)} ]"
    else builtins.toJSON value;

  mergeOne = loc: definitions:
    if length definitions == 1 then (head definitions).value
    else throw "The option `${show loc}' is defined ${toString (length definitions)} times and takes one definition";
  mergeEqual = loc: definitions:
    let first = (head definitions).value; in
    if all (value: value == first) (values definitions) then first
    else throw "The option `${show loc}' has conflicting definition values: ${concatStringsSep " and " (map brief (values definitions))}";

  plain = description: check: { inherit description check; merge = mergeEqual; };
  refine = type: description: check: type // { inherit description; check = v: type.check v && check v; };

  # One attribute or element, which may carry mkIf and the like.
  inner = type: loc: definitions: lib.mergeDefinitions loc type definitions;

  attrsOf = type: {
    description = "attribute set of ${type.description}";
    check = isAttrs;
    empty = { };
    merge = loc: definitions:
      let
        names = lib.unique (concatMap (d: attrNames d.value) definitions);
        at = name: concatMap (d: lib.optional (d.value ? ${name}) { inherit (d) file; value = d.value.${name}; }) definitions;
        merged = map (name: { inherit name; value = inner type (loc ++ [ name ]) (at name); }) names;
      in
      listToAttrs (map (pair: pair // { inherit (pair.value) value; })
        (builtins.filter (pair: pair.value.defined) merged));
  };

  listOf = type: {
    description = "list of ${type.description}";
    check = isList;
    empty = [ ];
    merge = loc: definitions: concatMap
      (d: concatMap
        (element:
          let merged = inner type (loc ++ [ "[]" ]) [{ inherit (d) file; value = element; }]; in
          lib.optional merged.defined merged.value)
        d.value)
      definitions;
  };

  either = a: b: {
    description = "${a.description} or ${b.description}";
    check = value: a.check value || b.check value;
    merge = loc: definitions:
      if all a.check (values definitions) then a.merge loc definitions
      else if all b.check (values definitions) then b.merge loc definitions
      else mergeEqual loc definitions;
  };

  submodule = modules: {
    description = "submodule";
    check = value: isAttrs value || isFunction value || isPath value;
    empty = { };
    merge = loc: definitions: removeAttrs (lib.evalModules {
      prefix = loc;
      specialArgs.name = if loc == [ ] then "" else lib.last loc;
      modules = lib.flatten modules
        ++ map (d: if isAttrs d.value then { _file = d.file; config = d.value; } else d.value) definitions;
    }).config [ "_module" ];
  };
in
rec {
  inherit brief attrsOf listOf either;
  lazyAttrsOf = attrsOf;
  bool = plain "boolean" isBool;
  int = plain "signed integer" isInt;
  float = plain "floating point number" isFloat;
  str = plain "string" isString;
  path = plain "absolute path" (v: isPath v || lib.isDerivation v || (isString v && lib.hasPrefix "/" v));
  package = plain "package" lib.isDerivation // { merge = mergeOne; };
  raw = { description = "raw value"; check = _: true; merge = mergeOne; };
  unspecified = { description = "unspecified value"; check = _: true; merge = mergeEqual; };
  attrs = { description = "attribute set"; check = isAttrs; empty = { }; merge = _: lib.foldl' (all: d: all // d.value) { }; };
  anything = {
    description = "anything";
    check = _: true;
    merge = loc: definitions:
      if all isAttrs (values definitions) && !lib.any lib.isDerivation (values definitions)
      then (attrsOf anything).merge loc definitions
      else mergeEqual loc definitions;
  };
  separatedString = separator: {
    description = "strings concatenated with ${builtins.toJSON separator}";
    check = isString;
    merge = _: definitions: concatStringsSep separator (values definitions);
  };
  lines = separatedString "\n";
  commas = separatedString ",";
  strMatching = pattern: refine str "string matching the pattern ${pattern}" (v: builtins.match pattern v != null);
  enum = allowed: plain "one of ${concatStringsSep ", " (map brief allowed)}" (v: elem v allowed);
  nullOr = type: {
    description = "null or ${type.description}";
    check = v: v == null || type.check v;
    merge = loc: definitions:
      if all (v: v == null) (values definitions) then null else type.merge loc definitions;
  };
  oneOf = types: lib.foldl' either (head types) (builtins.tail types);
  ints = {
    positive = refine int "positive integer" (v: v > 0);
    unsigned = refine int "unsigned integer" (v: v >= 0);
    between = low: high: refine int "integer between ${toString low} and ${toString high}" (v: low <= v && v <= high);
  };
  port = refine int "16 bit unsigned integer; between 0 and 65535 (both inclusive)" (v: 0 <= v && v <= 65535);
  inherit submodule;
  submoduleWith = { modules }: submodule modules;
}
