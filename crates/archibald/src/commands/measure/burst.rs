//! Bursts of noise that a listener tells apart, and where they lie in what comes back: to the frame, at
//! any volume, also among other sounds that are no louder.

/// Frames of a burst, a multiple of eight: 10.7 ms at 48 kHz.
pub(super) const LENGTH: usize = 512;
/// -20 dB: somebody may be listening.
const PEAK: f32 = 0.1;
/// What is heard counts as the burst from this likeness on (normalised correlation: 1 is the burst itself
/// at any volume; noise of this length stays below 0.3, one more often only in 10^10 frames).
const LEAST: f64 = 0.5;
/// Silence: -80 dB of the burst.
const FLOOR: f64 = 1e-8;

/// The samples of a burst: noise of two values, another one for each number.
pub(super) fn burst(number: u64) -> Vec<f32> {
    // G. Steele, D. Lea, C. Flood, Fast Splittable Pseudorandom Number Generators: SplitMix64.
    let mut state = number.wrapping_mul(0x2545_f491_4f6c_dd1d);
    let mut sample = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        if (z ^ (z >> 31)) >> 63 == 0 { PEAK } else { -PEAK }
    };
    (0..LENGTH).map(|_| sample()).collect()
}

/// Listens for one burst.
pub(super) struct Ear {
    code: Vec<f32>,
    energy: f64,
    /// What may still be the burst's beginning.
    heard: Vec<f32>,
    /// The best likeness so far, and the frame that the burst began with then.
    best: Option<(f64, u64)>,
}

impl Ear {
    pub(super) fn new(number: u64) -> Self {
        let code = burst(number);
        Self { energy: energy(&code), code, heard: Vec::new(), best: None }
    }

    /// Takes what was heard, of which the first frame has this number; the number of the burst's first
    /// frame, once it is certain.
    pub(super) fn hear(&mut self, first: u64, samples: &[f32]) -> Option<u64> {
        let oldest = first - self.heard.len() as u64;
        self.heard.extend_from_slice(samples);
        let mut found = None;
        for (number, window) in (oldest..).zip(self.heard.windows(LENGTH)) {
            let alike = self.likeness(window);
            match self.best {
                // The likeness rises to the burst's place and falls behind it.
                Some((best, at)) if alike < best => {
                    found = Some(at);
                    break;
                }
                _ if alike >= LEAST => self.best = Some((alike, number)),
                _ => {}
            }
        }
        let kept = self.heard.len().min(LENGTH - 1);
        self.heard.drain(..self.heard.len() - kept);
        found
    }

    /// Normalised correlation.
    fn likeness(&self, window: &[f32]) -> f64 {
        let heard = energy(window);
        if !(heard > FLOOR * self.energy && heard.is_finite()) {
            return 0.0;
        }
        product(&self.code, window) / (heard * self.energy).sqrt()
    }
}

fn energy(samples: &[f32]) -> f64 {
    product(samples, samples)
}

/// The sum of products, in eight sums that a processor adds to at once: this runs beside the clock that
/// it serves.
fn product(a: &[f32], b: &[f32]) -> f64 {
    let mut sums = [0.0_f32; 8];
    for (a, b) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.into_iter().map(f64::from).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pieces of all sizes, as they come; where the burst was found.
    fn listen(number: u64, sound: &[f32]) -> Option<u64> {
        let mut ear = Ear::new(number);
        let (mut at, mut size) = (0, 1);
        while at < sound.len() {
            let end = (at + size).min(sound.len());
            if let Some(found) = ear.hear(1_000_000 + at as u64, &sound[at..end]) {
                return Some(found - 1_000_000);
            }
            (at, size) = (end, size % 700 + 37);
        }
        None
    }

    /// Silence of half a second with the burst from a frame on.
    fn planted(number: u64, at: usize, volume: f32) -> Vec<f32> {
        let mut sound = vec![0.0; 24_000];
        for (sample, code) in sound[at..].iter_mut().zip(burst(number)) {
            *sample = code * volume;
        }
        sound
    }

    /// Even noise of this peak, the same each time.
    fn noise(peak: f32, seed: u64) -> impl Iterator<Item = f32> {
        (seed..)
            .flat_map(|seed| burst(seed).into_iter().zip(burst(!seed)).zip(burst(seed << 20)))
            .map(move |((a, b), c)| (a * 4.0 + b * 2.0 + c) / (7.0 * PEAK) * peak)
    }

    #[test]
    fn a_planted_delay_is_found_to_the_frame_at_any_volume() {
        for (number, at, volume) in [(0, 0, 1.0), (1, 1, 0.01), (2, 511, 8.0), (77, 20_321, 0.001)]
        {
            assert_eq!(listen(number, &planted(number, at, volume)), Some(at as u64), "{number}");
        }
    }

    #[test]
    fn another_number_is_another_burst() {
        for number in 0..5 {
            assert_eq!(listen(number + 1, &planted(number, 5000, 1.0)), None, "{number}");
        }
    }

    #[test]
    fn noise_as_loud_as_the_burst_hides_it_no_frame_and_alone_is_none() {
        for number in 0..4 {
            let mut sound = planted(number, 20_000, 1.0);
            sound.iter_mut().zip(noise(PEAK, 100)).for_each(|(sample, noise)| *sample += noise);
            assert_eq!(listen(number, &sound), Some(20_000), "{number}");
            let alone: Vec<f32> = noise(PEAK, 500).take(24_000).collect();
            assert_eq!(listen(number, &alone), None, "{number}");
        }
    }

    /// As 16-bit samples with a bit of dither, whose steps are a third of a burst so quiet.
    #[test]
    fn few_bits_are_enough() {
        let mut sound = planted(3, 7000, 0.001);
        for (sample, dither) in sound.iter_mut().zip(noise(1.0, 900)) {
            *sample = (*sample * 32768.0 + dither).round() / 32768.0;
        }
        assert_eq!(listen(3, &sound), Some(7000));
    }

    /// An emulated machine loses whole periods.
    #[test]
    fn a_burst_that_lost_frames_is_found_where_most_of_it_lies() {
        let mut sound = planted(4, 9000, 1.0);
        sound.drain(9400..9432);
        assert_eq!(listen(4, &sound), Some(9000));
        let mut sound = planted(4, 9000, 1.0);
        sound.drain(9050..9082);
        assert_eq!(listen(4, &sound), Some(9000 - 32));
    }

    #[test]
    fn silence_and_what_is_no_number_are_nothing() {
        assert_eq!(listen(1, &[0.0; 4000]), None);
        assert_eq!(listen(1, &[f32::NAN; 4000]), None);
        assert_eq!(listen(1, &[]), None);
    }
}
