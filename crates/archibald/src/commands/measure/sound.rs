//! The round trip of sound by the machine's PulseAudio door (port 4713), or by this host's own server and what
//! it has connected to the machine: bursts are played into it by
//! pacat and heard again from the monitor of the same sink by another one. PulseAudio's own client speaks
//! the protocol; here is what it plays, and when that came back.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use archibald_latency::Histogram;
use archibald_machine::{AudioServer, Machine, SOUND_PORT};

use super::burst::{Ear, burst};
use super::place;
use crate::failure::{Exit, Failure};

const PROGRAM: &str = "pacat";
/// Milliseconds of latency that a client asks for each way, unless told.
pub(super) const LATENCY_MS: u32 = 20;
/// Both channels of one frame, 32-bit floats.
const FRAME: usize = 8;
/// Left out: streams begin with a buffer that fills.
const WARMUP: Duration = Duration::from_millis(500);
/// An emulated machine takes long to let a client in.
const READY: Duration = Duration::from_secs(30);
/// After this a burst counts as lost.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two pieces of the stream.
const PIECE: Duration = Duration::from_micros(PIECE_US);
const PIECE_US: u64 = 5000;
/// From a burst that was heard to the next: at least this, and at most so much more, lest all bursts fall
/// into the same place of a period.
const PAUSE: Duration = Duration::from_millis(40);
const SPREAD_US: u64 = 40_000;

/// The way to the machine's sink and back.
pub(crate) struct Way {
    /// The server that is played to; this host's own when absent.
    pub(super) door: Option<SocketAddr>,
    sink: String,
    source: String,
    rate: u32,
    latency_ms: u32,
}

/// What the bursts told.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// From handing a burst's first frame to the player to getting it from the recorder.
    pub(crate) histogram: Histogram,
    pub(crate) sent: u64,
    player: Told,
    recorder: Told,
}

/// What a client says of its stream.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    is_ready: bool,
    /// What PulseAudio's library takes for its latency, in microseconds, each time it was told.
    latency_us: Vec<u64>,
    /// The buffer ran empty, or over.
    broken: u64,
    last: String,
}

impl Way {
    /// Nothing but why, where the machine has no such door.
    pub(super) fn of(machine: &Machine, latency_ms: u32) -> Result<Self, String> {
        if machine.audio.server != AudioServer::PipeWire {
            let server = machine.audio.server.word();
            return Err(format!(
                "the machine's audio.server is {server}, which has no port {SOUND_PORT}"
            ));
        }
        let door = machine
            .network
            .reached_at(SOUND_PORT)
            .ok_or_else(|| format!("network.forward has no \"{SOUND_PORT}:{SOUND_PORT}\""))?;
        Ok(Self {
            door: Some(door),
            sink: "@DEFAULT_SINK@".to_owned(),
            source: "@DEFAULT_MONITOR@".to_owned(),
            rate: machine.audio.rate.0,
            latency_ms,
        })
    }

    /// By two devices of this host's own server: one plays into the machine, one records what it plays.
    pub(crate) fn by_devices(machine: &Machine, sink: String, source: String) -> Self {
        Self { door: None, sink, source, rate: machine.audio.rate.0, latency_ms: LATENCY_MS }
    }

    /// Whether the client is here, before anything is measured.
    pub(crate) fn check() -> Result<(), Failure> {
        let found = Command::new(PROGRAM)
            .arg("--version")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        found.map(drop).map_err(|_| place::absent(PROGRAM))
    }

    /// Sends bursts for so long, each after the one before was heard or given up.
    pub(crate) fn measure(&self, length: Duration) -> Result<Heard, Failure> {
        let mut player = Client::start(self, "--playback", &self.sink)?;
        let mut recorder = Client::start(self, "--record", &self.source)?;
        let pieces = recorder.pieces();
        let Some(into) = player.child.stdin.take() else { return Err(player.ended()) };
        player.wait()?;
        recorder.wait()?;
        let mut stream = Stream { into, rate: self.rate, origin: Instant::now(), frames: 0 };
        let mut heard = Heard::default();
        let mut waiting: Option<Waiting> = None;
        let mut next = Instant::now() + WARMUP;
        let end = next + length;
        let mut first = 0_u64;
        loop {
            let now = Instant::now();
            if waiting.as_ref().is_some_and(|burst| now >= burst.sent + PATIENCE) {
                waiting = None;
                next = now;
            }
            if waiting.is_none() && now >= end {
                break;
            }
            let starts = waiting.is_none() && now >= next;
            if starts {
                heard.sent += 1;
                waiting =
                    Some(Waiting { sent: now, ear: Ear::new(heard.sent), came: VecDeque::new() });
            }
            let sound = starts.then(|| burst(heard.sent));
            stream.play(now, sound.as_deref()).map_err(|_| player.ended())?;
            let wake = match &waiting {
                None => stream.due().min(next),
                Some(burst) => stream.due().min(burst.sent + PATIENCE),
            };
            match pieces.recv_timeout(wake.saturating_duration_since(Instant::now())) {
                Ok((came, samples)) => {
                    let found =
                        waiting.as_mut().and_then(|burst| burst.hear(first, came, &samples));
                    first += samples.len() as u64;
                    if let Some(took) = found {
                        heard.histogram.record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
                        waiting = None;
                        let spread = heard.sent.wrapping_mul(7919) % SPREAD_US;
                        next = Instant::now() + PAUSE + Duration::from_micros(spread);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(recorder.ended()),
            }
        }
        heard.player = player.told();
        heard.recorder = recorder.told();
        Ok(heard)
    }
}

impl Heard {
    /// For people: how many came back, and what PulseAudio itself says.
    pub(super) fn words(&self) -> String {
        let milliseconds = |us: Option<u64>| {
            #[allow(clippy::cast_precision_loss)]
            us.map_or("nothing".to_owned(), |us| format!("{:.1} ms", us as f64 / 1000.0))
        };
        format!(
            "{} of {} bursts heard; PulseAudio says {} to the sink, {} from its monitor; its buffers ran \
             empty or over {} times",
            self.histogram.count(),
            self.sent,
            milliseconds(self.player.latency_us()),
            milliseconds(self.recorder.latency_us()),
            self.player.broken + self.recorder.broken,
        )
    }
}

/// A burst that is under way.
struct Waiting {
    sent: Instant,
    ear: Ear,
    /// The first frame of each piece that has come since then, and when.
    came: VecDeque<(u64, Instant)>,
}

impl Waiting {
    /// How long it took, once it was heard.
    fn hear(&mut self, first: u64, came: Instant, samples: &[f32]) -> Option<Duration> {
        self.came.push_back((first, came));
        let frame = self.ear.hear(first, samples)?;
        let (_, came) = self.came.iter().rev().find(|(first, _)| *first <= frame)?;
        Some(came.saturating_duration_since(self.sent))
    }
}

/// What is played, at the pace of the clock: neither does it run ahead, nor does it make up for what the
/// machine did not take, both of which would lengthen the way.
struct Stream {
    into: ChildStdin,
    rate: u32,
    origin: Instant,
    /// Since then.
    frames: u64,
}

impl Stream {
    /// When the next piece is due.
    fn due(&self) -> Instant {
        self.origin
            + Duration::from_nanos(self.frames * 1_000_000_000 / u64::from(self.rate))
            + PIECE
    }

    /// Silence up to now, when it is due, and a burst if one begins now.
    fn play(&mut self, now: Instant, sound: Option<&[f32]>) -> std::io::Result<()> {
        if sound.is_none() && now < self.due() {
            return Ok(());
        }
        let elapsed = now.saturating_duration_since(self.origin).as_nanos() * u128::from(self.rate);
        let elapsed = u64::try_from(elapsed / 1_000_000_000).unwrap_or(u64::MAX);
        let piece = PIECE_US * u64::from(self.rate) / 1_000_000;
        let mut silence = elapsed.saturating_sub(self.frames);
        // What still lies in the pipe, and what this program slept through.
        if rustix::io::ioctl_fionread(&self.into)? > 2 * piece * FRAME as u64
            || silence > 20 * piece
        {
            (self.origin, self.frames, silence) = (now, 0, 0);
        }
        let sound = sound.unwrap_or_default();
        self.frames += silence + sound.len() as u64;
        let mut bytes = vec![0; usize::try_from(silence).unwrap_or(0) * FRAME];
        for sample in sound {
            bytes.extend([sample.to_le_bytes(), sample.to_le_bytes()].concat());
        }
        self.into.write_all(&bytes)
    }
}

/// pacat, ended when the value goes.
struct Client {
    child: Child,
    lines: Receiver<String>,
    told: Told,
}

impl Client {
    fn start(way: &Way, direction: &str, device: &str) -> Result<Self, Failure> {
        let mut child = Command::new(PROGRAM)
            .args([direction, "--verbose", "--raw", "--format=float32le", "--channels=2"])
            .args(way.door.map(|door| format!("--server=tcp:{door}")))
            .arg(format!("--device={device}"))
            .arg(format!("--rate={}", way.rate))
            .arg(format!("--latency-msec={}", way.latency_ms))
            .arg("--client-name=archibald")
            .env("LC_ALL", "C")
            // Has the last word on every stream of a client.
            .env_remove("PULSE_LATENCY_MSEC")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|_| place::absent(PROGRAM))?;
        let (sender, lines) = mpsc::channel();
        if let Some(mut stderr) = child.stderr.take() {
            std::thread::spawn(move || {
                let (mut line, mut bytes) = (Vec::new(), [0; 4096]);
                while let Ok(length @ 1..) = stderr.read(&mut bytes) {
                    for byte in bytes.iter().take(length) {
                        // What it tells of its latency it writes over itself.
                        if !matches!(byte, b'\r' | b'\n') {
                            line.push(*byte);
                        } else if sender.send(String::from_utf8_lossy(&line).into_owned()).is_ok() {
                            line.clear();
                        }
                    }
                }
            });
        }
        Ok(Self { child, lines, told: Told::default() })
    }

    /// What it records, the left channel, each piece with when it came.
    fn pieces(&mut self) -> Receiver<(Instant, Vec<f32>)> {
        let (sender, pieces) = mpsc::channel();
        if let Some(mut stdout) = self.child.stdout.take() {
            std::thread::spawn(move || {
                let (mut rest, mut bytes) = (Vec::new(), vec![0; 1 << 16]);
                while let Ok(length @ 1..) = stdout.read(&mut bytes) {
                    let came = Instant::now();
                    rest.extend(bytes.iter().take(length));
                    let frames = rest.chunks_exact(FRAME);
                    let left = |frame: &[u8]| {
                        frame.first_chunk().map_or(0.0, |left| f32::from_le_bytes(*left))
                    };
                    let samples: Vec<f32> = frames.map(left).collect();
                    rest.drain(..samples.len() * FRAME);
                    if sender.send((came, samples)).is_err() {
                        break;
                    }
                }
            });
        }
        pieces
    }

    /// Until its stream is there.
    fn wait(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + READY;
        while !self.told.is_ready {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.told.read(&line),
                Err(_) => return Err(self.ended()),
            }
        }
        Ok(())
    }

    fn told(&mut self) -> Told {
        self.lines.try_iter().for_each(|line| self.told.read(&line));
        std::mem::take(&mut self.told)
    }

    fn ended(&mut self) -> Failure {
        // Its last words come with its end.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.lines.iter().for_each(|line| self.told.read(&line));
        let last = match self.told.last.as_str() {
            "" => "the machine let no stream begin",
            last => last,
        };
        Failure::new(Exit::Environment, format!("no sound went by port {SOUND_PORT}: {last}")).with_remedy(
            "`archibald check` says whether the door is open; `archibald logs --log journal` what the machine says.",
        )
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Told {
    /// A line of pacat --verbose, in its own language.
    fn read(&mut self, line: &str) {
        let line = line.trim();
        let latency = || line.split_once("Latency: ")?.1.strip_suffix(" usec.")?.parse().ok();
        if let Some(us) = latency() {
            self.latency_us.push(us);
        } else if line.starts_with("Stream successfully created") {
            self.is_ready = true;
        } else if line.starts_with("Stream underrun") || line.starts_with("Stream overrun") {
            self.broken += 1;
        } else if !line.is_empty() && !line.starts_with("Opening a") {
            self.last = line.to_owned();
        }
    }

    /// The middle.
    fn latency_us(&self) -> Option<u64> {
        let mut all = self.latency_us.clone();
        all.sort_unstable();
        all.get(all.len() / 2).copied()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn way(text: &str) -> Result<SocketAddr, String> {
        let machine = Machine::parse("test", text, &Default::default()).unwrap();
        Way::of(&machine, 20).map(|way| way.door.unwrap())
    }

    #[test]
    fn where_there_is_no_door_the_reason_is_told() {
        assert_eq!(way(""), Ok("127.0.0.1:4713".parse().unwrap()));
        let forward = "[network]\nforward = [\"2222:22\", \"8713:4713\"]\n";
        assert_eq!(way(forward), Ok("127.0.0.1:8713".parse().unwrap()));
        // Nobody is reached at the address that stands for all of them.
        let mut machine = Machine::parse("test", forward, &Default::default()).unwrap();
        machine.network.bind = Ipv4Addr::UNSPECIFIED.into();
        assert_eq!(Way::of(&machine, 20).unwrap().door, "127.0.0.1:8713".parse().ok());
        let reason = way("[network]\nforward = [\"2222:22\", \"4713:4713/udp\"]\n").unwrap_err();
        assert!(reason.contains("network.forward has no \"4713:4713\""), "{reason}");
        let reason = way("[audio]\nserver = \"jack\"\n").unwrap_err();
        assert!(reason.contains("audio.server is jack"), "{reason}");
    }

    /// pacat 16.1 with --verbose and LC_ALL=C.
    #[test]
    fn what_pacat_says_is_read() {
        let mut told = Told::default();
        for line in [
            "Opening a playback stream with sample specification 'float32le 2ch 48000Hz' and channel map 'front-left,front-right'.",
            "Connection established. \u{1b}[K",
            "Stream successfully created.",
            "Buffer metrics: maxlength=4194304, tlength=7680, prebuf=7680, minreq=256",
            "Time: 0.531 sec; Latency: 20345 usec.        ",
            "Time: 0.581 sec; Latency: 20000 usec.        ",
            "Stream underrun.\u{1b}[K ",
            "Time: 0.631 sec; Latency: 30000 usec.        ",
        ] {
            told.read(line);
        }
        assert_eq!((told.is_ready, told.latency_us(), told.broken), (true, Some(20_345), 1));
        told.read("Connection failure: Connection refused");
        assert_eq!(told.last, "Connection failure: Connection refused");
        assert_eq!(Told::default().latency_us(), None);
    }

    /// The stream keeps the clock's pace: what its reader left in the pipe is not added to.
    #[test]
    fn what_the_machine_does_not_take_is_not_made_up_for() {
        let mut child = Command::new("sleep").arg("60").stdin(Stdio::piped()).spawn().unwrap();
        let into = child.stdin.take().unwrap();
        let origin = Instant::now();
        let mut stream = Stream { into, rate: 48_000, origin, frames: 0 };
        for milliseconds in (5..2000).step_by(5) {
            stream.play(origin + Duration::from_millis(milliseconds), None).unwrap();
        }
        let left = rustix::io::ioctl_fionread(&stream.into).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!((3840..=4 * 1920).contains(&left), "{left} bytes lie in the pipe");
    }

    #[test]
    fn a_burst_took_until_the_piece_that_it_begins_in() {
        let sent = Instant::now();
        let mut burst = Waiting { sent, ear: Ear::new(9), came: VecDeque::new() };
        let mut sound = vec![0.0; 960];
        sound.extend(super::burst(9));
        sound.extend([0.0; 100]);
        let mut took = None;
        for (i, piece) in (0_u32..).zip(sound.chunks(480)) {
            let came = sent + Duration::from_millis(10) * (i + 1);
            took = took.or(burst.hear(5000 + u64::from(i) * 480, came, piece));
        }
        assert_eq!(took, Some(Duration::from_millis(30)));
    }
}
