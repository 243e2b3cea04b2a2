//! A full disk: refused with 507, nothing lost, and usable again once something is deleted.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a failed test should fail at the line that fails"
)]

mod server;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use server::{Server, bytes, expect, program};

/// A small disk in memory, taken away again at the end.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"]).arg(dir.path());
        mount.status().ok()?.success().then(|| Self(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

type Model = BTreeMap<String, (usize, u64)>;

fn fill(server: &Server, model: &mut Model, name: &str, len: usize) {
    for n in 0.. {
        let key = format!("{name}/{n}");
        match server.put(&key, &bytes(len, n)) {
            Some(201) => {
                model.insert(key, (len, n));
            }
            Some(507) => return,
            other => panic!("{key}: {other:?}"),
        }
    }
}

fn verify(server: &Server, model: &Model) {
    for (key, (len, seed)) in model {
        assert!(server.get(key) == Some(bytes(*len, *seed)), "{key}");
    }
}

fn delete(server: &Server, model: &mut Model, name: &str) {
    let keys: Vec<_> = model.keys().filter(|key| key.starts_with(name)).cloned().collect();
    for key in keys {
        assert_eq!(server.delete(&key), Some(204), "{key}");
        model.remove(&key);
    }
}

#[test]
fn it_refuses_loses_nothing_and_recovers() {
    let Some(disk) = SmallDisk::mount() else {
        println!("SKIPPED: filling a disk needs a small one, and mounting it needs root");
        return;
    };
    let data = disk.path().join("store");
    let start = || Server::start_with(&data, &["--reserve", "1M"]);
    let server = start();
    let mut model = Model::new();

    // Large values fill the disk; deleting some makes room for others.
    fill(&server, &mut model, "large", 1_000_000);
    assert!(!model.is_empty());
    verify(&server, &model);
    assert_eq!(server.delete("large/0"), Some(204));
    model.remove("large/0");
    assert_eq!(server.put("large/new", &bytes(900_000, 1)), Some(201));
    model.insert("large/new".into(), (900_000, 1));

    // Small values fill what is left, in the index itself.
    fill(&server, &mut model, "middle", 30_000);
    fill(&server, &mut model, "small", 700);
    verify(&server, &model);

    // Others fill the disk to the last byte: deleting still works, and so does what it makes room for.
    let filler = disk.path().join("filler");
    let mut file = File::create(&filler).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    drop(file);
    assert_eq!(server.put("refused", &bytes(1_000_000, 1)), Some(507));
    verify(&server, &model);
    delete(&server, &mut model, "middle");
    delete(&server, &mut model, "small");
    verify(&server, &model);
    assert_eq!(server.put("again", &bytes(30_000, 7)), Some(201));
    model.insert("again".into(), (30_000, 7));
    std::fs::remove_file(&filler).unwrap();
    delete(&server, &mut model, "large");
    assert_eq!(server.put("large/again", &bytes(1_000_000, 9)), Some(201));
    model.insert("large/again".into(), (1_000_000, 9));
    verify(&server, &model);

    assert_eq!(server.stop(), Some(0));
    let server = start();
    verify(&server, &model);
    assert_eq!(server.stop(), Some(0));
    let check = program().arg("check").arg("--data").arg(&data).output().unwrap();
    expect(&check, 0);
}
