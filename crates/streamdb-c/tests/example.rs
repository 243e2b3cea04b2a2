//! The C example, compiled by the C compiler and run: as a C programmer would, by pkg-config.
#![allow(clippy::unwrap_used, reason = "a failed test should fail at the line that fails")]
#![allow(clippy::print_stdout, reason = "what was skipped is told")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The static library lies beside the test's own directory, under its name or a hashed one.
fn library() -> PathBuf {
    let deps = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let candidates = [deps.clone(), deps.parent().unwrap().to_owned()];
    let mut found: Vec<PathBuf> = candidates
        .iter()
        .flat_map(|dir| fs::read_dir(dir).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            name.starts_with("libstreamdb_c") && name.ends_with(".a")
        })
        .collect();
    found.sort_by_key(|path| fs::metadata(path).unwrap().modified().unwrap());
    found.pop().unwrap()
}

#[test]
fn the_example_compiles_and_runs() {
    for program in ["cc", "pkg-config"] {
        if Command::new(program).arg("--version").output().is_err() {
            println!("SKIPPED: {program} is not installed (apt-get install gcc pkg-config)");
            return;
        }
    }
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let prefix = tempfile::tempdir().unwrap();
    let prefix = prefix.path();
    for dir in ["lib", "include"] {
        fs::create_dir(prefix.join(dir)).unwrap();
    }
    fs::copy(library(), prefix.join("lib/libstreamdb_c.a")).unwrap();
    fs::copy(here.join("include/streamdb.h"), prefix.join("include/streamdb.h")).unwrap();
    let description = fs::read_to_string(here.join("streamdb.pc.in")).unwrap();
    let description = description
        .replace("@PREFIX@", prefix.to_str().unwrap())
        .replace("@VERSION@", env!("CARGO_PKG_VERSION"));
    fs::write(prefix.join("lib/streamdb.pc"), description).unwrap();
    let flags = Command::new("pkg-config")
        .args(["--static", "--cflags", "--libs", "streamdb"])
        .env("PKG_CONFIG_PATH", prefix.join("lib"))
        .output()
        .unwrap();
    assert!(flags.status.success(), "{}", String::from_utf8_lossy(&flags.stderr));
    let example = prefix.join("hello");
    let compiled = Command::new("cc")
        .args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-o"])
        .arg(&example)
        .arg(here.join("examples/hello.c"))
        .args(String::from_utf8(flags.stdout).unwrap().split_whitespace())
        .output()
        .unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let run = Command::new(&example).arg(prefix.join("store")).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let version = env!("CARGO_PKG_VERSION");
    let wanted =
        format!("takes/one.wav: RIFF\nfound takes/one.wav\n1 keys, 4 bytes, version {version}\n");
    assert_eq!(String::from_utf8(run.stdout).unwrap(), wanted);
    let wrong = Command::new(&example).arg("/dev/null/none").output().unwrap();
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("status -1"));
}
