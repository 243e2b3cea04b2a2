//! `streamdb check`: damage is found and told, wholeness too.

#![allow(clippy::unwrap_used, reason = "a failed test should fail at the line that fails")]

mod server;

use std::path::{Path, PathBuf};
use std::process::Output;

use server::{Server, bytes, expect, fresh, program, said, text};

fn check(data: &Path, arguments: &[&str]) -> Output {
    let mut command = program();
    command.arg("check").arg("--data").arg(data).args(arguments);
    command.output().unwrap()
}

fn blobs(data: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(data.join("blobs"))
        .unwrap()
        .flat_map(|group| std::fs::read_dir(group.unwrap().path()).unwrap())
        .map(|file| file.unwrap().path())
        .collect()
}

#[test]
fn a_flipped_byte_is_told_and_not_served() {
    let (dir, server) = fresh();
    let data = dir.path().join("store");
    server.put("small", &bytes(100, 1));
    server.put("large", &bytes(300_000, 1));
    assert_eq!(server.stop(), Some(0));
    let whole = check(&data, &["--json"]);
    expect(&whole, 0);
    let told: serde_json::Value = serde_json::from_str(&text(&whole)).unwrap();
    assert_eq!((&told["whole"], &told["keys"]), (&true.into(), &2.into()));

    let blob = blobs(&data).remove(0);
    let mut content = std::fs::read(&blob).unwrap();
    content[200_000] ^= 0x40;
    std::fs::write(&blob, content).unwrap();
    let damaged = check(&data, &["--json"]);
    expect(&damaged, 1);
    let told: serde_json::Value = serde_json::from_str(&text(&damaged)).unwrap();
    assert_eq!(told["problems"].as_array().unwrap().len(), 1);
    assert_eq!(told["problems"][0]["key"], "large");
    assert!(text(&check(&data, &[])).contains("large: bytes 196608..262144"));

    let server = Server::start(&data);
    expect(&server.run(&["get", "large", "-o", dir.path().join("x").to_str().unwrap()]), 3);
    assert_eq!(server.get("small"), Some(bytes(100, 1)));
}

/// What is damaged is set aside, and nothing of it is thrown away.
#[test]
fn repair_sets_the_damaged_aside_and_keeps_the_rest() {
    let (dir, server) = fresh();
    let data = dir.path().join("store");
    server.put("large", &bytes(300_000, 1));
    assert_eq!(server.stop(), Some(0));
    let blob = blobs(&data).remove(0);
    let mut content = std::fs::read(&blob).unwrap();
    content[7] ^= 1;
    std::fs::write(&blob, &content).unwrap();
    let server = Server::start(&data);
    server.put("small", b"small");
    server.put("other", &bytes(100_000, 2));
    assert_eq!(server.stop(), Some(0));

    let repaired = check(&data, &["--repair", "--json"]);
    expect(&repaired, 0);
    let told: serde_json::Value = serde_json::from_str(&text(&repaired)).unwrap();
    assert_eq!((&told["whole"], &told["quarantined"][0]["key"]), (&false.into(), &"large".into()));
    let aside = PathBuf::from(told["quarantined"][0]["path"].as_str().unwrap());
    assert!(aside.starts_with(data.join("quarantine")));
    assert_eq!(std::fs::read(aside.join("content")).unwrap(), content);
    assert_eq!(std::fs::read(aside.join("key")).unwrap(), b"large");
    expect(&check(&data, &[]), 0);
    assert_eq!(blobs(&data).len(), 1);
    let server = Server::start(&data);
    assert_eq!(server.get("large"), None);
    assert_eq!(server.get("other"), Some(bytes(100_000, 2)));
}

#[test]
fn a_held_store_and_a_missing_one_are_told() {
    let (dir, _server) = fresh();
    let held = check(&dir.path().join("store"), &[]);
    expect(&held, 3);
    assert!(said(&held).contains("held by process"), "{}", said(&held));
    let none = dir.path().join("none");
    expect(&check(&none, &[]), 2);
    assert!(!none.exists());
}

#[test]
fn an_index_that_is_none_is_told() {
    let (dir, server) = fresh();
    let data = dir.path().join("store");
    server.put("k", b"x");
    assert_eq!(server.stop(), Some(0));
    for damage in [&b"nonsense"[..], b""] {
        std::fs::write(data.join("index.redb"), damage).unwrap();
        expect(&check(&data, &[]), 1);
    }
}
