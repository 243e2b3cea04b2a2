//! `archibald copy`: which side is which.

mod world;
use world::World;

#[test]
fn both_ends_on_one_side_are_refused() {
    let world = World::new();
    for words in [&["copy", "a", "b"][..], &["copy", ":a", ":b"]] {
        let said = world.run(words);
        assert_eq!(said.status, 2, "{words:?}");
        assert!(said.err.contains("\":\""), "{}", said.err);
    }
}
