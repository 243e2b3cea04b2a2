//! `archibald scan` says what rtcqs says, on this very host, and shows it for the made-up ones.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../../host/tests/hosts/mod.rs"]
mod hosts;
mod world;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use world::World;

/// The release whose verdicts are followed.
const RTCQS: &str = "rtcqs==0.6.7";

/// Runs every check and prints the verdicts. Without a kernel configuration rtcqs breaks off in the
/// middle; what it said until then still counts.
const RUN: &str = "
import json
from rtcqs.rtcqs import Rtcqs
scan = Rtcqs()
scan.gui_status = True
try:
    scan.main()
except (AttributeError, KeyError):
    pass
print(json.dumps(scan.status))
";

/// rtcqs as pip installs it, kept outside of the checkout; the reason where it cannot be had.
fn rtcqs() -> Result<PathBuf, String> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache"),
        PathBuf::from,
    );
    let place = cache.join("archibald-tests").join(RTCQS.replace("==", "-"));
    if place.join("rtcqs/rtcqs.py").is_file() {
        return Ok(place);
    }
    let output = Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"])
        .args(["--root-user-action=ignore", "--target"])
        .arg(&place)
        .arg(RTCQS)
        .output()
        .map_err(|error| format!("python3: {error}"))?;
    match output.status.success() {
        true => Ok(place),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("pip: {}", said.lines().last().unwrap_or("failed")))
        }
    }
}

/// What rtcqs says here, by the names of its checks.
fn verdicts_of_rtcqs(place: &Path) -> BTreeMap<String, bool> {
    let output =
        Command::new("python3").args(["-c", RUN]).env("PYTHONPATH", place).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let last = said.lines().last().unwrap_or_default();
    serde_json::from_str(last)
        .unwrap_or_else(|_| panic!("{said}{}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn the_verdicts_are_those_of_rtcqs() {
    let theirs = match rtcqs() {
        Ok(place) => verdicts_of_rtcqs(&place),
        Err(reason) => {
            println!("SKIPPED the comparison with rtcqs: {reason}");
            return;
        }
    };
    let world = World::new();
    let said = world.run(&["scan", "--json"]);
    let scan: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    let ours = |id: &str| {
        let rows = scan["host"].as_array().unwrap();
        let row = rows.iter().find(|row| row["id"] == id);
        row.unwrap_or_else(|| panic!("no row {id}"))["verdict"].as_str().unwrap().to_owned()
    };
    let mut apart = Vec::new();
    println!("{:<18} {:<8} archibald", "CHECK", "rtcqs");
    for (id, good) in &theirs {
        // Notes on single interrupts, which stand together under "irqs".
        if id == "snd_irqs" || id == "usb_irqs" {
            continue;
        }
        let theirs = if *good { "good" } else { "warning" };
        println!("{id:<18} {theirs:<8} {}", ours(id));
        if ours(id) != theirs {
            apart.push(id);
        }
    }
    assert!(theirs.len() >= 5, "rtcqs said next to nothing: {theirs:?}");
    assert!(apart.is_empty(), "not the same verdict on {apart:?}");
}

#[test]
fn hosts_are_scanned_by_what_their_files_say() {
    for host in ["intel-desktop", "amd-shared-group", "test-machine"] {
        let world = World::new();
        let root = world.path("host");
        hosts::unfold(host, &root);
        // Whether a file can be written depends on who runs the test.
        let said = world.run(&["scan", "--root", root.to_str().unwrap()]);
        assert_eq!(said.status, 0, "{}", said.err);
        insta::assert_snapshot!(host, said.out);
    }
}
