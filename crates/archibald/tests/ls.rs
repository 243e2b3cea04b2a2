//! `archibald ls` lists what is there.

mod world;
use world::{World, said};

#[test]
fn nothing_is_a_list_too() {
    let world = World::new();
    assert!(world.run(&["ls"]).out.contains("no machines"));
    let said = world.run(&["ls", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(
        (said.status, json["schema"].as_u64(), json["machines"].as_array().map(Vec::len)),
        (0, Some(1), Some(0))
    );
}

#[test]
fn commands_are_told_as_they_are_called_here() {
    let world = World::new();
    let said =
        said(world.command(&["ls"]).env("ARCHIBALD_CALLED", "./archibald").output().unwrap());
    assert!(said.out.contains("`./archibald up` makes one"), "{}", said.out);
}
