//! Scenario files that are right, and the ways in which they are wrong.

use std::time::Duration;

use miette::{GraphicalReportHandler, GraphicalTheme};

use super::*;

fn parse(text: &str) -> Result<Scenario, FileError> {
    Scenario::parse("lab.toml", text, Path::new("/folder"))
}

/// What the user reads, without colours.
fn shown(text: &str) -> String {
    let error = parse(text).unwrap_err();
    let mut out = String::new();
    GraphicalReportHandler::new_themed(GraphicalTheme::none())
        .with_width(100)
        .render_report(&mut out, &error)
        .unwrap();
    out
}

#[test]
fn the_example_says_what_the_shortest_file_means() {
    let shortest = parse("[program]\nbuiltin = \"jack-client\"\n").unwrap();
    assert_eq!(parse(EXAMPLE).unwrap(), shortest);
}

#[test]
fn a_program_of_ones_own_lies_beside_the_file() {
    let scenario = parse(
        "[program]\nbuild = \"make\"\nrun = \"./synth\"\nmin-load = 2.5\n[audio]\nserver = \"pipewire\"\nquantum = 64\n\
         [time]\nmips = 62\nduration = \"250ms\"\nseeds = [7]\n[load]\ncommand = \"find / >x\"\n[machine]\nkernel = \"stock\"\n\
         tuning = \"none\"\nmemory = \"1 GiB\"\n[limits]\nxruns = 3\n[expect]\nverdict = \"broken\"\ncause = \"page-fault\"\n",
    )
    .unwrap();
    assert_eq!(scenario.program.source, Source::Folder("/folder".into()));
    assert_eq!(scenario.program.build.as_deref(), Some("make"));
    assert_eq!(scenario.audio.period_ns(), 1_333_333);
    assert_eq!((scenario.time.mips.number(), scenario.time.mips.shift()), (62, 4));
    assert_eq!(scenario.time.duration, Duration::from_millis(250));
    assert_eq!(scenario.load.command().as_deref(), Some("find / >x"));
    assert_eq!(scenario.machine.kernel, KernelKind::Stock);
    assert_eq!(scenario.xruns, 3);
    assert!(scenario.expect.broken && scenario.expect.cause.as_deref() == Some("page-fault"));
}

#[test]
fn every_profile_but_idle_loads() {
    for (word, profile) in Profile::WORDS {
        assert_eq!(Load::Profile(profile).command().is_none(), word == "idle", "{word}");
    }
}

#[test]
fn every_problem_is_told_at_once_and_in_order() {
    let error = parse("[audio]\nquantum = 48\n[time]\nmips = 400\nduration = \"5\"\nseeds = []\n")
        .unwrap_err();
    let lines: Vec<usize> = error.problems().iter().map(archibald_machine::Problem::line).collect();
    assert_eq!(lines, [1, 2, 4, 5, 6]);
    assert!(error.problems().iter().all(|p| !p.remedy().is_empty() && !p.expected().is_empty()));
}

macro_rules! wrong {
    ($($name:ident: $text:expr;)*) => {
        $(#[test] fn $name() { insta::assert_snapshot!(stringify!($name), shown($text)); })*
    };
}

const PROGRAM: &str = "[program]\nbuiltin = \"jack-client\"\n";

wrong! {
    no_program: "[audio]\nrate = 48000\n";
    unknown_key: "[program]\nrum = \"./client\"\n";
    unknown_builtin: "[program]\nbuiltin = \"jack-clown\"\n";
    arguments_of_nothing: "[program]\nrun = \"./client\"\narguments = \"8\"\n";
    two_programs: "[program]\nbuiltin = \"jack-client\"\nrun = \"./client\"\n";
    no_speed_of_the_processor: &format!("{PROGRAM}[time]\nmips = 300\n");
    duration_without_unit: &format!("{PROGRAM}[time]\nduration = \"5\"\n");
    seed_twice: &format!("{PROGRAM}[time]\nseeds = [1, 2, 1]\n");
    two_loads: &format!("{PROGRAM}[load]\nprofile = \"cpu\"\ncommand = \"yes\"\n");
    cause_of_nothing: &format!("{PROGRAM}[expect]\ncause = \"page-fault\"\n");
    too_little_memory: &format!("{PROGRAM}[machine]\nmemory = \"64 MiB\"\n");
}
