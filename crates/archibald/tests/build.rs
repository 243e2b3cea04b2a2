//! `archibald build`: what is refused before anything is built. Building is tested in the crate
//! image and with the real image in machine.rs.

mod world;
use world::{World, said};

#[test]
fn locked_needs_a_lock() {
    let world = World::new();
    world.write("archibald.toml", "");
    let said = world.run(&["build", "--locked"]);
    assert_eq!(said.status, 2, "{}", said.err);
    assert!(said.err.contains("archibald build --lock"), "{}", said.err);
}

#[test]
fn a_lock_that_is_none_is_shown_at_its_line() {
    let world = World::new();
    world.write("archibald.toml", "");
    world.write("archibald.lock", "nonsense\n");
    let said = world.run(&["build"]);
    assert_eq!(said.status, 2, "{}", said.err);
    assert!(said.err.contains("archibald.lock:1"), "{}", said.err);
}

#[test]
fn the_projects_own_files_must_be_there() {
    let world = World::new();
    world.write("archibald.toml", "");
    let empty = world.path("empty");
    std::fs::create_dir(&empty).unwrap();
    let said = said(world.command(&["build"]).env("ARCHIBALD_SHARE", &empty).output().unwrap());
    assert_eq!(said.status, 3, "{}", said.err);
    assert!(said.err.contains("guest/") && said.err.contains("ARCHIBALD_SHARE"), "{}", said.err);
}

/// A `nix` that writes down what it was asked and gives what Nix would: a link to a folder of the store.
// A failed call here is a failed test.
#[allow(clippy::unwrap_used)]
fn stub_nix(world: &World, body: &str) -> String {
    let bin = world.path("bin");
    std::fs::create_dir_all(&bin).unwrap();
    let script = world.script("nix", body);
    std::fs::rename(script, bin.join("nix")).unwrap();
    format!("{}:{}", bin.display(), std::env::var("PATH").unwrap())
}

/// Makes a disk, a kernel and an initrd at the place that `--out-link` names.
const GOOD_NIX: &str = r#"#!/bin/sh
printf '%s\n' "$@" >"$ASKED"
while [ "$1" != --out-link ]; do shift; done
mkdir -p "$STORE"
echo "building the machine" >&2
qemu-img create -q -f qcow2 "$STORE/nixos.qcow2" 16M
echo kernel >"$STORE/kernel"
echo initrd >"$STORE/initrd"
echo init=/nix/store/abc-nixos-system-nixos/init >"$STORE/kernel-arguments"
echo 6.12.50 >"$STORE/kernel-release"
ln -s "$STORE" "$2"
"#;

#[test]
fn nixos_without_nix_says_what_to_install() {
    let world = World::new();
    world.write("archibald.toml", "[image]\nos = \"nixos\"\n");
    let said = world.run(&["build"]);
    assert_eq!(said.status, 3, "{}", said.err);
    assert!(said.err.contains("nixos.org") && said.err.contains("os = \"debian\""), "{}", said.err);
}

#[test]
fn nixos_is_what_nix_gives_for_this_machine_file() {
    let world = World::new();
    let file = world.write("archibald.toml", "[audio]\nquantum = 64\n");
    let path = stub_nix(&world, GOOD_NIX);
    let build = |words: &[&str]| {
        let mut command = world.command(words);
        command.env("PATH", &path).env("ASKED", world.path("asked"));
        said(command.env("STORE", world.path("store/abc-disk")).output().unwrap())
    };
    let first = build(&["build", "--os", "nixos", "--json"]);
    assert_eq!(first.status, 0, "{}", first.err);

    let asked = std::fs::read_to_string(world.path("asked")).unwrap();
    let asked: Vec<&str> = asked.lines().collect();
    let after = |word: &str| {
        let at = asked.iter().position(|asked| *asked == word).unwrap();
        asked[at + 1].to_owned()
    };
    assert_eq!(asked[0], "build");
    assert!(after("--file").ends_with("/modules/ArchibaldVM/build.nix"), "{asked:?}");
    assert!(std::path::Path::new(&after("--file")).is_file());
    assert_eq!(after("machineFile"), file.canonicalize().unwrap().to_str().unwrap());

    let told: serde_json::Value = serde_json::from_str(&first.out).unwrap();
    let directory = std::path::PathBuf::from(told["directory"].as_str().unwrap());
    assert_eq!(told["manifest"]["suite"], "nixos");
    assert_eq!(told["manifest"]["kernel"], "6.12.50");
    assert_eq!(
        told["manifest"]["kernel_arguments"][0],
        "init=/nix/store/abc-nixos-system-nixos/init"
    );
    assert_eq!(std::fs::read(directory.join("vmlinuz")).unwrap(), b"kernel\n");
    let disk = std::process::Command::new("qemu-img")
        .args(["info", "--backing-chain", "--output=json"])
        .arg(directory.join("disk.qcow2"))
        .output()
        .unwrap();
    let disk = String::from_utf8(disk.stdout).unwrap();
    assert!(disk.contains("disk.raw") && disk.contains("16777216"), "{disk}");

    // The same result of Nix is the same image; another one is another.
    let again = build(&["build", "--os", "nixos"]);
    assert!(again.out.contains(told["image"].as_str().unwrap()), "{} {}", again.out, again.err);
    assert!(again.out.contains("by Nix"), "{}", again.out);
}

#[test]
fn what_nix_says_is_shown_when_it_fails() {
    let world = World::new();
    world.write("archibald.toml", "[image]\nos = \"nixos\"\n");
    let path = stub_nix(&world, "#!/bin/sh\necho 'error: attribute missing' >&2\nexit 1\n");
    let failed = said(world.command(&["build"]).env("PATH", &path).output().unwrap());
    assert_eq!(failed.status, 3, "{}", failed.err);
    assert!(failed.err.contains("attribute missing"), "{}", failed.err);
    assert!(failed.err.contains("nix.log"), "{}", failed.err);
}

#[test]
fn a_result_that_is_no_machine_is_refused() {
    let world = World::new();
    world.write("archibald.toml", "[image]\nos = \"nixos\"\n");
    let body = GOOD_NIX.replace("echo initrd >", "echo initrd >/dev/null; : ");
    let path = stub_nix(&world, &body);
    let mut command = world.command(&["build"]);
    command.env("PATH", &path).env("ASKED", world.path("asked"));
    let failed = said(command.env("STORE", world.path("store/abc-disk")).output().unwrap());
    assert_eq!(failed.status, 3, "{}", failed.err);
    assert!(failed.err.contains("no `initrd`"), "{}", failed.err);
}

#[test]
fn debians_lock_is_none_of_nixos() {
    let world = World::new();
    world.write("archibald.toml", "[image]\nos = \"nixos\"\n");
    for option in ["--lock", "--locked", "--refresh"] {
        let said = world.run(&["build", option]);
        assert_eq!(said.status, 2, "{option}: {}", said.err);
        assert!(said.err.contains("flake.lock"), "{option}: {}", said.err);
    }
}
