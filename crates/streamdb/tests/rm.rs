//! `streamdb rm`.

mod server;

use server::{expect, fresh};
use streamdb::Checksum;

#[test]
fn values_are_deleted_and_a_missing_one_is_told() {
    let (_dir, server) = fresh();
    for key in ["a", "b", "c"] {
        server.put(key, key.as_bytes());
    }
    expect(&server.run(&["rm", "a", "b"]), 0);
    assert_eq!(server.get("a"), None);
    expect(&server.run(&["rm", "a"]), 1);
    let other = Checksum::of(b"other").to_string();
    expect(&server.run(&["rm", "c", "--if-match", &other]), 1);
    assert_eq!(server.get("c").unwrap(), b"c");
    let same = Checksum::of(b"c").to_string();
    expect(&server.run(&["rm", "c", "--if-match", &same]), 0);
    expect(&server.run(&["rm"]), 2);
    server.put("d", b"d");
    let told = server.run(&["rm", "d", "--json"]);
    let told: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!((&told["schema"], &told["deleted"][0]), (&"streamdb.rm/1".into(), &"d".into()));
}
