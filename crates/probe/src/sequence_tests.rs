//! The sequence read back: whole, through conversions, and with planted drops and repeats.
#![allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_possible_wrap)]

use proptest::prelude::*;

use super::*;

fn read(samples: impl IntoIterator<Item = f32>) -> Reader {
    let mut reader = Reader::new();
    for sample in samples {
        reader.read(sample);
    }
    reader
}

fn breaks(samples: impl IntoIterator<Item = f32>) -> Vec<(u64, u64, i64, bool)> {
    let (breaks, unlisted) = read(samples).finish();
    assert_eq!(unlisted, 0);
    breaks.iter().map(|b| (b.number, b.foreign, b.jump, b.unsure)).collect()
}

#[test]
fn every_frame_tells_its_place_and_none_is_silence() {
    for number in (0..3 * BLOCK).chain(LENGTH - BLOCK..LENGTH) {
        let word = Word::of(sample(number)).unwrap();
        assert_eq!(u64::from(word.place), number % BLOCK);
        assert_eq!(word.digit.is_some(), number % 16 == 15);
        assert!(sample(number).abs() < 0.5);
    }
    for none in [0.0, -0.0, 0.5, -0.5, 1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert_eq!(Word::of(none), None, "{none}");
    }
}

/// The ways in which servers and drivers make integers of samples and samples of integers.
#[test]
fn sixteen_and_twenty_four_bits_carry_it() {
    let ways: [(f32, f32); 6] = [
        (32767.0, 32767.0),
        (32768.0, 32768.0),
        (32767.0, 32768.0),
        (32768.0, 32767.0),
        (8_388_607.0, 8_388_608.0),
        (8_388_608.0, 8_388_607.0),
    ];
    for (there, back) in ways {
        for convert in [f32::round, f32::floor] {
            for number in 0..2 * BLOCK {
                let received = convert(sample(number) * there) / back;
                assert_eq!(Word::of(received), Word::of(sample(number)), "{number} {there} {back}");
            }
        }
    }
}

#[test]
fn numbers_are_known_after_six_marks_from_wherever_one_starts() {
    for start in [0, 5, 15, 16, 4000, 4090, 123_456_789, LENGTH - 2000] {
        let mut reader = Reader::new();
        let mut first = None;
        for number in (start..start + 300).map(|number| number % LENGTH) {
            let told = reader.read(sample(number));
            assert!(told.is_none_or(|told| told == number), "{told:?} for {number}");
            first = first.or(told.map(|told| told.wrapping_sub(start)));
        }
        assert!(first.is_some_and(|first| first <= 200), "{start}: {first:?}");
        assert_eq!(reader.finish(), (Vec::new(), 0));
    }
}

#[test]
fn what_comes_before_the_sequence_is_no_break() {
    let before = [0.0; 1000].into_iter().chain((0..500).map(|i| (i as f32).sin()));
    assert_eq!(breaks(before.chain((40..5000).map(sample))), []);
}

#[test]
fn silence_in_the_place_of_frames_is_told_from_silence_between_them() {
    let silence = || std::iter::repeat_n(0.0, 32);
    let instead = (0..2000).map(sample).chain(silence()).chain((2032..4000).map(sample));
    assert_eq!(breaks(instead), [(2000, 32, 0, false)]);
    let between = (0..2000).map(sample).chain(silence()).chain((2000..4000).map(sample));
    assert_eq!(breaks(between), [(2000, 32, -32, false)]);
    let last = (0..2000).map(sample).chain(silence());
    assert_eq!(breaks(last), [(2000, 32, 0, true)]);
}

#[test]
fn a_jump_of_many_blocks_has_its_true_length() {
    for jump in [BLOCK / 2, BLOCK - 1, BLOCK + 1, 17 * BLOCK + 5, 70_000_000] {
        let far = (0..3000).map(sample).chain((3000 + jump..9000 + jump).map(sample));
        assert_eq!(breaks(far), [(3000, 0, jump as i64, false)]);
    }
    let back = (100_000..103_000).map(sample).chain((7..6000).map(sample));
    assert_eq!(breaks(back), [(103_000, 0, 7 - 103_000, false)]);
}

/// The places alone do not tell it; the next mark of the lowest digit does.
#[test]
fn a_jump_of_whole_blocks_is_found_within_its_marks() {
    let (breaks, _) = read((0..3000).chain(3000 + 2 * BLOCK..20_000).map(sample)).finish();
    let [found] = breaks[..] else { panic!("{breaks:?}") };
    assert_eq!((found.jump, found.foreign, found.unsure), (2 * BLOCK as i64, 0, false));
    let after = found.received - 3000;
    assert!(after < 200, "{after} frames later");
}

#[test]
fn a_damaged_frame_is_one_foreign_frame() {
    for number in [1000, 1007, 4096] {
        let damaged =
            (0..9000).map(|n| if n == number { 0.3 * sample(n) + 1e-5 } else { sample(n) });
        let found = breaks(damaged);
        assert_eq!(found.iter().map(|b| b.2).sum::<i64>(), 0, "{found:?}");
        assert_eq!(found[0].0, number);
    }
}

#[test]
fn noise_ends_in_a_count_and_not_in_memory() {
    let mut seed = 1_u32;
    let noise = std::iter::from_fn(|| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Some((seed >> 8) as f32 / 16_777_216.0 - 0.5)
    });
    let (breaks, unlisted) = read((0..1000).map(sample).chain(noise.take(100_000))).finish();
    assert_eq!(breaks.len(), LISTED);
    assert!(unlisted > 1000, "{unlisted}");
}

/// An edit of the stream of frames: so many good ones, then a jump.
fn edits() -> impl Strategy<Value = Vec<(u64, i64)>> {
    // Runs of 1 to 2,000 frames dropped or repeated, some of them close behind each other.
    let jump = prop_oneof![1_i64..=64, 1_i64..=2000, -64_i64..=-1, -2000_i64..=-1];
    proptest::collection::vec((prop_oneof![1_u64..=100, 1_u64..=20_000], jump), 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn each_planted_drop_or_repeat_is_found_at_its_frame(
        start in prop_oneof![0..LENGTH / 2, LENGTH - 30_000..LENGTH],
        edits in edits(),
    ) {
        let mut reader = Reader::new();
        // Far enough in that the numbers are known, and that a repeat does not lead before the start.
        let mut next = start + 40_000;
        let feed = |reader: &mut Reader, frames: u64, next: &mut u64| {
            for _ in 0..frames {
                let told = reader.read(sample(*next % LENGTH));
                prop_assert!(told.is_none_or(|told| told == *next % LENGTH));
                *next += 1;
            }
            Ok(())
        };
        feed(&mut reader, 300, &mut next)?;
        let mut planted = Vec::new();
        let mut received = 300;
        for (frames, jump) in edits {
            feed(&mut reader, frames, &mut next)?;
            received += frames;
            planted.push((next % LENGTH, received, 0, jump));
            next = next.wrapping_add_signed(jump);
        }
        feed(&mut reader, 300, &mut next)?;
        let (breaks, unlisted) = reader.finish();
        let found: Vec<_> =
            breaks.iter().map(|b| (b.number, b.received, b.foreign, b.jump)).collect();
        prop_assert_eq!(found, planted);
        prop_assert_eq!(unlisted, 0);
        prop_assert!(breaks.iter().all(|b| !b.unsure));
    }
}
