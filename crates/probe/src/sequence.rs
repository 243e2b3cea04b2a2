//! The coded sequence: a signal in which every frame tells which one it is, so that a loop's delay is
//! exact and a dropped or repeated stretch is found at its frame. [`sample`] makes it, [`Reader`] reads
//! it. Pure arithmetic, for digital ways that neither mix, filter nor resample.
//!
//! A frame carries one of 8,192 levels, so far apart that 16 bits carry them, whichever of the usual
//! factors (32767 or 32768) the conversion takes, and none of them is silence. Of sixteen frames fifteen
//! tell their place in a block of 4,096; the sixteenth, a mark, tells its place and one of six digits of
//! the block's number, so that 36 bits come together within a block. Places and levels are shuffled, lest
//! a mean of two neighbours look like a third.

/// Frames after which the places repeat: 85 ms at 48 kHz.
pub const BLOCK: u64 = 4096;
/// Frames after which all repeats: 16 days at 48 kHz.
pub const LENGTH: u64 = BLOCK << (4 * DIGITS);

/// One frame of so many is a mark.
const MARK: u64 = 16;
/// Digits of a block's number, of four bits each.
const DIGITS: usize = 6;
/// Levels; half of them for marks.
const LEVELS: u16 = 8192;
/// Shuffles 12 bits: odd, so that it has an inverse.
const FACTOR: u16 = 2531;
const OFFSET: u16 = 977;
const PLACES: u16 = 0x0fff;
/// How far a level may be off, in levels: 1.25 steps of 16 bits. Silence is off by half a level.
const TOLERANCE: f32 = 0.3125;
/// Breaks that are listed; of a way that carries nothing of the kind there would be one a frame.
pub const LISTED: usize = 10_000;

/// The frame of this number, between -0.5 and 0.5.
pub fn sample(number: u64) -> f32 {
    (f32::from(level(number)) - f32::from(LEVELS / 2) + 0.5) / f32::from(LEVELS)
}

fn level(number: u64) -> u16 {
    let place = place_of(number);
    if number % MARK != MARK - 1 {
        return shuffle(place);
    }
    let index = place / MARK as u16;
    LEVELS / 2 + shuffle((index << 4) | u16::from(digit(number, index)))
}

#[allow(clippy::cast_possible_truncation)]
fn place_of(number: u64) -> u16 {
    (number % BLOCK) as u16
}

/// The digit of the block's number that this mark tells.
#[allow(clippy::cast_possible_truncation)]
fn digit(number: u64, index: u16) -> u8 {
    let at = usize::from(index) % DIGITS;
    (((number / BLOCK) >> (4 * at)) & 0xf) as u8
}

const fn shuffle(value: u16) -> u16 {
    value.wrapping_mul(FACTOR).wrapping_add(OFFSET) & PLACES
}

const fn unshuffle(value: u16) -> u16 {
    value.wrapping_sub(OFFSET).wrapping_mul(INVERSE) & PLACES
}

/// Of [`FACTOR`], by Newton's method: each step doubles the bits that are right.
const INVERSE: u16 = {
    let mut inverse: u16 = FACTOR;
    let mut step = 0;
    while step < 4 {
        inverse = inverse.wrapping_mul(2_u16.wrapping_sub(FACTOR.wrapping_mul(inverse)));
        step += 1;
    }
    inverse
};

/// What one frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Word {
    /// In its block.
    place: u16,
    /// A mark's digit.
    digit: Option<u8>,
}

impl Word {
    /// Nothing where the frame is none of the sequence's.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn of(sample: f32) -> Option<Self> {
        let at = sample * f32::from(LEVELS) + f32::from(LEVELS / 2) - 0.5;
        let level = at.round();
        // Written so that a NaN is refused.
        let is_level = (at - level).abs() <= TOLERANCE && level >= 0.0 && level < LEVELS.into();
        if !is_level {
            return None;
        }
        let level = level as u16;
        let value = unshuffle(level & PLACES);
        if level < LEVELS / 2 {
            let is_mark = u64::from(value) % MARK == MARK - 1;
            return (!is_mark).then_some(Self { place: value, digit: None });
        }
        let place = (value >> 4) * MARK as u16 + MARK as u16 - 1;
        Some(Self { place, digit: Some((value & 0xf) as u8) })
    }
}

/// Where the frames that came were not those that were to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Break {
    /// The first frame that did not come in its turn.
    pub number: u64,
    /// Where this was, in frames read since the reader's beginning.
    pub received: u64,
    /// So many frames came that are none of the sequence's: silence, or another sound.
    pub foreign: u64,
    /// After these the sequence went on so many frames too far (dropped), or so many too early
    /// (negative: repeated). 0: nothing but the foreign frames, which stood in the place of as many.
    pub jump: i64,
    /// The jump is known but for whole [`BLOCK`]s, because no mark confirmed it.
    pub unsure: bool,
}

/// Reads the sequence, frame by frame.
#[derive(Debug, Clone, Default)]
pub struct Reader {
    read: u64,
    /// The next frame's number, once a frame has come; but for whole blocks until `known`.
    next: Option<u64>,
    known: bool,
    /// What the marks of one block have told since the last break.
    digits: [Option<u8>; DIGITS],
    /// That block, as far as it is known.
    block: u64,
    /// Frames that are none of the sequence's, since the last that was.
    foreign: u64,
    /// A mark did not tell the digit that was expected; which block it is, is open.
    doubt: bool,
    breaks: Vec<Break>,
    /// The first break whose jump no mark has confirmed.
    unconfirmed: Option<usize>,
    unlisted: u64,
}

impl Reader {
    /// At the beginning.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the numbers are known; before that nothing counts as a break.
    pub const fn is_known(&self) -> bool {
        self.known
    }

    /// What was found so far. The last ones may still change while they are `unsure`.
    pub fn breaks(&self) -> &[Break] {
        &self.breaks
    }

    /// Breaks beyond the [`LISTED`] ones.
    pub const fn unlisted(&self) -> u64 {
        self.unlisted
    }

    /// Reads one frame; its number, if it has one that is known.
    pub fn read(&mut self, sample: f32) -> Option<u64> {
        let at = self.read;
        self.read += 1;
        let Some(word) = Word::of(sample) else {
            self.foreign += u64::from(self.known);
            if !self.known {
                self.forget();
            }
            return None;
        };
        let expected = self.next.unwrap_or_else(|| u64::from(word.place));
        let number = nearest(expected.wrapping_add(self.foreign), word.place);
        if !self.known && number != expected {
            self.forget();
            self.next = Some(u64::from(word.place) + 1);
            return None;
        }
        if number != expected || self.foreign > 0 {
            self.note(Break {
                number: expected,
                received: at - self.foreign,
                foreign: self.foreign,
                jump: difference(number, expected.wrapping_add(self.foreign)),
                unsure: true,
            });
            self.digits = [None; DIGITS];
        }
        self.foreign = 0;
        self.next = Some(number.wrapping_add(1) % LENGTH);
        let number = match word.digit {
            Some(digit) => self.mark(number, at, digit),
            None => number,
        };
        (self.known && !self.doubt).then_some(number)
    }

    /// The end: frames that are none of the sequence's may be the last.
    pub fn finish(mut self) -> (Vec<Break>, u64) {
        if self.foreign > 0 {
            let (number, foreign) = (self.next.unwrap_or_default(), self.foreign);
            self.note(Break {
                number,
                received: self.read - foreign,
                foreign,
                jump: 0,
                unsure: true,
            });
        }
        (self.breaks, self.unlisted)
    }

    fn forget(&mut self) {
        self.next = None;
        self.digits = [None; DIGITS];
    }

    fn note(&mut self, found: Break) {
        if self.breaks.len() < LISTED {
            self.unconfirmed.get_or_insert(self.breaks.len());
            self.breaks.push(found);
        } else {
            self.unlisted += 1;
        }
    }

    /// A mark has come; returns the frame's number as it is known after it.
    fn mark(&mut self, number: u64, at: u64, told: u8) -> u64 {
        let index = place_of(number) / MARK as u16;
        let digit_at = usize::from(index) % DIGITS;
        if number / BLOCK != self.block {
            (self.block, self.digits) = (number / BLOCK, [None; DIGITS]);
        }
        if let Some(digit) = self.digits.get_mut(digit_at) {
            *digit = Some(told);
        }
        let agrees = told == digit(number, index);
        if self.known && !self.doubt && agrees {
            // The lowest digit tells sixteen blocks apart: 1.4 s at 48 kHz.
            if digit_at == 0 {
                self.confirm();
            }
            return number;
        }
        if self.known && !self.doubt {
            self.doubt = true;
            if self.unconfirmed.is_none() {
                // Whole blocks are missing, and where is not known: since the last mark of this digit.
                self.note(Break { number, received: at, foreign: 0, jump: 0, unsure: true });
            }
        }
        let mut block = 0_u64;
        for (i, digit) in self.digits.iter().enumerate() {
            let Some(digit) = digit else { return number };
            block |= u64::from(*digit) << (4 * i);
        }
        let found = block * BLOCK + number % BLOCK;
        if self.known {
            let first = self.unconfirmed.and_then(|first| self.breaks.get_mut(first));
            if let Some(first) = first {
                first.jump += difference(found, number);
                if first.jump == 0 && first.foreign == 0 {
                    // The block was the expected one: the mark itself was damaged.
                    first.foreign = 1;
                }
            }
        }
        (self.known, self.doubt, self.block) = (true, false, block);
        self.confirm();
        self.next = Some((found + 1) % LENGTH);
        found
    }

    fn confirm(&mut self) {
        if let Some(first) = self.unconfirmed.take() {
            for found in self.breaks.iter_mut().skip(first) {
                found.unsure = false;
            }
        }
    }
}

/// The number with this place that is nearest to the expected one.
fn nearest(expected: u64, place: u16) -> u64 {
    let ahead = (u64::from(place) + BLOCK - expected % BLOCK) % BLOCK;
    match ahead {
        ahead if ahead <= BLOCK / 2 => (expected + ahead) % LENGTH,
        ahead => (expected + LENGTH + ahead - BLOCK) % LENGTH,
    }
}

/// How far `number` lies behind `other`, the short way around.
#[allow(clippy::cast_possible_wrap)]
fn difference(number: u64, other: u64) -> i64 {
    let ahead = (number + LENGTH - other % LENGTH) % LENGTH;
    if ahead < LENGTH / 2 { ahead as i64 } else { ahead as i64 - LENGTH as i64 }
}

#[cfg(test)]
#[path = "sequence_tests.rs"]
mod tests;
