//! The meters in the running machine that look at a whole graph: the causes of xruns, and all at once.
// Used by machine.rs, which has the machine.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;

use serde_json::Value;

use crate::world::World;

/// A client with one fault of several kinds.
const FAULTS: &str = include_str!("../data/faults.c");

fn built(world: &World) {
    world.write("faults.c", FAULTS);
    assert_eq!(world.run(&["copy", "faults.c", ":faults.c"]).status, 0);
    let build = "cc -O2 -o faults faults.c -ljack -lm -lpthread";
    let said = world.run(&["exec", "--", "sh", "-c", build]);
    assert_eq!(said.status, 0, "{}{}", said.out, said.err);
}

/// The episodes that the kernel's trace shows while the client plays; none where there was no xrun. With
/// periods as long as these an emulated graph that has no fault hardly ever misses one.
fn episodes(world: &World, kind: &str) -> Result<Vec<Value>, String> {
    let with = format!("./faults {kind}");
    let words =
        ["measure", "audio", "--own-jackd", "--quantum", "2048", "--explain", "--for", "3s"];
    let said = world.run(&[&words[..], &["--with", &with, "--json"]].concat());
    // A graph that has come to a standstill gives no result, but comes back and says so.
    let Ok(report) = serde_json::from_str::<Value>(&said.out) else {
        assert!(matches!(said.status, 1 | 3) && said.err.contains("error"), "{}", said.err);
        return Err(said.err);
    };
    assert_eq!(report["run"]["conditions"]["other"]["with"], with.as_str(), "{report:#}");
    let told = said.err.lines().find(|line| line.starts_with('{'));
    let told: Option<Value> = told.map(|line| serde_json::from_str(line).unwrap());
    let episodes = |told: Value| told["explanation"]["episodes"].as_array().unwrap().clone();
    Ok(told.map_or_else(Vec::new, episodes))
}

fn sentence(episode: &Value) -> &str {
    episode["sentence"].as_str().unwrap()
}

/// Whether the cause is that of most of the late time, and the culprit is called by its name. Timers that
/// come late are left out: there the host has held the emulator up, for longer than any fault lasts when it
/// is busy.
fn is_named(episodes: &[Value], cause: &str, culprit: &str) -> bool {
    let mut late = BTreeMap::<&str, u64>::new();
    for episode in episodes.iter().filter(|episode| episode["cause"] != "late-interrupt") {
        let time = |key: &str| episode[key].as_u64().unwrap();
        *late.entry(episode["cause"].as_str().unwrap()).or_default() +=
            time("to_ns") - time("from_ns");
    }
    let most = late.iter().max_by_key(|(_, time)| **time).map(|(cause, _)| *cause);
    let names = |episode: &Value| episode["cause"] == cause && sentence(episode).contains(culprit);
    most == Some(cause) && episodes.iter().any(names)
}

pub(crate) fn a_planted_cause_is_named(world: &World) {
    built(world);
    for (kind, cause, culprit) in [
        ("rival", "preempted", "controller of faults (SCHED_FIFO 92) had the processor"),
        ("pages", "page-fault", "faults "),
        ("lock", "lock-held", "until panel of faults (ordinary) let go of it"),
        ("work", "own-work", "faults computed "),
    ] {
        // It can be held up within a fault too.
        let mut seen = Vec::new();
        let found = (0..5).any(|_| {
            let episodes = episodes(world, kind);
            let found = episodes.as_ref().is_ok_and(|episodes| is_named(episodes, cause, culprit));
            seen.push(episodes);
            found
        });
        assert!(found, "{kind}: {seen:#?}");
    }
    // Without a fault nothing is blamed on it, unless the host has held the emulator up in its turn: for the
    // machine that is time which it computed.
    let mut seen = Vec::new();
    let clean = (0..3).any(|_| {
        seen.push(episodes(world, "clean"));
        let last = seen.last().and_then(|episodes| episodes.as_ref().ok());
        last.is_some_and(|all| !all.iter().any(|one| sentence(one).contains("faults ")))
    });
    assert!(clean, "{seen:#?}");
    let left = world.run(&["exec", "--", "pgrep", "-x", "jackd|archibald-probe|faults"]);
    assert_eq!(left.out, "", "something outlives the measurement");
}

pub(crate) fn all_meters_measure_at_once(world: &World) {
    let words = ["measure", "soak", "--for", "20s", "--voices", "2", "--load", "cpu", "--json"];
    let said = world.run(&words);
    let report: Value =
        serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{}{}", said.out, said.err));
    let run = &report["run"];
    let histograms = run["histograms"].as_array().unwrap();
    let mut names: Vec<_> = histograms.iter().filter_map(|named| named["name"].as_str()).collect();
    names.sort_unstable();
    let all = [
        "callback",
        "jitter",
        "margin",
        "network-tcp",
        "network-udp",
        "round-trip",
        "wakeup",
        "wakeup-housekeeping",
    ];
    assert_eq!(names, all, "{run:#}");
    for named in histograms {
        let bins = named["histogram"]["bins"].as_array().unwrap();
        assert!(!bins.is_empty() || named["name"] == "network-udp", "{named:#}");
    }
    for meter in ["jack-callback", "frame-clock", "callback-pause", "sequence", "pw-top"] {
        assert!(run["counters"][meter].is_u64(), "{meter}: {run:#}");
    }
    assert_eq!(run["round_trip"]["frames"], 32.0, "{run:#}");
    let load = run["conditions"]["load"].as_str().unwrap();
    for part in ["2 voices of SuperCollider", "cyclictest", "stress-ng"] {
        assert!(load.contains(part), "{load}");
    }
    if run["source"] == "emulation" {
        assert_eq!((said.status, &report["verdict"]), (0, &"not-judged".into()), "{}", said.err);
        let told = world.run(&["report", report["file"].as_str().unwrap()]);
        assert!(told.out.contains("emulated: not judged"), "{}", told.out);
    }
    let left = "pgrep -x 'scsynth|sclang|cyclictest|stress-ng|archibald-probe' || echo none";
    let left = world.run(&["exec", "--", "sh", "-c", left]);
    assert_eq!(left.out.trim(), "none", "something outlives the measurement");
}
