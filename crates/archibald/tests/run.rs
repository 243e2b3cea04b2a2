//! `archibald run` where there is nothing to run. That it sends, builds, plays, watches and ends is tried in
//! machine.rs (projects/mod.rs), on the real machine.

#![allow(clippy::unwrap_used)]

mod world;

use world::World;

#[test]
fn a_folder_without_a_project_is_told_how_to_get_one() {
    let world = World::new();
    for folder in [&["run"][..], &["run", "nowhere"]] {
        let said = world.run(folder);
        assert_eq!(said.status, 2, "{}", said.err);
        assert!(
            said.err.contains("lab.toml") && said.err.contains("archibald new"),
            "{}",
            said.err
        );
    }
}

#[test]
fn a_scenario_that_cannot_be_read_or_has_no_program_of_its_own_is_told() {
    let world = World::new();
    world.write("lab.toml", "[program]\nbuiltin = \"sclang\"\n");
    let said = world.run(&["run"]);
    assert_eq!(said.status, 2, "{}", said.err);
    assert!(said.err.contains("the lab's own sclang"), "{}", said.err);
    world.write("lab.toml", "[program]\nrun = \"./x\"\nspeed = 3\n");
    let said = world.run(&["run"]);
    assert!(said.status == 2 && said.err.contains("speed"), "{}", said.err);
}

#[test]
fn a_machine_that_is_not_there_is_told() {
    let world = World::new();
    world.write("lab.toml", "[program]\nrun = \"./x\"\n");
    let said = world.run(&["run", "--name", "nope"]);
    assert_eq!(said.status, 2, "{}", said.err);
    assert!(said.err.contains("there is no machine \"nope\""), "{}", said.err);
}
