//! `loop` and `relay` against a real jackd. The host may be too busy for its periods: whole periods that
//! go missing then are the host's, and no test asks for none of them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod server;

use archibald_latency::Meter;
use archibald_latency::round_trip::{Loop, Progress};
use archibald_probe::sequence::{LENGTH, sample};
use server::{Output, PROBE, Running, Server};

const QUANTUM: i64 = 1024;

fn start(server: &mut Server, words: &[&str], name: &str) -> Running {
    let mut command = server.command(PROBE);
    command.args(words).args(["--name", name]).stderr(std::process::Stdio::piped());
    server.start_until_listed(&mut command, name)
}

fn seen(said: &Output) -> Loop {
    Loop::from_json(&said.out).unwrap_or_else(|error| panic!("{error}: {}{}", said.out, said.err))
}

#[test]
fn the_graph_s_own_loop_is_one_period_and_whole() {
    let Some(mut server) = Server::start("loop", &["jack_lsp"]) else { return };
    let words = ["loop", "--seconds", "3", "--warmup", "300"];
    let said = start(&mut server, &words, "probe").ended();
    let seen = seen(&said);
    assert_eq!((said.status, said.err.as_str()), (0, ""));
    let sequence = seen.sequence.as_ref().unwrap();
    assert_eq!((&sequence.breaks[..], sequence.unlisted, sequence.overlooked), (&[][..], 0, 0));
    let [(frames, count)] = sequence.round_trip[..] else { panic!("{:?}", sequence.round_trip) };
    assert_eq!((frames, count), (1024, sequence.known));
    assert!(count > 48_000 && count == sequence.frames, "{sequence:?}");
    assert_eq!(seen.window.length_ns(), 3_000_000_000);
    assert_eq!(seen.periods(), 140);
    assert!(seen.left.count() > 40 && seen.jitter.count() > 40);
}

/// A line a second; which second was missed on a busy host, nobody knows.
fn how_it_went_was_told(lines: &str) {
    let told: Vec<Progress> = lines
        .lines()
        .map(|line| Progress::from_line(line).unwrap_or_else(|| panic!("{line}")))
        .collect();
    assert!(told.len() >= 2, "{lines}");
    assert!(told.windows(2).all(|pair| pair[0].elapsed_ns < pair[1].elapsed_ns), "{lines}");
    let last = told.last().unwrap();
    let [least, newest, most] = last.frames.unwrap();
    assert!(1024.0 <= least && least <= newest && newest <= most, "{last:?}");
    let [newest, least] = last.left_ns.unwrap();
    assert!(least <= newest && newest < 21_400_000, "{last:?}");
    // A fault every half second.
    assert!(last.counters[&Meter::Sequence] > told[0].counters[&Meter::Sequence], "{lines}");
}

#[test]
fn each_planted_fault_is_found_at_its_frame_and_nothing_else() {
    let Some(mut server) = Server::start("relay", &["jack_lsp"]) else { return };
    // One a second, for as long as the probe may take to come, in the same order over and over.
    let jumps: [i64; 10] = [1, -1, 2, -3, 5, 31, -32, 33, -64, 700];
    let faults: Vec<String> = (0..60)
        .map(|second| {
            let jump = jumps[second % jumps.len()];
            let kind = if jump > 0 { "drop" } else { "repeat" };
            format!("{kind}:{}@{}", jump.abs(), 48_000 * (second + 1) / 2)
        })
        .collect();
    let mut words = vec!["relay"];
    words.extend(faults.iter().flat_map(|fault| ["--fault", fault]));
    let relay = start(&mut server, &words, "relay");
    let way = ["loop", "--through", "relay:in,relay:out", "--seconds", "6", "--warmup", "500"];
    let said = start(&mut server, &[&way[..], &["--progress"]].concat(), "probe").ended();
    let seen = seen(&said);
    assert_eq!(said.status, 0, "{}", said.err);
    how_it_went_was_told(&said.err);
    let relayed = relay.end();
    let relayed: serde_json::Value = serde_json::from_str(&relayed.out).unwrap();
    let planted: Vec<(i64, f32, f32)> = relayed["done"]
        .as_array()
        .unwrap()
        .iter()
        .map(|done| {
            // Written with as many digits as tell one f32 from the next.
            #[allow(clippy::cast_possible_truncation)]
            let sample = |name: &str| done[name].as_f64().unwrap() as f32;
            (done["jump"].as_i64().unwrap(), sample("last"), sample("next"))
        })
        .collect();

    // The relay told which frame it gave last before each fault, and which first after it.
    let found: Vec<(i64, f32, f32)> = seen
        .sequence
        .as_ref()
        .unwrap()
        .breaks
        .iter()
        .filter(|found| found.jump % QUANTUM != 0 || found.jump == 0 && found.foreign == 0)
        .map(|found| {
            assert_eq!((found.foreign, found.unsure), (0, false), "{found:?}");
            let next = found.frame.checked_add_signed(found.jump).unwrap();
            let level = |number: u64| sample(number % LENGTH);
            (found.jump, level(found.frame - 1), level(next))
        })
        .collect();
    assert!(found.len() >= 5, "{found:?} {planted:?}");
    let all = planted.windows(found.len()).any(|planted| planted == found);
    assert!(all, "found {found:?}\nplanted {planted:?}");
}

#[test]
fn tones_and_jack_iodelay_find_the_same() {
    let needs = ["jack_lsp", "jack_connect", "jack_iodelay", "timeout", "stdbuf"];
    let Some(mut server) = Server::start("phase", &needs) else { return };
    let words = ["loop", "--analogue", "--seconds", "4", "--warmup", "300"];
    let said = start(&mut server, &words, "probe").ended();
    assert_eq!(said.status, 0, "{}", said.err);
    let [least, middle, most] = seen(&said).phase.unwrap().frames.unwrap();
    assert!(least > 1023.9 && most < 1024.1, "{least} {middle} {most}");

    let mut theirs = server.command("timeout");
    theirs.args(["6", "stdbuf", "-oL", "jack_iodelay"]);
    let theirs = server.start_until_listed(&mut theirs, "jack_delay");
    let ends = ["jack_delay:out", "jack_delay:in"];
    assert!(server.command("jack_connect").args(ends).status().unwrap().success());
    let told = theirs.ended().out;
    let frames: f64 = told
        .lines()
        .rev()
        .find_map(|line| line.split_once(" frames").filter(|_| line.contains("total")))
        .and_then(|(frames, _)| frames.trim().parse().ok())
        .unwrap_or_else(|| panic!("{told}"));
    assert!((frames - middle).abs() <= 1.0, "jack_iodelay {frames}, ours {middle}");
}

#[test]
fn a_loop_that_is_open_is_said() {
    let Some(mut server) = Server::start("open", &["jack_lsp"]) else { return };
    let open = ["loop", "--through", "system:playback_1,system:capture_1", "--seconds", "1"];
    let said = start(&mut server, &open, "probe").ended();
    assert_eq!(said.status, 1, "{}", said.err);
    assert!(said.err.contains("nothing of the signal came back"), "{}", said.err);
    let none = server.command(PROBE).args(["loop", "--through", "one"]).output().unwrap();
    assert_eq!(none.status.code(), Some(2));
    let absent = ["loop", "--seconds", "1", "--through", "nobody:in,nobody:out"];
    let none = server.command(PROBE).args(absent).stderr(std::process::Stdio::piped()).output();
    let none = none.unwrap();
    assert_eq!(none.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&none.stderr).contains("nobody:in"), "{none:?}");
}
