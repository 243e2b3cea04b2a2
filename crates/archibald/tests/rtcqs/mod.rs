//! rtcqs itself, from the Python registry, to compare with.
// A failed step here is a failed test, and its table is what the test shows.
#![allow(dead_code, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

/// The release whose verdicts are followed.
const RELEASE: &str = "rtcqs==0.6.7";

/// Runs every check and prints the verdicts. Without a kernel configuration rtcqs breaks off in the
/// middle; what it said until then still counts.
const RUN: &str = "
import json, sys
sys.path.insert(0, sys.argv[1])
from rtcqs import Rtcqs
scan = Rtcqs()
scan.gui_status = True
try:
    scan.main()
except (AttributeError, KeyError):
    pass
print(json.dumps(scan.status))
";

/// Its program as pip installs it, kept outside of the checkout; the reason where it cannot be had.
pub(crate) fn installed() -> Result<PathBuf, String> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache"),
        PathBuf::from,
    );
    let place = cache.join("archibald-tests").join(RELEASE.replace("==", "-"));
    let program = place.join("rtcqs/rtcqs.py");
    if program.is_file() {
        return Ok(program);
    }
    let output = Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"])
        .args(["--root-user-action=ignore", "--target"])
        .arg(&place)
        .arg(RELEASE)
        .output()
        .map_err(|error| format!("python3: {error}"))?;
    if output.status.success() && program.is_file() {
        return Ok(program);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("pip: {}", said.lines().last().unwrap_or("failed")))
}

/// The words that run it from the folder where its program lies.
pub(crate) fn command(folder: &str) -> [&str; 4] {
    ["python3", "-c", RUN, folder]
}

/// Prints its verdicts beside those of `archibald scan`, and tells on which check they differ.
pub(crate) fn compare(said: &str, rows: &serde_json::Value) -> Vec<String> {
    let last = said.lines().last().unwrap_or_default();
    let theirs: BTreeMap<String, bool> =
        serde_json::from_str(last).unwrap_or_else(|_| panic!("rtcqs said {said:?}"));
    assert!(theirs.len() >= 5, "rtcqs said next to nothing: {theirs:?}");
    let mut apart = Vec::new();
    println!("{:<18} {:<8} archibald", "CHECK", "rtcqs");
    // Notes on single interrupts stand together under "irqs".
    let single = |id: &str| id == "snd_irqs" || id == "usb_irqs";
    for (id, good) in theirs.into_iter().filter(|(id, _)| !single(id)) {
        let row = rows.as_array().unwrap().iter().find(|row| row["id"] == *id);
        let ours = row.unwrap_or_else(|| panic!("no row {id}"))["verdict"].as_str().unwrap();
        let theirs = if good { "good" } else { "warning" };
        println!("{id:<18} {theirs:<8} {ours}");
        if ours != theirs {
            apart.push(id);
        }
    }
    apart
}
