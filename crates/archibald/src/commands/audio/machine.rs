//! The machine's end: what of a connection its own server shows, and the unit that keeps NetJACK2's.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::Stdio;

use archibald_latency::pw_top;

use super::pulse::{Direction, field};
use crate::commands::exec::Remote;
use crate::commands::measure::Told;
use crate::failure::{Context as _, Exit, Failure};

/// The follower of NetJACK2 in the machine, a unit of its user's for as long as it runs.
const UNIT: &str = "archibald-netjack2";
const CONFIG: &str = include_str!("netjack2.conf");

/// What the machine shows of the host's sound.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Microseconds of sound that a tunnel of the host asks the machine to hold, by direction.
    buffers: Vec<(Direction, Option<u64>)>,
    /// Of all nodes of its graph since they came into being; absent where nobody counted.
    pub(super) xruns: Option<u64>,
    /// Whether its end of NetJACK2 runs.
    pub(super) follows: bool,
}

impl Seen {
    pub(super) fn of(remote: &Remote) -> Result<Self, Failure> {
        let script = format!(
            "export LC_ALL=C
            echo '@@ play'; pactl list sink-inputs
            echo '@@ record'; pactl list source-outputs
            echo '@@ follows'; systemctl --user is-active {UNIT}
            echo '@@ top'; pw-top -b -n 2
            exit 0"
        );
        Ok(Self::in_text(&run(remote, &script, None)?))
    }

    fn in_text(text: &str) -> Self {
        let told = Told::of(text);
        let of = |direction: Direction, part: &str, attribute: &str| {
            let streams = told.part(part).split("\n\n").filter(|block| is_tunnel(block));
            let buffers = streams.map(|block| buffer_us(block, attribute));
            buffers.map(|buffer| (direction, buffer)).collect::<Vec<_>>()
        };
        let mut buffers = of(Direction::Play, "play", "pulse.attr.tlength");
        buffers.extend(of(Direction::Record, "record", "pulse.attr.fragsize"));
        let errors = pw_top::errors(told.part("top"));
        Self {
            buffers,
            xruns: (!errors.is_empty()).then(|| errors.values().sum()),
            follows: told.part("follows").trim() == "active",
        }
    }

    /// Whether a tunnel of the host plays or records there, and what it has the machine hold.
    pub(super) fn tunnel(&self, direction: Direction) -> Option<Option<u64>> {
        self.buffers.iter().find(|(of, _)| *of == direction).map(|(_, buffer)| *buffer)
    }
}

/// Both servers call their stream so; what comes over TCP comes from the host.
fn is_tunnel(block: &str) -> bool {
    let property = |key: &str| {
        let line =
            block.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(" = "));
        line.map(|value| value.trim_matches('"'))
    };
    property("pulse.server.type") == Some("tcp")
        && property("media.name").is_some_and(|name| name.starts_with("Tunnel for "))
}

/// How long the bytes of this attribute of a stream last.
fn buffer_us(block: &str, attribute: &str) -> Option<u64> {
    let line = block.lines().find_map(|line| line.trim().strip_prefix(attribute))?;
    let bytes: u64 = line.trim_matches([' ', '=', '"']).parse().ok()?;
    // "s16le 2ch 48000Hz"
    let mut words = field(block, "Sample Specification")?.split(' ');
    let sample: u64 = match words.next()? {
        "u8" => 1,
        format if format.contains("16") => 2,
        "s24le" | "s24be" => 3,
        _ => 4,
    };
    let channels: u64 = words.next()?.strip_suffix("ch")?.parse().ok()?;
    let rate: u64 = words.next()?.strip_suffix("Hz")?.parse().ok()?;
    bytes.checked_mul(1_000_000)?.checked_div(sample * channels * rate)
}

/// Where the machine finds the host's jackd, and how it follows it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manager {
    pub(super) host: Ipv4Addr,
    pub(super) port: u16,
    /// The machine's own port for the sound; 0 is any.
    pub(super) data_port: u16,
    pub(super) periods: u8,
}

/// Has the machine follow the host's jackd; an earlier follower ends.
pub(super) fn follow(remote: &Remote, manager: Manager) -> Result<(), Failure> {
    let script = format!(
        "set -e
        systemctl --user stop {UNIT} 2>/dev/null || true
        mkdir -p \"$XDG_RUNTIME_DIR/archibald\"
        file=$XDG_RUNTIME_DIR/archibald/netjack2.conf
        cat >\"$file\"
        exec systemd-run --quiet --user --collect --unit={UNIT} --property=Restart=on-failure pipewire -c \"$file\""
    );
    run(remote, &script, Some(&config(remote, manager))).map(drop)
}

/// Ends that; nothing where there is none.
pub(super) fn leave(remote: &Remote) -> Result<(), Failure> {
    let script = format!(
        "systemctl --user stop {UNIT} 2>/dev/null; rm -f \"$XDG_RUNTIME_DIR/archibald/netjack2.conf\""
    );
    run(remote, &script, None).map(drop)
}

fn config(remote: &Remote, manager: Manager) -> String {
    let realtime = &remote.machine.realtime;
    // Below the graph that it is a part of.
    let priority = realtime.audio_priority.get().saturating_sub(5).max(1);
    let audio = if realtime.isolated.is_empty() {
        remote.machine.cpus()
    } else {
        realtime.isolated.clone()
    };
    let cpus: Vec<String> = audio.iter().map(|cpu| cpu.to_string()).collect();
    [
        ("@PRIORITY@", priority.to_string()),
        ("@CPUS@", cpus.join(" ")),
        ("@HOST@", manager.host.to_string()),
        ("@PORT@", manager.port.to_string()),
        ("@DATA_PORT@", manager.data_port.to_string()),
        ("@NAME@", remote.instance.name().to_owned()),
        ("@PERIODS@", manager.periods.to_string()),
    ]
    .iter()
    .fold(CONFIG.to_owned(), |text, (key, value)| text.replace(key, value))
}

/// Runs a script of the shell in the machine.
fn run(remote: &Remote, script: &str, input: Option<&str>) -> Result<String, Failure> {
    let command = ["sh", "-c", script].map(str::to_owned);
    let mut ssh = remote
        .command(&["-T"], &command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("ssh")?;
    if let Some(mut stdin) = ssh.stdin.take() {
        // A machine that has gone away is told by ssh's status.
        let _ = stdin.write_all(input.unwrap_or_default().as_bytes());
    }
    let output = ssh.wait_with_output().context("ssh")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let message = format!("the machine did not do it ({}): {}", output.status, said.trim());
        return Err(Failure::new(Exit::Environment, message)
            .with_remedy("`archibald check` says whether its graph runs."));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
@@ play
Sink Input #94
\tSample Specification: s16le 2ch 44100Hz
\tProperties:
\t\tpulse.server.type = \"tcp\"
\t\tmedia.name = \"a song\"
\t\tpulse.attr.tlength = \"1\"

Sink Input #127
\tSample Specification: s16le 2ch 48000Hz
\tProperties:
\t\tpulse.server.type = \"tcp\"
\t\tmedia.name = \"Tunnel for root@vm\"
\t\tpulse.attr.tlength = \"23040\"
@@ record
@@ follows
inactive
@@ top
S   ID  QUANT   RATE    WAIT    BUSY   W/Q   B/Q  ERR FORMAT           NAME
R   32     32  48000   4.7ms 505.8us  7.08  0.76    3     F32P 2 48000 archibald-null
R   57   3840  48000   4.1ms  30.0us  6.20  0.04    2    S16LE 2 48000  + PulseAudio
";

    #[test]
    fn the_hosts_tunnel_is_told_from_its_other_streams() {
        let seen = Seen::in_text(TEXT);
        assert_eq!(seen.tunnel(Direction::Play), Some(Some(120_000)));
        assert_eq!(seen.tunnel(Direction::Record), None);
        assert_eq!((seen.xruns, seen.follows), (Some(5), false));
        assert_eq!(Seen::in_text("@@ top\n@@ follows\nactive\n").xruns, None);
    }
}
