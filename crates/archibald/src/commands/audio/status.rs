//! `archibald audio status`: what is connected, what it holds back, and the xruns of both ends.

use std::time::Duration;

use serde_json::{Value, json};

use super::machine::Seen;
use super::pulse::Direction;
use super::{By, Host, netjack2, pulse};
use crate::commands::exec::Remote;
use crate::commands::measure::{self, Heard, Way};
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
    /// Measure the round trip as well, for 3s or so long: bursts of noise into the machine and back.
    #[arg(long, value_name = "TIME", num_args = 0..=1, default_missing_value = "3s", value_parser = measure::duration)]
    measure: Option<Duration>,
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
        let host = Host::find(self.by)?;
        let is_pulse = matches!(host, Host::Pulse(_));
        let (way, server, halves, host_xruns) = match host {
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
        let trip = self.measure.map(|length| match (whole, is_pulse) {
            (true, true) => measured(&remote, name, length),
            (true, false) => Ok(Trip::Not(
                "`archibald measure audio --here --through` does it: docs/guides/network-audio.md",
            )),
            (false, _) => Ok(Trip::Not("not connected")),
        });
        let trip = trip.transpose()?;
        if self.json {
            terminal::say_json(&json!({
                "schema": 1, "name": name, "emulated": emulated, "way": way, "server": server,
                "connected": whole,
                "play": halves[0].to_json(), "record": halves[1].to_json(),
                "xruns": { "host": host_xruns, "machine": seen.xruns },
                "round-trip": trip.as_ref().map(Trip::to_json),
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
        rows.extend(trip.map(|trip| ("round trip", trip.words(word))));
        let rows = rows.into_iter().map(|(key, value)| vec![key.to_owned(), value]).collect();
        terminal::say(&terminal::table(&[], rows));
        if !whole {
            terminal::say(&format!("`archibald audio connect {name}` makes what is missing."));
        }
        Ok(u8::from(!whole))
    }
}

/// What measuring the round trip gave.
enum Trip {
    /// Why nothing.
    Not(&'static str),
    Heard(Heard),
}

/// From a program's first frame into the device that plays, to getting it from the one that records.
fn measured(remote: &Remote, name: &str, length: Duration) -> Result<Trip, Failure> {
    Way::check()?;
    let [play, record] = Direction::BOTH.map(|direction| direction.device(name));
    Ok(Trip::Heard(Way::by_devices(&remote.machine, play, record).measure(length)?))
}

impl Trip {
    fn words(&self, word: &str) -> String {
        let heard = match self {
            Self::Not(why) => return format!("not measured: {why}"),
            Self::Heard(heard) => heard,
        };
        let ms = |ns: Option<u64>| {
            #[allow(clippy::cast_precision_loss)]
            ns.map(|ns| format!("{:.1} ms", ns as f64 / 1e6))
        };
        let (middle, most) = (ms(middle(heard)), ms(heard.histogram.max_ns()));
        let came = format!("{} of {} bursts came back", heard.histogram.count(), heard.sent);
        match middle.zip(most) {
            Some((middle, most)) => {
                format!("half within {middle}, all within {most}{word}; {came}")
            }
            None => came,
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Self::Not(why) => json!({ "not-measured": why }),
            Self::Heard(heard) => json!({
                "sent": heard.sent, "heard": heard.histogram.count(),
                "middle-us": middle(heard).map(|ns| ns / 1000),
                "most-us": heard.histogram.max_ns().map(|ns| ns / 1000),
            }),
        }
    }
}

fn middle(heard: &Heard) -> Option<u64> {
    heard.histogram.quantile(0.5).map(|middle| middle.at_most_ns)
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
