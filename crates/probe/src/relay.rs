//! A link of a chain that hands frames on, and drops or repeats some where it is told to: the planted
//! fault that shows that the meters find what is there.

use rtrb::{Consumer, Producer, RingBuffer};
use serde::Serialize;

use crate::callback::Work;

/// How many frames the relay keeps; a repeat can go back so far.
pub const KEPT: usize = 1 << 16;
/// It must hold back as many as it will drop.
pub const LONGEST_DROP: u64 = (KEPT / 2) as u64;

/// A fault: when so many frames have been handed on, so many are dropped, or repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Frames handed on before it.
    pub after: u64,
    /// Dropped, or negative: repeated.
    pub jump: i64,
}

impl std::str::FromStr for Fault {
    type Err = String;

    /// `drop:3@48000` or `repeat:32@96000`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is no fault such as drop:3@48000 or repeat:32@96000");
        let (kind, rest) = text.split_once(':').ok_or_else(wrong)?;
        let (count, after) = rest.split_once('@').ok_or_else(wrong)?;
        let count: u64 = count.parse().map_err(|_| wrong())?;
        let after = after.parse().map_err(|_| wrong())?;
        if !(1..=LONGEST_DROP).contains(&count) {
            return Err(format!("from 1 to {LONGEST_DROP} frames can be dropped or repeated"));
        }
        let count = i64::try_from(count).map_err(|_| wrong())?;
        match kind {
            "drop" => Ok(Self { after, jump: count }),
            "repeat" => Ok(Self { after, jump: -count }),
            _ => Err(wrong()),
        }
    }
}

/// A fault that has happened.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Done {
    /// Frames handed on before it.
    pub after: u64,
    /// Dropped, or negative: repeated.
    pub jump: i64,
    /// The last frame before it.
    pub last: f32,
    /// The first frame after it.
    pub next: f32,
}

/// Hands frames on, late by the sum of what it will drop.
#[derive(Debug)]
pub struct Relay {
    kept: Vec<f32>,
    written: u64,
    read: u64,
    given: u64,
    last: f32,
    faults: Vec<Fault>,
    next: usize,
    done: Producer<Done>,
}

/// A relay with these faults, in any order, and where it tells those that have happened.
///
/// # Errors
/// When they drop more together than the relay can hold back.
pub fn relay(faults: Vec<Fault>) -> Result<(Relay, Consumer<Done>), String> {
    // One place for each: the ring is never full.
    let (done, told) = RingBuffer::new(faults.len().max(1));
    Ok((Relay::new(faults, done)?, told))
}

impl Relay {
    fn new(mut faults: Vec<Fault>, done: Producer<Done>) -> Result<Self, String> {
        faults.sort_by_key(|fault| fault.after);
        let (mut held, mut most, mut least) = (0_i64, 0_i64, 0_i64);
        for fault in &faults {
            held += fault.jump;
            (most, least) = (most.max(held), least.min(held));
        }
        if most.unsigned_abs() + least.unsigned_abs() > LONGEST_DROP {
            return Err(format!("the faults reach over more than {LONGEST_DROP} frames"));
        }
        // Written, so that the callback faults on no page. What is held back at first is silence.
        let mut kept = vec![f32::MIN_POSITIVE; KEPT];
        kept.fill(0.0);
        let written = KEPT as u64 + most.unsigned_abs();
        Ok(Self { kept, written, read: KEPT as u64, given: 0, last: 0.0, faults, next: 0, done })
    }

    /// How many frames the first one is held back.
    pub fn held(&self) -> u64 {
        self.written - self.read
    }
}

impl Work for Relay {
    fn period(&mut self, _: u64, input: &[f32], output: &mut [f32]) {
        const MASK: usize = KEPT - 1;
        #[allow(clippy::cast_possible_truncation)]
        let place = |at: u64| at as usize & MASK;
        for (out, sample) in output.iter_mut().zip(input) {
            if let Some(kept) = self.kept.get_mut(place(self.written)) {
                *kept = *sample;
            }
            self.written += 1;
            while let Some(Fault { after, jump }) = self.faults.get(self.next).copied() {
                if after > self.given {
                    break;
                }
                self.read = self.read.saturating_add_signed(jump);
                self.next += 1;
                let next = self.kept.get(place(self.read)).copied().unwrap_or_default();
                let _ = self.done.push(Done { after, jump, last: self.last, next });
            }
            *out = self.kept.get(place(self.read)).copied().unwrap_or_default();
            self.last = *out;
            self.read += 1;
            self.given += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relayed(faults: &[&str], frames: usize, period: usize) -> (u64, Vec<f32>) {
        let faults = faults.iter().map(|fault| fault.parse().unwrap()).collect();
        let (mut relay, mut told) = relay(faults).unwrap();
        let held = relay.held();
        #[allow(clippy::cast_precision_loss)]
        let input: Vec<f32> = (1..=frames).map(|i| i as f32).collect();
        let mut output = vec![-1.0; frames];
        for (input, output) in input.chunks(period).zip(output.chunks_mut(period)) {
            relay.period(0, input, output);
        }
        while let Ok(done) = told.pop() {
            let after = usize::try_from(done.after).unwrap();
            assert_eq!((done.last, done.next), (output[after - 1], output[after]));
        }
        (held, output)
    }

    #[test]
    fn faults_are_where_they_were_planted() {
        let (held, out) = relayed(&["repeat:1@7", "drop:2@4"], 12, 4);
        assert_eq!(held, 2);
        assert_eq!(out, [0.0, 0.0, 1.0, 2.0, 5.0, 6.0, 7.0, 7.0, 8.0, 9.0, 10.0, 11.0]);
        assert_eq!(relayed(&[], 3, 2), (0, vec![1.0, 2.0, 3.0]));
        // More repeated than is there yet: what was before is silence.
        assert_eq!(relayed(&["repeat:5@1"], 4, 4).1, [1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn words_that_are_no_fault_are_refused() {
        for wrong in ["drop", "drop:0@5", "drop:1@x", "lose:1@5", "drop:99999@5", "repeat:-1@2"] {
            assert!(wrong.parse::<Fault>().is_err(), "{wrong}");
        }
        let many = vec![Fault { after: 1, jump: 20_000 }, Fault { after: 2, jump: 20_000 }];
        assert!(relay(many).is_err());
    }
}
