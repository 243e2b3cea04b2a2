//! Kill -9 under load: what was acknowledged is there, whole, and nothing else is left.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a failed test should fail at the line that fails"
)]

mod server;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use server::{Server, bytes, expect, program};

/// What a key may hold after a kill: the value acknowledged last, or the one that was under way.
#[derive(Default, Clone, Debug)]
struct Slot {
    acknowledged: Option<(usize, u64)>,
    under_way: Option<Option<(usize, u64)>>,
}

// Both sides of every line at which a value changes its place.
const SIZES: [usize; 8] = [0, 100, 1024, 1025, 65_536, 65_537, 150_000, 400_000];

fn write_until_killed(
    server: &Server,
    slots: &Mutex<BTreeMap<String, Slot>>,
    writer: u64,
    cycle: u64,
) {
    for step in 0.. {
        let seed = cycle << 32 | writer << 24 | step;
        let key = format!("w{writer}/{}", seed.wrapping_mul(0x9e37_79b9) % 24);
        // Every ninth step deletes.
        let value = (step % 9 != 8).then(|| (SIZES[(seed.wrapping_mul(31) % 8) as usize], seed));
        let slot = |change: &dyn Fn(&mut Slot)| {
            change(slots.lock().unwrap().entry(key.clone()).or_default());
        };
        slot(&|slot| slot.under_way = Some(value));
        let answer = match value {
            Some((len, seed)) => server.put(&key, &bytes(len, seed)),
            None => server.delete(&key),
        };
        match answer {
            Some(200 | 201 | 204 | 404) => slot(&|slot| {
                slot.acknowledged = value;
                slot.under_way = None;
            }),
            Some(other) => panic!("{key}: status {other}"),
            None => return,
        }
    }
}

/// A stream that a writer appends to from one life of the server to the next.
#[derive(Default)]
struct Stream {
    acknowledged: Vec<u8>,
    under_way: Vec<u8>,
}

const STREAM: &str = "z-stream";

fn append_until_killed(server: &Server, stream: &mut Stream, cycle: u64) {
    for step in 0.. {
        let seed = cycle << 32 | 9 << 24 | step;
        let piece = bytes([1, 700, 30_000, 65_536][(seed % 4) as usize], seed);
        let request = server::agent().post(format!("{}?append", server.object(STREAM)));
        let request = request.header("streamdb-offset", stream.acknowledged.len().to_string());
        stream.under_way.clone_from(&piece);
        match request.send(&piece[..]).map(|answer| answer.status().as_u16()) {
            Ok(200 | 201) => {
                stream.acknowledged.extend(piece);
                stream.under_way.clear();
            }
            Ok(other) => panic!("append: status {other}"),
            Err(_) => return,
        }
    }
}

fn verify_stream(server: &Server, stream: &mut Stream) {
    let got = server.get(STREAM).unwrap_or_default();
    let rest = got.strip_prefix(stream.acknowledged.as_slice());
    let rest = rest.unwrap_or_else(|| {
        panic!("{} bytes were acknowledged, {} are there", stream.acknowledged.len(), got.len())
    });
    assert!(rest.is_empty() || rest == stream.under_way, "{} torn bytes", rest.len());
    stream.acknowledged = got;
    stream.under_way.clear();
}

#[test]
fn nothing_acknowledged_is_lost_and_no_value_is_torn() {
    let cycles: u64 = std::env::var("STREAMDB_CRASH_CYCLES")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(20);
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("store");
    let slots = Mutex::new(BTreeMap::<String, Slot>::new());
    let mut stream = Stream::default();
    let mut acknowledged = 0;
    for cycle in 0..cycles {
        let mut server = Server::start(&data);
        verify(&server, &mut slots.lock().unwrap());
        verify_stream(&server, &mut stream);
        let shared = &server;
        // Kills fall at other moments of the work each time.
        let pause = Duration::from_millis(40 + cycle * 37 % 260);
        let pid = shared.pid();
        std::thread::scope(|scope| {
            let stream = &mut stream;
            scope.spawn(move || append_until_killed(shared, stream, cycle));
            for writer in 0..3 {
                let slots = &slots;
                scope.spawn(move || write_until_killed(shared, slots, writer, cycle));
            }
            std::thread::sleep(pause);
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        });
        server.kill();
        acknowledged +=
            slots.lock().unwrap().values().filter(|slot| slot.under_way.is_none()).count();
    }
    assert!(acknowledged > 0, "the test never had anything acknowledged to lose");
    let server = Server::start(&data);
    let mut slots = slots.into_inner().unwrap();
    verify(&server, &mut slots);
    verify_stream(&server, &mut stream);
    assert!(!stream.acknowledged.is_empty(), "nothing was ever appended");
    assert_eq!(server.delete(STREAM), Some(204));
    let listed = String::from_utf8(server.run(&["ls"]).stdout).unwrap();
    let want: Vec<_> = slots
        .iter()
        .filter(|(_, slot)| slot.acknowledged.is_some())
        .map(|(key, _)| key.as_str())
        .collect();
    assert_eq!(listed.lines().collect::<Vec<_>>(), want);
    assert_eq!(server.stop(), Some(0));
    let check = program().arg("check").arg("--data").arg(&data).output().unwrap();
    expect(&check, 0);
    let large = slots
        .values()
        .filter(|slot| slot.acknowledged.is_some_and(|(len, _)| len > 65_536))
        .count();
    let files: usize = std::fs::read_dir(data.join("blobs"))
        .unwrap()
        .map(|group| std::fs::read_dir(group.unwrap().path()).unwrap().count())
        .sum();
    assert_eq!(files, large, "a content file for each large value and no other");
    assert_eq!(std::fs::read_dir(data.join("staging")).unwrap().count(), 0);
    println!(
        "{cycles} kills, {} keys and a stream of {} bytes verified",
        slots.len(),
        stream.acknowledged.len()
    );
}

fn verify(server: &Server, slots: &mut BTreeMap<String, Slot>) {
    for (key, slot) in slots {
        let got = server.get(key);
        let is = |value: Option<(usize, u64)>| got == value.map(|(len, seed)| bytes(len, seed));
        if let Some(under_way) = slot.under_way.take() {
            if is(under_way) {
                slot.acknowledged = under_way;
            }
        }
        assert!(
            is(slot.acknowledged),
            "{key}: {:?} was acknowledged, but {:?} bytes are there",
            slot.acknowledged,
            got.map(|bytes| bytes.len())
        );
    }
}
