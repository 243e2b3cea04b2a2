//! What docs/ci.md promises: its line is run, and both templates run the same one.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod world;

use std::fs;
use std::process::Command;

use world::World;

/// The line that follows the mark in the document.
fn gate() -> Vec<String> {
    let text = fs::read_to_string(world::project().join("docs/ci.md")).unwrap();
    let (_, rest) = text.split_once("<!-- gate:").unwrap();
    let line = rest.split("```sh\n").nth(1).unwrap().lines().next().unwrap();
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    assert_eq!(words[0], "./archibald");
    words[1..].to_vec()
}

#[test]
fn the_templates_run_the_documents_line() {
    let words = gate();
    assert_eq!(words[..2], ["lab", "test"]);
    assert!(words.contains(&"--junit".to_owned()));
    for (file, line) in [
        ("ci/github/action.yml", "archibald\" lab test \"$FOLDER\" --junit \"$JUNIT\" $ARGUMENTS"),
        (
            "ci/gitlab/lab.yml",
            "archibald lab test \"$LAB_FOLDER\" --junit lab-junit.xml $LAB_ARGUMENTS",
        ),
    ] {
        let path = world::project().join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(line), "{file} does not run `{line}`");
        let read = Command::new("python3")
            .args(["-c", "import sys, yaml; yaml.safe_load(open(sys.argv[1]))"])
            .arg(&path)
            .output();
        match read {
            Ok(read) if read.status.success() => {}
            Ok(read) if String::from_utf8_lossy(&read.stderr).contains("No module named") => {
                println!("SKIPPED: no yaml for python3, so {file} is not read as YAML");
            }
            Ok(read) => panic!("{file}: {}", String::from_utf8_lossy(&read.stderr)),
            Err(_) => println!("SKIPPED: no python3, so {file} is not read as YAML"),
        }
    }
}

#[test]
fn the_cache_has_a_name_that_follows_what_is_in_it() {
    let name = |folder: &std::path::Path| {
        let said = Command::new(folder.join("ci/key")).output().unwrap();
        assert!(said.status.success(), "{said:?}");
        String::from_utf8(said.stdout).unwrap()
    };
    let copy = tempfile::tempdir().unwrap();
    for (file, text) in [
        ("guest/packages", "jackd2\n"),
        ("crates/a.rs", ""),
        ("Cargo.lock", ""),
        ("archibald.toml", ""),
    ] {
        let path = copy.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    fs::create_dir(copy.path().join("ci")).unwrap();
    let key = fs::read_to_string(world::project().join("ci/key")).unwrap();
    world::executable(&copy.path().join("ci/key"), &key);
    let first = name(copy.path());
    assert_eq!(first.trim().len(), 16, "{first}");
    assert_eq!(first, name(copy.path()));
    fs::write(copy.path().join("guest/packages"), "jackd2\nflac\n").unwrap();
    assert_ne!(first, name(copy.path()));
}

#[test]
#[ignore = "boots the real image"]
fn the_documents_line_passes_and_writes_its_report() {
    let world = World::new();
    let words = gate();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    // The document's paths start from the project; the report goes where this test may write.
    std::os::unix::fs::symlink(world::project().join("examples"), world.path("work/examples"))
        .unwrap();
    let said = world.run_with_image(&words);
    assert_eq!(said.status, 0, "{}{}", said.out, said.err);
    let junit = fs::read_to_string(world.path("work/lab-junit.xml")).unwrap();
    assert!(
        junit.contains("tests=\"1\" failures=\"0\"") && junit.contains("examples/lab/first"),
        "{junit}"
    );
}
