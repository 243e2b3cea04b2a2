# The module system: options are declared, modules define them, every definition must meet a
# declaration and its type. Same rules as nixpkgs' lib/modules.nix for what the modules use of it:
# imports, mkIf, mkMerge, priorities, order, `apply`, submodules, `_module.args`.
{ lib }:
let
  inherit (builtins)
    addErrorContext attrNames concatMap concatStringsSep elem filter foldl' functionArgs isAttrs
    isFunction isString length listToAttrs map mapAttrs sort;

  property = kind: value: isAttrs value && value._type or null == kind;
  show = path: concatStringsSep "." path;
  files = definitions: concatStringsSep ", " (map (d: "`${toString d.file}'") definitions);

  # A module as { file, key, imports, options, config }.
  normalise = args: fallback: module:
    let
      isFile = builtins.isPath module || isString module;
      file = if isFile then toString module else module._file or fallback;
      loaded = if isFile then import module else module;
      # Arguments are looked up only when used: most of them depend on the configuration itself.
      wanted = mapAttrs (name: _: args.${name} or args.config._module.args.${name}) (functionArgs loaded);
      value = if isFunction loaded then loaded (args // wanted) else loaded;
      structured = value ? config || value ? options;
      known = [ "_file" "key" "imports" "options" "config" "meta" "disabledModules" "freeformType" ];
      strange = filter (name: !(elem name known)) (attrNames value);
    in
    if !isAttrs value then throw "module `${file}' is no attribute set"
    else if structured && strange != [ ] then
      throw "module `${file}' has `${concatStringsSep " " strange}' beside `config' or `options'"
    else {
      inherit file;
      key = if isFile then file else null;
      imports = value.imports or [ ];
      options = value.options or { };
      freeformType = value.freeformType or null;
      config = if structured then value.config or { } else removeAttrs value [ "_file" "key" "imports" "freeformType" ];
    };

  collect = args: modules:
    let
      walk = seen: fallback: module:
        let m = normalise args fallback module; in
        if m.key != null && elem m.key seen.keys then seen
        else
          foldl' (s: child: walk s m.file child)
            { keys = seen.keys ++ lib.optional (m.key != null) m.key; list = seen.list ++ [ m ]; }
            m.imports;
    in
    (foldl' (s: m: walk s "an inline module" m) { keys = [ ]; list = [ ]; } modules).list;

  # Declarations of all modules as one tree.
  mergeOptions = path: trees:
    let
      names = lib.unique (concatMap (t: attrNames t.value) trees);
      at = name: filter (t: t.value ? ${name}) trees;
    in
    listToAttrs (map
      (name:
        let
          children = map (t: { inherit (t) file; value = t.value.${name}; }) (at name);
          leaves = filter (c: property "option" c.value) children;
          here = path ++ [ name ];
        in
        {
          inherit name;
          value =
            if leaves == [ ] then mergeOptions here children
            else if length children > 1 then throw "option `${show here}' is declared twice, in ${files children}"
            else (builtins.head leaves).value // { loc = here; };
        })
      names);

  # One definition per attribute, with conditions, priorities and order pushed down to it.
  pushDown = value:
    if property "merge" value then concatMap pushDown value.contents
    else if property "if" value then
      map (mapAttrs (_: content: mkIf value.condition content)) (pushDown value.content)
    else if property "override" value || property "order" value then
      map (mapAttrs (_: content: value // { inherit content; })) (pushDown value.content)
    else [ value ];

  # The values that remain of a definition, each with its priority and place.
  discharge = value:
    if property "merge" value then concatMap discharge value.contents
    else if property "if" value then
      if !builtins.isBool value.condition then throw "mkIf wants a boolean"
      else if value.condition then discharge value.content else [ ]
    else if property "override" value then
      map (v: v // { inherit (value) priority; }) (discharge value.content)
    else if property "order" value then
      map (v: v // { order = value.priority; }) (discharge value.content)
    else [{ inherit value; priority = 100; order = 1000; }];

  mergeDefinitions = loc: type: definitions:
    let
      found = concatMap (d: map (v: v // { inherit (d) file; }) (discharge d.value)) definitions;
      best = foldl' (least: d: if d.priority < least then d.priority else least) 100000 found;
      winners = sort (a: b: a.order < b.order) (filter (d: d.priority == best) found);
      wrong = filter (d: !type.check d.value) winners;
    in
    if winners == [ ] then { defined = false; }
    else if wrong != [ ] then
      throw "A definition for option `${show loc}' is not of type `${type.description}', in ${files wrong}: ${
        lib.types.brief (builtins.head wrong).value}"
    else { defined = true; value = type.merge loc winners; };

  optionValue = option: definitions:
    let
      loc = option.loc;
      type = option.type or lib.types.unspecified;
      default = lib.optional (option ? default) {
        file = "the default of ${show loc}";
        value = mkOverride 1500 option.default;
      };
      merged = mergeDefinitions loc type (default ++ definitions);
      value =
        if merged.defined then merged.value
        else type.empty or (throw "The option `${show loc}' is used but not defined");
    in
    if option.readOnly or false && length definitions > 1
    then throw "The option `${show loc}' is read-only, but is set in ${files definitions}"
    else addErrorContext "while evaluating the option `${show loc}':" ((option.apply or (v: v)) value);

  mergeTree = path: options: freeform: definitions:
    let
      wrong = filter (d: concatMap (v: lib.optional (!isAttrs v) v) (pushDown d.value) != [ ]) definitions;
      flat = concatMap (d: map (value: { inherit (d) file; inherit value; }) (pushDown d.value)) definitions;
      at = name: concatMap (d: lib.optional (d.value ? ${name}) { inherit (d) file; value = d.value.${name}; }) flat;
      names = lib.unique (concatMap (d: attrNames d.value) flat);
      unknown = filter (name: !(options ? ${name})) names;
      declared = mapAttrs
        (name: option:
          if property "option" option then optionValue option (at name)
          else mergeTree (path ++ [ name ]) option null (at name))
        options;
      free = (freeform.merge path (map
        (d: { inherit (d) file; value = lib.filterAttrs (name: _: elem name unknown) d.value; priority = 100; order = 1000; })
        flat));
    in
    if wrong != [ ] then throw "`${show path}' is a set of options, but a value is given in ${files wrong}"
    else if unknown == [ ] then declared
    else if freeform != null then free // declared
    else throw "The option `${show (path ++ [ (builtins.head unknown) ])}' does not exist. Definition in ${files (at (builtins.head unknown))}";

  mkIf = condition: content: { _type = "if"; inherit condition content; };
  mkOverride = priority: content: { _type = "override"; inherit priority content; };
  mkOrder = priority: content: { _type = "order"; inherit priority content; };
in
rec {
  inherit mkIf mkOverride mkOrder mergeDefinitions;
  mkMerge = contents: { _type = "merge"; inherit contents; };
  mkForce = mkOverride 50;
  mkDefault = mkOverride 1000;
  mkBefore = mkOrder 500;
  mkAfter = mkOrder 1500;
  mkOption = option: { _type = "option"; } // option;
  mkEnableOption = what: mkOption {
    type = lib.types.bool;
    default = false;
    description = "Whether to enable ${what}.";
  };
  mkPackageOption = pkgs: name: { ... }: mkOption {
    type = lib.types.package;
    default = pkgs.${name};
    description = "The ${name} package to use.";
  };
  literalExpression = text: { _type = "literalExpression"; inherit text; };

  evalModules = { modules, specialArgs ? { }, prefix ? [ ] }:
    let
      args = specialArgs // { inherit lib config options; };
      base = {
        _file = "the module system";
        options._module.args = mkOption { type = lib.types.lazyAttrsOf lib.types.raw; default = { }; };
      };
      all = collect args ([ base ] ++ modules);
      options = mergeOptions prefix (map (m: { inherit (m) file; value = m.options; }) all);
      freeform = foldl' (found: m: if m.freeformType != null then m.freeformType else found) null all;
      config = mergeTree prefix options freeform (map (m: { inherit (m) file; value = m.config; }) all);
    in
    { inherit config options; };
}
