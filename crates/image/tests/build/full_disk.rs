//! A full disk is told by its directory and what is needed, and nothing half-made stays. Needs root
//! for a small file system; the mount is seen by the build alone.

use std::path::Path;
use std::process::{Command, Output};

use crate::builder::command;
use crate::workshop::{Workshop, base, is_root};

/// Builds in a tmpfs of `size` that starts with a copy of `parts` of the cache `from`; the output
/// ends with the list of what is left in it.
fn build_in_tmpfs(size: &str, from: &Path, parts: &str) -> Output {
    let place = tempfile::tempdir().unwrap();
    let build = command(&std::env::current_exe().unwrap(), place.path());
    let script = format!(
        "place=$1 && shift && mount -t tmpfs -o size={size} tmpfs \"$place\" &&
         cp -a --sparse=always {parts} \"$place\" && ! \"$@\" && cd \"$place\" &&
         find . -path ./debs -prune -o -path ./base -prune -o -type f -print"
    );
    Command::new("unshare")
        .args(["--mount", "sh", "-c", &script, "sh"])
        .arg(place.path())
        .arg(build.get_program())
        .args(build.get_args())
        .envs(build.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .current_dir(from)
        .output()
        .unwrap()
}

fn assert_told(output: &Output) {
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    let listing = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{listing}{error}");
    assert!(error.contains("no space left in "), "{error}");
    assert!(error.contains("MB are needed"), "{error}");
    for left in listing.lines().filter(|line| line.starts_with("./")) {
        assert!(["./log/", "./lock", "./recipes/"].iter().any(|ok| left.starts_with(ok)), "{left}");
    }
}

#[test]
fn a_full_disk_is_told_and_left_clean() {
    if !is_root() {
        eprintln!("SKIPPED: a small file system to fill takes root");
        return;
    }
    let workshop = Workshop::with_downloads();
    base();
    assert_told(&build_in_tmpfs("200m", workshop.path(), "debs"));
    assert_told(&build_in_tmpfs("330m", base(), "base recipes"));
}
