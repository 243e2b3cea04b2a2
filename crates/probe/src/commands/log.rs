//! What a client sees of the graph, as the document [`Watch`] in its growth.

use std::collections::BTreeMap;

use archibald_latency::probe::{
    ClientEvent, Connection, Gap, GraphEvent, PROBE_SCHEMA, PortEvent, Registration, Stall, Watch,
    XrunCall,
};
use archibald_latency::{Histogram, LoadSample};

use crate::callback::{Period, Seen, now_ns};
use crate::jack::{Client, Event, Notice, PortId};

/// How often the load is read and the rings are emptied.
const STEP_NS: u64 = 50_000_000;

/// The document as it grows.
pub(super) struct Log {
    watch: Watch,
    /// Ports by the server's number: when it tells that one went, its name may be gone too.
    ports: BTreeMap<PortId, String>,
    pub(super) next_load_ns: u64,
    /// Start and frames of the last period.
    last: Option<(u64, u32)>,
}

impl Log {
    pub(super) fn new(client: &Client) -> Self {
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

    pub(super) fn take(&mut self, client: &Client, seen: &mut Seen) {
        self.take_each(client, seen, |_| ());
    }

    /// The same; `each` sees every period besides.
    pub(super) fn take_each(
        &mut self,
        client: &Client,
        seen: &mut Seen,
        mut each: impl FnMut(&Period),
    ) {
        for period in seen.periods() {
            each(&period);
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

    /// Whether an xrun of any kind was seen since then.
    pub(super) fn has_xrun(&self, since_ns: u64) -> bool {
        let gap = self.watch.gaps.last().filter(|gap| !self.watch.is_another_clock(gap));
        let last = [
            self.watch.xruns.last().map(|xrun| xrun.at_ns),
            gap.map(|gap| gap.at_ns),
            self.watch.stalls.last().map(|stall| stall.at_ns),
        ];
        last.into_iter().flatten().any(|at_ns| at_ns >= since_ns)
    }

    /// What has been seen so far.
    pub(super) const fn so_far(&self) -> &Watch {
        &self.watch
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
    pub(super) fn load(&mut self, client: &Client) {
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

    pub(super) fn finish(mut self, server_lost: bool) -> Watch {
        self.watch.closed_ns = now_ns();
        self.watch.server_lost = server_lost;
        self.watch
    }
}
