//! What is in a recording that should hold one steady sine: its frequency, its level, and where it
//! breaks.
//!
//! The recording may have gaps, as an emulated machine's has, and those must not shift the frequency.
//! So the tone is followed through short windows, and the frequency comes from the *median* change of
//! its phase between one window and the next: a gap spoils the windows it lies in and no others.

use std::f64::consts::{PI, TAU};

/// Length of a window and distance of two: 5.3 ms at 48 kHz. Two periods of the tone and more must fit,
/// so tones below 400 Hz are not followed.
const WINDOW: usize = 256;
/// A window whose level is below this share of the median's counts as a break.
const SILENT: f64 = 0.5;
/// A phase this far (radians) from where the median frequency puts it counts as a break: one lost
/// period of 32 frames at 440 Hz and 48 kHz is 1.84 rad, one lost frame 0.06.
const JUMP: f64 = 0.3;

/// What was found in a recording.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tone {
    /// Frequency in Hz.
    pub frequency: f64,
    /// Amplitude of the sine, 1.0 being full scale.
    pub level: f64,
    /// How often the tone was interrupted: runs of windows that are silent or out of phase.
    pub breaks: usize,
}

/// Looks for a steady tone in `samples`, taken at `rate` Hz; `None` if there is none: silence, or
/// less than a few windows of sound.
#[must_use]
pub fn find_tone(samples: &[f32], rate: f64) -> Option<Tone> {
    // Digital silence before the first sound is the recorder starting earlier, not a break.
    let first = samples.iter().position(|sample| *sample != 0.0)?;
    let samples = samples.get(first..)?;
    let guess = coarse_frequency(samples, rate)?;

    let windows: Vec<(f64, f64)> = samples
        .chunks_exact(WINDOW)
        .enumerate()
        .map(|(index, window)| phase_and_level(window, index * WINDOW, guess / rate))
        .collect();
    let level = median(windows.iter().map(|window| window.1))?;
    if level < 1e-4 {
        return None;
    }
    let sounding = |window: &(f64, f64)| window.1 >= SILENT * level;
    let turns = windows.windows(2).filter_map(|pair| match pair {
        [a, b] if sounding(a) && sounding(b) => Some(wrapped(b.0 - a.0)),
        _ => None,
    });
    let turn = median(turns)?;

    let mut breaks = 0;
    let mut broken = false;
    for pair in windows.windows(2) {
        let [a, b] = pair else { continue };
        let good = sounding(a) && sounding(b) && wrapped(b.0 - a.0 - turn).abs() < JUMP;
        breaks += usize::from(!good && !broken);
        broken = !good;
    }
    let frequency = guess + turn / TAU * rate / WINDOW as f64;
    Some(Tone { frequency, level, breaks })
}

/// The median distance of upward zero crossings. Off by a little where the sound is noisy, but gaps
/// do not move it, and it is near enough for the phases to be unambiguous: those tell frequencies
/// apart within half of rate / WINDOW, 94 Hz at 48 kHz.
fn coarse_frequency(samples: &[f32], rate: f64) -> Option<f64> {
    let crossings: Vec<f64> = samples
        .windows(2)
        .enumerate()
        .filter_map(|(index, pair)| match pair {
            [a, b] if *a < 0.0 && *b >= 0.0 => {
                let (a, b) = (f64::from(*a), f64::from(*b));
                Some(index as f64 + a / (a - b))
            }
            _ => None,
        })
        .collect();
    let period = median(crossings.windows(2).filter_map(|pair| match pair {
        [a, b] => Some(b - a),
        _ => None,
    }))?;
    Some(rate / period)
}

/// Phase of `window` against a reference of `frequency` (cycles a frame) that runs through the whole
/// recording, and amplitude. A Hann window keeps the two mirror images of a sine apart.
fn phase_and_level(window: &[f32], start: usize, frequency: f64) -> (f64, f64) {
    let (mut re, mut im, mut weight) = (0.0, 0.0, 0.0);
    for (index, sample) in window.iter().enumerate() {
        let hann = 0.5 - 0.5 * (TAU * (index as f64 + 0.5) / window.len() as f64).cos();
        let angle = TAU * (frequency * (start + index) as f64).fract();
        re += hann * f64::from(*sample) * angle.cos();
        im -= hann * f64::from(*sample) * angle.sin();
        weight += hann;
    }
    (im.atan2(re), 2.0 * re.hypot(im) / weight)
}

/// The same angle between -pi and pi.
fn wrapped(angle: f64) -> f64 {
    (angle + PI).rem_euclid(TAU) - PI
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// The first channel of a WAV file as samples between -1 and 1, with its rate; `None` if it is not
/// such a file. Whole-number samples of 16, 24 and 32 bits and floats are what JACK's and PipeWire's
/// recorders write. A data chunk that claims more than there is ends with the file: a recorder that
/// was stopped has not written its length.
#[must_use]
pub fn read_wav(bytes: &[u8]) -> Option<(Vec<f32>, f64)> {
    if bytes.get(..4)? != b"RIFF" || bytes.get(8..12)? != b"WAVE" {
        return None;
    }
    let mut rest = bytes.get(12..)?;
    let mut format = None;
    loop {
        let (id, length) = (rest.get(..4)?, u32_at(rest, 4)? as usize);
        let body = rest.get(8..)?;
        let body = body.get(..length).unwrap_or(body);
        match id {
            b"fmt " => {
                let tag = match u16_at(body, 0)? {
                    // WAVE_FORMAT_EXTENSIBLE keeps the tag at the head of its GUID.
                    0xFFFE => u16_at(body, 24)?,
                    tag => tag,
                };
                format = Some((tag, u16_at(body, 2)?, u32_at(body, 4)?, u16_at(body, 14)?));
            }
            b"data" => {
                let (tag, channels, rate, bits) = format?;
                let width = usize::from(bits / 8);
                let frame = width * usize::from(channels);
                if frame == 0 {
                    return None;
                }
                let samples: Option<Vec<f32>> =
                    body.chunks_exact(frame).map(|frame| sample(frame, tag, bits)).collect();
                return Some((samples?, f64::from(rate)));
            }
            _ => {}
        }
        // Chunks start at even places.
        rest = rest.get(8 + length + length % 2..)?;
    }
}

fn sample(frame: &[u8], tag: u16, bits: u16) -> Option<f32> {
    const PCM: u16 = 1;
    const FLOAT: u16 = 3;
    Some(match (tag, bits) {
        (PCM, 16) => f32::from(u16_at(frame, 0)? as i16) / 32768.0,
        (PCM, 24) => {
            let word = u32::from_le_bytes([0, *frame.first()?, *frame.get(1)?, *frame.get(2)?]);
            word as i32 as f32 / 2_147_483_648.0
        }
        (PCM, 32) => u32_at(frame, 0)? as i32 as f32 / 2_147_483_648.0,
        (FLOAT, 32) => f32::from_bits(u32_at(frame, 0)?),
        _ => return None,
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RATE: f64 = 48000.0;

    fn sine(frequency: f64, seconds: f64) -> Vec<f32> {
        let frames = (seconds * RATE) as usize;
        (0..frames).map(|n| (0.25 * (TAU * frequency * n as f64 / RATE).sin()) as f32).collect()
    }

    #[test]
    fn neighbouring_frequencies_are_told_apart() {
        for frequency in [439.0, 440.0, 441.0, 500.0, 3000.0] {
            let tone = find_tone(&sine(frequency, 1.0), RATE).unwrap();
            assert!((tone.frequency - frequency).abs() < 0.05, "{frequency}: {tone:?}");
            assert!((tone.level - 0.25).abs() < 0.01, "{tone:?}");
            assert_eq!(tone.breaks, 0, "{frequency}");
        }
    }

    #[test]
    fn lost_periods_are_counted_and_do_not_shift_the_frequency() {
        let mut samples = sine(440.0, 2.0);
        // Three periods of 32 frames lost, one replaced by silence of 20 ms.
        for at in [20_000, 40_000, 60_000] {
            samples.drain(at..at + 32);
        }
        samples[80_000..80_960].fill(0.0);
        let tone = find_tone(&samples, RATE).unwrap();
        assert!((tone.frequency - 440.0).abs() < 0.1, "{tone:?}");
        assert_eq!(tone.breaks, 4);
    }

    #[test]
    fn a_recording_that_is_mostly_gaps_still_has_its_frequency() {
        let mut samples = sine(440.0, 3.0);
        for at in (2_000..samples.len() - 2_000).rev().step_by(2_500) {
            samples.drain(at..at + 160);
        }
        let tone = find_tone(&samples, RATE).unwrap();
        assert!((tone.frequency - 440.0).abs() < 1.0, "{tone:?}");
        assert!(tone.breaks > 40);
    }

    #[test]
    fn silence_and_a_constant_are_no_tone() {
        assert_eq!(find_tone(&[], RATE), None);
        assert_eq!(find_tone(&[0.0; 48000], RATE), None);
        assert_eq!(find_tone(&[0.3; 48000], RATE), None);
    }

    #[test]
    fn silence_before_the_tone_is_no_break() {
        let samples = [vec![0.0; 10_000], sine(440.0, 1.0)].concat();
        assert_eq!(find_tone(&samples, RATE).unwrap().breaks, 0);
    }

    fn wav(tag: u16, bits: u16, body: &[u8]) -> Vec<u8> {
        let mut file = b"RIFF\0\0\0\0WAVELIST\x03\0\0\0abc\0fmt \x10\0\0\0".to_vec();
        file.extend(tag.to_le_bytes());
        file.extend(1u16.to_le_bytes());
        file.extend(48000u32.to_le_bytes());
        file.extend(0u32.to_le_bytes());
        file.extend((bits / 8).to_le_bytes());
        file.extend(bits.to_le_bytes());
        file.extend(b"data\xff\xff\xff\x7f");
        file.extend(body);
        file
    }

    #[test]
    fn wav_files_of_each_kind_are_read() {
        let half = Some((vec![0.5, -0.5], RATE));
        assert_eq!(read_wav(&wav(1, 16, &[0, 0x40, 0, 0xC0])), half);
        assert_eq!(read_wav(&wav(1, 24, &[0, 0, 0x40, 0, 0, 0xC0])), half);
        assert_eq!(read_wav(&wav(1, 32, &[0, 0, 0, 0x40, 0, 0, 0, 0xC0])), half);
        let floats = [0.5f32.to_le_bytes(), (-0.5f32).to_le_bytes()].concat();
        assert_eq!(read_wav(&wav(3, 32, &floats)), half);
        assert_eq!(read_wav(&wav(7, 8, &[1])), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(body in proptest::collection::vec(any::<u8>(), 0..80), tag: u16, bits: u16) {
            let _ = read_wav(&body);
            let _ = read_wav(&wav(tag, bits, &body));
        }

        #[test]
        fn no_samples_make_the_search_panic(samples in proptest::collection::vec(any::<f32>(), 0..2000)) {
            let _ = find_tone(&samples, RATE);
        }
    }
}
