//! `up --join`: machines as nodes of a real Slurm cluster, in a network namespace that this test makes. Needs
//! root; where no namespace can be had the test says so.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

#[path = "../../vm/tests/namespace/mod.rs"]
mod namespace;
mod world;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use namespace::Namespace;
use world::World;

/// One CPU each, since two machines are emulated at once.
const FILE: &str = "name = \"node\"\n[machine]\nvcpus = 1\nmemory = \"2 GiB\"\n\
    [network]\nmode = \"bridge\"\n[devices]\nshares = [\"FOLDER:/srv\"]\n";

#[test]
fn what_a_node_lacks_is_told_before_anything_is_made() {
    let world = World::new();
    let qemu = world.script("qemu", "#!/bin/sh\necho 'QEMU emulator version 9.9.9'\n");
    let up = |file: &str, words: &[&str]| {
        world.write("archibald.toml", file);
        let mut command = world.command(&[&["up"], words].concat());
        world::said(command.env("ARCHIBALD_QEMU", &qemu).output().unwrap())
    };
    let bridge = "[network]\nmode = \"bridge\"\n";
    for (file, words, said) in [
        ("", &["--join", "head"][..], "mode = \"bridge\""),
        (bridge, &["--join", "head:0"], "HOST:PORT"),
        (bridge, &["--count", "2"], "--join"),
        (bridge, &["--join", "head", "--count", "2", "--json"], "cannot be used with"),
        ("[devices]\nshares = [\"/nowhere/at/all\"]\n", &[], "/nowhere/at/all is no folder"),
        ("[devices]\nshares = [\"srv\"]\n", &[], "archibald.toml:2"),
        ("[cluster]\ncontroller = \"head\"\n", &[], "address of its own"),
        ("[cluster]\nmunge-key = \"key\"\n", &[], "names no controller"),
    ] {
        let found = up(file, words);
        assert_eq!(found.status, 2, "{words:?}: {}", found.err);
        assert!(found.err.contains(said), "{words:?}: {}", found.err);
    }
    assert!(!world.state("archibald").exists(), "nothing was made");
}

#[test]
#[ignore = "boots the real image; run by ./archibald test"]
fn two_machines_join_a_cluster_and_render_a_score() {
    let test = "two_machines_join_a_cluster_and_render_a_score";
    let Some(host) = Namespace::or_skipped(test) else { return };
    let world = World::new();
    let shared = world.path("shared");
    fs::create_dir(&shared).unwrap();
    for name in ["rain.scd", "rain.farm.toml"] {
        fs::copy(world::project().join("examples/farm").join(name), shared.join(name)).unwrap();
    }
    fs::copy(env!("CARGO_BIN_EXE_archibald"), shared.join("archibald")).unwrap();
    fs::write(world.path("work/key"), [42; 128]).unwrap();
    world.write("archibald.toml", &FILE.replace("FOLDER", shared.to_str().unwrap()));
    // In the namespace there is no way to where packages come from.
    let built = world.run_with_image(&["build"]);
    assert_eq!(built.status, 0, "{}", built.err);
    host.enter(|| {
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
        assert!(up.unwrap().success());
        // The cluster's head comes later: nodes wait for it.
        let join = ["up", "--join", "192.168.122.1", "--munge-key", "key", "--count", "2"];
        let said = world.run_with_image(&[&join[..], &["--no-check"]].concat());
        assert_eq!(said.status, 0, "{}", said.err);
        the_cluster_renders(&world, &shared);
        for node in ["node-1", "node-2"] {
            let said = world.run(&["delete", node, "--force"]);
            assert_eq!(said.status, 0, "{}", said.err);
        }
    });
    assert!(world.is_quiet());
}

/// What is done at the head, and said when it has been.
const AT_THE_HEAD: &str = r#"
    nodes() { sinfo -h -N -t idle -o '%N %f' | sort -u; }
    until [ "$(nodes | wc -l)" = 2 ]; do sleep 1; done
    echo joined $(nodes)
    ./archibald farm render rain.scd --shared /srv/farm -o /srv/out -q >&2
    ./archibald farm render rain.scd --local --whole --shared /srv/here -o /srv/here -q >&2
    echo rendered by $(grep -ho 'NodeList=node-[12]' /tmp/slurmctld.out | sort -u)
    read -r line || true
    until [ "$(sinfo -h -N -o %N | sort -u)" = node-1 ]; do sleep 1; done
    echo left
"#;

/// The head's process; the namespace that it lives in ends with it.
struct Head(Child);

impl Drop for Head {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn the_cluster_renders(world: &World, shared: &PathBuf) {
    let disk = root_file_system(world);
    let head = Command::new(world::project().join("tests/slurm/head"))
        .arg(disk)
        .arg(world.path("work/key"))
        .arg(shared)
        .args(["192.168.122.1", "sh", "-euc", AT_THE_HEAD])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut head = Head(head);
    let mut lines = BufReader::new(head.0.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap_or_else(|| panic!("the head has ended")).unwrap();
    assert_eq!(next(), "joined node-1 archibald node-2 archibald");
    assert_eq!(next(), "rendered by NodeList=node-1 NodeList=node-2");

    // The samples of a machine that renders the same score in one piece: of the same processor, since the C
    // library's functions choose their instructions by it.
    let score = fs::read_dir(shared.join("here/inputs")).unwrap().flatten().map(|e| e.path());
    let score =
        score.into_iter().find(|path| path.extension().is_some_and(|e| e == "osc")).unwrap();
    fs::copy(score, shared.join("rain.osc")).unwrap();
    let whole = "cd /srv && ./archibald farm render rain.osc --local --whole --shared /tmp/farm -o whole -q";
    let said = world.run(&["exec", "--name", "node-1", "--", "sudo", "sh", "-c", whole]);
    assert_eq!(said.status, 0, "{}{}", said.out, said.err);
    let bytes = |name: &str| fs::read(shared.join(name)).unwrap();
    assert!(bytes("out/rain.wav") == bytes("whole/rain.wav"), "not the samples of the whole");

    // A machine that is stopped takes its node along.
    let said = world.run(&["stop", "node-2"]);
    assert_eq!(said.status, 0, "{}", said.err);
    drop(head.0.stdin.take());
    assert_eq!(next(), "left");
    assert!(head.0.wait().unwrap().success());
}

/// The raw root file system that a machine's disks stand on.
fn root_file_system(world: &World) -> PathBuf {
    let disk = world.state("node-1").join("disk.qcow2");
    let said = Command::new("qemu-img")
        .args(["info", "--force-share", "--backing-chain", "--output=json"])
        .arg(disk)
        .output()
        .unwrap();
    let chain: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
    let last = chain.as_array().unwrap().last().unwrap();
    assert_eq!(last["format"], "raw", "{chain:#}");
    PathBuf::from(last["filename"].as_str().unwrap())
}
