//! The examples of the lab on the real machine: every planted fault breaks its scenario and is given
//! its own cause, every repaired program holds under the same load.

#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use world::World;

/// Folders below examples/lab with both scenarios.
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
    assert!(examples.len() >= 9, "{examples:?}");
    for folder in examples {
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
    let mut wrong = Vec::new();
    for folder in examples() {
        wrong.extend(repaired_holds(&world, &folder).err());
        wrong.extend(fault_is_named(&world, &folder).err());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn repaired_holds(world: &World, folder: &Path) -> Result<(), String> {
    let file = folder.join("lab.toml").display().to_string();
    let said = world.run_with_image(&["lab", "run", "--quiet", "--json", &file]);
    match said.status {
        0 => Ok(()),
        status => Err(format!("{file}: status {status}: {}{}", said.out, said.err)),
    }
}

fn fault_is_named(world: &World, folder: &Path) -> Result<(), String> {
    let path = folder.join("faulty.lab.toml");
    let file = path.display().to_string();
    let said = world.run_with_image(&["lab", "run", "--quiet", "--json", &file]);
    if said.status != 1 {
        return Err(format!("{file}: status {}: {}{}", said.status, said.out, said.err));
    }
    let report: Value = serde_json::from_str(&said.out).unwrap();
    let run = report["runs"][0]["directory"].as_str().unwrap();
    let said = world.run_with_image(&["lab", "explain", "--quiet", "--json", run]);
    if said.status != 0 {
        return Err(format!("{file}: not explained: {}", said.err));
    }
    let explained: Value = serde_json::from_str(&said.out).unwrap();
    let causes = explained["causes"].as_object().unwrap();
    let main = causes.iter().max_by_key(|(_, count)| count.as_u64()).map(|(code, _)| code.clone());
    let expected = cause_in(&fs::read_to_string(&path).unwrap());
    if main == expected {
        Ok(())
    } else {
        Err(format!("{file}: expected {expected:?}, found {causes:?}"))
    }
}

/// The cause that a scenario expects.
fn cause_in(scenario: &str) -> Option<String> {
    let line = scenario.lines().find_map(|line| line.strip_prefix("cause = \""))?;
    line.strip_suffix('"').map(str::to_owned)
}
