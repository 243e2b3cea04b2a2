//! The examples of the lab on the real machine: every planted fault breaks its scenario and is given
//! its own cause, every repaired program holds under the same load.

#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use world::World;

const FAULTLESS: [&str; 3] = ["first", "sclang", "scsynth"];

/// Folders below examples/lab. Each has a scenario that holds, all but these one that does not.
fn examples() -> Vec<PathBuf> {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/lab");
    let mut folders: Vec<PathBuf> = fs::read_dir(all)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    folders
}

#[test]
fn every_example_has_a_fault_with_a_cause_and_a_repair() {
    let examples = examples();
    assert!(examples.len() >= 13, "{examples:?}");
    for folder in examples {
        // The first steps, and SuperCollider's, have no fault planted.
        if FAULTLESS.iter().any(|name| folder.ends_with(name)) {
            continue;
        }
        let repaired = fs::read_to_string(folder.join("lab.toml")).unwrap();
        let faulty = fs::read_to_string(folder.join("faulty.lab.toml")).unwrap();
        assert!(!repaired.contains("[expect]"), "{}", folder.display());
        assert!(faulty.contains("verdict = \"broken\""), "{}", folder.display());
        assert!(cause_in(&faulty).is_some(), "{}", folder.display());
    }
}

#[test]
#[ignore = "boots the real image in virtual time; run by ./archibald test"]
fn faults_break_with_their_cause_and_repairs_hold() {
    let world = World::new();
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/lab");
    let all = all.display().to_string();
    let said = world.run_with_image(&["lab", "test", "--quiet", "--json", &all]);
    let report: Value = serde_json::from_str(&said.out).unwrap();
    let cases = report["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 2 * examples().len() - FAULTLESS.len(), "{}", said.out);
    for case in cases {
        assert_eq!(case["passed"], true, "{case}");
    }
    assert_eq!(said.status, 0, "{}{}", said.out, said.err);
}

/// The cause that a scenario expects.
fn cause_in(scenario: &str) -> Option<String> {
    let line = scenario.lines().find_map(|line| line.strip_prefix("cause = \""))?;
    line.strip_suffix('"').map(str::to_owned)
}
