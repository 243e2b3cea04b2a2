//! The files under guest/root as files: units that systemd can read, links that lead somewhere,
//! scripts that start. What they do is seen in a running machine, by `archibald-guest check`.

// A failed read is a failed test, in the functions that the tests share as well.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

fn image() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guest/root")
}

/// Everything in the tree that is not a directory, with the path it has in the machine.
fn entries() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![image()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                let name = format!("/{}", entry.path().strip_prefix(image()).unwrap().display());
                found.push((entry.path(), name));
            }
        }
    }
    found
}

fn is_unit(name: &str) -> bool {
    let parts: Vec<&str> = name.rsplit('/').collect();
    let kinds = ["service", "socket", "timer", "target", "mount", "path", "network"];
    let kind = |name: &str| kinds.iter().any(|kind| name.ends_with(&format!(".{kind}")));
    let drop_in = name.ends_with(".conf") && parts[1].strip_suffix(".d").is_some_and(kind);
    kind(parts[0]) || drop_in
}

#[test]
fn units_are_sections_of_known_names_with_keys_and_values() {
    let sections = ["Unit", "Service", "Socket", "Install", "Match", "Network", "Link"];
    let mut units = 0;
    for (path, name) in entries() {
        if path.is_symlink() || !is_unit(&name) {
            continue;
        }
        units += 1;
        let mut section = "";
        let text = fs::read_to_string(&path).unwrap();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(inside) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                section = inside;
                assert!(sections.contains(&inside), "{name}: [{inside}]");
                continue;
            }
            let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{name}: {line}"));
            assert!(!section.is_empty(), "{name}: {line} before any section");
            assert!(key.chars().all(|c| c.is_ascii_alphanumeric()), "{name}: {key}");
            // systemd takes "#" after a value as a part of it.
            assert!(!value.contains(" #"), "{name}: {line}");
            if key.starts_with("Exec") && !value.is_empty() {
                let program = value.trim_start_matches(['-', '+', '!']);
                let known = program.starts_with('/') || program.starts_with("udevadm ");
                assert!(known, "{name}: {value}");
            }
        }
        assert!(!section.is_empty(), "{name} is empty");
    }
    assert!(units > 10);
}

#[test]
fn what_a_unit_of_ours_starts_is_there() {
    let builds = ["/usr/bin/archibald-guest", "/usr/bin/streamdb"];
    // Of packages of the image.
    let packaged = ["/etc/init.d/rtirq", "/usr/sbin/slurmd"];
    for (path, name) in entries() {
        if !is_unit(&name) || path.is_symlink() || !name.starts_with("/usr/lib/systemd/") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for line in text.lines().filter_map(|line| line.strip_prefix("ExecStart=")) {
            let program = line.split(' ').next().unwrap();
            let known = builds.contains(&program) || packaged.contains(&program);
            assert!(known || image().join(&program[1..]).exists(), "{name}: {program}");
        }
    }
}

#[test]
fn links_enable_units_that_exist_or_mask_them() {
    // Of packages of the image.
    let packaged = [
        "/usr/lib/systemd/system/ssh.service",
        "/usr/lib/systemd/system/systemd-networkd.service",
        "/usr/lib/systemd/system/multi-user.target",
        "/usr/lib/systemd/system/serial-getty@.service",
    ];
    for (path, name) in entries() {
        if !path.is_symlink() || !name.starts_with("/etc/systemd/") {
            continue;
        }
        let target = fs::read_link(&path).unwrap().display().to_string();
        let known = target == "/dev/null" || packaged.contains(&target.as_str());
        assert!(known || image().join(&target[1..]).exists(), "{name} -> {target}");
    }
}

#[test]
fn scripts_have_their_exec_bit_and_nothing_else_has_one() {
    for (path, name) in entries() {
        if path.is_symlink() {
            continue;
        }
        let script = fs::read(&path).unwrap().starts_with(b"#!");
        let executable = fs::metadata(&path).unwrap().permissions().mode() & 0o111 != 0;
        assert_eq!(script, executable, "{name}");
    }
}
