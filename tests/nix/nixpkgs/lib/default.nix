# A small `lib` of the names that the modules use, each with the meaning that nixpkgs' lib gives it
# (lib/{attrsets,lists,strings,trivial}.nix there). The module system is in modules.nix, types in
# types.nix. Written for the checks of this project; what is not here, the modules may not use.
let
  self =
    rec {
      inherit (builtins)
        all any attrNames attrValues concatLists concatMap concatStringsSep elem elemAt filter
        foldl' fromTOML functionArgs genList getAttr hasAttr head isAttrs isBool isFunction isInt
        isList isPath isString length listToAttrs map mapAttrs match readFile removeAttrs
        replaceStrings sort split stringLength substring tail toJSON toString trace;

      # Attribute sets
      nameValuePair = name: value: { inherit name value; };
      mapAttrs' = f: set: listToAttrs (map (name: f name set.${name}) (attrNames set));
      mapAttrsToList = f: set: map (name: f name set.${name}) (attrNames set);
      filterAttrs = keep: set:
        listToAttrs (map (name: nameValuePair name set.${name})
          (filter (name: keep name set.${name}) (attrNames set)));
      genAttrs = names: f: listToAttrs (map (name: nameValuePair name (f name)) names);
      optionalAttrs = condition: set: if condition then set else { };
      isDerivation = value: isAttrs value && value.type or null == "derivation";
      recursiveUpdate = left: right:
        left // mapAttrs
          (name: value:
            if isAttrs value && isAttrs (left.${name} or null)
            then recursiveUpdate left.${name} value
            else value)
          right;
      attrByPath = path: default: set:
        if path == [ ] then set
        else if isAttrs set && set ? ${head path} then attrByPath (tail path) default set.${head path}
        else default;

      # Lists
      optional = condition: element: if condition then [ element ] else [ ];
      optionals = condition: list: if condition then list else [ ];
      singleton = element: [ element ];
      foldr = f: last: list:
        if list == [ ] then last else f (head list) (foldr f last (tail list));
      init = list: genList (elemAt list) (length list - 1);
      last = list: elemAt list (length list - 1);
      range = from: to: if from > to then [ ] else genList (n: from + n) (to - from + 1);
      unique = foldl' (seen: element: if elem element seen then seen else seen ++ [ element ]) [ ];
      subtractLists = gone: filter (element: !(elem element gone));
      flatten = value: if isList value then concatMap flatten value else [ value ];
      imap0 = f: list: genList (n: f n (elemAt list n)) (length list);

      # Strings
      optionalString = condition: text: if condition then text else "";
      concatStrings = concatStringsSep "";
      concatMapStrings = f: list: concatStrings (map f list);
      concatMapStringsSep = separator: f: list: concatStringsSep separator (map f list);
      concatLines = list: concatMapStrings (line: line + "\n") list;
      hasPrefix = prefix: text: substring 0 (stringLength prefix) text == prefix;
      hasSuffix = suffix: text:
        let rest = stringLength text - stringLength suffix; in
        rest >= 0 && substring rest (stringLength text) text == suffix;
      hasInfix = infix: text: infix == "" || replaceStrings [ infix ] [ "" ] text != text;
      removePrefix = prefix: text:
        if hasPrefix prefix text
        then substring (stringLength prefix) (stringLength text) text
        else text;
      escapeRegex = replaceStrings
        [ "\\" "^" "$" "." "[" "{" "(" ")" "|" "*" "+" "?" ]
        [ "\\\\" "\\^" "\\$" "\\." "\\[" "\\{" "\\(" "\\)" "\\|" "\\*" "\\+" "\\?" ];
      splitString = separator: text: filter isString (split (escapeRegex separator) text);
      trim = text: head (match "[ \t\r\n]*(.*[^ \t\r\n]|)[ \t\r\n]*" text);
      toInt = text:
        let number = builtins.fromJSON text; in
        if isInt number then number else throw "toInt: `${text}' is no integer";
      versionAtLeast = version: least: builtins.compareVersions version least >= 0;
      versionOlder = version: limit: builtins.compareVersions version limit < 0;
      escapeShellArg = text: "'" + replaceStrings [ "'" ] [ "'\\''" ] (toString text) + "'";
      makeSearchPath = folder: concatMapStringsSep ":" (path: "${path}/${folder}");
      makeBinPath = makeSearchPath "bin";
      getExe = package: getExe' package package.meta.mainProgram;
      getExe' = package: name: "${package}/bin/${name}";

      # Files and messages
      importTOML = file: fromTOML (readFile file);
      importJSON = file: builtins.fromJSON (readFile file);
      throwIf = condition: message: if condition then throw message else value: value;
      throwIfNot = condition: throwIf (!condition);
      warn = message: value: trace "warning: ${message}" value;
      cleanSource = source: source;
      fileset = {
        union = a: b: { paths = a.paths or [ a ] ++ b.paths or [ b ]; };
        unions = list: { paths = list; };
        # The real one copies these files alone; that each exists is what can be told here.
        toSource = { root, fileset }:
          if all (path: builtins.pathExists path) fileset.paths then "${root}" else
          throw "fileset: ${toString (filter (path: !(builtins.pathExists path)) fileset.paths)} does not exist";
      };

      # nixpkgs: lib/kernel.nix
      kernel = {
        yes = { tristate = "y"; optional = false; };
        no = { tristate = "n"; optional = false; };
      };

      types = import ./types.nix { lib = self; };
    }
    // import ./modules.nix { lib = self; };
in
self
