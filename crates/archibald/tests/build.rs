//! `archibald build`: what is refused before anything is built. Building is tested in the crate
//! image and with the real image in machine.rs.

mod world;
use world::{World, said};

#[test]
fn locked_needs_a_lock() {
    let world = World::new();
    world.write("archibald.toml", "");
    let said = world.run(&["build", "--locked"]);
    assert_eq!(said.status, 2, "{}", said.err);
    assert!(said.err.contains("archibald build --lock"), "{}", said.err);
}

#[test]
fn a_lock_that_is_none_is_shown_at_its_line() {
    let world = World::new();
    world.write("archibald.toml", "");
    world.write("archibald.lock", "nonsense\n");
    let said = world.run(&["build"]);
    assert_eq!(said.status, 2, "{}", said.err);
    assert!(said.err.contains("archibald.lock:1"), "{}", said.err);
}

#[test]
fn the_projects_own_files_must_be_there() {
    let world = World::new();
    world.write("archibald.toml", "");
    let empty = world.path("empty");
    std::fs::create_dir(&empty).unwrap();
    let said = said(world.command(&["build"]).env("ARCHIBALD_SHARE", &empty).output().unwrap());
    assert_eq!(said.status, 3, "{}", said.err);
    assert!(said.err.contains("guest/") && said.err.contains("ARCHIBALD_SHARE"), "{}", said.err);
}

#[test]
fn nixos_says_that_it_is_not_there() {
    let world = World::new();
    world.write("archibald.toml", "[image]\nos = \"nixos\"\n");
    let said = world.run(&["build"]);
    assert_eq!(said.status, 3, "{}", said.err);
    assert!(said.err.contains("os = \"debian\""), "{}", said.err);
}
