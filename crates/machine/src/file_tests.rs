//! Machine files that are right, and the ways in which they are wrong.

use miette::{GraphicalReportHandler, GraphicalTheme};

use super::*;
use crate::Problem;

fn parse(text: &str) -> Result<Machine, FileError> {
    let host = HostLimits { cpus: "0-3".parse().ok() };
    Machine::parse("archibald.toml", text, &host)
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
fn the_default_file_says_what_an_empty_one_means() {
    assert_eq!(parse(DEFAULT_FILE).unwrap(), parse("").unwrap());
}

#[test]
fn the_default_period_is_two_thirds_of_a_millisecond() {
    assert_eq!(parse("").unwrap().audio.period_ns(), 666_666);
}

#[test]
fn isolation_follows_the_number_of_vcpus() {
    let machine = parse("[machine]\nvcpus = 4").unwrap();
    assert_eq!(machine.realtime.isolated.to_string(), "1-3");
    assert_eq!(machine.housekeeping().to_string(), "0");
    assert!(machine.kernel_arguments().contains(&"isolcpus=managed_irq,domain,1-3".to_owned()));
    assert!(parse("[machine]\nvcpus = 1").unwrap().realtime.isolated.is_empty());
}

#[test]
fn host_cpus_are_for_every_vcpu_or_for_the_isolated_ones() {
    let own = |text: &str| {
        let machine = parse(text).unwrap();
        machine.cpus().iter().map(|vcpu| machine.own_host_cpu(vcpu)).collect::<Vec<_>>()
    };
    assert_eq!(own("[realtime]\nhost-cpus = \"1,3\"\n"), [Some(1), Some(3)]);
    assert_eq!(own("[realtime]\nhost-cpus = \"3\"\n"), [None, Some(3)]);
    let isolated = "[machine]\nvcpus = 4\n[realtime]\nisolated = \"1,3\"\nhost-cpus = \"2-3\"\n";
    assert_eq!(own(isolated), [None, Some(2), None, Some(3)]);
    assert_eq!(own(""), [None, None]);
    assert_eq!(own("[machine]\nvcpus = 1\n[realtime]\nhost-cpus = \"1\"\n"), [Some(1)]);
}

#[test]
fn every_problem_is_told_at_once_and_in_order() {
    let error =
        parse("name = \"Big Box\"\n[audio]\nquantum = 48\n[machine]\nvcpus = 0\n").unwrap_err();
    let lines: Vec<usize> = error.problems().iter().map(Problem::line).collect();
    assert_eq!(lines, [1, 3, 5]);
    assert!(error.problems().iter().all(|p| !p.remedy().is_empty() && !p.expected().is_empty()));
}

macro_rules! wrong {
    ($($name:ident: $text:expr;)*) => {
        $(#[test] fn $name() { insta::assert_snapshot!(stringify!($name), shown($text)); })*
    };
}

wrong! {
    unknown_key: "[audio]\nquantun = 32\n";
    unknown_table: "[sound]\nrate = 48000\n";
    not_toml: "[audio\nrate = 48000\n";
    wrong_type: "[audio]\nrate = \"48000\"\n";
    quantum_no_power_of_two: "[audio]\nquantum = 48\n";
    quantum_too_large: "[audio]\nquantum = 16384\n";
    guest_cpu_beyond_the_count: "[machine]\nvcpus = 2\n\n[realtime]\nisolated = \"1-2\"\n";
    every_guest_cpu_isolated: "[realtime]\nisolated = \"0-1\"\n";
    port_twice: "[network]\nforward = [\"2222:22\", \"8000-9000:8000-9000\", \"8080:80\"]\n";
    host_lacks_cpu: "[realtime]\nhost-cpus = \"6-7\"\n";
    nothing_left_for_the_host: "[machine]\nvcpus = 4\n[realtime]\nhost-cpus = \"0-3\"\n";
    host_cpus_for_neither_all_nor_the_isolated: "[machine]\nvcpus = 4\n[realtime]\nisolated = \"3\"\nhost-cpus = \"2-3\"\n";
    arm64: "[machine]\narch = \"aarch64\"\n";
    memory_without_unit: "[machine]\nmemory = \"4096\"\n";
    published_password_on_the_network: "[network]\nbind = \"0.0.0.0\"\n";
    priorities_inverted: "[realtime]\naudio-priority = 95\nirq-priority = 90\n";
    no_user: "users = []\n";
    user_twice: "[[users]]\nname = \"ada\"\n[[users]]\nname = \"ada\"\n";
}

#[test]
fn an_agreeing_port_inside_a_range_is_no_clash() {
    let machine = parse("[network]\nforward = [\"8000-9000\", \"8080\"]\n").unwrap();
    assert_eq!(machine.network.forward.len(), 2);
    assert!(parse("[network]\nforward = [\"8080\", \"8080\"]\n").is_err());
    assert!(parse("[network]\nforward = [\"8080\", \"8080/udp\"]\n").is_ok());
}

#[test]
fn the_kernel_is_told_what_nixos_tells_it() {
    let expected = include_str!("../../../tests/nix/kernel-arguments");
    let machine = parse(DEFAULT_FILE).unwrap();
    assert_eq!(machine.kernel_arguments(), expected.lines().collect::<Vec<_>>());
}
