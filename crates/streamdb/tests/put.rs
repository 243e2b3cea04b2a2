//! `streamdb put`.

mod server;

use std::io::Write;
use std::process::Stdio;

use server::{bytes, expect, fresh, program, said, text};
use streamdb::Checksum;

#[test]
fn a_file_and_a_pipe_are_stored_and_their_checksum_printed() {
    let (dir, server) = fresh();
    let value = bytes(3_000_000, 1);
    let file = dir.path().join("take.wav");
    std::fs::write(&file, &value).unwrap();
    let key = "takes/1 #ü?.wav";
    let put = server.run(&["put", key, file.to_str().unwrap(), "--content-type", "audio/wav"]);
    expect(&put, 0);
    assert_eq!(text(&put).trim(), Checksum::of(&value).to_string());
    assert_eq!(server.get("takes/1%20%23%C3%BC%3F.wav"), Some(value));

    let mut command = program();
    command.args(["put", "piped", "--json"]).env("STREAMDB_SERVER", server.url());
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"piped").unwrap();
    let put = child.wait_with_output().unwrap();
    let told: serde_json::Value = serde_json::from_slice(&put.stdout).unwrap();
    assert_eq!((&told["key"], &told["size"]), (&"piped".into(), &5.into()));
    assert_eq!(server.get("piped").unwrap(), b"piped");
}

#[test]
fn conditions_that_do_not_hold_are_told() {
    let (_dir, server) = fresh();
    let none = "0".repeat(64);
    expect(&server.run(&["put", "k", "--if-absent"]), 0);
    let refused = server.run(&["put", "k", "--if-absent"]);
    expect(&refused, 1);
    assert!(said(&refused).contains("does not hold"), "{}", said(&refused));
    expect(&server.run(&["put", "k", "--if-match", &none]), 1);
    let same = Checksum::of(b"").to_string();
    expect(&server.run(&["put", "k", "--if-match", &same]), 0);
}

#[test]
fn wrong_input_and_an_absent_server_are_told() {
    let (dir, server) = fresh();
    for arguments in [
        &["put", ""][..],
        &["put", "k", "/none/there"],
        &["put", "k", dir.path().to_str().unwrap()],
        &["put", "k", "--content-type", "a\tb"],
        &["put", "k", "--if-match", "abc"],
        &["put", "k", "--server", "ftp://x"],
    ] {
        expect(&server.run(arguments), 2);
    }
    // Nothing listens on port 1 of the loopback address.
    expect(&server.run(&["put", "k", "--server", "http://127.0.0.1:1"]), 3);
}
