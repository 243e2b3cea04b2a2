//! `archibald new`: what it makes, and what it refuses. That the projects build, run and hold is tried in
//! templates.rs, on the real image.

#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use world::World;

const TEMPLATES: [&str; 5] = ["sclang", "c-jack", "rust-jack", "pipewire-filter", "python"];

#[test]
fn every_template_makes_a_project_of_that_name() {
    let world = World::new();
    let said = world.run(&["new", "--list", "--json"]);
    let list: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    let names: Vec<_> = list["templates"].as_array().unwrap().iter().collect();
    let names: Vec<_> = names.iter().map(|entry| entry["name"].as_str().unwrap()).collect();
    assert_eq!(names, TEMPLATES);
    for template in TEMPLATES {
        assert!(world.run(&["new", "--list"]).out.contains(template));
        let name = format!("drone-{template}");
        let said = world.run(&["new", &name, "--template", template]);
        assert_eq!(said.status, 0, "{}", said.err);
        let folder = world.path("work").join(&name);
        let read = |file: &str| fs::read_to_string(folder.join(file)).unwrap();
        assert!(read("README.md").starts_with(&format!("# {name}\n")), "{template}");
        // One word everywhere: nothing still has the template's own name.
        for entry in fs::read_dir(&folder).unwrap().flatten().filter(|e| e.path().is_file()) {
            let text = fs::read_to_string(entry.path()).unwrap();
            assert!(!text.contains("my-"), "{}", entry.path().display());
        }
        assert!(read("lab.toml").contains("xruns = 0"), "{template}");
        assert!(read(".dir-locals.el").contains("archibald run"), "{template}");
        assert!(read(".nvim.lua").contains("archibald run"), "{template}");
        // As `archibald lab run` would find its scenario: it is read before anything is looked for.
        let mut lab = world.command(&["run", &name]);
        let said = world::said(lab.output().unwrap());
        assert!(said.status == 2 && said.err.contains("there is no machine"), "{}", said.err);
    }
    let script = world.path("work/drone-pipewire-filter/play.sh");
    assert_eq!(fs::metadata(script).unwrap().permissions().mode() & 0o777, 0o755);
}

#[test]
fn what_is_there_stays_as_it_is() {
    let world = World::new();
    for there in ["file", "folder", "link"] {
        let path = world.path("work").join(there);
        match there {
            "file" => fs::write(&path, "mine").unwrap(),
            // Empty: rename(2) would take its place without a word.
            "folder" => fs::create_dir(&path).unwrap(),
            _ => std::os::unix::fs::symlink("nowhere", &path).unwrap(),
        }
        let said = world.run(&["new", there, "--template", "c-jack"]);
        assert_eq!(said.status, 2, "{there}");
        assert!(said.err.contains(&format!("{there} is there already")), "{}", said.err);
    }
    assert_eq!(fs::read_to_string(world.path("work/file")).unwrap(), "mine");
    assert_eq!(fs::read_dir(world.path("work/folder")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(world.path("work")).unwrap().count(), 3, "nothing half-made is left");
}

#[test]
fn a_name_that_is_none_and_a_template_that_is_none_are_refused() {
    let world = World::new();
    for (words, told) in [
        (&["new", "Big Box", "--template", "c-jack"][..], "beginning with a letter"),
        (&["new", "../up", "--template", "c-jack"], "beginning with a letter"),
        (&["new", "test", "--template", "rust-jack"], "cargo"),
        (&["new", "drone", "--template", "cobol"], "pipewire-filter"),
        (&["new", "drone"], "--template"),
    ] {
        let said = world.run(words);
        assert!(said.status == 2 && said.err.contains(told), "{words:?}: {}", said.err);
    }
    assert_eq!(fs::read_dir(world.path("work")).unwrap().count(), 0);
}

#[test]
fn a_folder_that_cannot_be_written_is_told_and_left_alone() {
    let world = World::new();
    // Also root cannot write here.
    let mut command = world.command(&["new", "drone", "--template", "c-jack"]);
    let said = world::said(command.current_dir("/proc").output().unwrap());
    assert!(said.status == 3 && said.err.contains("drone cannot be made"), "{}", said.err);
}
