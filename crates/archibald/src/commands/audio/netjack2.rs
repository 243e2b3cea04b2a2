//! A host with jackd: NetJACK2. Its netmanager waits on a UDP port, the machine's PipeWire follows it in the
//! same period. In user mode the machine reaches the host by QEMU's gateway, and its datagrams go out by
//! the forwarded port.

use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use archibald_machine::units::Transport;
use archibald_machine::{AudioServer, Machine, SOUND_PORT};

use super::machine::{self, Manager};
use crate::commands::exec::Remote;
use crate::failure::{Context as _, Exit, Failure};

/// NetJACK2's manager under a name by which it is known again.
const CLIENT: &str = "archibald-netjack2";
/// How long the machine's ports may take to come into the host's graph.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many seconds jackd may take to answer.
const ANSWER: &str = "20";
const POLL: Duration = Duration::from_millis(200);
/// An emulated machine takes longer for a datagram than a shorter period lasts, and gets to nothing else.
const EMULATED_LEAST: u32 = 512;

/// jackd on this host.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) quantum: u32,
    pub(super) rate: u32,
}

/// A port's latency as jackd reports it, in frames.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Latency {
    pub(super) play: Option<u32>,
    pub(super) record: Option<u32>,
}

impl Server {
    pub(super) fn find() -> Option<Self> {
        let number = |text: &str| text.split_whitespace().find_map(|word| word.parse().ok());
        let quantum = number(&jack("jack_bufsize", &[]).ok()?)?;
        let rate = number(&jack("jack_samplerate", &[]).ok()?)?;
        Some(Self { quantum, rate })
    }

    /// The machine's ports in this host's graph, made where they are not there; whether they had to be.
    pub(super) fn connect(&self, remote: &Remote, port: u16, periods: u8) -> Result<bool, Failure> {
        self.fits(remote)?;
        let name = remote.instance.name();
        if self.has_ports(name)? {
            return Ok(false);
        }
        // Loaded already, it says so; whether it works is seen by the ports.
        let words = format!("-a 127.0.0.1 -p {port}");
        let loaded = jack("jack_load", &["-i", &words, CLIENT, "netmanager"]);
        let (_, host) = remote.machine.network.guest_address();
        let manager = Manager { host, port, data_port: data_port(&remote.machine), periods };
        let made = machine::follow(remote, manager).and_then(|()| self.wait(name, host, port));
        if made.is_err() {
            let _ = machine::leave(remote);
            self.unload()?;
        }
        // Without its manager nothing can have come: that is the cause.
        match (made, loaded) {
            (Err(_), Err(cause)) => Err(cause),
            (made, _) => made.map(|()| true),
        }
    }

    /// Whether the two can run in one period.
    fn fits(&self, remote: &Remote) -> Result<(), Failure> {
        let audio = &remote.machine.audio;
        let (quantum, rate) = (audio.quantum.0, audio.rate.0);
        let lacks = |message: String, remedy: String| {
            Err(Failure::new(Exit::Environment, message).with_remedy(remedy))
        };
        if audio.server == AudioServer::Jack {
            return lacks(
                "the machine runs jackd, which owns its graph's clock".to_owned(),
                "Write audio.server = \"pipewire\", and restart the machine.".to_owned(),
            );
        }
        if (self.quantum, self.rate) != (quantum, rate) {
            return lacks(
                format!(
                    "this host's jackd runs {} frames at {} Hz, the machine {quantum} at {rate}",
                    self.quantum, self.rate
                ),
                format!(
                    "Start jackd with -r {rate} -p {quantum}, or write audio.quantum = {} and restart the machine.",
                    self.quantum
                ),
            );
        }
        if remote.is_emulated()? && quantum < EMULATED_LEAST {
            return lacks(
                format!("an emulated machine cannot follow a period of {quantum} frames"),
                "Write audio.quantum = 1024 and start jackd with -p 1024, or take a host with KVM."
                    .to_owned(),
            );
        }
        Ok(())
    }

    fn wait(&self, name: &str, host: Ipv4Addr, port: u16) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        while !self.has_ports(name)? {
            if Instant::now() >= deadline {
                let message = format!(
                    "the machine's ports did not come into jackd's graph: it sends to {host}, UDP port {port}"
                );
                return Err(Failure::new(Exit::Environment, message).with_remedy(
                    "See that a firewall on this host lets that port in, and that nobody else has it: `ss -uln`; another one is taken by --port.",
                ));
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Takes away the machine's ports, and the manager where no other machine uses it.
    pub(super) fn disconnect(&self, name: &str, remote: Option<&Remote>) -> Result<bool, Failure> {
        let had = self.has_ports(name)?;
        if let Some(remote) = remote {
            machine::leave(remote)?;
        }
        // jackd waits for a follower that is silent before it gives it up.
        let deadline = Instant::now() + PATIENCE;
        while self.has_ports(name)? && Instant::now() < deadline {
            std::thread::sleep(POLL);
        }
        Ok(self.unload()? || had)
    }

    /// Whether the manager was there, and went.
    fn unload(&self) -> Result<bool, Failure> {
        if self.ports()?.iter().any(|port| port.contains(":to_slave_")) {
            return Ok(false);
        }
        Ok(jack("jack_unload", &[CLIENT]).is_ok())
    }

    pub(super) fn has_ports(&self, name: &str) -> Result<bool, Failure> {
        let [play, record] = ports_of(name);
        let ports = self.ports()?;
        Ok(ports.contains(&play) && ports.contains(&record))
    }

    fn ports(&self) -> Result<Vec<String>, Failure> {
        Ok(jack("jack_lsp", &[])?.lines().map(str::to_owned).collect())
    }

    pub(super) fn latency(&self, name: &str) -> Latency {
        let of = |port: &str, kind: &str| latency_in(&jack("jack_lsp", &["-l", port]).ok()?, kind);
        let [play, record] = ports_of(name);
        Latency { play: of(&play, "playback"), record: of(&record, "capture") }
    }
}

/// The first port of each direction: into the machine, and out of it. jackd's words for it.
pub(super) fn ports_of(name: &str) -> [String; 2] {
    [format!("{name}:to_slave_1"), format!("{name}:from_slave_1")]
}

/// The port of the machine by which datagrams of port 4713 come in.
fn data_port(machine: &Machine) -> u16 {
    let udp = machine.network.forward.iter().filter(|of| of.transport == Transport::Udp);
    let open = udp.flat_map(|forward| forward.pairs()).any(|(_, guest)| guest == SOUND_PORT);
    if open { SOUND_PORT } else { 0 }
}

/// From a line of `jack_lsp -l`, such as `port capture latency = [ 64 64 ] frames`.
fn latency_in(text: &str, kind: &str) -> Option<u32> {
    let key = format!("port {kind} latency = [");
    let line = text.lines().find_map(|line| line.trim().strip_prefix(key.as_str()))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Runs a client of jackd's, which starts no server.
fn jack(program: &str, words: &[&str]) -> Result<String, Failure> {
    // A jackd that is stuck keeps its clients for ever.
    let output = Command::new("timeout")
        .args(["--kill-after=2", ANSWER, program])
        .args(words)
        .env("LC_ALL", "C")
        .env("JACK_NO_START_SERVER", "1")
        .stdin(Stdio::null())
        .output()
        .context(program)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // timeout(1): it took too long, and too long to end as well.
    if matches!(output.status.code(), Some(124 | 137)) {
        let message = format!("jackd did not answer {program} within {ANSWER} s");
        return Err(Failure::new(Exit::Environment, message)
            .with_remedy("It is stuck: end it (pkill -KILL -x jackd), and start it again."));
    }
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let message = format!("{program} {}: {}{}", words.join(" "), text, said);
        return Err(Failure::new(Exit::Environment, message.trim()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_way_to_a_port_is_its_latency() {
        let text = "netjack:from_slave_1\n\tport playback latency = [ 0 0 ] frames\n\tport capture latency = [ 2048 3072 ] frames\n";
        assert_eq!(latency_in(text, "capture"), Some(3072));
        assert_eq!(latency_in(text, "playback"), Some(0));
        assert_eq!(latency_in("netjack:from_slave_1\n", "capture"), None);
    }

    #[test]
    fn sound_goes_by_the_forwarded_port_alone() {
        let machine = |forward: &str| {
            let text = format!("[network]\nforward = [{forward}]\n");
            Machine::parse("t", &text, &Default::default()).unwrap()
        };
        assert_eq!(data_port(&machine("\"2222:22\", \"9000:4713/udp\"")), 4713);
        assert_eq!(data_port(&machine("\"2222:22\", \"4713:4713\"")), 0);
    }
}
