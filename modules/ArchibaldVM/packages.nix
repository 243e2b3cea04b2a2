# The project's own programs, from the sources beside this flake.
{ pkgs }:
let
  inherit (pkgs) lib;
  files = lib.fileset;
  root = ../..;
  # What cargo reads; a changed document builds nothing anew.
  src = files.toSource {
    inherit root;
    fileset = files.unions [
      (root + "/Cargo.toml")
      (root + "/Cargo.lock")
      (root + "/crates")
      (root + "/guest")
      (root + "/archibald.toml")
    ];
  };
  program = name: pkgs.rustPlatform.buildRustPackage {
    pname = name;
    inherit ((lib.importTOML (root + "/Cargo.toml")).workspace.package) version;
    inherit src;
    cargoLock.lockFile = root + "/Cargo.lock";
    cargoBuildFlags = [ "-p" name ];
    # .cargo/config.toml, which names the static target, is left out: nixpkgs links its own way.
    # The tests want a network, a browser and QEMU; `./archibald test` runs them.
    doCheck = false;
    meta.mainProgram = name;
  };
in
{
  archibald-guest = program "archibald-guest";
  streamdb = program "streamdb";
  # The command looks for guest files, modules and the machine's programs in a checkout's layout.
  archibald = pkgs.symlinkJoin {
    name = "archibald";
    paths = [ (program "archibald") ];
    nativeBuildInputs = [ pkgs.makeWrapper ];
    postBuild = ''
      wrapProgram $out/bin/archibald \
        --set-default ARCHIBALD_SHARE ${root} \
        --prefix PATH : ${lib.makeBinPath [ pkgs.qemu_kvm pkgs.openssh pkgs.util-linux pkgs.nix ]}
    '';
    meta.mainProgram = "archibald";
  };
}
