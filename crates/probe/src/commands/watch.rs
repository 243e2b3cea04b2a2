//! `archibald-probe watch`: takes part in the graph and notes what happens, until SIGTERM, SIGINT or
//! the end of standard input; then one JSON document ([`Watch`]) on standard output.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use archibald_latency::probe::{
    ClientEvent, Connection, Gap, GraphEvent, PROBE_SCHEMA, PortEvent, Registration, Stall, Watch,
    XrunCall,
};
use archibald_latency::{Histogram, LoadSample};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};

use super::Outcome;
use crate::ProbeError;
use crate::callback::{Seen, now_ns, rings};
use crate::jack::{Client, Event, Library, Notice, PortId};

/// How often the load is read and the rings are emptied.
const STEP_NS: u64 = 50_000_000;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The client's name; the server may change it if it is taken
    #[arg(long, default_value = "archibald-probe")]
    name: String,
}

impl Arguments {
    pub(super) fn run(&self, out: &mut dyn Write) -> Result<Outcome, ProbeError> {
        let end = End::new()?;
        let library = Library::open()?;
        let (watcher, xruns, mut seen) = rings();
        let client = Client::open(library, &self.name)?;
        // Best effort: an ordinary user may lock little, and then a page fault may show as lateness.
        let _ = rustix::mm::mlockall(rustix::mm::MlockAllFlags::CURRENT);
        let client = client.activate(watcher, xruns)?;
        let mut log = Log::new(&client);
        while !client.is_lost() && !end.has_come()? {
            log.take(&client, &mut seen);
            log.load(&client);
            end.wait(log.next_load_ns)?;
        }
        let lost = client.is_lost();
        log.take(&client, &mut seen);
        let watch = log.finish(lost);
        write(out, &watch)
            .map_err(|source| ProbeError::System { what: "write the result", source })?;
        // Only now: closing may wait for a dead server, or for one that mourns a killed client, and
        // whoever has asked us to end may not wait that long.
        client.close();
        Ok(if lost { Outcome::ServerLost } else { Outcome::Good })
    }
}

fn write(out: &mut dyn Write, watch: &Watch) -> std::io::Result<()> {
    serde_json::to_writer(&mut *out, watch)?;
    writeln!(out)?;
    out.flush()
}

/// What ends the watch.
struct End {
    signalled: Arc<AtomicBool>,
    /// Whether standard input can end at all: /dev/null, which services have there, says nothing.
    reads: bool,
}

impl End {
    fn new() -> Result<Self, ProbeError> {
        let signalled = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
            signal_hook::flag::register(signal, Arc::clone(&signalled))
                .map_err(|source| ProbeError::System { what: "catch signals", source })?;
        }
        let stdin = std::io::stdin();
        let kind = fstat(&stdin).map(|stat| FileType::from_raw_mode(stat.st_mode));
        let is_device = matches!(kind, Ok(FileType::CharacterDevice));
        let reads = kind.is_ok() && (!is_device || rustix::termios::isatty(&stdin));
        Ok(Self { signalled, reads })
    }

    fn has_come(&self) -> Result<bool, ProbeError> {
        if self.signalled.load(Ordering::Relaxed) {
            return Ok(true);
        }
        let mut stdin = std::io::stdin();
        while self.reads && is_readable(&stdin, 0)? {
            let mut rest = [0; 4096];
            match stdin.read(&mut rest) {
                Ok(0) => return Ok(true),
                Err(source) if source.kind() != std::io::ErrorKind::Interrupted => {
                    return Err(ProbeError::System { what: "read standard input", source });
                }
                _ => {}
            }
        }
        Ok(false)
    }

    /// Until this moment, or until a signal or something on standard input comes.
    fn wait(&self, until_ns: u64) -> Result<(), ProbeError> {
        let left = until_ns.saturating_sub(now_ns());
        if self.reads {
            return is_readable(&std::io::stdin(), left).map(drop);
        }
        wait_for(&mut [], left).map(drop)
    }
}

fn is_readable(stdin: &std::io::Stdin, for_ns: u64) -> Result<bool, ProbeError> {
    wait_for(&mut [PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN)], for_ns)
}

fn wait_for(fds: &mut [PollFd<'_>], for_ns: u64) -> Result<bool, ProbeError> {
    let nanoseconds = i64::try_from(for_ns % 1_000_000_000).unwrap_or(0);
    let seconds = i64::try_from(for_ns / 1_000_000_000).unwrap_or(0);
    let timeout = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    match poll(fds, Some(&timeout)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(errno) => {
            Err(ProbeError::System { what: "wait on standard input", source: errno.into() })
        }
    }
}

/// The document as it grows.
struct Log {
    watch: Watch,
    /// Ports by the server's number: when it tells that one went, its name may be gone too.
    ports: BTreeMap<PortId, String>,
    next_load_ns: u64,
    /// Start and frames of the last period.
    last: Option<(u64, u32)>,
}

impl Log {
    fn new(client: &Client) -> Self {
        let opened_ns = now_ns();
        let watch = Watch {
            schema: PROBE_SCHEMA.to_owned(),
            name: client.name(),
            rate: client.rate(),
            quantum: client.quantum(),
            opened_ns,
            closed_ns: opened_ns,
            periods: 0,
            xruns: Vec::new(),
            gaps: Vec::new(),
            stalls: Vec::new(),
            dsp_load: Vec::new(),
            clients: Vec::new(),
            ports: Vec::new(),
            graph: Vec::new(),
            callback_us: Histogram::new(),
            server_lost: false,
            dropped: 0,
        };
        let mut log = Self { watch, ports: BTreeMap::new(), next_load_ns: opened_ns, last: None };
        log.what_was_there(client, opened_ns);
        log
    }

    /// Ports, clients and connections older than the probe.
    fn what_was_there(&mut self, client: &Client, at_ns: u64) {
        let event = Registration::Registered;
        for port in client.ports() {
            let owner = port.name.split(':').next().unwrap_or_default().to_owned();
            if !self.watch.clients.iter().any(|known| known.name == owner) {
                self.watch.clients.push(ClientEvent { name: owner, event, at_ns });
            }
            for to in port.leads_to {
                let (from, event) = (port.name.clone(), Connection::Connected);
                self.watch.graph.push(GraphEvent { from, to, event, at_ns });
            }
            self.watch.ports.push(PortEvent { name: port.name, event, at_ns });
        }
    }

    fn take(&mut self, client: &Client, seen: &mut Seen) {
        for period in seen.periods() {
            self.watch.periods += 1;
            if let Some((before, frames)) = self.last.replace((period.at_ns, period.frames)) {
                let stall = Stall::between(before, period.at_ns, frames, self.watch.rate);
                self.watch.stalls.extend(stall);
            }
            if let Some(late) = period.late_us {
                self.watch.callback_us.record(late.saturating_mul(1000));
            }
            if period.lost_frames != 0 {
                let frames = i64::from(period.lost_frames);
                self.watch.gaps.push(Gap { at_ns: period.at_ns, frames });
            }
        }
        for late in seen.xruns() {
            let delayed_us = f64::from(late.delayed_us);
            self.watch.xruns.push(XrunCall { at_ns: late.at_ns, delayed_us });
        }
        self.watch.dropped = seen.dropped();
        for Notice { at_ns, event } in client.notices() {
            self.note(at_ns, event);
        }
    }

    fn note(&mut self, at_ns: u64, event: Event) {
        let registration = |came| match came {
            true => Registration::Registered,
            false => Registration::Unregistered,
        };
        match event {
            Event::Client { name, came } => {
                let event = registration(came);
                // What was listed at the start may be told once more.
                let last = self.watch.clients.iter().rev().find(|known| known.name == name);
                if last.is_none_or(|last| last.event != event) {
                    self.watch.clients.push(ClientEvent { name, event, at_ns });
                }
            }
            Event::Port { id, name, came } => {
                let event = registration(came);
                let name = if came { name } else { self.ports.remove(&id).or(name) };
                let Some(name) = name else { return };
                if came {
                    self.ports.insert(id, name.clone());
                }
                let last = self.watch.ports.iter().rev().find(|known| known.name == name);
                if last.is_none_or(|last| last.event != event) {
                    self.watch.ports.push(PortEvent { name, event, at_ns });
                }
            }
            Event::Connection { from, to, made } => {
                let event = if made { Connection::Connected } else { Connection::Disconnected };
                let name = |(id, name): (PortId, Option<String>)| {
                    name.or_else(|| self.ports.get(&id).cloned())
                };
                let (Some(from), Some(to)) = (name(from), name(to)) else { return };
                let edges = &mut self.watch.graph;
                let last = edges.iter().rev().find(|known| known.from == from && known.to == to);
                if last.is_none_or(|last| last.event != event) {
                    edges.push(GraphEvent { from, to, event, at_ns });
                }
            }
            Event::Quantum { frames } => self.watch.quantum = frames,
        }
    }

    /// Reads the server's load when its time has come.
    fn load(&mut self, client: &Client) {
        let at_ns = now_ns();
        if at_ns < self.next_load_ns {
            return;
        }
        self.watch.dsp_load.push(LoadSample { at_ns, percent: f64::from(client.load()) });
        // A reading that was missed is missing, not made up for.
        while self.next_load_ns <= at_ns {
            self.next_load_ns += STEP_NS;
        }
    }

    fn finish(mut self, server_lost: bool) -> Watch {
        self.watch.closed_ns = now_ns();
        self.watch.server_lost = server_lost;
        self.watch
    }
}
