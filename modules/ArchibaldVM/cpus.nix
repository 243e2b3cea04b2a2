# CPU sets as the kernel writes them: "0,2-3".
{ lib }:
let
  inherit (builtins) concatStringsSep elem filter foldl' head map match tail;
  item = text:
    let range = match "([0-9]+)-([0-9]+)" text; in
    if range != null then lib.range (lib.toInt (head range)) (lib.toInt (builtins.elemAt range 1))
    else [ (lib.toInt text) ];
  show = run: if run.from == run.to then toString run.from else "${toString run.from}-${toString run.to}";
in
rec {
  parse = text: lib.concatMap item (filter (part: part != "") (lib.splitString "," text));
  # Of a sorted list.
  format = cpus:
    let
      grow = runs: cpu:
        if runs != [ ] && (head runs).to + 1 == cpu
        then [ ((head runs) // { to = cpu; }) ] ++ tail runs
        else [{ from = cpu; to = cpu; }] ++ runs;
    in
    concatStringsSep "," (lib.foldr (run: text: text ++ [ (show run) ]) [ ] (foldl' grow [ ] cpus));
  without = gone: filter (cpu: !(elem cpu (parse gone)));
  all = count: lib.range 0 (count - 1);
  spaced = cpus: concatStringsSep " " (map toString cpus);
}
