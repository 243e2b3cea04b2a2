//! Sound and files between host and machine, with the programs that people have: PulseAudio's own
//! clients and ffmpeg through port 4713, curl and the store's client through 8080.
// Each test file uses some of it.
#![allow(dead_code)]

use std::f64::consts::TAU;
use std::io::Read as _;
use std::process::{Child, Command, Stdio};

use archibald_guest::tone::{Tone, find_tone, read_wav};

use crate::world::{World, said};

const STORE: &str = "http://127.0.0.1:26080/v1/objects/";
pub(crate) const RATE: u32 = 48_000;

pub(crate) fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// A client of the machine's PulseAudio door.
fn client(program: &str, words: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(words).env("PULSE_SERVER", "tcp:127.0.0.1:26713").stdin(Stdio::null());
    command
}

/// Ended when dropped.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// The first samples that it writes, one channel of floats.
    pub(crate) fn hear(mut self, seconds: u32) -> Vec<f32> {
        let mut bytes = vec![0; (seconds * RATE * 4) as usize];
        self.0.stdout.take().unwrap().read_exact(&mut bytes).unwrap();
        bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect()
    }
}

/// By SIGTERM: a jackd that is killed keeps its place of the eight in JACK's registry for good, and the lock of
/// its database at times, over which the next one stands still. One with NetJACK2's manager takes six seconds.
impl Drop for Running {
    fn drop(&mut self) {
        for (signal, tenths) in [("-TERM", 300), ("-KILL", 50)] {
            let _ = Command::new("kill").args([signal, &self.0.id().to_string()]).status();
            for _ in 0..tenths {
                if !matches!(self.0.try_wait(), Ok(None)) {
                    return;
                }
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
        }
    }
}

/// A tone of a quarter of full scale in 16-bit stereo.
pub(crate) fn tone_file(world: &World, name: &str, frequency: f64, seconds: u32) -> String {
    let sound: Vec<u8> = (0..seconds * RATE)
        .flat_map(|at| {
            let sample = (f64::from(at) * frequency * TAU / f64::from(RATE)).sin() * 8192.0;
            let sample = (sample as i16).to_le_bytes();
            [sample, sample].concat()
        })
        .collect();
    let length = u32::try_from(sound.len()).unwrap();
    let mut file = b"RIFF".to_vec();
    file.extend((length + 36).to_le_bytes());
    file.extend(b"WAVEfmt \x10\0\0\0\x01\0\x02\0");
    file.extend(RATE.to_le_bytes());
    file.extend((RATE * 4).to_le_bytes());
    file.extend(b"\x04\0\x10\0data");
    file.extend(length.to_le_bytes());
    file.extend(sound);
    let path = world.path("work").join(name);
    std::fs::write(&path, file).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The tone is there, whatever an emulated processor lost of it.
pub(crate) fn assert_tone(found: Option<Tone>, frequency: f64, what: &str) {
    let tone = found.unwrap_or_else(|| panic!("{what}: no tone"));
    assert!((tone.frequency - frequency).abs() < 2.0, "{what}: {tone:?}");
    assert!((0.2..0.3).contains(&tone.level), "{what}: {tone:?}");
}

fn got(key: &str) -> Vec<u8> {
    let url = format!("{STORE}{key}");
    let output = Command::new("curl").args(["-sS", "--fail", &url]).output().unwrap();
    assert!(output.status.success(), "{key}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Frames that the head of a WAV file promises and those that it has.
fn frames(file: &[u8]) -> (u64, u64) {
    let number = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    (u64::from(number(54)) / 8, (file.len() as u64 - 58) / 8)
}

pub(crate) fn a_tone_goes_in_and_comes_back_by_pulse(world: &World) {
    if !has("paplay") || !has("parec") || !has("pactl") {
        return println!("SKIPPED sound by 4713: pactl, paplay, parec are not here");
    }
    let info = said(client("pactl", &["info"]).output().unwrap());
    assert!(info.status == 0 && info.out.contains("on PipeWire"), "{}{}", info.out, info.err);
    // Whoever comes through the door plays and records, and changes nothing.
    let refused = said(
        client("pactl", &["load-module", "module-null-sink", "sink_name=x"]).output().unwrap(),
    );
    assert!(refused.status != 0, "{}", refused.out);
    let sinks = said(client("pactl", &["list", "short", "sinks"]).output().unwrap());
    assert_eq!(sinks.out.lines().count(), 1, "{}", sinks.out);

    let file = tone_file(world, "tone.wav", 1000.0, 120);
    let playing = Running::start(&mut client("paplay", &[&file]));
    let take = world.run(&["record", "--seconds", "2", "takes/by pulse.wav"]);
    assert_eq!(take.status, 0, "{}{}", take.out, take.err);
    let url = format!("{STORE}takes/by%20pulse.wav");
    assert!(take.out.starts_with(&format!("{url}\n")), "{}", take.out);
    let file = got("takes/by%20pulse.wav");
    assert_eq!(frames(&file), (96_000, 96_000));
    let (samples, rate) = read_wav(&file).unwrap();
    assert_tone(find_tone(&samples, rate), 1000.0, "recorded in the machine");

    let words = ["--raw", "--format=float32le", "--rate=48000", "--channels=1"];
    let words = [&words[..], &["--latency-msec=50", "--device=@DEFAULT_MONITOR@"]].concat();
    let heard = Running::start(&mut client("parec", &words)).hear(2);
    assert_tone(find_tone(&heard, f64::from(RATE)), 1000.0, "recorded on the host");

    // Another client's long buffers do not stretch the period of the graph.
    let top = world.run(&["exec", "--", "pw-top", "-b", "-n", "2"]);
    let quanta: Vec<&str> = top
        .out
        .lines()
        // What follows a driver shows what it asked for.
        .filter(|line| line.starts_with("R ") && !line.contains(" + "))
        .filter_map(|line| line.split_whitespace().nth(2))
        .filter(|quantum| *quantum != "0")
        .collect();
    assert!(!quanta.is_empty() && quanta.iter().all(|quantum| *quantum == "32"), "{}", top.out);
    drop(playing);
    by_ffmpeg(world);
}

fn by_ffmpeg(world: &World) {
    let knows = Command::new("ffmpeg").args(["-hide_banner", "-devices"]).output();
    if !knows.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("DE pulse")) {
        return println!("SKIPPED ffmpeg by 4713: there is none with PulseAudio here");
    }
    let file = tone_file(world, "higher.wav", 1500.0, 60);
    let words = ["-hide_banner", "-loglevel", "error", "-nostdin", "-re", "-i", &file];
    let _playing =
        Running::start(&mut client("ffmpeg", &[&words[..], &["-f", "pulse", "x"]].concat()));
    let take = world.run(&["record", "--seconds", "2", "--force", "takes/by pulse.wav"]);
    assert_eq!(take.status, 0, "{}{}", take.out, take.err);
    let (samples, rate) = read_wav(&got("takes/by%20pulse.wav")).unwrap();
    assert_tone(find_tone(&samples, rate), 1500.0, "played by ffmpeg");
    let words = ["-hide_banner", "-loglevel", "error", "-nostdin", "-f", "pulse"];
    let words = [&words[..], &["-i", "@DEFAULT_MONITOR@", "-af", "pan=mono|c0=FL", "-ar", "48000"]]
        .concat();
    let words = [&words[..], &["-f", "f32le", "-t", "20", "-flush_packets", "1", "-"]].concat();
    let heard = Running::start(&mut client("ffmpeg", &words)).hear(2);
    assert_tone(find_tone(&heard, f64::from(RATE)), 1500.0, "recorded by ffmpeg");
}

/// A recording of one port that is ended by Ctrl-C, and the refusals.
pub(crate) fn a_recording_is_ended_early_and_is_whole(world: &World) {
    let key = "takes/early.wav";
    let mut recording = world
        .command(&["record", key, "--json", "--from", "archibald-record-test:output_FL"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let refused = recording.wait().unwrap();
    assert_eq!(refused.code(), Some(1), "a port that is not there is refused");

    let mut recording = world
        .command(&["record", key])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It can be heard while it is made.
    let length = || {
        let url = format!("{STORE}{key}");
        let output = Command::new("curl").args(["-sSI", &url]).output().unwrap();
        let head = String::from_utf8_lossy(&output.stdout).to_lowercase();
        let line = |name: &str| {
            head.lines()
                .find_map(|line| line.strip_prefix(name))
                .map(|value| value.trim().to_owned())
        };
        (line("streamdb-open:").is_some(), line("content-length:").and_then(|l| l.parse().ok()))
    };
    let grown = (0..600).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        matches!(length(), (true, Some(100_000..)))
    });
    assert!(grown, "it does not grow: {:?}", length());
    let pid = recording.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let mut out = String::new();
    recording.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert_eq!(recording.wait().unwrap().code(), Some(0), "{out}");
    assert!(out.contains("s recorded"), "{out}");
    assert!(!length().0, "it is sealed");
    let (promised, there) = frames(&got(key));
    assert!(promised == there && there > 10_000, "{promised} {there}");

    let clash = world.run(&["record", "--seconds", "1", key]);
    assert_eq!(clash.status, 2, "{}{}", clash.out, clash.err);
    assert!(clash.err.contains("already") && clash.err.contains("--force"), "{}", clash.err);
    assert_eq!(frames(&got(key)), (promised, there));
}

/// What the host puts into the store the machine has, and the other way round.
pub(crate) fn files_are_shared_both_ways(world: &World) {
    world.write("from-host", "put by the host");
    let file = world.path("work/from-host");
    let url = format!("{STORE}shared/from-host");
    let put = Command::new("curl")
        .args(["-sS", "--fail", "-o", "/dev/null", "-T"])
        .arg(&file)
        .arg(&url)
        .status();
    assert!(put.unwrap().success());
    let there = world.run(&["exec", "--", "streamdb", "get", "shared/from-host"]);
    assert_eq!(there.out, "put by the host", "{}", there.err);
    let script =
        "echo put by the machine > there && streamdb put shared/from-machine there && rm there";
    let put = world.run(&["exec", "--", "sh", "-c", script]);
    assert_eq!(put.status, 0, "{}{}", put.out, put.err);
    assert_eq!(got("shared/from-machine"), b"put by the machine\n");
    // As files too, in whatever speaks WebDAV.
    let dav = "http://127.0.0.1:26080/dav/shared/from-machine";
    let output = Command::new("curl").args(["-sS", "--fail", dav]).output().unwrap();
    assert_eq!(output.stdout, b"put by the machine\n");
}
