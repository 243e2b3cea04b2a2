//! The delay of a way that is not digital, by phases: six tones go out, and how far each is turned when
//! it comes back tells the delay. Differences of phase count, so that a way which turns low or high tones
//! as a whole (coupling capacitors, anti-aliasing filters) changes little.
//!
//! All tones have a whole number of cycles in [`PERIOD`] frames. The difference between the first two
//! tells the delay roughly and over the whole range, each further one eight times as fine and an eighth
//! as far; the last is the answer.

use std::f64::consts::TAU;

/// Frames after which the signal repeats: the longest delay that is told, 683 ms at 48 kHz.
pub const PERIOD: usize = 32768;
/// Cycles of the first tone: 3 kHz at 48 kHz.
const FIRST: usize = 2048;
/// Cycles of the others beyond it, up to 9 kHz.
const BEYOND: [usize; 5] = [1, 8, 64, 512, 4096];
const TONES: usize = BEYOND.len() + 1;
/// Peak of each tone: the sum stays below 0.5.
const PEAK: f64 = 0.08;
/// Least share of what is heard that the tones must make up.
const LEAST_SHARE: f64 = 0.5;
/// Least power of each tone, as a share of what was sent: -60 dB.
const LEAST_LEVEL: f64 = 1e-6;

fn cycles() -> [usize; TONES] {
    let mut cycles = [FIRST; TONES];
    for (tone, beyond) in cycles.iter_mut().skip(1).zip(BEYOND) {
        *tone += beyond;
    }
    cycles
}

/// One period of the signal.
#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
pub fn signal() -> Vec<f32> {
    let sines: Vec<f64> = (0..PERIOD).map(|i| (TAU * i as f64 / PERIOD as f64).sin()).collect();
    let at = |i: usize| -> f32 {
        // Turned against each other (after M. Schroeder), lest all peaks fall together.
        let tone = |(k, cycles): (usize, usize)| {
            sines.get((cycles * i + k * k * PERIOD / (2 * TONES)) % PERIOD).copied().unwrap_or(0.0)
        };
        (PEAK * cycles().into_iter().enumerate().map(tone).sum::<f64>()) as f32
    };
    (0..PERIOD).map(at).collect()
}

/// Real and imaginary part of a tone in a period of samples.
type Phasor = (f64, f64);

/// Knows the signal, and finds its delay in what comes back.
#[derive(Debug)]
pub struct Reader {
    sent: [Phasor; TONES],
    sines: Vec<f64>,
}

impl Default for Reader {
    fn default() -> Self {
        Self::new()
    }
}

impl Reader {
    /// For [`signal`].
    #[allow(clippy::cast_precision_loss)]
    pub fn new() -> Self {
        let sines = (0..PERIOD).map(|i| (TAU * i as f64 / PERIOD as f64).sin()).collect();
        let mut reader = Self { sent: [(0.0, 0.0); TONES], sines };
        reader.sent = reader.phasors(0, &signal());
        reader
    }

    /// The delay in frames, below [`PERIOD`], of a period of samples of which the first came while the
    /// frame of this number went out. Nothing where the tones are not heard.
    #[allow(clippy::cast_precision_loss)]
    pub fn delay(&self, number: u64, samples: &[f32]) -> Option<f64> {
        let samples = samples.get(..PERIOD)?;
        #[allow(clippy::cast_possible_truncation)]
        let heard = self.phasors((number % PERIOD as u64) as usize, samples);
        let power = |(re, im): Phasor| re * re + im * im;
        let tones: f64 = heard.iter().map(|tone| 2.0 * power(*tone)).sum();
        let length = PERIOD as f64;
        let all: f64 = samples.iter().map(|s| f64::from(*s) * f64::from(*s)).sum();
        let is_weak =
            |(heard, sent): (&Phasor, &Phasor)| power(*heard) < LEAST_LEVEL * power(*sent);
        // The sum of the phasors' squares is that of the samples times their number (Parseval).
        let is_heard = tones >= LEAST_SHARE * all * length && tones.is_finite();
        if !is_heard || heard.iter().zip(&self.sent).any(is_weak) {
            return None;
        }
        let turned = |tone: usize| -> Option<f64> {
            let angle = |(re, im): &Phasor| im.atan2(*re);
            Some(angle(self.sent.get(tone)?) - angle(heard.get(tone)?))
        };
        let first = turned(0)?;
        let mut delay = 0.0;
        let mut range = f64::INFINITY;
        for (i, beyond) in BEYOND.into_iter().enumerate() {
            let turns = (turned(i + 1)? - first) / TAU;
            let step = length / beyond as f64;
            // A whole number of steps beside the coarser answer; at first there is none.
            let fine = turns.rem_euclid(1.0) * step;
            delay = match range.is_finite() {
                true => fine + ((delay - fine) / step).round() * step,
                false => fine,
            };
            range = step;
        }
        // A delay of none may be read as one just below the whole period.
        let delay = delay.rem_euclid(length);
        Some(if delay > length - 1.0 { delay - length } else { delay })
    }

    /// The tones in a period of samples of which the first has this place in the signal's own.
    fn phasors(&self, place: usize, samples: &[f32]) -> [Phasor; TONES] {
        let mut phasors = [(0.0, 0.0); TONES];
        for (phasor, cycles) in phasors.iter_mut().zip(cycles()) {
            for (i, sample) in samples.iter().enumerate() {
                let at = cycles * (place + i) % PERIOD;
                let sine = |at: usize| self.sines.get(at % PERIOD).copied().unwrap_or(0.0);
                let sample = f64::from(*sample);
                phasor.0 += sample * sine(at + PERIOD / 4);
                phasor.1 -= sample * sine(at);
            }
        }
        phasors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delayed(delay: usize, from: usize) -> Vec<f32> {
        let signal = signal();
        (from..from + PERIOD).map(|i| signal[(i + PERIOD - delay) % PERIOD]).collect()
    }

    #[test]
    fn whole_delays_are_told_to_a_hundredth_of_a_frame() {
        let reader = Reader::new();
        for delay in [0, 1, 31, 32, 64, 100, 1000, 4097, 20_000, 32_766] {
            let told = reader.delay(12_345, &delayed(delay, 12_345)).unwrap();
            assert!((told - delay as f64).abs() < 0.01, "{told} for {delay}");
        }
    }

    #[test]
    fn a_filtered_quiet_noisy_way_is_told_to_a_tenth() {
        let reader = Reader::new();
        let clean = delayed(500, 7);
        // The mean of three neighbours delays by one frame; a first-order high pass as of a coupling
        // capacitor; a fiftieth of the level; noise 30 dB below.
        let (mut low, mut seed) = (0.0, 1_u32);
        let heard: Vec<f32> = (0..PERIOD)
            .map(|i| {
                let at = |back: usize| clean[(i + PERIOD - back) % PERIOD];
                let mean = (at(0) + at(1) + at(2)) / 3.0;
                low += 0.003 * (mean - low);
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let noise = (seed >> 8) as f32 / 16_777_216.0 - 0.5;
                0.02 * (mean - low) + 0.0005 * noise
            })
            .collect();
        let told = reader.delay(7, &heard).unwrap();
        assert!((told - 501.0).abs() < 0.1, "{told}");
    }

    #[test]
    fn silence_and_noise_have_no_delay() {
        let reader = Reader::new();
        assert_eq!(reader.delay(0, &vec![0.0; PERIOD]), None);
        let mut seed = 1_u32;
        let noise = (0..PERIOD).map(|_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) as f32 / 16_777_216.0 - 0.5
        });
        assert_eq!(reader.delay(0, &noise.collect::<Vec<_>>()), None);
        assert_eq!(reader.delay(0, &[0.1; 100]), None);
    }

    #[test]
    fn the_signal_does_not_clip() {
        let peak = signal().iter().fold(0.0_f32, |peak, sample| peak.max(sample.abs()));
        assert!(peak > 0.2 && peak < 0.5, "{peak}");
    }
}
