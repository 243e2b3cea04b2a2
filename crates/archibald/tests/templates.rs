//! The projects that `archibald new` makes, in virtual time on the real image: each is built there and holds
//! under the mixed load, and with the fault that its README tells how to plant it breaks.

#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::fs;
use std::process::Command;

use serde_json::Value;
use world::World;

/// With the cause that the README promises of `archibald lab explain`.
const TEMPLATES: [(&str, Option<&str>); 5] = [
    ("sclang", None),
    ("c-jack", Some("lock-held")),
    ("rust-jack", None),
    ("pipewire-filter", None),
    ("python", None),
];

#[test]
#[ignore = "boots the real image in virtual time; run by ./archibald test"]
fn every_project_holds_and_breaks_with_its_fault() {
    let world = World::new();
    for (template, cause) in TEMPLATES {
        make(&world, &format!("good-{template}"), template);
        make(&world, &format!("bad-{template}"), template);
        plant(&world, &format!("bad-{template}"), cause);
    }
    let said = world.run_with_image(&["lab", "test", "--quiet", "--json", "."]);
    let report: Value =
        serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{}{}", said.out, said.err));
    let cases = report["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 2 * TEMPLATES.len(), "{}", said.out);
    for case in cases {
        assert_eq!(case["passed"], true, "{case:#}");
        let bad = case["scenario"].as_str().unwrap().contains("bad-");
        let found = case["found"].as_str().unwrap();
        assert!(found.starts_with(if bad { "broken" } else { "held, 0 xruns" }), "{case:#}");
    }
    assert_eq!(said.status, 0, "{}{}", said.out, said.err);
}

fn make(world: &World, name: &str, template: &str) {
    let said = world.run(&["new", name, "--template", template]);
    assert_eq!(said.status, 0, "{}", said.err);
}

/// As the README says, and with the scenario's expectation turned round.
fn plant(world: &World, name: &str, cause: Option<&str>) {
    let folder = world.path("work").join(name);
    let readme = fs::File::open(folder.join("README.md")).unwrap();
    let mut patch = Command::new("patch");
    let output = patch.args(["-p1"]).current_dir(&folder).stdin(readme).output().unwrap();
    assert!(output.status.success(), "{name}: {output:?}");
    let scenario = folder.join("lab.toml");
    let mut text = fs::read_to_string(&scenario).unwrap();
    // These break in every period; the others take their time.
    if name.ends_with("c-jack") || name.ends_with("python") {
        text = text.replace("duration = \"1s\"", "duration = \"400ms\"");
    }
    text.push_str("\n[expect]\nverdict = \"broken\"\n");
    if let Some(cause) = cause {
        text.push_str(&format!("cause = \"{cause}\"\n"));
    }
    fs::write(scenario, text).unwrap();
}
