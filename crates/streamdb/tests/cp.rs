//! `streamdb cp` and `streamdb mv`.

mod server;

use server::{bytes, expect, fresh};
use streamdb::Checksum;

#[test]
fn values_are_copied_and_moved() {
    let (_dir, server) = fresh();
    for (name, len) in [("small é?", 10), ("large", 300_000)] {
        let value = bytes(len, 1);
        server.put(&name.replace(' ', "%20").replace('?', "%3F").replace('é', "%C3%A9"), &value);
        expect(&server.run(&["cp", name, "copy"]), 0);
        expect(&server.run(&["mv", name, "moved"]), 0);
        assert_eq!(server.get("copy"), Some(value.clone()));
        assert_eq!(server.get("moved"), Some(value));
        expect(&server.run(&["mv", name, "moved"]), 1);
        expect(&server.run(&["cp", "copy", "moved", "--if-absent"]), 1);
        let other = Checksum::of(b"other").to_string();
        expect(&server.run(&["mv", "copy", "x", "--if-match", &other]), 1);
        expect(&server.run(&["cp", "copy"]), 2);
    }
}
