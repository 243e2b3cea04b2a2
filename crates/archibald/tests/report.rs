//! `archibald report`: files of runs, and files that are none.
#![allow(clippy::unwrap_used)]

mod world;

use world::World;

/// A run of the first version, as every later one must read it.
const RUN: &str = include_str!("data/wakeup-run-1.json");

#[test]
fn a_run_of_the_first_version_is_still_read() {
    let world = World::new();
    world.write("run.json", RUN);
    let said = world.run(&["report", "run.json"]);
    assert_eq!(said.status, 0, "{}", said.err);
    insta::assert_snapshot!("report", said.out);
}

#[test]
fn two_runs_are_compared_and_their_different_conditions_named() {
    let world = World::new();
    world.write("a.json", RUN);
    world.write("b.json", &RUN.replace("\"load\": \"none\"", "\"load\": \"stress-ng --cpu 0\""));
    let said = world.run(&["report", "a.json", "b.json", "--html", "page.html"]);
    assert_eq!(said.status, 0, "{}", said.err);
    assert!(said.out.contains("load") && said.out.contains("stress-ng --cpu 0"), "{}", said.out);
    assert!(std::fs::read_to_string(world.path("work/page.html")).unwrap().contains("<svg"));
    assert_eq!(world.run(&["report", "a.json", "b.json", "--csv", "x"]).status, 2);
}

#[test]
fn what_is_no_run_is_refused_with_its_name() {
    let world = World::new();
    world.write("cut.json", &RUN[..RUN.len() / 2]);
    world.write("other.json", "{\"schema\": \"archibald.run/9\"}");
    for (file, words) in
        [("cut.json", "cut short"), ("other.json", "archibald.run/9"), ("none.json", "none.json")]
    {
        let said = world.run(&["report", file]);
        assert!(said.status == 2 && said.err.contains(words), "{}", said.err);
        assert!(said.err.contains(file), "{}", said.err);
    }
}
