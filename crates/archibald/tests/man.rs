//! `archibald man` writes one page a verb.

mod world;
use world::World;

#[test]
fn every_verb_has_a_page() {
    let world = World::new();
    assert_eq!(world.run(&["man", "pages"]).status, 0);
    for page in ["archibald.1", "archibald-up.1", "archibald-check.1", "archibald-image-export.1"] {
        let text = std::fs::read_to_string(world.path("work/pages").join(page)).unwrap();
        assert!(text.contains(".SH SYNOPSIS"), "{page}");
    }
}
