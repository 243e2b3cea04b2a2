//! A SuperCollider score: bundles in the order of their times, as `scsynth -N` reads them from a file.

use std::collections::BTreeSet;
use std::path::Path;

use archibald_machine::units::{Frames, Hertz};

use crate::osc::{self, Arg, Message};
use crate::{FarmError, error::During};

/// One bundle of a score.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// When, in 2^-32 seconds from the beginning.
    pub(crate) time: u64,
    /// The bundle as the file has it.
    pub(crate) bytes: Vec<u8>,
}

/// A score. It has at least one bundle, and their times do not go back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Score {
    pub(crate) events: Vec<Event>,
}

/// The server's offline clock: it works control block by control block, and its blocks are a whole number of
/// 2^-32 seconds long, rounded down (scsynth's `World_NonRealTimeSynthesis`). All cuts are made in blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// Frames a second.
    pub rate: Hertz,
    /// Frames in a control block.
    pub block: Frames,
}

impl Clock {
    /// Length of a block in 2^-32 seconds.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn block_time(self) -> u64 {
        // The server's own expression, so that its rounding is ours.
        let samples = f64::from(self.rate.0) * (1.0 / 4_294_967_296.0);
        (f64::from(self.block.0) / samples) as u64
    }

    /// The block in which a bundle of this time is carried out. One that stands on a boundary belongs to the
    /// block that ends there.
    #[must_use]
    pub fn block_of(self, time: u64) -> u64 {
        time.div_ceil(self.block_time().max(1)).saturating_sub(1)
    }

    /// Blocks that a length of time fills, rounded up.
    #[must_use]
    pub fn blocks_in(self, length: std::time::Duration) -> u64 {
        let frames =
            length.as_nanos().saturating_mul(u128::from(self.rate.0)).div_ceil(1_000_000_000);
        u64::try_from(frames.div_ceil(u128::from(self.block.0.max(1)))).unwrap_or(u64::MAX)
    }

    /// Seconds until the beginning of this block.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn seconds(self, blocks: u64) -> f64 {
        blocks as f64 * f64::from(self.block.0) / f64::from(self.rate.0)
    }
}

impl Score {
    /// Reads a score file: before each bundle its length in four bytes.
    ///
    /// # Errors
    /// [`FarmError::Score`] with the bundle's number: the file is cut, is no score, or goes back in time.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self, FarmError> {
        let wrong = |number: usize, what: String| FarmError::Score {
            score: name.to_owned(),
            what: format!("bundle {number}: {what}"),
        };
        let mut events: Vec<Event> = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let number = events.len() + 1;
            let short = || wrong(number, "the file ends in the middle of it".to_owned());
            let (length, after) = rest.split_first_chunk::<4>().ok_or_else(short)?;
            let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| short())?;
            let (bundle, after) = after.split_at_checked(length).ok_or_else(short)?;
            let (time, _) =
                osc::unbundle(bundle).map_err(|error| wrong(number, error.to_string()))?;
            if events.last().is_some_and(|last| last.time > time) {
                return Err(wrong(number, "it is earlier than the one before".to_owned()));
            }
            events.push(Event { time, bytes: bundle.to_vec() });
            rest = after;
        }
        if events.is_empty() {
            return Err(FarmError::Score {
                score: name.to_owned(),
                what: "it is empty".to_owned(),
            });
        }
        Ok(Self { events })
    }

    /// The file's bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for event in &self.events {
            bytes.extend(u32::try_from(event.bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
            bytes.extend(&event.bytes);
        }
        bytes
    }

    /// How many blocks the server renders: up to the end of the one in which the last bundle is.
    #[must_use]
    pub fn blocks(&self, clock: Clock) -> u64 {
        self.events.last().map_or(0, |last| clock.block_of(last.time) + 1)
    }

    /// The files that the score has the server read, by the words of its commands. A folder of definitions
    /// stands for what is in it.
    #[must_use]
    pub fn reads(&self) -> BTreeSet<String> {
        let mut files = BTreeSet::new();
        for event in &self.events {
            for message in messages(&event.bytes) {
                let at = match message.address.as_str() {
                    "/b_allocRead" | "/b_allocReadChannel" | "/b_read" | "/b_readChannel" => 1,
                    "/d_load" | "/d_loadDir" => 0,
                    _ => continue,
                };
                files.extend(message.text(at).map(str::to_owned));
            }
        }
        files
    }
}

/// Every message of a bundle that can be read, also of bundles in it and of those that a command carries to be
/// done afterwards.
fn messages(bundle: &[u8]) -> Vec<Message> {
    let mut found = Vec::new();
    let mut left: Vec<Vec<u8>> = vec![bundle.to_vec()];
    while let Some(bytes) = left.pop() {
        if let Ok((_, elements)) = osc::unbundle(&bytes) {
            left.extend(elements.into_iter().map(<[u8]>::to_vec));
        } else if let Ok(message) = Message::read(&bytes) {
            for arg in &message.args {
                if let Arg::Blob(blob) = arg {
                    left.push(blob.clone());
                }
            }
            found.push(message);
        }
    }
    found
}

/// The contents of the files that a score reads, as one value for its key.
pub(crate) fn content(
    folder: &Path,
    names: &BTreeSet<String>,
) -> Result<Vec<(String, String)>, FarmError> {
    let mut contents = Vec::new();
    for name in names {
        let path = folder.join(name);
        let mut files = vec![path.clone()];
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).during("read", &path)?;
            files =
                entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
            files.sort();
        }
        for file in files {
            contents.push((file.display().to_string(), crate::wave::checksum(&file)?));
        }
    }
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CLOCK: Clock = Clock { rate: Hertz(48_000), block: Frames(64) };

    fn file(times: &[u64]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for time in times {
            let bundle = osc::bundle(*time, [&b"/n_free\0,i\0\0\0\0\x03\xe8"[..]]);
            bytes.extend(u32::try_from(bundle.len()).unwrap().to_be_bytes());
            bytes.extend(bundle);
        }
        bytes
    }

    #[test]
    fn a_block_is_as_long_as_the_server_makes_it() {
        // 64 / 48000 s is 5726623.06 of 2^-32 s, and 64 / 44100 s 6233059.9.
        assert_eq!(CLOCK.block_time(), 5_726_623);
        assert_eq!(Clock { rate: Hertz(44_100), ..CLOCK }.block_time(), 6_233_059);
        let length = CLOCK.block_time();
        let blocks = [0, 1, length, length + 1, 2 * length, 2 * length + 1];
        assert_eq!(blocks.map(|time| CLOCK.block_of(time)), [0, 0, 0, 1, 1, 2]);
        assert_eq!(CLOCK.blocks_in(std::time::Duration::from_secs(1)), 750);
        assert_eq!(CLOCK.blocks_in(std::time::Duration::from_micros(1334)), 2);
    }

    #[test]
    fn what_is_no_score_is_told_by_the_bundle() {
        let said = |bytes: &[u8]| Score::parse("a.osc", bytes).unwrap_err().to_string();
        assert!(said(&[]).contains("empty"));
        assert!(said(&file(&[3, 2])).contains("bundle 2: it is earlier"));
        let whole = file(&[1, 2]);
        assert!(said(&whole[..whole.len() - 1]).contains("bundle 2: the file ends"));
        assert!(said(b"\0\0\0\x08RIFFWAVE").contains("bundle 1"));
    }

    #[test]
    fn files_are_found_wherever_a_command_names_them() {
        let read = Message::new("/b_allocRead", vec![Arg::Int(0), Arg::Text("a.wav".to_owned())]);
        let after = Message::new("/b_read", vec![Arg::Int(1), Arg::Text("b.wav".to_owned())]);
        let alloc = Message::new(
            "/b_alloc",
            vec![Arg::Int(1), Arg::Int(9), Arg::Int(1), Arg::Blob(after.bytes())],
        );
        let inner = osc::bundle(0, [read.bytes().as_slice()]);
        let bytes = osc::bundle(0, [inner.as_slice(), alloc.bytes().as_slice()]);
        let score = Score { events: vec![Event { time: 0, bytes }] };
        assert_eq!(score.reads().into_iter().collect::<Vec<_>>(), ["a.wav", "b.wav"]);
    }

    proptest! {
        #[test]
        fn a_score_is_written_as_it_was_read(mut times in prop::collection::vec(any::<u64>(), 1..9)) {
            times.sort_unstable();
            let bytes = file(&times);
            prop_assert_eq!(Score::parse("", &bytes).unwrap().bytes(), bytes);
        }

        #[test]
        fn no_bytes_are_taken_for_a_score_by_mistake(bytes in prop::collection::vec(any::<u8>(), 0..99)) {
            if let Ok(score) = Score::parse("", &bytes) {
                prop_assert_eq!(score.bytes(), bytes);
            }
        }
    }
}
