//! `archibald-guest ready`: tells the host how far the boot is, one line of JSON each:
//! `{"phase":"ssh"}` as each part comes up, at the end `{"ready":true,...}` or `{"failed":"...",...}`.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::thread;
use std::time::{Duration, Instant};

use archibald_machine::units::Transport;
use archibald_machine::{AudioServer, Settings};
use serde::Serialize;

use super::Outcome;
use crate::graph::Session;
use crate::listening::{Reach, reach};
use crate::run::{Invocation, Programs, Run};
use crate::{GuestError, Root, read_settings, store};

/// Between two looks at what has no event of its own. Each look reads two files.
const PAUSE: Duration = Duration::from_millis(50);
/// Between two questions whether a unit has failed, and before the first: each starts processes, which
/// would take their time from a boot that is only slow.
const UNIT_PAUSE: Duration = Duration::from_secs(20);

/// The way to the host.
pub(super) const PORT: &str = "/dev/virtio-ports/org.archibald.ready";

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where the host listens
    #[arg(long, default_value = PORT)]
    port: String,
    /// Seconds after which a missing part counts as failed
    #[arg(long, default_value_t = 300)]
    limit: u64,
}

impl Arguments {
    pub(super) fn run(&self) -> Result<Outcome, GuestError> {
        let root = Root::default();
        let settings = read_settings(&root)?;
        let mut host = Host::at(&root, &self.port);
        let limit = Duration::from_secs(self.limit);
        let outcome = wait(&root, &settings, &Programs, limit, &mut |event| host.tell(&event));
        host.flush_within(Duration::from_secs(10));
        Ok(outcome)
    }
}

/// What the host is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum Event {
    /// A part is up.
    Phase { phase: &'static str, uptime_ms: u64 },
    /// Everything is up.
    Ready { ready: bool, rate: u32, quantum: u32, uptime_ms: u64 },
    /// Everything is up again.
    Resumed { ready: bool, uptime_ms: u64 },
    /// A part will not come up.
    Failed { failed: String, unit: String, journal: Vec<String> },
}

/// The way to the host: a virtio-serial port, which may appear late or never.
pub(super) struct Host<'a> {
    root: &'a Root,
    port: &'a str,
    unsent: String,
}

impl<'a> Host<'a> {
    pub(super) fn at(root: &'a Root, port: &'a str) -> Self {
        Self { root, port, unsent: String::new() }
    }

    /// The machine goes on from a snapshot, and has everything that it had then.
    pub(super) fn say_resumed(&mut self) {
        self.tell(&Event::Resumed { ready: true, uptime_ms: uptime_ms(self.root) });
        self.flush_within(Duration::from_secs(10));
    }

    pub(super) fn say_failed(&mut self, failed: &str) {
        let unit = "archibald-guest-resumed.service".to_owned();
        self.tell(&Event::Failed { failed: failed.to_owned(), unit, journal: Vec::new() });
        self.flush_within(Duration::from_secs(10));
    }

    fn tell(&mut self, event: &Event) {
        if let Ok(line) = serde_json::to_string(event) {
            self.unsent.push_str(&line);
            self.unsent.push('\n');
        }
        self.flush();
    }

    /// Writes what the port takes at once; a host that does not listen must not hold up the boot.
    fn flush(&mut self) {
        let mut options = OpenOptions::new();
        options.write(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32);
        if let Ok(mut port) = options.open(self.root.path(self.port)) {
            while let Ok(written @ 1..) = port.write(self.unsent.as_bytes()) {
                self.unsent.drain(..written);
            }
        }
    }

    fn flush_within(&mut self, limit: Duration) {
        let deadline = Instant::now() + limit;
        while !self.unsent.is_empty() && Instant::now() < deadline {
            thread::sleep(PAUSE);
            self.flush();
        }
    }
}

/// A part of the machine that must be up before it is ready.
struct Part<'a> {
    phase: &'static str,
    unit: &'static str,
    /// Whether the unit belongs to the audio session.
    of_session: bool,
    is_up: Box<dyn Fn() -> Result<(), String> + 'a>,
}

/// Tells each part as it comes up, and how it ended.
fn wait(
    root: &Root,
    settings: &Settings,
    programs: &dyn Run,
    limit: Duration,
    tell: &mut dyn FnMut(Event),
) -> Outcome {
    let begun = Instant::now();
    // Written last by setup: without it every other part would only be missed in vain.
    if !root.path(&format!("/run/archibald/{}", settings.server.word())).exists() {
        let unit = "archibald-guest-setup.service";
        tell(failure("the settings could not be applied".into(), unit, false, programs));
        return Outcome::Failed;
    }
    tell(Event::Phase { phase: "settings", uptime_ms: uptime_ms(root) });
    let mut missing = parts(root, settings, programs);
    let mut units_asked = Instant::now();
    loop {
        let mut reasons = Vec::new();
        missing.retain(|part| match (part.is_up)() {
            Ok(()) => {
                tell(Event::Phase { phase: part.phase, uptime_ms: uptime_ms(root) });
                false
            }
            Err(reason) => {
                reasons.push(reason);
                true
            }
        });
        let Some((part, reason)) = missing.first().zip(reasons.first()) else { break };
        let late = begun.elapsed() >= limit;
        if late {
            let words = format!("{} did not come up within {limit:?}: {reason}", part.phase);
            tell(failure(words, part.unit, part.of_session, programs));
            return Outcome::Failed;
        }
        if units_asked.elapsed() >= UNIT_PAUSE {
            if let Some(part) =
                missing.iter().find(|part| has_failed(root, part, settings, programs))
            {
                let words = format!("{} failed to start", part.unit);
                tell(failure(words, part.unit, part.of_session, programs));
                return Outcome::Failed;
            }
            units_asked = Instant::now();
        }
        thread::sleep(PAUSE);
    }
    tell(Event::Ready {
        ready: true,
        rate: settings.rate.0,
        quantum: settings.quantum.0,
        uptime_ms: uptime_ms(root),
    });
    Outcome::Good
}

fn parts<'a>(root: &'a Root, settings: &'a Settings, programs: &'a dyn Run) -> Vec<Part<'a>> {
    let mut parts = vec![Part {
        phase: "ssh",
        unit: "ssh.service",
        of_session: false,
        is_up: Box::new(|| listens(root, 22)),
    }];
    if let Some(port) = settings.streamdb_port {
        parts.push(Part {
            phase: "streamdb",
            unit: "streamdb.service",
            of_session: false,
            is_up: Box::new(move || {
                listens(root, port)?;
                match store::request(port, None, "GET", "/health", b"") {
                    Ok(reply) if reply.status == 200 => Ok(()),
                    Ok(reply) => Err(format!("/health answers {}", reply.status)),
                    Err(error) => Err(format!("/health: {error}")),
                }
            }),
        });
    }
    parts.push(Part {
        phase: "audio",
        unit: match settings.server {
            AudioServer::PipeWire => "pipewire.service",
            AudioServer::Jack => "jackd.service",
        },
        of_session: true,
        is_up: Box::new(|| graph_is_up(root, settings, programs)),
    });
    if settings.server == AudioServer::PipeWire {
        parts.push(Part {
            phase: "pulse",
            unit: "pipewire-pulse.service",
            of_session: true,
            is_up: Box::new(|| listens(root, 4713)),
        });
    }
    parts
}

fn listens(root: &Root, port: u16) -> Result<(), String> {
    match reach(root, Transport::Tcp, port) {
        Reach::Network => Ok(()),
        _ => Err(format!("nobody listens on port {port}")),
    }
}

fn graph_is_up(root: &Root, settings: &Settings, programs: &dyn Run) -> Result<(), String> {
    let session = session(root, settings).ok_or("the audio user has no account")?;
    if !session.door_is_open(root) {
        return Err(format!("{} has not opened its socket", session.unit()));
    }
    let (quantum, rate) = session.period(programs)?;
    match (quantum, rate) == (settings.quantum, settings.rate) {
        true => Ok(()),
        false => Err(format!("the graph runs at {quantum}, {rate}")),
    }
}

fn session(root: &Root, settings: &Settings) -> Option<Session> {
    let user = settings.users.first()?;
    Session::of(root, &user.name, settings.server)
}

fn has_failed(root: &Root, part: &Part<'_>, settings: &Settings, programs: &dyn Run) -> bool {
    let invocation = match session(root, settings).filter(|_| part.of_session) {
        Some(session) => session.program(&["systemctl", "--user", "is-failed", part.unit]),
        None => Invocation::new(&["systemctl", "is-failed", part.unit]),
    };
    programs.run(&invocation).stdout.trim() == "failed"
}

fn failure(failed: String, unit: &str, of_session: bool, programs: &dyn Run) -> Event {
    let field = match of_session {
        true => format!("_SYSTEMD_USER_UNIT={unit}"),
        false => format!("_SYSTEMD_UNIT={unit}"),
    };
    let words = ["journalctl", "-q", "--no-pager", "-b", "-n", "12", "-o", "cat", &field];
    let answer = programs.run(&Invocation::new(&words));
    let journal = answer.stdout.lines().map(str::to_owned).collect();
    Event::Failed { failed, unit: unit.to_owned(), journal }
}

fn uptime_ms(root: &Root) -> u64 {
    let text = root.line("/proc/uptime").unwrap_or_default();
    let seconds: f64 = text.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0.0);
    (seconds * 1000.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::tests::{Canned, says};
    use crate::settings::tests::example;

    const LISTENING: &[u8] = b"head
 0: 00000000:0016 00000000:0000 0A
 1: 00000000:1269 00000000:0000 0A
";

    fn booted() -> (tempfile::TempDir, Root, Settings) {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        for (path, text) in [
            ("/run/archibald/pipewire", &b""[..]),
            ("/proc/net/tcp", LISTENING),
            ("/proc/uptime", b"12.34 20.0"),
            ("/etc/passwd", b"audio-user:x:1000:1000:::\n"),
            ("/run/user/1000/pipewire-0", b""),
        ] {
            root.write(path, text, 0o644).unwrap();
        }
        let mut settings = example();
        settings.streamdb_port = None;
        (folder, root, settings)
    }

    fn events(root: &Root, settings: &Settings, programs: &Canned) -> (Outcome, Vec<String>) {
        let mut lines = Vec::new();
        let limit = Duration::from_millis(20);
        let outcome = wait(root, settings, programs, limit, &mut |event| {
            lines.push(serde_json::to_string(&event).unwrap());
        });
        (outcome, lines)
    }

    #[test]
    fn each_part_is_told_and_then_the_whole() {
        let (_folder, root, settings) = booted();
        let canned = Canned(vec![("jack_bufsize", says("32\n48000\n"))]);
        let (outcome, lines) = events(&root, &settings, &canned);
        assert_eq!(outcome, Outcome::Good);
        assert_eq!(
            lines,
            [
                r#"{"phase":"settings","uptime_ms":12340}"#,
                r#"{"phase":"ssh","uptime_ms":12340}"#,
                r#"{"phase":"audio","uptime_ms":12340}"#,
                r#"{"phase":"pulse","uptime_ms":12340}"#,
                r#"{"ready":true,"rate":48000,"quantum":32,"uptime_ms":12340}"#,
            ]
        );
    }

    #[test]
    fn a_graph_at_another_quantum_is_not_ready_and_its_journal_comes_along() {
        let (_folder, root, settings) = booted();
        let canned = Canned(vec![
            ("jack_bufsize", says("1024\n48000\n")),
            ("journalctl", says("first\nlast\n")),
        ]);
        let (outcome, lines) = events(&root, &settings, &canned);
        assert_eq!(outcome, Outcome::Failed);
        let last = lines.last().unwrap();
        assert!(last.contains("1024 frames") && last.contains("pipewire.service"), "{last}");
        assert!(last.contains(r#""journal":["first","last"]"#));
    }

    #[test]
    fn settings_that_were_not_applied_are_told_at_once() {
        let (folder, root, settings) = booted();
        std::fs::remove_file(folder.path().join("run/archibald/pipewire")).unwrap();
        let (outcome, lines) = events(&root, &settings, &Canned(vec![]));
        assert_eq!(outcome, Outcome::Failed);
        assert!(lines[0].contains("archibald-guest-setup.service"));
    }

    #[test]
    fn lines_wait_for_a_port_that_appears_late() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let mut host = Host { root: &root, port: "/dev/ready", unsent: String::new() };
        host.tell(&Event::Phase { phase: "settings", uptime_ms: 1 });
        root.write("/dev/ready", b"", 0o644).unwrap();
        host.tell(&Event::Phase { phase: "ssh", uptime_ms: 2 });
        assert!(host.unsent.is_empty());
        assert_eq!(root.read("/dev/ready").unwrap().lines().count(), 2);
    }
}
