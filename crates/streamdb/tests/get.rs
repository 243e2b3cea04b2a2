//! `streamdb get`.

mod server;

use server::{Server, bytes, expect, fresh, said};

#[test]
fn a_value_comes_to_the_output_and_to_a_file() {
    let (dir, server) = fresh();
    let value = bytes(1_000_000, 3);
    server.put("k", &value);
    let get = server.run(&["get", "k"]);
    expect(&get, 0);
    assert!(get.stdout == value);
    let file = dir.path().join("out");
    expect(&server.run(&["get", "k", "-o", file.to_str().unwrap()]), 0);
    assert!(std::fs::read(&file).unwrap() == value);
    expect(&server.run(&["get", "none"]), 1);
    expect(&server.run(&["get", "k", "-o", "/none/there"]), 3);
}

#[test]
fn a_damaged_value_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("store"));
    server.put("k", &bytes(1_000_000, 3));
    let blobs = dir.path().join("store/blobs");
    for group in std::fs::read_dir(blobs).unwrap() {
        for file in std::fs::read_dir(group.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let mut content = std::fs::read(&path).unwrap();
            content[999_999] ^= 1;
            std::fs::write(path, content).unwrap();
        }
    }
    let out = dir.path().join("out");
    let get = server.run(&["get", "k", "-o", out.to_str().unwrap()]);
    expect(&get, 1);
    assert!(said(&get).contains("did not come whole"), "{}", said(&get));
    assert!(!out.exists());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no part of it either");
}
