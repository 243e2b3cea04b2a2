//! The callback's work under an allocator that aborts on any use.
#![allow(clippy::unwrap_used)]

use archibald_probe::callback::{Cycle, Work as _, now_ns, rings};
use archibald_probe::relay::relay;
use archibald_probe::round_trip::{Signal, ends};
use assert_no_alloc::{AllocDisabler, assert_no_alloc};

#[global_allocator]
static ALLOCATOR: AllocDisabler = AllocDisabler;

#[test]
fn the_callbacks_do_not_allocate_even_when_the_rings_are_full() {
    let (mut watcher, mut xruns, mut seen) = rings();
    let mut frame_time = 0_u32;
    for _ in 0..200_000 {
        assert_no_alloc(|| {
            let cycle = Cycle { frames: 32, frame_time, late_us: Some(3), left_us: Some(600) };
            watcher.period(now_ns(), &cycle);
            xruns.xrun(now_ns(), 1.5);
        });
        frame_time = frame_time.wrapping_add(33);
    }
    assert!(seen.dropped() > 0, "the rings were never full");
    assert!(seen.periods().count() > 1000 && seen.xruns().count() > 1000);
}

#[test]
fn the_ends_of_a_loop_and_the_relay_do_not_allocate_even_when_nobody_takes_what_they_tell() {
    let (mut sequence, _heard) = ends(Signal::Sequence);
    let (mut tones, _heard_tones) = ends(Signal::tones());
    let faults = ["drop:5@1000", "repeat:7@2000"].map(|fault| fault.parse().unwrap());
    let (mut relay, _told) = relay(faults.to_vec()).unwrap();
    let (mut one, mut other) = ([0.0; 64], [0.0; 64]);
    // The rings hold 43 s: longer than that.
    for at_ns in 0..50_000 {
        assert_no_alloc(|| {
            sequence.period(at_ns, &one, &mut other);
            relay.period(at_ns, &other, &mut one);
            tones.period(at_ns, &one, &mut other);
        });
    }
}

/// The check can fail: an allocation in the same place ends the process.
#[test]
fn an_allocation_would_be_seen() {
    if std::env::var_os("ARCHIBALD_TEST_ALLOCATE").is_some() {
        assert_no_alloc(|| drop(std::hint::black_box(Box::new(1_u64))));
        return;
    }
    let program = std::env::current_exe().unwrap();
    let status = std::process::Command::new(program)
        .args(["an_allocation_would_be_seen", "--exact"])
        .env("ARCHIBALD_TEST_ALLOCATE", "1")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(!status.success());
}
