//! Captures of planted faults, each some periods of a real run in virtual time (jackd, 32 frames,
//! 500 MIPS, a mixed load), cut out of the raw ring pages: every fault must get its own cause. The
//! programs are those of examples/lab.

#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::path::Path;

use archibald_trace::cause::Code;
use archibald_trace::symbol::Symbols;
use archibald_trace::{Explanation, Reported, Trace, explain, text};

const ALL: Reported<'_> =
    Reported { source: "virtual time", window: None, xruns: &[], period_ns: None };

fn unpack(name: &str, folder: &Path) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/captures/{name}.tar.gz"));
    let packed = flate2::read::GzDecoder::new(File::open(path).unwrap());
    tar::Archive::new(packed).unpack(folder).unwrap();
}

fn explained(name: &str) -> Explanation {
    let folder = tempfile::tempdir().unwrap();
    unpack(name, folder.path());
    let program = fs::read(folder.path().join("client")).ok();
    let symbols: Vec<Symbols> =
        program.and_then(|bytes| Symbols::read("client", &bytes)).into_iter().collect();
    explain(&Trace::read(folder.path()).unwrap(), &ALL, &symbols)
}

fn has_only(name: &str, code: Code) {
    let explanation = explained(name);
    let codes: Vec<Code> = explanation.causes.keys().copied().collect();
    assert_eq!(codes, [code], "{}", text(&explanation));
    insta::assert_snapshot!(name, text(&explanation));
}

#[test]
fn a_lock_that_an_ordinary_thread_holds() {
    has_only("lock", Code::LockHeld);
}

#[test]
fn a_sleep_in_the_callback() {
    has_only("sleep", Code::BlockingCall);
}

#[test]
fn a_file_that_is_synced_in_the_callback() {
    has_only("disk", Code::BlockingCall);
}

#[test]
fn a_pipe_that_nobody_empties() {
    has_only("pipe", Code::BlockingCall);
}

#[test]
fn memory_that_is_first_touched_in_the_callback() {
    has_only("allocation", Code::PageFault);
}

#[test]
fn too_much_work_in_one_period() {
    has_only("budget", Code::OwnWork);
}

#[test]
fn a_real_time_thread_above_the_audio_thread() {
    has_only("rival", Code::Preempted);
}

#[test]
fn an_audio_thread_without_priority() {
    has_only("priority", Code::NoPriority);
}

/// Of a PipeWire client with two nodes, whose threads hand the period on to each other inside one process; the
/// driver makes up for what it lost in periods that are shorter, which are late for nobody.
#[test]
fn a_sleep_in_the_second_node_of_a_pipewire_client() {
    has_only("filter", Code::BlockingCall);
    let explanation = explained("filter");
    let filters = explanation.graph.iter().filter(|player| player.name.ends_with(" of filter"));
    assert_eq!((filters.count(), explanation.episodes.len()), (2, 1), "{}", text(&explanation));
    assert!(explanation.episodes[0].sentence.contains("in clock_nanosleep for 2.00 ms"));
}

/// The kernel thread of timers had a lock that the driver waited for, its priority with it, and was held back.
#[test]
fn a_holder_of_a_kernel_lock_that_is_throttled() {
    has_only("throttled", Code::Throttled);
}

/// On an emulated machine, where xruns were many: the thread with which jackd tells its clients of them had
/// woken them more often than the driver had, was taken for it, and there was no graph.
#[test]
fn the_thread_that_tells_of_xruns_is_not_the_driver() {
    let explanation = explained("notices");
    let text = text(&explanation);
    let player = |name: &str| explanation.graph.iter().find(|player| player.name == name);
    for (name, priority) in [("jackd", 88), ("faults", 83), ("archibald-probe", 83)] {
        assert_eq!(player(name).unwrap().priority, Some(priority), "{text}");
    }
    assert!(explanation.causes.contains_key(&Code::OwnWork), "{text}");
}

#[test]
fn an_xrun_is_put_into_its_episode_and_another_one_is_told() {
    let folder = tempfile::tempdir().unwrap();
    unpack("sleep", folder.path());
    let trace = Trace::read(folder.path()).unwrap();
    let all = explain(&trace, &ALL, &[]);
    let episode = all.episodes.first().unwrap();
    let (inside, outside) = (episode.from_ns + all.period_ns, all.trace.1 + 1_000_000_000);
    let told = explain(&trace, &Reported { xruns: &[inside, outside], ..ALL }, &[]);
    // Late periods before counting began do not matter.
    let window = Some((episode.to_ns + 1, all.trace.1));
    assert!(explain(&trace, &Reported { window, ..ALL }, &[]).episodes.is_empty());
    assert_eq!(told.episodes.len(), 1);
    assert_eq!(told.episodes[0].xruns, [inside]);
    assert_eq!(told.unexplained, [outside]);
    // The document is read as it was written.
    let json = serde_json::to_string(&told).unwrap();
    let back: Explanation = serde_json::from_str(&json).unwrap();
    assert_eq!(text(&back), text(&told));
}

#[test]
fn damage_is_told_with_the_page_and_never_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    unpack("lock", folder.path());
    let ring = folder.path().join("raw/sched.cpu0");
    let whole = fs::read(&ring).unwrap();
    let mut failed = 0;
    for place in (0..whole.len()).step_by(997) {
        let mut damaged = whole.clone();
        damaged[place] ^= 0x55;
        damaged.truncate(whole.len() - place % 4096);
        fs::write(&ring, damaged).unwrap();
        match Trace::read(folder.path()) {
            Ok(trace) => drop(text(&explain(&trace, &ALL, &[]))),
            Err(error) => {
                failed += 1;
                assert!(error.to_string().contains("page "), "{error}");
            }
        }
    }
    assert!(failed > 0);
    fs::write(folder.path().join("capture.json"), "{}").unwrap();
    let error = Trace::read(folder.path()).unwrap_err().to_string();
    assert!(error.contains("no capture this program reads"), "{error}");
}
