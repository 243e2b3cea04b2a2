//! Made-up hosts. Each is one text file beside this one, which [`unfold`] turns into a tree of /proc,
//! /sys and /etc:
//!
//! ```text
//! # a comment
//! /a/file = one line
//! /a/longer/file <<
//! lines
//! >>
//! /a/link -> what it says
//! /cpu{0-3}/file = for each of them, {n} being its number and {n+4} four more
//! ```
// Each test file uses some of it; a failed call here is a failed test.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

/// The hosts' names.
pub(crate) const ALL: [&str; 6] = [
    "intel-desktop",
    "amd-shared-group",
    "laptop-without-iommu",
    "nested-vm",
    "test-machine",
    "server-two-nodes",
];

/// What each host's owner asks of it, as a machine file.
pub(crate) fn machine_file(host: &str) -> &'static str {
    match host {
        "intel-desktop" => "[realtime]\nhost-cpus = \"6-7\"\n[devices]\npci = [\"0000:05:00.0\"]\n",
        "amd-shared-group" => {
            "[realtime]\nhost-cpus = \"4-5\"\n[devices]\npci = [\"0000:02:00.0\"]\n"
        }
        "server-two-nodes" => {
            "[machine]\nvcpus = 4\nmemory = \"16 GiB\"\n[realtime]\nhost-cpus = \"12-15\"\nisolated = \"2-3\"\n\
             [devices]\npci = [\"0000:81:00.0\"]\n"
        }
        "nested-vm" => "[realtime]\nhost-cpus = \"2-3\"\n",
        _ => "",
    }
}

/// The same with CPUs of its own, also for those who ask for none.
pub(crate) fn wanting_cpus(host: &str) -> &'static str {
    match host {
        "laptop-without-iommu" => "[realtime]\nhost-cpus = \"1,3\"\n",
        "test-machine" => "[machine]\nvcpus = 1\n[realtime]\nhost-cpus = \"1\"\nisolated = \"\"\n",
        _ => machine_file(host),
    }
}

/// Makes the tree of this host below `root`.
pub(crate) fn unfold(host: &str, root: &Path) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host/tests/hosts");
    let text = fs::read_to_string(folder.join(format!("{host}.host"))).unwrap();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some((path, target)) = line.split_once(" -> ") {
            for (path, target) in each(path, target) {
                std::os::unix::fs::symlink(target, make_room(root, &path)).unwrap();
            }
        } else if let Some(path) = line.strip_suffix(" <<") {
            let body: Vec<&str> = lines.by_ref().take_while(|line| *line != ">>").collect();
            fs::write(make_room(root, path), body.join("\n") + "\n").unwrap();
        } else {
            let (path, value) = line.split_once(" =").unwrap_or_else(|| panic!("{host}: {line}"));
            for (path, value) in each(path, value.trim()) {
                fs::write(make_room(root, &path), value + "\n").unwrap();
            }
        }
    }
}

fn make_room(root: &Path, path: &str) -> PathBuf {
    let path = root.join(path.trim_start_matches('/'));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    path
}

/// The line once for each number of its range.
fn each(path: &str, value: &str) -> Vec<(String, String)> {
    let Some((before, rest)) = path.split_once('{') else {
        return vec![(path.to_owned(), value.to_owned())];
    };
    let (range, after) = rest.split_once('}').unwrap();
    let (first, last) = range.split_once('-').unwrap();
    let numbers = first.parse::<u32>().unwrap()..=last.parse().unwrap();
    numbers.map(|n| (format!("{before}{n}{after}"), with_number(value, n))).collect()
}

fn with_number(value: &str, n: u32) -> String {
    let mut value = value.replace("{n}", &n.to_string());
    for offset in 1..=64 {
        value = value.replace(&format!("{{n+{offset}}}"), &(n + offset).to_string());
        value = value.replace(&format!("{{n-{offset}}}"), &n.saturating_sub(offset).to_string());
    }
    value
}
