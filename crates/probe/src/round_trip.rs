//! The two ends of a way: [`Ends`] is in the callback, sends a signal and takes in what comes back;
//! [`Heard`] is where another thread gets that from.

use rtrb::{Consumer, Producer};

use crate::callback::{Work, touched};
use crate::{phase, sequence};

/// Room for 43 s at 48 kHz, as long as the other rings have.
const ROOM: usize = 1 << 21;
const BLOCK_ROOM: usize = 1 << 16;

/// A period's samples in the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Block {
    /// When its callback started, in nanoseconds of `CLOCK_MONOTONIC`.
    pub at_ns: u64,
    /// The number of the frame that went out while its first one came in. As many frames have come in
    /// before, so that a step from one block to the next shows a period that found the ring full.
    pub number: u64,
    /// Samples.
    pub frames: usize,
}

/// What goes out.
#[derive(Debug)]
pub enum Signal {
    /// [`sequence::sample`].
    Sequence,
    /// [`phase::signal`], over and over.
    Tones(Vec<f32>),
}

impl Signal {
    /// [`Signal::Tones`].
    pub fn tones() -> Self {
        Self::Tones(phase::signal())
    }

    fn at(&self, number: u64) -> f32 {
        match self {
            Self::Sequence => sequence::sample(number % sequence::LENGTH),
            #[allow(clippy::cast_possible_truncation)]
            Self::Tones(signal) => {
                let at = number.checked_rem(signal.len() as u64).unwrap_or(0) as usize;
                signal.get(at).copied().unwrap_or_default()
            }
        }
    }
}

/// Both ends, in the callback.
#[derive(Debug)]
pub struct Ends {
    signal: Signal,
    number: u64,
    samples: Producer<f32>,
    blocks: Producer<Block>,
}

/// Where the samples leave the callback.
#[derive(Debug)]
pub struct Heard {
    samples: Consumer<f32>,
    blocks: Consumer<Block>,
}

/// Both sides, with rings of which every page has been written.
pub fn ends(signal: Signal) -> (Ends, Heard) {
    let (samples, heard) = touched(ROOM, f32::MIN_POSITIVE);
    let (blocks, told) = touched(BLOCK_ROOM, Block { at_ns: 1, ..Block::default() });
    (Ends { signal, number: 0, samples, blocks }, Heard { samples: heard, blocks: told })
}

impl Work for Ends {
    fn period(&mut self, at_ns: u64, input: &[f32], output: &mut [f32]) {
        let frames = input.len();
        // Both or neither, the samples first: whoever finds the block finds them too.
        if self.blocks.slots() > 0 {
            if let Ok(room) = self.samples.write_chunk_uninit(frames) {
                room.fill_from_iter(input.iter().copied());
                let _ = self.blocks.push(Block { at_ns, number: self.number, frames });
            }
        }
        for sample in output.iter_mut() {
            *sample = self.signal.at(self.number);
            self.number += 1;
        }
    }
}

impl Heard {
    /// What has come since the last call, block by block.
    pub fn take(&mut self, mut each: impl FnMut(&Block, &[f32])) {
        let mut both = Vec::new();
        while let Ok(block) = self.blocks.pop() {
            let Ok(samples) = self.samples.read_chunk(block.frames) else { return };
            let (first, second) = samples.as_slices();
            match second.is_empty() {
                true => each(&block, first),
                false => {
                    both.clear();
                    both.extend_from_slice(first);
                    both.extend_from_slice(second);
                    each(&block, &both);
                }
            }
            samples.commit_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_back_a_period_later_is_read_as_that() {
        let (mut ends, mut heard) = ends(Signal::Sequence);
        let mut back = vec![0.0; 64];
        for at_ns in 0..40 {
            let input = back.clone();
            ends.period(at_ns, &input, &mut back);
        }
        let mut reader = sequence::Reader::new();
        let (mut delays, mut blocks) = (Vec::new(), 0);
        heard.take(|block, samples| {
            blocks += 1;
            for (number, sample) in (block.number..).zip(samples) {
                delays.extend(reader.read(*sample).map(|told| number - told));
            }
        });
        assert_eq!(blocks, 40);
        assert!(delays.len() > 2000 && delays.iter().all(|delay| *delay == 64), "{delays:?}");
    }

    #[test]
    fn what_finds_the_ring_full_is_a_step_of_the_numbers() {
        let (mut ends, mut heard) = ends(Signal::tones());
        let input = vec![0.0; 1024];
        let mut output = vec![0.0; 1024];
        for at_ns in 0..(ROOM / 1024) as u64 + 3 {
            ends.period(at_ns, &input, &mut output);
        }
        let mut frames = 0;
        heard.take(|_, samples| frames += samples.len());
        assert_eq!(frames, ROOM);
        ends.period(7, &input, &mut output);
        let mut next = Vec::new();
        heard.take(|block, _| next.push(*block));
        assert_eq!(next, [Block { at_ns: 7, number: ROOM as u64 + 3 * 1024, frames: 1024 }]);
    }
}
