//! `archibald ls` lists what is there.

mod world;
use world::World;

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
