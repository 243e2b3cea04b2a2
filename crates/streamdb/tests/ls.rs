//! `streamdb ls`.

mod server;

use server::{expect, fresh, text};

#[test]
fn keys_are_listed_by_prefix_and_suffix_over_many_pages() {
    let (_dir, server) = fresh();
    for n in 0..1100 {
        server.put(&format!("n/{n:04}"), b"");
    }
    server.put("a%20+%26.wav", b"1234");
    server.put("line%0Abreak.wav", b"");
    let all = server.run(&["ls"]);
    expect(&all, 0);
    assert_eq!(text(&all).lines().count(), 1102);
    let some = server.run(&["ls", "n/", "--suffix", "7", "--limit", "3"]);
    assert_eq!(text(&some), "n/0007\nn/0017\nn/0027\n");
    let long = text(&server.run(&["ls", "a +&", "--long"]));
    assert!(long.starts_with("4\t") && long.ends_with("\tapplication/octet-stream\ta +&.wav\n"));
    let wav = server.run(&["ls", "--suffix", ".wav", "--json"]);
    let wav: serde_json::Value = serde_json::from_str(&text(&wav)).unwrap();
    assert_eq!(wav["schema"], "streamdb.ls/1");
    assert_eq!(wav["entries"][1]["key"], "line\nbreak.wav");
    assert_eq!(text(&server.run(&["ls", "line"])).lines().count(), 1);
    expect(&server.run(&["ls", "none"]), 0);
}
