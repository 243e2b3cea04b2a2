//! `archibald scan` says what rtcqs says, on this very host, and shows it for the made-up ones. The same
//! in a machine is in machine.rs.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../../host/tests/hosts/mod.rs"]
mod hosts;
mod rtcqs;
mod world;

use std::process::Command;

use world::World;

#[test]
fn the_verdicts_are_those_of_rtcqs() {
    let program = match rtcqs::installed() {
        Ok(program) => program,
        Err(reason) => {
            println!("SKIPPED the comparison with rtcqs: {reason}");
            return;
        }
    };
    let [python, words @ ..] = rtcqs::command(program.parent().unwrap().to_str().unwrap());
    let theirs = Command::new(python).args(words).output().unwrap();
    let world = World::new();
    let said = world.run(&["scan", "--json"]);
    let scan: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    let apart = rtcqs::compare(&String::from_utf8_lossy(&theirs.stdout), &scan["host"]);
    assert!(apart.is_empty(), "not the same verdict on {apart:?}");
}

#[test]
fn hosts_are_scanned_by_what_their_files_say() {
    for host in ["intel-desktop", "amd-shared-group", "test-machine"] {
        let world = World::new();
        let root = world.path("host");
        hosts::unfold(host, &root);
        let said = world.run(&["scan", "--root", root.to_str().unwrap()]);
        assert_eq!(said.status, 0, "{}", said.err);
        insta::assert_snapshot!(host, said.out);
    }
}
