//! `archibald-guest record`: what the graph plays, into the store as it comes, as a WAV file that grows.
//!
//! PulseAudio's own recorder takes the sound from PipeWire: its server buffers seconds between the
//! graph's thread and what reads here, so that a store that is slow for a moment costs no sound.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use archibald_machine::AudioServer;
use serde::Serialize;

use super::Outcome;
use crate::graph::Session;
use crate::run::{Invocation, Programs, Run as _};
use crate::store::Store;
use crate::{GuestError, Root, read_settings, wav};

/// How much sound goes to the store in one request: each is on the disk before the next.
const PIECE: Duration = Duration::from_millis(250);
/// The recorder's name in the graph.
const NAME: &str = "archibald-record";
/// How long the recorder may take to appear in the graph, on an emulated processor.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Key in the store, such as takes/one.wav
    key: String,
    /// Length of the recording; until it is ended when left out
    #[arg(long)]
    seconds: Option<f64>,
    /// A port of the graph, as jack_lsp names it, for each channel; what the machine plays when left out
    #[arg(long)]
    from: Vec<String>,
    /// Replace what is there
    #[arg(long)]
    force: bool,
    /// End with the standard input
    #[arg(long)]
    while_listened: bool,
}

/// What is told, a line of JSON each.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Told<'a> {
    Begun { key: &'a str, channels: u16, rate: u32 },
    Done { frames: u64, seconds: f64, complete: bool },
    Failed { failed: String, clash: bool },
}

impl Arguments {
    pub(super) fn run(&self, out: &mut dyn Write) -> Result<Outcome, GuestError> {
        if !rustix::process::geteuid().is_root() {
            return Err(GuestError::NotRoot);
        }
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&stop))
                .map_err(GuestError::file("catch signals for", NAME))?;
        }
        if self.while_listened {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
                stop.store(true, Ordering::Relaxed);
            });
        }
        let told = |out: &mut dyn Write, told: &Told<'_>| {
            let line = serde_json::to_string(told).unwrap_or_default();
            // Who does not listen any more has ended the recording by that.
            let _ = writeln!(out, "{line}").and_then(|()| out.flush());
        };
        let outcome = self.record(&stop, &mut |line| told(out, &line));
        match outcome {
            Ok((frames, rate)) => {
                let wanted = self.frames(rate);
                let complete = wanted.is_none_or(|wanted| wanted == frames);
                let seconds = frames as f64 / f64::from(rate);
                told(out, &Told::Done { frames, seconds, complete });
                Ok(Outcome::Good)
            }
            Err(Trouble { failed, clash }) => {
                told(out, &Told::Failed { failed, clash });
                Ok(Outcome::Failed)
            }
        }
    }

    fn frames(&self, rate: u32) -> Option<u64> {
        self.seconds.map(|seconds| (seconds * f64::from(rate)).round() as u64)
    }

    fn record(
        &self,
        stop: &AtomicBool,
        tell: &mut dyn FnMut(Told<'_>),
    ) -> Result<(u64, u32), Trouble> {
        let root = Root::default();
        let settings = read_settings(&root).map_err(|error| error.to_string())?;
        if settings.server != AudioServer::PipeWire {
            return Err("it records PipeWire's graph, and this machine has server = \"jack\": \
                        jack_rec records that one"
                .into());
        }
        let port = settings.streamdb_port.ok_or("this machine has no store: streamdb.enable")?;
        let token = settings.store_door.and_then(|door| door.token);
        let user = settings.users.first().map(|user| user.name.as_str()).unwrap_or_default();
        let session = Session::of(&root, user, settings.server).ok_or("there is no audio user")?;
        let store = Store { port, token };
        if store.has(&self.key)? {
            if !self.force {
                let failed = format!("there is a value under \"{}\" already", self.key);
                return Err(Trouble { failed, clash: true });
            }
            store.delete(&self.key)?;
        }
        let rate = settings.rate.0;
        let channels = if self.from.is_empty() { 2 } else { self.from.len() };
        let channels = u16::try_from(channels).map_err(|_| "too many ports")?;
        let mut recorder = Recorder::start(&session, channels, rate, self.from.is_empty())?;
        let joined = recorder.join(&session, &self.from);
        joined?;
        let wanted = self.frames(rate);
        store.append(&self.key, 0, &wav::head(channels, rate, wanted))?;
        tell(Told::Begun { key: &self.key, channels, rate });
        let frame = u64::from(channels) * wav::SAMPLE;
        let bytes = pour(&mut recorder, &store, &self.key, wanted.map(|w| w * frame), frame, stop);
        drop(recorder);
        // Sealed whatever came in between: what is there is a recording.
        let sealed = store.seal(&self.key);
        let frames = bytes.0 / frame;
        sealed?;
        if wanted != Some(frames) {
            store.replace_head(&self.key, &wav::head(channels, rate, Some(frames)))?;
        }
        match bytes.1 {
            Some(failed) => Err(format!("{failed}; what came before is kept").into()),
            None => Ok((frames, rate)),
        }
    }
}

/// Why there is no recording.
struct Trouble {
    failed: String,
    /// The key is taken.
    clash: bool,
}

impl From<String> for Trouble {
    fn from(failed: String) -> Self {
        Self { failed, clash: false }
    }
}

impl From<&str> for Trouble {
    fn from(failed: &str) -> Self {
        failed.to_owned().into()
    }
}

/// Appends whole frames until all that was wanted is there, it is ended, or something fails. Returns the
/// bytes of sound that the store has taken.
fn pour(
    recorder: &mut Recorder,
    store: &Store,
    key: &str,
    wanted: Option<u64>,
    frame: u64,
    stop: &AtomicBool,
) -> (u64, Option<String>) {
    let mut stored = 0;
    let mut waiting: Vec<u8> = Vec::new();
    let mut ended = None;
    let mut piece = vec![0; 64 * 1024];
    let mut sent = Instant::now();
    loop {
        let left = wanted.map(|wanted| wanted - stored);
        let is_enough = left.is_some_and(|left| waiting.len() as u64 >= left);
        let over = is_enough || ended.is_some() || stop.load(Ordering::Relaxed);
        if over || sent.elapsed() >= PIECE {
            let most = left.unwrap_or(u64::MAX).min(waiting.len() as u64);
            let whole = usize::try_from(most - most % frame).unwrap_or(0);
            if whole > 0 {
                let rest = waiting.split_off(whole);
                let sound = std::mem::replace(&mut waiting, rest);
                match store.append(key, wav::HEAD as u64 + stored, &sound) {
                    Ok(()) => stored += whole as u64,
                    Err(reason) => return (stored, Some(reason)),
                }
            }
            sent = Instant::now();
        }
        if over {
            return (stored, if is_enough { None } else { ended });
        }
        match recorder.read(&mut piece) {
            Ok(0) => ended = Some("the recorder ended: is the audio server running?".to_owned()),
            Ok(count) => waiting.extend_from_slice(piece.get(..count).unwrap_or_default()),
            Err(error)
                if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
            Err(error) => ended = Some(format!("the recorder cannot be read: {error}")),
        }
    }
}

/// The running recorder, ended when dropped.
struct Recorder(Child);

impl Recorder {
    fn start(
        session: &Session,
        channels: u16,
        rate: u32,
        follows_output: bool,
    ) -> Result<Self, String> {
        let mut words = vec![
            "parec".to_owned(),
            "--raw".to_owned(),
            "--format=float32le".to_owned(),
            format!("--rate={rate}"),
            format!("--channels={channels}"),
            format!("--client-name={NAME}"),
            "--latency-msec=50".to_owned(),
            format!("--property=node.name={NAME}"),
        ];
        if follows_output {
            words.push("--device=@DEFAULT_MONITOR@".to_owned());
        } else {
            words.push("--property=node.autoconnect=false".to_owned());
            if channels != 1 && channels != 2 {
                let map: Vec<String> = (0..channels).map(|number| format!("aux{number}")).collect();
                words.push(format!("--channel-map={}", map.join(",")));
            }
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        session.program(&words).spawn().map(Self)
    }

    /// Joins its inputs with these ports.
    fn join(&mut self, session: &Session, ports: &[String]) -> Result<(), String> {
        if ports.is_empty() {
            return Ok(());
        }
        let ask = |words: &[&str]| {
            let question = Invocation::new(words);
            Programs.run(&question.as_audio_user_without_login(&session.user, session.uid))
        };
        let known = ask(&["jack_lsp"]).stdout;
        if let Some(missing) = ports.iter().find(|port| !known.lines().any(|line| line == **port)) {
            return Err(format!(
                "the graph has no port \"{missing}\"; jack_lsp lists those it has"
            ));
        }
        let deadline = Instant::now() + PATIENCE;
        let inputs = loop {
            let own = inputs(&ask(&["jack_lsp"]).stdout);
            if own.len() >= ports.len() {
                break own;
            }
            if Instant::now() >= deadline {
                return Err("the recorder does not appear in the graph".to_owned());
            }
            thread::sleep(Duration::from_millis(100));
        };
        for (port, input) in ports.iter().zip(&inputs) {
            let answer = ask(&["jack_connect", port, input]);
            if !answer.success {
                return Err(format!("{port} cannot be recorded: {}", answer.last_line()));
            }
        }
        Ok(())
    }

    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let Some(out) = &mut self.0.stdout else { return Ok(0) };
        // A graph that stands still gives nothing; an end that was asked for is seen all the same.
        let wait = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        if poll(&mut [PollFd::new(out, PollFlags::IN)], Some(&wait))? == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        out.read(into)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        crate::run::stop_group(&self.0);
        let _ = self.0.wait();
    }
}

/// The recorder's inputs among the ports of the graph, in their order.
fn inputs(ports: &str) -> Vec<String> {
    let own = |line: &&str| line.starts_with(&format!("{NAME}:input_"));
    let mut seen = BTreeSet::new();
    ports.lines().filter(own).filter(|line| seen.insert(*line)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_inputs_are_joined() {
        let ports = "system:playback_1\narchibald-record:input_FL\narchibald-record:input_FR\n\
                     archibald-record:monitor_FL\nother:input_FL\n";
        assert_eq!(inputs(ports), ["archibald-record:input_FL", "archibald-record:input_FR"]);
    }
}
