//! `archibald measure network`: how long a small message takes to the machine and back, over TCP and UDP,
//! and how long sound does over the PulseAudio door, by the way that a client on this host takes:
//! forwarded port, relay, QEMU's network, or the bridge.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use archibald_latency::{
    Conditions, Cost, Histogram, Limit, NamedHistogram, RUN_SCHEMA, Report, Run, Target, Window,
};
use archibald_machine::units::Transport;
use archibald_machine::{Machine, NetworkMode, SOUND_PORT};

use super::place::Place;
use super::sound::{Heard, LATENCY_MS, Way};
use super::store::Keep;
use super::{tell, wakeup};
use crate::commands::exec::Remote;
use crate::failure::{Context as _, Exit, Failure};
use crate::terminal::{self, Steps};

/// Between two messages: those of an audio stream with short periods follow each other like this.
const INTERVAL: Duration = Duration::from_millis(1);
/// Left out: the way is opened, and caches learn it.
const WARMUP: Duration = Duration::from_millis(500);
/// After this a datagram counts as lost.
const PATIENCE: Duration = Duration::from_secs(1);
/// Longer than a counter, shorter than any packet: 16 frames of two 16-bit channels.
const MESSAGE: usize = 64;
/// The distribution of what sound took.
const SOUND: &str = "audio-round-trip";
/// Ports that are tried in the machine.
const TRIED: usize = 16;

/// How long a message takes to the machine and back, over TCP and UDP, and sound over port 4713.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The machine answers messages on one of its forwarded ports that nobody else uses there. A protocol without such a port is left out, and sound where audio.server is not pipewire.\n\
                  Sound: pacat plays short quiet bursts of noise into the machine's sink, another one records its monitor. Where a burst lies is told to the frame; timed is from handing its first frame to the one to getting it from the other."
)]
pub(crate) struct Network {
    /// The machine; the machine file's when left out.
    name: Option<String>,
    /// How long each protocol is measured: 10s, 5m, 1h.
    #[arg(long = "for", default_value = "10s", value_parser = wakeup::duration)]
    length: Duration,
    /// Microseconds that the slowest message may take; without it nothing is judged.
    #[arg(long, value_name = "US")]
    target: Option<u64>,
    /// Milliseconds of latency that PulseAudio's client asks for, playing and recording alike.
    #[arg(long, value_name = "MS", default_value_t = LATENCY_MS, value_parser = clap::value_parser!(u32).range(1..=2000))]
    latency: u32,
    #[command(flatten)]
    keep: Keep,
    /// For programs.
    #[arg(long)]
    json: bool,
}

/// What a protocol gave.
struct Seen {
    histogram: Histogram,
    sent: u64,
}

impl Network {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        let remote = Remote::of(self.name.as_deref(), None)?;
        let sound = Way::of(&remote.machine, self.latency);
        if sound.is_ok() {
            Way::check()?;
        }
        let store = self.keep.open(Some(&remote))?;
        let steps = Steps::new(self.json);
        let (mut histograms, mut other) =
            both(&remote, self.length, &mut |what: &str| steps.step(what))?;
        let sound = sound.and_then(|way| {
            steps.step(&format!("sound by port {SOUND_PORT} for {} s", self.length.as_secs()));
            way.measure(self.length).map_err(|failure| failure.words().0)
        });
        steps.finish();
        drop(steps);
        match sound {
            Ok(heard) => {
                other.insert("sound".to_owned(), heard.words());
                histograms.extend(self.round_trip(heard));
            }
            Err(reason) => {
                other.insert("sound".to_owned(), format!("not measured: {reason}"));
            }
        }
        for (what, said) in &other {
            terminal::complain(&format!("{what}: {said}"));
        }
        if histograms.iter().all(|named| named.histogram.count() == 0) {
            return Err(Failure::new(Exit::Environment, "no message came back from the machine")
                .with_remedy("network.forward must have a port that is free in the machine, such as \"8000-9000:8000-9000\"."));
        }
        other.insert("way".to_owned(), way(&remote.machine).to_owned());
        let place = Place::machine(remote)?;
        let run = self.to_run(&place, histograms, other);
        run.check().context("the run")?;
        let report = Report::new("network", vec![run.clone()], self.target(&run));
        tell(&report, &run, self.json, store.as_ref())
    }

    fn round_trip(&self, heard: Heard) -> Option<NamedHistogram> {
        let title = format!(
            "sound to the machine and back over port 4713, {} ms asked for each way",
            self.latency
        );
        (heard.histogram.count() > 0).then(|| NamedHistogram {
            name: SOUND.to_owned(),
            title,
            histogram: heard.histogram,
        })
    }

    fn target(&self, run: &Run) -> Target {
        let mut target = Target::audio();
        target.limits = self
            .target
            .iter()
            .flat_map(|us| {
                let messages = run.histograms.iter().filter(|named| named.name != SOUND);
                messages.map(move |named| (named.name.clone(), us * 1000))
            })
            .map(|(histogram, at_most_ns)| Limit::Worst { histogram, at_most_ns, tail: 0.001 })
            .collect();
        target
    }

    fn to_run(
        &self,
        place: &Place,
        histograms: Vec<NamedHistogram>,
        other: BTreeMap<String, String>,
    ) -> Run {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let nanoseconds = |length: Duration| u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        Run {
            schema: RUN_SCHEMA.to_owned(),
            id: format!("network-{}", now.as_millis()),
            source: place.source,
            conditions: Conditions {
                program: Some(format!("{MESSAGE} bytes a millisecond, each waited for")),
                other,
                ..place.conditions()
            },
            window: Window {
                start_ns: 0,
                end_ns: nanoseconds(self.length),
                warmup_ns: nanoseconds(WARMUP),
            },
            periods: 0,
            xruns: Vec::new(),
            counters: BTreeMap::new(),
            histograms,
            round_trip: None,
            dsp_load: None,
            cost: Cost::default(),
        }
    }
}

/// Both protocols one after the other, `length` each: distributions, and what to know beside them.
pub(super) fn both(
    remote: &Remote,
    length: Duration,
    step: &mut dyn FnMut(&str),
) -> Result<(Vec<NamedHistogram>, BTreeMap<String, String>), Failure> {
    let mut answerer = Answerer::start(remote)?;
    let mut histograms = Vec::new();
    let mut other: BTreeMap<String, String> = BTreeMap::new();
    let each = [(Transport::Tcp, "TCP", "tcp"), (Transport::Udp, "UDP", "udp")];
    for (transport, word, key) in each {
        let Some(door) = answerer.door(&remote.machine, transport) else {
            other.insert(word.to_owned(), "not measured: no forwarded port is free".to_owned());
            continue;
        };
        step(&format!("{word} to {door} for {} s", length.as_secs()));
        let seen = match transport {
            Transport::Tcp => over_tcp(door, length),
            Transport::Udp => over_udp(door, length),
        };
        let seen = seen.context(format!("{word} to {door}"))?;
        let lost = seen.sent - seen.histogram.count();
        if lost > 0 {
            other.insert(format!("{word} lost"), format!("{lost} of {}", seen.sent));
        }
        histograms.push(NamedHistogram {
            name: format!("network-{key}"),
            title: format!("{MESSAGE} bytes to the machine and back over {word}"),
            histogram: seen.histogram,
        });
    }
    answerer.end();
    Ok((histograms, other))
}

const fn way(machine: &Machine) -> &'static str {
    match machine.network.mode {
        NetworkMode::User => "QEMU's user-mode network, through a forwarded port of the host",
        NetworkMode::Bridge { .. } => "a bridge of the host",
    }
}

/// archibald-guest echo in the machine; ends when the value goes.
struct Answerer {
    ssh: Child,
    tcp: Option<u16>,
    udp: Option<u16>,
}

impl Answerer {
    fn start(remote: &Remote) -> Result<Self, Failure> {
        let ports = |transport| {
            let list = candidates(&remote.machine, transport);
            let list: Vec<String> = list.iter().map(|(guest, _)| guest.to_string()).collect();
            list.join(",")
        };
        let mut words = vec!["archibald-guest".to_owned(), "echo".to_owned()];
        for (flag, list) in [("--tcp", ports(Transport::Tcp)), ("--udp", ports(Transport::Udp))] {
            if !list.is_empty() {
                words.extend([flag.to_owned(), list]);
            }
        }
        let mut ssh = remote.command(&["-T"], &words);
        let mut ssh = ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("ssh")?;
        let mut line = String::new();
        if let Some(stdout) = ssh.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).context("ssh")?;
        }
        let told: serde_json::Value = serde_json::from_str(&line).map_err(|_| {
            let _ = ssh.kill();
            let _ = ssh.wait();
            Failure::new(Exit::Environment, "the machine does not answer with archibald-guest echo")
                .with_remedy("An older image has none: `archibald restart` takes the newest.")
        })?;
        let port = |name: &str| told.get(name)?.as_u64().and_then(|port| u16::try_from(port).ok());
        Ok(Self { tcp: port("tcp"), udp: port("udp"), ssh })
    }

    /// Where it is reached from here.
    fn door(&self, machine: &Machine, transport: Transport) -> Option<SocketAddr> {
        let guest = match transport {
            Transport::Tcp => self.tcp,
            Transport::Udp => self.udp,
        }?;
        let (_, host) =
            candidates(machine, transport).into_iter().find(|(port, _)| *port == guest)?;
        let network = &machine.network;
        Some(match network.is_on_bridge() {
            true => (IpAddr::from(network.guest_address().0.address), guest).into(),
            false if network.bind.is_unspecified() => (Ipv4Addr::LOCALHOST, host).into(),
            false => (network.bind, host).into(),
        })
    }

    fn end(&mut self) {
        drop(self.ssh.stdin.take());
        let _ = self.ssh.wait();
    }
}

impl Drop for Answerer {
    fn drop(&mut self) {
        self.end();
    }
}

/// Pairs of a port in the machine and the host's that leads there, the highest first: those that the
/// machine itself listens on stand at the beginning of people's lists.
fn candidates(machine: &Machine, transport: Transport) -> Vec<(u16, u16)> {
    let forwards = machine.network.forward.iter().filter(|f| f.transport == transport);
    let mut pairs: Vec<(u16, u16)> =
        forwards.flat_map(|f| f.pairs()).map(|(host, guest)| (guest, host)).collect();
    // Who is not root binds no others.
    pairs.retain(|(guest, _)| *guest >= 1024);
    pairs.sort_unstable_by(|a, b| b.cmp(a));
    pairs.truncate(TRIED);
    pairs
}

fn over_tcp(door: SocketAddr, length: Duration) -> std::io::Result<Seen> {
    let mut stream = TcpStream::connect_timeout(&door, PATIENCE * 5)?;
    stream.set_nodelay(true)?;
    // TCP loses nothing: what takes so long is a way that is broken.
    stream.set_read_timeout(Some(PATIENCE * 20))?;
    let mut back = [0; MESSAGE];
    exchange(length, |message| {
        stream.write_all(message)?;
        stream.read_exact(&mut back)?;
        Ok(back == *message)
    })
}

fn over_udp(door: SocketAddr, length: Duration) -> std::io::Result<Seen> {
    let any: IpAddr = match door {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(door)?;
    let mut back = [0; 2 * MESSAGE];
    exchange(length, |message| {
        // A refusal may still be under way from a datagram before.
        if socket.send(message).is_err() {
            return Ok(false);
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            socket.set_read_timeout(Some(left))?;
            match socket.recv(&mut back) {
                // A late answer is to a message that was given up.
                Ok(length) if back.get(..length) == Some(message.as_slice()) => return Ok(true),
                Ok(_) => {}
                Err(_) => return Ok(false),
            }
        }
    })
}

/// Sends a message every millisecond, or as soon as the one before is back, and times those that are.
fn exchange(
    length: Duration,
    mut send: impl FnMut(&[u8; MESSAGE]) -> std::io::Result<bool>,
) -> std::io::Result<Seen> {
    let begun = Instant::now();
    let mut seen = Seen { histogram: Histogram::new(), sent: 0 };
    let mut next = begun;
    for number in 0_u64.. {
        let now = Instant::now();
        if now >= begun + WARMUP + length {
            break;
        }
        let mut message = [0x5a; MESSAGE];
        message[..8].copy_from_slice(&number.to_le_bytes());
        let is_back = send(&message)?;
        let took = now.elapsed();
        if now >= begun + WARMUP {
            seen.sent += 1;
            if is_back {
                seen.histogram.record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
            }
        }
        next = (next + INTERVAL).max(Instant::now());
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_free_ports_are_tried_and_none_of_root_s() {
        let text = "[network]\nforward = [\"2222:22\", \"8080:8080\", \"18000-18020:8000-8020\", \"4713:4713/udp\"]\n";
        let machine = Machine::parse("test", text, &Default::default()).unwrap();
        let tcp = candidates(&machine, Transport::Tcp);
        assert_eq!((tcp.len(), tcp[0], tcp[1]), (TRIED, (8080, 8080), (8020, 18020)));
        assert_eq!(candidates(&machine, Transport::Udp), [(4713, 4713)]);
    }

    #[test]
    fn both_protocols_are_timed_over_loopback() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let door = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; MESSAGE];
            while stream.read_exact(&mut buffer).is_ok() {
                stream.write_all(&buffer).unwrap();
            }
        });
        let seen = over_tcp(door, Duration::from_millis(200)).unwrap();
        assert!(seen.sent > 10 && seen.histogram.count() == seen.sent, "{}", seen.sent);

        // One datagram of the time that counts is swallowed.
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let door = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; MESSAGE];
            let mut swallowed = false;
            let begun = Instant::now();
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                if !swallowed && begun.elapsed() > WARMUP + Duration::from_millis(100) {
                    swallowed = true;
                    continue;
                }
                socket.send_to(&buffer[..length], from).unwrap();
            }
        });
        let seen = over_udp(door, Duration::from_millis(500)).unwrap();
        assert_eq!(seen.sent - seen.histogram.count(), 1);
    }
}
