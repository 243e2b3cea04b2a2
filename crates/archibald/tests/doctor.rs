//! `archibald doctor` names what this host lacks.

mod world;
use world::{World, said};

#[test]
fn a_complete_host_has_no_blocker() {
    let world = World::new();
    let said = world.run(&["doctor", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    let findings = json["findings"].as_array().unwrap();
    let blockers: Vec<_> = findings.iter().filter(|f| f["severity"] == "blocker").collect();
    assert_eq!((said.status, blockers.len()), (0, 0), "{}", said.out);
    assert!(findings.iter().any(|f| f["what"] == "QEMU"));
}

#[test]
fn what_is_missing_comes_with_its_package() {
    let world = World::new();
    let output = world.command(&["doctor"]).env("ARCHIBALD_QEMU", "/nonexistent/qemu").output();
    let said = said(output.unwrap());
    assert_eq!(said.status, 3, "{}", said.out);
    assert!(said.out.contains("missing  QEMU"), "{}", said.out);
    assert!(said.out.contains("apt-get install qemu-system-x86"), "{}", said.out);
}
