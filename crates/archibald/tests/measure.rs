//! `archibald measure`, as a person runs it on this very Linux. What it does in the machine is part of
//! machine.rs, where one is running.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod world;

use serde_json::Value;
use world::World;

/// cyclictest's own figures on this host, or why it cannot be run.
fn measured(world: &World, words: &[&str]) -> Result<(i32, Value), String> {
    let words = [&["measure", "wakeup", "--here", "--json"], words].concat();
    let said = world.run(&words);
    match said.status {
        0 | 1 => Ok((said.status, serde_json::from_str(&said.out).unwrap())),
        3 => Err(said.err),
        other => panic!("status {other}: {}", said.err),
    }
}

#[test]
fn a_wakeup_is_measured_kept_and_reported() {
    let world = World::new();
    let (status, said) = match measured(&world, &["--for", "1s", "--target", "10000000"]) {
        Ok(said) => said,
        Err(reason) => return println!("SKIPPED measuring on this host: {reason}"),
    };
    // One thread a CPU and a thousand wake-ups a second: more than the 2,995 that the claim wants only
    // where there are many CPUs.
    let run = &said["run"];
    let samples: u64 = run["histograms"][0]["histogram"]["bins"]
        .as_array()
        .unwrap()
        .iter()
        .map(|bin| bin[1].as_u64().unwrap())
        .sum();
    assert!(samples > 0, "{run:#}");
    let verdict = said["verdict"].as_str().unwrap();
    match (run["source"].as_str().unwrap(), samples >= 2995) {
        ("emulation", _) => assert_eq!((status, verdict), (0, "not-judged")),
        (_, true) => assert_eq!((status, verdict), (0, "held"), "{said:#}"),
        (_, false) => assert_eq!((status, verdict), (1, "not-enough-samples"), "{said:#}"),
    }
    assert!(run["conditions"]["program"].as_str().unwrap().starts_with("cyclictest"), "{run:#}");

    // The kept file is what `report` reads.
    let file = said["file"].as_str().unwrap();
    let page = world.path("work/page.html");
    let said = world.run(&["report", file, "--html", page.to_str().unwrap(), "--csv", "bins.csv"]);
    assert_eq!(said.status, 0, "{}", said.err);
    assert!(said.out.contains("worst wakeup <= 50 us"), "{}", said.out);
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("cyclictest") && !page.contains("http://") && !page.contains("https://"));
    let bins = std::fs::read_to_string(world.path("work/bins.csv")).unwrap();
    let counted: u64 = bins
        .lines()
        .filter_map(|line| line.strip_prefix("wakeup,")?.split(',').nth(1)?.parse::<u64>().ok())
        .sum();
    assert_eq!(counted, samples);
    assert!(world.is_quiet());
}

#[test]
fn a_load_runs_meanwhile_and_is_gone_afterwards() {
    let world = World::new();
    let said = match measured(&world, &["--for", "1s", "--load", "cpu,fork"]) {
        Ok((_, said)) => said,
        Err(reason) => return println!("SKIPPED measuring under load on this host: {reason}"),
    };
    let load = said["run"]["conditions"]["load"].as_str().unwrap();
    assert!(load.contains("stress-ng") && load.contains("--fork"), "{load}");
    // It was this test's alone: nobody else gives it this time limit.
    let left =
        std::process::Command::new("pgrep").args(["-f", "^stress-ng .*--timeout 31$"]).output();
    assert_eq!(String::from_utf8_lossy(&left.unwrap().stdout), "");
}

#[test]
fn wrong_words_and_missing_machines_are_told() {
    let world = World::new();
    let said = world.run(&["measure", "wakeup", "--here", "--for", "10"]);
    assert!(said.status == 2 && said.err.contains("10s, 5m or 1h"), "{}", said.err);
    let said = world.run(&["measure", "wakeup", "nobody"]);
    assert!(said.status != 0 && said.err.contains("archibald up"), "{} {}", said.status, said.err);
}
