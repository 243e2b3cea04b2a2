//! The graph, its threads, and sound: asked of what runs, and heard.

use std::fs;
use std::thread;
use std::time::Duration;

use archibald_latency::pw_top;
use archibald_machine::AudioServer;

use super::{Group, Machine, Row};
use crate::run::{Answer, Invocation};
use crate::template::{audio_cpus, client_priority};
use crate::threads::{Thread, locked_kib, threads_of};
use crate::tone::{Tone, find_tone, read_wav};

/// The score that sclang plays.
const TONE: &str = "/usr/share/archibald/check/tone.scd";
/// Its port in the graph.
const PORT: &str = "archibald-check:out_1";
/// sclang compiles its class library first: 15 s of an emulated CPU that has nothing else to do.
const SCLANG_LIMIT: Duration = Duration::from_secs(150);
const SECONDS: &str = "3";
/// The graph of an emulated machine on a host that is full gets along at a twentieth of its pace; the tone
/// lasts for two minutes.
const RECORD_LIMIT: Duration = Duration::from_secs(90);
/// How often the recorder may begin.
const RECORDERS: usize = 4;
/// -60 dB: far below the tone's -12, far above rounding.
const LEAST_LEVEL: f64 = 0.001;

pub(super) fn rows(machine: Machine<'_>) -> Vec<Row> {
    let folder = format!("/run/user/{}", machine.session.uid);
    let stop = format!("{folder}/archibald-check.stop");
    let recording = format!("{folder}/archibald-check.wav");
    for left in [&stop, &recording] {
        let _ = fs::remove_file(machine.root.path(left));
    }
    let session = machine.session;
    let quantum = machine.settings.quantum.0;
    let play = session
        .program(&[
            "env",
            &format!("ARCHIBALD_STOP={stop}"),
            &format!("ARCHIBALD_QUANTUM={quantum}"),
            // Connected to nobody by itself.
            "SC_JACK_DEFAULT_OUTPUTS=none",
            "sclang",
            "-D",
            TONE,
        ])
        .within(SCLANG_LIMIT);
    let (started, mut rows) = thread::scope(|scope| {
        let started = scope.spawn(|| machine.programs.start(&play, "archibald: playing"));
        // While sclang compiles.
        let rows = period(machine);
        (started.join().unwrap_or_else(|_| Err("the check itself broke".into())), rows)
    });
    let heard = started.as_ref().map_err(Clone::clone).and_then(|_| {
        let words = ["jack_rec", "-f", &recording, "-d", SECONDS, "-b", "16", PORT];
        let record = session.program(&words).within(RECORD_LIMIT);
        hear(machine, &recorded(machine, &record), &recording)
    });
    if machine.settings.server == AudioServer::PipeWire {
        let answer = machine.programs.run(&session.program(&["pw-top", "-b", "-n", "2"]));
        rows.push(running(machine, &answer.stdout));
    }
    rows.push(graph(&machine.programs.run(&session.program(&["jack_lsp"]))));
    rows.extend(scheduling(machine));
    rows.extend(tone(heard, machine.settings.judged));
    let _ = machine.root.write(&stop, b"", 0o644);
    if let Ok(started) = started {
        started.wait(Duration::from_secs(15));
    }
    for left in [&stop, &recording] {
        let _ = fs::remove_file(machine.root.path(left));
    }
    rows
}

/// Where the graph does not do what it should.
fn look_at(machine: Machine<'_>) -> String {
    let unit = machine.session.unit();
    format!(
        "journalctl --user -u {unit} as {}; systemctl --user restart {unit}",
        machine.session.user
    )
}

/// What a client of the graph is told.
fn period(machine: Machine<'_>) -> Vec<Row> {
    let row = |id: &str, title: &str, expected: String| Row::new(Group::Audio, id, title, expected);
    let quantum = row("audio.quantum", "Quantum", machine.settings.quantum.to_string());
    let rate = row("audio.rate", "Sample rate", machine.settings.rate.to_string());
    let (quantum, rate) = match machine.session.period(machine.programs) {
        Ok(found) => {
            (quantum.equal(Some(found.0.to_string())), rate.equal(Some(found.1.to_string())))
        }
        Err(reason) => (quantum.failed(reason.clone()), rate.failed(reason)),
    };
    vec![quantum.remedy(look_at(machine)), rate.remedy(look_at(machine))]
}

/// What the drivers that run really use, in the last screen of pw-top.
fn running(machine: Machine<'_>, screens: &str) -> Row {
    // "R ID QUANT RATE ... NAME"; a "+" before the name marks one that follows a driver.
    let table = pw_top::last_table(screens);
    let drivers = table.iter().filter_map(|fields| match fields.as_slice() {
        ["R", _, quantum, rate, ..] if !fields.contains(&"+") => Some((*quantum, *rate)),
        _ => None,
    });
    let expected = format!("{}/{}", machine.settings.quantum.0, machine.settings.rate.0);
    let mut found: Vec<String> =
        drivers.map(|(quantum, rate)| format!("{quantum}/{rate}")).collect();
    found.dedup();
    let good = found == [expected.clone()];
    let found = if found.is_empty() { "no driver runs".to_owned() } else { found.join(", ") };
    Row::new(Group::Audio, "audio.running", "Running graph (pw-top)", expected)
        .judge(found, good)
        .remedy(
            "pw-metadata -n settings 0 shows what was forced, and `pw-metadata -n settings 0 \
                 clock.force-quantum 0` undoes it",
        )
}

/// jack_lsp sees the graph, and in it the port that plays.
fn graph(answer: &Answer) -> Row {
    let ports = answer.stdout.lines().filter(|line| line.contains(':')).count();
    let good = answer.success && answer.stdout.lines().any(|line| line.trim() == PORT);
    let found = match ports {
        0 => answer.last_line().to_owned(),
        _ if good => format!("{PORT} among {ports} ports"),
        _ => format!("{ports} ports, not {PORT}"),
    };
    Row::new(Group::Audio, "audio.graph", "Graph seen by jack_lsp", PORT)
        .judge(found, good)
        .remedy("ldconfig -p | grep libjack must name /etc/archibald/jack first")
}

/// Policy, priority, CPUs and memory of the threads that must not be late.
fn scheduling(machine: Machine<'_>) -> Vec<Row> {
    let settings = machine.settings;
    let priority = settings.audio_priority.get();
    let (server, thread) = match settings.server {
        AudioServer::PipeWire => ("pipewire", Some("data-loop")),
        // All threads of JACK bear the program's name: the one that counts has the highest priority.
        AudioServer::Jack => ("jackd", None),
    };
    let audio_cpus = audio_cpus(settings);
    let seen = |process: &str, name: Option<&str>| {
        foremost(threads_of(machine.root, process, machine.session.uid), name)
    };
    let row = |id: &str, title: &str, seen: Option<&Thread>, priority: u8, pinned: bool| {
        let cpus = if pinned { format!(", CPU {audio_cpus}") } else { String::new() };
        let good = seen.is_some_and(|thread| {
            thread.fifo == Some(priority) && (!pinned || thread.cpus == audio_cpus)
        });
        Row::new(Group::Audio, id, title, format!("FIFO {priority}{cpus}"))
            .judge(seen.map_or_else(|| "no such thread".to_owned(), described), good)
            .remedy(
                "the limits rows say whether the user may; journalctl --user -b says who refused",
            )
    };
    let served = seen(server, thread);
    // JACK2 does not place its programs' threads, PipeWire's libjack does.
    let placed = settings.server == AudioServer::PipeWire;
    vec![
        row("audio.thread", "Thread of the graph", served.as_ref(), priority, true),
        row(
            "audio.client-thread",
            "Audio thread of scsynth",
            seen("scsynth", thread).as_ref(),
            client_priority(priority),
            placed,
        ),
        memory(served.and_then(|thread| locked_kib(machine.root, thread.process))),
    ]
}

fn foremost(threads: Vec<Thread>, name: Option<&str>) -> Option<Thread> {
    let named = threads.into_iter().filter(|t| name.is_none_or(|name| t.name.starts_with(name)));
    named.max_by_key(|thread| thread.fifo)
}

fn described(thread: &Thread) -> String {
    match thread.fifo {
        Some(priority) => format!("FIFO {priority}, CPU {}", thread.cpus),
        None => format!("no real-time policy, CPU {}", thread.cpus),
    }
}

fn memory(locked: Option<u64>) -> Row {
    let found = locked.map_or_else(String::new, |kib| format!("{kib} KiB locked"));
    Row::new(Group::Audio, "audio.memory", "Memory of the audio server", "locked")
        .judge(found, locked.is_some_and(|kib| kib > 0))
        .remedy("the memlock row says whether the user may lock memory")
}

/// Records, again if the recorder died of it. jack_rec registers its port when its audio thread runs already,
/// and PipeWire's libjack (1.4.2 at least) goes through its list of ports without a lock there: one start in
/// twenty of an emulated machine ends in a segmentation fault. That says nothing of the sound.
fn recorded(machine: Machine<'_>, record: &Invocation) -> Answer {
    let mut answer = machine.programs.run(record);
    for _ in 1..RECORDERS {
        let died = !answer.success && answer.last_line().contains("Segmentation fault");
        if !died {
            break;
        }
        answer = machine.programs.run(record);
    }
    answer
}

/// What is in the recording.
fn hear(machine: Machine<'_>, recorder: &Answer, recording: &str) -> Result<Tone, String> {
    let path = machine.root.path(recording);
    let bytes = fs::read(path).map_err(|_| format!("jack_rec: {}", recorder.last_line()))?;
    let (samples, rate) = read_wav(&bytes).ok_or("jack_rec wrote no WAV file")?;
    find_tone(&samples, rate).ok_or_else(|| match recorder.success {
        true => format!("silence in {} frames", samples.len()),
        // Stopped before its time: what it had is no recording.
        false => recorder.last_line().to_owned(),
    })
}

fn tone(heard: Result<Tone, String>, judged: bool) -> Vec<Row> {
    const REMEDY: &str = "run it by hand: QT_QPA_PLATFORM=offscreen sclang; a block size above the \
                          quantum plays silence";
    let row = |id: &str, title: &str, expected: &str| Row::new(Group::Audio, id, title, expected);
    let frequency = row("audio.tone", "440 Hz by sclang, recorded", "440 Hz +- 1");
    let level = row("audio.level", "Its level", "above -60 dB");
    let breaks = row("audio.breaks", "Breaks in it", "0");
    let rows = match heard {
        Ok(tone) => [
            frequency
                .judge(format!("{:.2} Hz", tone.frequency), (tone.frequency - 440.0).abs() <= 1.0),
            level.judge(format!("{:.1} dB", 20.0 * tone.level.log10()), tone.level > LEAST_LEVEL),
            breaks.judge(tone.breaks.to_string(), tone.breaks == 0).only_if(judged),
        ],
        Err(reason) => [
            frequency.failed(reason.clone()),
            level.failed(reason.clone()),
            breaks.failed(reason).only_if(judged),
        ],
    };
    rows.map(|row| row.remedy(REMEDY)).into()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::Relaxed;

    use super::super::tests::{Made, failed};
    use super::*;
    use crate::run::tests::{Canned, says};
    use crate::run::{Run, Started};
    use crate::threads::tests::make;

    const TOP: &str = "S   ID  QUANT   RATE    WAIT    BUSY   W/Q   B/Q  ERR FORMAT           NAME
C   30      0      0    ---     ---   ---   ---     0                  Dummy-Driver
S   ID  QUANT   RATE    WAIT    BUSY   W/Q   B/Q  ERR FORMAT           NAME
R   30     32  48000 640.2us 152.3us  0.96  0.23    0                  Dummy-Driver
R   52    256  44100 392.7us  61.5us  0.59  0.09    0                   + archibald-check
S   31      0      0    ---     ---   ---   ---     0                  Freewheel-Driver
";

    fn sounding(quantum: &str) -> Canned {
        Canned(vec![
            ("jack_bufsize", says(&format!("{quantum}\n48000\n"))),
            ("sclang", says("")),
            ("jack_rec", says("")),
            ("pw-top", says(&TOP.replace(" 32 ", &format!(" {quantum} ")))),
            ("jack_lsp", says("No sound card:playback_FL\narchibald-check:out_1\n")),
        ])
    }

    /// What it had written by then is no recording, and no silence either.
    #[test]
    fn a_recorder_that_was_stopped_says_so() {
        let made = made("32", Some(88));
        made.root.write("/rec.wav", &crate::wav::head(1, 48000, Some(0)), 0o644).unwrap();
        let mut recorder = says("");
        assert_eq!(hear(made.machine(), &recorder, "/rec.wav").unwrap_err(), "silence in 0 frames");
        recorder.success = false;
        recorder.stderr = "jack_rec: no end after 90s".to_owned();
        let told = hear(made.machine(), &recorder, "/rec.wav").unwrap_err();
        assert!(told.contains("no end after 90s"), "{told}");
    }

    /// Dies so often before it records.
    struct Falls(AtomicUsize);

    impl Run for Falls {
        fn run(&self, _: &Invocation) -> Answer {
            match self.0.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)) {
                Ok(_) => Answer { stderr: "Segmentation fault".to_owned(), ..Answer::default() },
                Err(_) => says("recorded"),
            }
        }

        fn start(&self, _: &Invocation, _: &str) -> Result<Started, String> {
            Err("not asked".to_owned())
        }
    }

    #[test]
    fn a_recorder_that_died_begins_again_but_not_for_ever() {
        let made = made("32", Some(88));
        let record = Invocation::new(&["jack_rec"]);
        for (falls, success) in [(0, true), (RECORDERS - 1, true), (RECORDERS, false)] {
            let falling = Falls(AtomicUsize::new(falls));
            let machine = Machine { programs: &falling, ..made.machine() };
            assert_eq!(recorded(machine, &record).success, success, "{falls}");
        }
    }

    /// A machine whose programs say all is well, and whose recorder leaves no file behind.
    fn made(quantum: &str, priority: Option<u8>) -> Made {
        let made = Made::new(&[], sounding(quantum));
        make(&made.root, 500, "pipewire", "data-loop.0", priority);
        make(&made.root, 600, "scsynth", "data-loop.0", priority.map(|priority| priority - 5));
        made
    }

    #[test]
    fn a_good_graph_fails_nothing_but_the_recording_that_is_not_there() {
        let made = made("32", Some(88));
        let rows = rows(made.machine());
        assert_eq!(failed(&rows), ["audio.tone", "audio.level"]);
    }

    #[test]
    fn the_quantum_that_pipewire_falls_back_to_in_a_vm_fails() {
        let made = made("1024", Some(88));
        assert!(failed(&rows(made.machine())).starts_with(&["audio.quantum", "audio.running"]));
    }

    #[test]
    fn threads_without_priority_fail() {
        let made = made("32", None);
        let rows = scheduling(made.machine());
        assert_eq!(failed(&rows), ["audio.thread", "audio.client-thread"]);
        assert_eq!(rows[0].found, "no real-time policy, CPU 1");
    }

    #[test]
    fn no_graph_and_no_driver_are_said() {
        let made = Made::new(&[], Canned(vec![]));
        assert_eq!(running(made.machine(), "").found, "no driver runs");
        assert_eq!(failed(&[graph(&Answer::default())]), ["audio.graph"]);
        assert_eq!(failed(&[memory(Some(0)), memory(None)]), ["audio.memory", "audio.memory"]);
    }

    #[test]
    fn a_tone_is_judged_by_frequency_and_level_always_and_by_breaks_where_time_counts() {
        let good = Tone { frequency: 440.4, level: 0.25, breaks: 3 };
        assert_eq!(failed(&tone(Ok(good), false)), Vec::<&str>::new());
        assert_eq!(failed(&tone(Ok(good), true)), ["audio.breaks"]);
        for frequency in [438.9, 441.1] {
            let rows = tone(Ok(Tone { frequency, ..good }), false);
            assert_eq!(failed(&rows), ["audio.tone"]);
        }
        assert_eq!(failed(&tone(Ok(Tone { level: 1e-4, ..good }), false)), ["audio.level"]);
        let silent = tone(Err("silence".into()), true);
        assert_eq!(failed(&silent), ["audio.tone", "audio.level", "audio.breaks"]);
    }
}
