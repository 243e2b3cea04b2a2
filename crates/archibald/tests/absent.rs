//! Every verb that takes a machine says the same when there is none, with the same exit status.

mod world;
use world::World;

#[test]
fn a_machine_that_is_not_there_is_named() {
    let world = World::new();
    for words in [
        &["status", "nope"][..],
        &["stop", "nope"],
        &["delete", "nope"],
        &["shell", "nope"],
        &["exec", "-n", "nope", "--", "true"],
        &["copy", "-n", "nope", "a", ":b"],
        &["logs", "nope"],
        &["check", "nope"],
        &["record", "-n", "nope", "take.wav"],
        &["snapshot", "save", "-n", "nope", "before"],
        &["snapshot", "ls", "nope"],
        &["snapshot", "delete", "-n", "nope", "before"],
    ] {
        let said = world.run(words);
        assert_eq!(said.status, 2, "{words:?}: {}", said.err);
        assert!(said.err.contains("there is no machine \"nope\""), "{words:?}: {}", said.err);
        assert!(said.err.contains("archibald ls"), "{words:?}: {}", said.err);
    }
}

#[test]
fn a_name_cannot_lead_out_of_the_directory() {
    let world = World::new();
    let said = world.run(&["delete", "../../etc"]);
    assert_eq!(said.status, 2);
    assert!(said.err.contains("cannot be a machine's name"), "{}", said.err);
}
