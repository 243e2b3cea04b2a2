//! `archibald image`: the cache as people see it.

mod world;
use world::World;

#[test]
fn an_empty_cache_says_how_to_fill_it() {
    let world = World::new();
    assert!(world.run(&["image", "ls"]).out.contains("archibald build"));
    let json: serde_json::Value =
        serde_json::from_str(&world.run(&["image", "ls", "--json"]).out).unwrap();
    assert_eq!(json["images"].as_array().map(Vec::len), Some(0));
}

#[test]
fn an_image_that_is_not_there_is_named() {
    let world = World::new();
    for words in [
        &["image", "inspect", "abc"][..],
        &["image", "rm", "abc"],
        &["image", "export", "abc", "x"],
    ] {
        let said = world.run(words);
        assert_eq!(said.status, 2, "{words:?}: {}", said.err);
        assert!(said.err.contains("there is no image `abc`"), "{words:?}: {}", said.err);
    }
    assert!(!world.path("work/x").exists());
}
