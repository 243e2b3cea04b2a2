//! `watch` against a real jackd with its dummy driver, which needs no sound card. Xruns are made by
//! stopping a client; how many there are depends on the host, that there are some does not.

// A failed call here is a failed test.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::zombie_processes)]

use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use archibald_latency::probe::{Connection, Registration, Watch};

const PROBE: &str = env!("CARGO_BIN_EXE_archibald-probe");

fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// A server of its own for each test.
struct Server {
    jackd: Child,
    name: String,
    scratch: tempfile::TempDir,
}

impl Server {
    /// None, and a line that says so, where a program that the test needs is missing.
    fn start(test: &str, needs: &[&str]) -> Option<Self> {
        for program in ["jackd"].iter().chain(needs) {
            if !has(program) {
                println!("SKIPPED {test}: there is no {program} here");
                return None;
            }
        }
        let name = format!("archibald-{test}-{}", std::process::id());
        let jackd = Command::new("jackd")
            .args(["--no-realtime", "-n", &name, "-d", "dummy", "-r", "48000", "-p", "1024"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Some(Self { jackd, name, scratch: tempfile::tempdir().unwrap() })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("JACK_DEFAULT_SERVER", &self.name);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        command
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// A probe that is in the graph: the server lists its port.
    fn watch(&self, name: &str) -> Probe {
        let child = self.command(PROBE).args(["watch", "--name", name]).spawn().unwrap();
        let mut probe = Probe(child);
        self.wait_for(&format!("{name}:out"), &mut probe, name);
        probe
    }

    /// Clients come before the server does: one that found none is started again.
    fn wait_for(&self, port: &str, probe: &mut Probe, name: &str) {
        for _ in 0..300 {
            let listed = self.command("jack_lsp").output().unwrap();
            if String::from_utf8_lossy(&listed.stdout).lines().any(|line| line == port) {
                return;
            }
            if probe.0.try_wait().unwrap().is_some() {
                probe.0 = self.command(PROBE).args(["watch", "--name", name]).spawn().unwrap();
            }
            sleep(Duration::from_millis(100));
        }
        panic!("{port} did not appear");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.jackd.try_wait(), Ok(None)) {
            signal(&self.jackd, "TERM");
            let _ = self.jackd.wait();
        }
    }
}

struct Probe(Child);

impl Probe {
    /// The end of its standard input ends it.
    fn end(mut self) -> (i32, Watch) {
        drop(self.0.stdin.take());
        self.ended()
    }

    fn ended(mut self) -> (i32, Watch) {
        let mut text = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        let status = self.0.wait().unwrap().code().unwrap();
        (status, Watch::from_json(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
}

#[test]
fn a_stopped_client_is_an_xrun_and_clients_and_ports_are_told() {
    let Some(server) = Server::start("xruns", &["jack_lsp"]) else { return };
    let probe = server.watch("probe");
    let sleeper = server.watch("sleeper");
    signal(&sleeper.0, "STOP");
    sleep(Duration::from_millis(400));
    signal(&sleeper.0, "CONT");
    sleep(Duration::from_millis(400));
    signal(&sleeper.0, "TERM");
    let (status, slept) = sleeper.ended();
    assert_eq!((status, slept.name.as_str()), (0, "sleeper"));
    sleep(Duration::from_millis(400));

    let (status, watch) = probe.end();
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
    let Some(server) = Server::start("graph", &needs) else { return };
    let older = ["older:out", "older:in"];
    let other = server.watch("older");
    assert!(server.command("jack_connect").args(older).status().unwrap().success());
    let probe = server.watch("probe");
    let words = ["probe:out", "older:in"];
    assert!(server.command("jack_connect").args(words).status().unwrap().success());
    assert!(server.command("jack_disconnect").args(words).status().unwrap().success());
    sleep(Duration::from_millis(300));
    let (_, watch) = probe.end();
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
    let mut probe = server.watch("probe");
    // Its standard input stays open: only the server ends it.
    let open: ChildStdin = probe.0.stdin.take().unwrap();
    server.jackd.kill().unwrap();
    let (status, watch) = probe.ended();
    drop(open);
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
    let Some(server) = Server::start("strace", &["jack_lsp", "strace"]) else { return };
    let log = server.path("calls");
    let mut command = server.command("strace");
    command.arg("-f").arg("-o").arg(&log).args([PROBE, "watch", "--name", "probe"]);
    let mut probe = Probe(command.spawn().unwrap());
    for _ in 0..50 {
        if probe.0.try_wait().unwrap().is_none() && log.exists() {
            break;
        }
        sleep(Duration::from_millis(100));
        probe.0 = command.spawn().unwrap();
    }
    sleep(Duration::from_secs(4));
    let (status, watch) = probe.end();
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
