//! `streamdb stat`.

mod server;

use server::{expect, fresh, said, text};
use streamdb::Checksum;

#[test]
fn the_facts_are_told() {
    let (_dir, server) = fresh();
    server.put("k", b"one");
    server.put("k", b"three");
    let stat = server.run(&["stat", "k", "--json"]);
    expect(&stat, 0);
    let told: serde_json::Value = serde_json::from_str(&text(&stat)).unwrap();
    assert_eq!(told["schema"], "streamdb.stat/1");
    assert_eq!(told["size"], 5);
    assert_eq!(told["version"], 2);
    assert_eq!(told["checksum"], Checksum::of(b"three").to_string());
    assert!(told["created"].as_u64() <= told["modified"].as_u64());
    let plain = text(&server.run(&["stat", "k"]));
    assert!(plain.contains("5 bytes"), "{plain}");
    let none = server.run(&["stat", "none"]);
    expect(&none, 1);
    assert!(said(&none).contains("no value under \"none\""), "{}", said(&none));
}
