//! `archibald init` writes a machine file that `up` reads.

mod world;
use world::World;

#[test]
fn the_file_is_the_commented_default_under_the_given_name() {
    let world = World::new();
    let said = world.run(&["init", "--name", "studio"]);
    assert_eq!(said.status, 0, "{}", said.err);
    let text = std::fs::read_to_string(world.path("work/archibald.toml")).unwrap();
    assert!(text.contains("name = \"studio\"") && text.contains("# SCHED_FIFO"), "{text}");
    // The file is one that the other verbs read: the name is looked up in it.
    assert!(world.run(&["status"]).err.contains("\"studio\""));
}

#[test]
fn a_file_that_is_there_stays() {
    let world = World::new();
    world.write("archibald.toml", "name = \"mine\"\n");
    let said = world.run(&["init"]);
    assert_eq!(said.status, 2);
    assert!(said.err.contains("--force"), "{}", said.err);
    assert_eq!(
        std::fs::read_to_string(world.path("work/archibald.toml")).unwrap(),
        "name = \"mine\"\n"
    );
    assert_eq!(world.run(&["init", "--force"]).status, 0);
}

#[test]
fn a_name_that_is_none_is_refused() {
    let world = World::new();
    let said = world.run(&["init", "--name", "Big Box"]);
    assert_eq!(said.status, 2);
    assert!(said.err.contains("host name"), "{}", said.err);
    assert!(!world.path("work/archibald.toml").exists());
}
