//! `watch` against a real jackd with its dummy driver, which needs no sound card. Xruns are made by
//! stopping a client; how many there are depends on the host, that there are some does not.

// A failed call here is a failed test.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::zombie_processes)]

mod server;

use std::process::{ChildStdin, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use archibald_latency::probe::{Connection, Registration, Watch};
use server::{PROBE, Running, Server, signal};

fn watch(server: &mut Server, name: &str) -> Running {
    let mut command = server.command(PROBE);
    command.args(["watch", "--name", name]);
    server.start_until_listed(&mut command, name)
}

/// The end of its standard input ends it.
fn end(mut probe: Running) -> (i32, Watch) {
    drop(probe.0.stdin.take());
    ended(probe)
}

fn ended(probe: Running) -> (i32, Watch) {
    let said = probe.ended();
    let watch = Watch::from_json(&said.out).unwrap_or_else(|error| panic!("{error}: {}", said.out));
    (said.status, watch)
}

#[test]
fn a_stopped_client_is_an_xrun_and_clients_and_ports_are_told() {
    let Some(mut server) = Server::start("xruns", &["jack_lsp"]) else { return };
    let probe = watch(&mut server, "probe");
    let sleeper = watch(&mut server, "sleeper");
    signal(&sleeper.0, "STOP");
    sleep(Duration::from_millis(400));
    signal(&sleeper.0, "CONT");
    sleep(Duration::from_millis(400));
    signal(&sleeper.0, "TERM");
    let (status, slept) = ended(sleeper);
    assert_eq!((status, slept.name.as_str()), (0, "sleeper"));
    sleep(Duration::from_millis(400));

    let (status, watch) = end(probe);
    assert_eq!((status, watch.server_lost, watch.dropped), (0, false, 0));
    assert_eq!((watch.rate, watch.quantum, watch.name.as_str()), (48000, 1024, "probe"));
    assert!(watch.periods > 0 && watch.callback_us.count() == watch.periods);
    assert!(!watch.xruns.is_empty() && !watch.dsp_load.is_empty());
    let window = |at_ns| watch.opened_ns <= at_ns && at_ns <= watch.closed_ns;
    assert!(watch.xruns.iter().all(|xrun| window(xrun.at_ns)));
    for event in [Registration::Registered, Registration::Unregistered] {
        let client = watch.clients.iter().find(|c| c.name == "sleeper" && c.event == event);
        assert!(client.is_some_and(|client| window(client.at_ns)), "{:?}", watch.clients);
        let port = watch.ports.iter().find(|p| p.name == "sleeper:out" && p.event == event);
        assert!(port.is_some(), "{:?}", watch.ports);
    }
    // What was there before the probe is told as well, once.
    let playback = watch.ports.iter().filter(|port| port.name == "system:playback_1");
    assert_eq!(playback.count(), 1, "{:?}", watch.ports);
}

#[test]
fn connections_are_told_with_both_names() {
    let needs = ["jack_lsp", "jack_connect", "jack_disconnect"];
    let Some(mut server) = Server::start("graph", &needs) else { return };
    let older = ["older:out", "older:in"];
    let other = watch(&mut server, "older");
    assert!(server.command("jack_connect").args(older).status().unwrap().success());
    let probe = watch(&mut server, "probe");
    let words = ["probe:out", "older:in"];
    assert!(server.command("jack_connect").args(words).status().unwrap().success());
    assert!(server.command("jack_disconnect").args(words).status().unwrap().success());
    sleep(Duration::from_millis(300));
    let (_, watch) = end(probe);
    let seen: Vec<_> =
        watch.graph.iter().map(|e| (e.from.as_str(), e.to.as_str(), e.event)).collect();
    let expected = [
        ("older:out", "older:in", Connection::Connected),
        ("probe:out", "older:in", Connection::Connected),
        ("probe:out", "older:in", Connection::Disconnected),
    ];
    assert_eq!(seen, expected);
    drop(other);
}

#[test]
fn a_server_that_dies_ends_the_watch_with_what_was_seen() {
    let Some(mut server) = Server::start("lost", &["jack_lsp"]) else { return };
    let mut probe = watch(&mut server, "probe");
    // Its standard input stays open: only the server ends it.
    let open: ChildStdin = probe.0.stdin.take().unwrap();
    server.kill();
    let (status, watch) = ended(probe);
    drop(open);
    server.forget();
    assert_eq!((status, watch.server_lost), (1, true));
    assert!(watch.closed_ns > watch.opened_ns);
}

#[test]
fn without_a_server_it_says_what_to_do() {
    let mut command = Command::new(PROBE);
    command.args(["watch"]).env("JACK_DEFAULT_SERVER", "archibald-nobody").stdin(Stdio::null());
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("start jackd") || said.contains("install libjack"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(output.stdout.is_empty());
}

/// The thread of the callbacks, watched by strace: nothing but the futex by which JACK2 itself waits
/// for the next period and wakes the next client.
#[test]
fn the_callback_calls_nothing_of_the_kernel() {
    let Some(mut server) = Server::start("strace", &["jack_lsp", "strace"]) else { return };
    let log = server.path("calls");
    let mut command = server.command("strace");
    command.arg("-f").arg("-o").arg(&log).args([PROBE, "watch", "--name", "probe"]);
    let probe = server.start_until_listed(&mut command, "probe");
    sleep(Duration::from_secs(4));
    let (status, watch) = end(probe);
    assert_eq!(status, 0);
    assert!(watch.periods > 50, "{} periods", watch.periods);

    let text = std::fs::read_to_string(&log).unwrap();
    let calls: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(thread, rest)| (thread, rest.trim_start()))
        .filter(|(_, call)| !call.starts_with(['<', '+', '-']))
        .map(|(thread, call)| (thread, call.split('(').next().unwrap()))
        .collect();
    let mut waits = std::collections::BTreeMap::<&str, usize>::new();
    for (thread, _) in calls.iter().filter(|(_, call)| *call == "futex") {
        *waits.entry(thread).or_default() += 1;
    }
    let (callbacks, _) = waits.into_iter().max_by_key(|(_, count)| *count).unwrap();
    let own: Vec<&str> =
        calls.iter().filter(|(thread, _)| *thread == callbacks).map(|(_, call)| *call).collect();
    // Its beginning and its end are the thread's own start and exit.
    let middle = &own[20..own.len() - 20];
    assert!(middle.len() > 50, "{own:?}");
    assert!(middle.iter().all(|call| *call == "futex"), "{middle:?}");
}
