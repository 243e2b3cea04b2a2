//! `archibald audio status`: what is connected, what it holds back, and the xruns of both ends.

use serde_json::{Value, json};

use super::machine::Seen;
use super::pulse::Direction;
use super::{By, Host, netjack2, pulse};
use crate::commands::exec::Remote;
use crate::failure::Failure;
use crate::terminal;

/// Show what is connected, how much sound each end holds, and its xruns; exit status 1 when it is not whole.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "What an end does not report or count is left out: PulseAudio counts no xruns, PipeWire does.\nxruns are those since each node came into being."
)]
pub(super) struct Status {
    /// The machine; the machine file's when left out.
    name: Option<String>,
    /// Which way, where this host has both servers.
    #[arg(long, value_enum)]
    by: Option<By>,
    /// For programs.
    #[arg(long)]
    json: bool,
}

/// One direction of the sound.
struct Half {
    direction: Direction,
    /// The device or the first port on this host.
    device: String,
    connected: bool,
    /// Microseconds, as each end reports them.
    host_us: Option<u64>,
    machine_us: Option<u64>,
}

impl Status {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let remote = Remote::of(self.name.as_deref(), None)?;
        let name = remote.instance.name();
        let emulated = remote.is_emulated()?;
        let seen = Seen::of(&remote)?;
        let (way, server, halves, host_xruns) = match Host::find(self.by)? {
            Host::Pulse(server) => (
                format!("pulse, {}", pulse::door(&remote)?),
                server.name.clone(),
                by_pulse(&server, name, &seen)?,
                server.xruns(name),
            ),
            Host::Jack(server) => (
                "netjack2".to_owned(),
                format!("jackd, {} frames at {} Hz", server.quantum, server.rate),
                by_netjack2(&server, name, &seen)?,
                None,
            ),
        };
        let whole = halves.iter().all(|half| half.connected);
        if self.json {
            terminal::say_json(&json!({
                "schema": 1, "name": name, "emulated": emulated, "way": way, "server": server,
                "connected": whole,
                "play": halves[0].to_json(), "record": halves[1].to_json(),
                "xruns": { "host": host_xruns, "machine": seen.xruns },
            }));
            return Ok(u8::from(!whole));
        }
        let mut rows = vec![
            ("machine", format!("{name}{}", if emulated { ", emulated" } else { "" })),
            ("host", server),
            ("way", way),
        ];
        rows.extend(halves.iter().map(|half| (half.title(), half.words(emulated))));
        let count = |count: Option<u64>| count.map_or("not counted".to_owned(), |n| n.to_string());
        let word = if emulated { " (emulated)" } else { "" };
        rows.push((
            "xruns",
            format!("host {}, machine {}{word}", count(host_xruns), count(seen.xruns)),
        ));
        let rows = rows.into_iter().map(|(key, value)| vec![key.to_owned(), value]).collect();
        terminal::say(&terminal::table(&[], rows));
        if !whole {
            terminal::say(&format!("`archibald audio connect {name}` makes what is missing."));
        }
        Ok(u8::from(!whole))
    }
}

fn by_pulse(server: &pulse::Server, name: &str, seen: &Seen) -> Result<[Half; 2], Failure> {
    let half = |direction: Direction| {
        let device = server.device(direction, name)?;
        let tunnel = seen.tunnel(direction);
        Ok::<_, Failure>(Half {
            direction,
            device: direction.device(name),
            connected: device.is_some() && tunnel.is_some(),
            host_us: device.and_then(|device| device.latency_us),
            machine_us: tunnel.flatten(),
        })
    };
    Ok([half(Direction::Play)?, half(Direction::Record)?])
}

fn by_netjack2(server: &netjack2::Server, name: &str, seen: &Seen) -> Result<[Half; 2], Failure> {
    let connected = server.has_ports(name)? && seen.follows;
    let latency = server.latency(name);
    let us = |frames: u32| u64::from(frames) * 1_000_000 / u64::from(server.rate.max(1));
    let [play, record] = netjack2::ports_of(name);
    let half = |direction, device, frames: Option<u32>| Half {
        direction,
        device,
        connected,
        host_us: frames.filter(|_| connected).map(us),
        machine_us: None,
    };
    Ok([half(Direction::Play, play, latency.play), half(Direction::Record, record, latency.record)])
}

impl Half {
    fn title(&self) -> &'static str {
        match self.direction {
            Direction::Play => "into the machine",
            Direction::Record => "out of it",
        }
    }

    fn words(&self, emulated: bool) -> String {
        if !self.connected {
            return format!("{}: not connected", self.device);
        }
        let ms = |end: &str, us: Option<u64>| {
            us.map(|us| format!("{end} holds {}.{:03} ms", us / 1000, us % 1000))
        };
        let held: Vec<String> = [ms("host", self.host_us), ms("machine", self.machine_us)]
            .into_iter()
            .flatten()
            .collect();
        let word = if emulated && !held.is_empty() { " (emulated)" } else { "" };
        let held = if held.is_empty() { String::new() } else { format!(", {}", held.join(", ")) };
        format!("{}{held}{word}", self.device)
    }

    fn to_json(&self) -> Value {
        json!({
            "device": self.device, "connected": self.connected,
            "host-latency-us": self.host_us, "machine-latency-us": self.machine_us,
        })
    }
}
