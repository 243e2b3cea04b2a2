//! A host with PulseAudio, or with PipeWire in its place: tunnels to the machine's door on port 4713.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use archibald_latency::pw_top;
use archibald_machine::{AudioServer, SOUND_PORT};

use crate::commands::exec::Remote;
use crate::failure::{Context as _, Exit, Failure};

/// How long both tunnels may take until the machine has answered.
const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(200);
const IS_IT_OPEN: &str = "`archibald check` says whether the machine's door on port 4713 is open.";
/// Where a server's tunnel can begin again by itself when the machine comes back.
const RECONNECT: &str = "reconnect_interval_ms=1000";
/// PulseAudio's later tunnel, which speaks by libpulse. Its first one, up to 17, takes an answer of PipeWire's
/// for a protocol error every few seconds. PipeWire has one only, by the plain name.
const LATER: &str = "-new";

/// A direction of the sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// From the host into the machine.
    Play,
    /// What the machine plays.
    Record,
}

impl Direction {
    pub(super) const BOTH: [Self; 2] = [Self::Play, Self::Record];

    /// The device's name on the host. By it alone a tunnel is known again.
    pub(super) fn device(self, machine: &str) -> String {
        match self {
            Self::Play => format!("archibald-{machine}-play"),
            Self::Record => format!("archibald-{machine}-record"),
        }
    }

    /// What pactl calls this kind of device.
    fn kind(self) -> &'static str {
        match self {
            Self::Play => "sink",
            Self::Record => "source",
        }
    }
}

/// The server of this user on this host.
#[derive(Debug)]
pub(super) struct Server {
    /// As it calls itself, with its version.
    pub(super) name: String,
}

/// A loaded module.
#[derive(Debug, PartialEq, Eq)]
struct Module {
    id: String,
    argument: String,
}

impl Module {
    fn says(&self, word: &str) -> bool {
        self.argument.split_whitespace().any(|said| said == word)
    }
}

/// A device as the server lists it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Device {
    /// Microseconds, as the server has it now.
    pub(super) latency_us: Option<u64>,
}

impl Server {
    pub(super) fn find() -> Option<Self> {
        let info = pactl(&["info"]).ok()?;
        let line = |key: &str| info.lines().find_map(|line| line.strip_prefix(key));
        let name = line("Server Name: ")?;
        Some(Self { name: format!("{name} {}", line("Server Version: ").unwrap_or_default()) })
    }

    /// Whether PipeWire stands behind it, which counts xruns; PulseAudio does not.
    fn is_pipewire(&self) -> bool {
        self.name.contains("PipeWire")
    }

    /// Both tunnels to this machine, made where they are not there; whether they had to be.
    pub(super) fn connect(&self, remote: &Remote, latency_ms: u32) -> Result<bool, Failure> {
        let (name, server) = (remote.instance.name(), format!("server={}", door(remote)?));
        let modules = self.tunnels(name)?;
        let is_there = |direction: Direction| {
            let ours = modules.iter().filter(|(of, _)| *of == direction).map(|(_, module)| module);
            ours.clone().count() == 1 && ours.clone().all(|module| module.says(&server))
        };
        if Direction::BOTH.into_iter().all(is_there) && self.are_listed(name)? {
            return Ok(false);
        }
        // What is left of an earlier connection, to a machine with other ports perhaps.
        self.disconnect(name)?;
        let deadline = Instant::now() + PATIENCE;
        let made = Direction::BOTH
            .into_iter()
            .try_for_each(|direction| load(direction, name, &server, latency_ms, deadline))
            .and_then(|()| self.wait(name, deadline));
        if made.is_err() {
            self.disconnect(name)?;
        }
        made.map(|()| true)
    }

    /// Takes away what `connect` made for this machine, and says how much it was.
    pub(super) fn disconnect(&self, name: &str) -> Result<usize, Failure> {
        let modules = self.tunnels(name)?;
        for (_, module) in &modules {
            pactl(&["unload-module", &module.id])?;
        }
        Ok(modules.len())
    }

    fn tunnels(&self, name: &str) -> Result<Vec<(Direction, Module)>, Failure> {
        Ok(tunnels_in(&pactl(&["list", "short", "modules"])?, name))
    }

    /// A tunnel's device appears when the machine has answered.
    fn wait(&self, name: &str, deadline: Instant) -> Result<(), Failure> {
        while !self.are_listed(name)? {
            let gone = self.tunnels(name)?.len() < Direction::BOTH.len();
            if gone || Instant::now() >= deadline {
                let message = format!("the machine did not answer {}'s tunnel", self.name);
                return Err(Failure::new(Exit::Environment, message).with_remedy(IS_IT_OPEN));
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    fn are_listed(&self, name: &str) -> Result<bool, Failure> {
        let mut each = Direction::BOTH.into_iter().map(|direction| self.device(direction, name));
        each.try_fold(true, |all, device| device.map(|device| all && device.is_some()))
    }

    pub(super) fn device(
        &self,
        direction: Direction,
        name: &str,
    ) -> Result<Option<Device>, Failure> {
        let list = pactl(&["list", &format!("{}s", direction.kind())])?;
        Ok(device_in(&list, &direction.device(name)))
    }

    /// What this host has counted of the tunnels' xruns since they were made, where somebody counts.
    pub(super) fn xruns(&self, name: &str) -> Option<u64> {
        let output = Command::new("pw-top").args(["-b", "-n", "2"]).output().ok();
        // Before PipeWire 1.0 it only fills a screen, and says so.
        let output = output.filter(|output| self.is_pipewire() && output.status.success())?;
        xruns_in(&String::from_utf8_lossy(&output.stdout), name)
    }
}

/// Where the machine's PulseAudio door is for this host.
pub(super) fn door(remote: &Remote) -> Result<String, Failure> {
    if remote.machine.audio.server == AudioServer::Jack {
        let message = "the machine runs jackd, which has no PulseAudio door";
        return Err(Failure::new(Exit::Environment, message)
            .with_remedy("Write audio.server = \"pipewire\", and restart the machine."));
    }
    let door = remote.machine.network.reached_at(SOUND_PORT).ok_or_else(|| {
        Failure::new(Exit::Use, "no port of the host leads to the machine's PulseAudio door")
            .with_remedy("Add \"4713:4713\" to network.forward and restart the machine.")
    })?;
    Ok(format!("tcp:{door}"))
}

/// Loads a tunnel's module. PulseAudio's waits for the machine by itself; PipeWire's is refused while nobody
/// answers, as when the machine's server begins anew.
fn load(
    direction: Direction,
    name: &str,
    server: &str,
    latency_ms: u32,
    deadline: Instant,
) -> Result<(), Failure> {
    let kind = direction.kind();
    let first = format!("module-tunnel-{kind}");
    let later = format!("{first}{LATER}");
    let device = format!("{kind}_name={}", direction.device(name));
    let latency = format!("latency_msec={latency_ms}");
    let mut words = vec![server, device.as_str()];
    if direction == Direction::Record {
        words.push("source=@DEFAULT_MONITOR@");
    }
    // A module refuses a word that it does not know.
    let tries: [(&str, &[&str]); 4] =
        [(&later, &[RECONNECT]), (&later, &[]), (&first, &[&latency, RECONNECT]), (&first, &[])];
    loop {
        let mut refused = None;
        for (module, more) in tries {
            match pactl(&[&["load-module", module], &words[..], more].concat()) {
                Ok(_) => return Ok(()),
                Err(failure) => refused = Some(failure),
            }
        }
        if let Some(failure) = refused.filter(|_| Instant::now() >= deadline) {
            return Err(failure.with_remedy(IS_IT_OPEN));
        }
        std::thread::sleep(POLL);
    }
}

/// Runs pactl, and returns what it says.
fn pactl(words: &[&str]) -> Result<String, Failure> {
    let output = Command::new("pactl")
        .args(words)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .context("pactl")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let message = format!("pactl {}: {}", words.join(" "), said.trim());
        return Err(Failure::new(Exit::Environment, message));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// This machine's tunnels in pactl's short list of modules: number, name and arguments between tabs.
fn tunnels_in(list: &str, name: &str) -> Vec<(Direction, Module)> {
    list.lines()
        .filter_map(|line| {
            let mut columns = line.split('\t');
            let (id, kind) = (columns.next()?, columns.next()?);
            let module = Module {
                id: id.to_owned(),
                argument: columns.next().unwrap_or_default().to_owned(),
            };
            let direction = Direction::BOTH.into_iter().find(|direction| {
                kind.trim_end_matches(LATER) == format!("module-tunnel-{}", direction.kind())
                    && module.says(&format!("{}_name={}", direction.kind(), direction.device(name)))
            })?;
            Some((direction, module))
        })
        .collect()
}

/// What pw-top has counted for this machine's devices; nothing where it does not list them.
fn xruns_in(screens: &str, name: &str) -> Option<u64> {
    let devices = Direction::BOTH.map(|direction| direction.device(name));
    let errors = pw_top::errors(screens);
    let ours = errors.iter().filter(|(node, _)| devices.contains(node)).map(|(_, count)| count);
    ours.clone().next()?;
    Some(ours.sum())
}

/// A device in pactl's long list.
fn device_in(list: &str, name: &str) -> Option<Device> {
    let mut blocks = list.split("\n\n");
    let block = blocks.find(|block| field(block, "Name") == Some(name))?;
    let latency = field(block, "Latency").and_then(|text| text.split(' ').next()?.parse().ok());
    Some(Device { latency_us: latency })
}

/// The value behind a key in a block of pactl's.
pub(super) fn field<'a>(block: &'a str, key: &str) -> Option<&'a str> {
    block.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(':')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machines_tunnels_are_taken_for_its_own() {
        let list = "\
1\tmodule-null-sink\tsink_name=archibald-studio-play
20\tmodule-tunnel-sink-new\tserver=tcp:127.0.0.1:4713 sink_name=archibald-studio-play latency_msec=50
21\tmodule-tunnel-source\tserver=tcp:127.0.0.1:4713 source_name=archibald-studio-record source=@DEFAULT_MONITOR@
22\tmodule-tunnel-sink\tserver=tcp:127.0.0.1:4714 sink_name=archibald-studio-play-play
23\tmodule-tunnel-sink\tserver=tcp:10.0.0.1 sink_name=living-room
24\tmodule-native-protocol-unix
";
        let found = tunnels_in(list, "studio");
        let ids: Vec<_> = found.iter().map(|(direction, m)| (*direction, m.id.as_str())).collect();
        assert_eq!(ids, [(Direction::Play, "20"), (Direction::Record, "21")]);
        assert!(found[0].1.says("server=tcp:127.0.0.1:4713"));
        assert!(!found[0].1.says("server=tcp:127.0.0.1:471"));
        assert!(tunnels_in(list, "other").is_empty());
    }

    #[test]
    fn xruns_are_those_of_this_machines_devices() {
        let screens = "\
S   ID  QUANT   RATE    WAIT    BUSY   W/Q   B/Q  ERR FORMAT           NAME
R   43   1024  48000   1.0us   2.0us  0.00  0.00    3    S16LE 2 48000 archibald-studio-play
R   44   1024  48000   1.0us   2.0us  0.00  0.00    1    S16LE 2 48000  + archibald-studio-record
R   45   1024  48000   1.0us   2.0us  0.00  0.00    9    S16LE 2 48000 other
";
        assert_eq!(xruns_in(screens, "studio"), Some(4));
        assert_eq!(xruns_in(screens, "attic"), None);
        assert_eq!(xruns_in("pw-top: invalid option -- 'b'\n", "studio"), None);
    }

    #[test]
    fn a_device_is_found_by_its_whole_name() {
        let list = "\
Sink #0
\tState: IDLE
\tName: silent
\tLatency: 7 usec, configured 0 usec

Sink #1
\tState: RUNNING
\tName: archibald-studio-play
\tDescription: Tunnel
\tLatency: 61234 usec, configured 50000 usec
";
        let device = device_in(list, "archibald-studio-play").unwrap();
        assert_eq!(device.latency_us, Some(61_234));
        assert_eq!(device_in(list, "archibald-studio"), None);
    }
}
