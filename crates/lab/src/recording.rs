//! QEMU's recorder and the lab's snapshots, brought together.
//!
//! QEMU means a recording to begin with the machine. The lab's machine begins in a state that was saved
//! without a recorder, millions of instructions after its boot, and the recorder refuses to begin in
//! the middle of nowhere. It does begin there when the state has a section of its own, which says how
//! many instructions had been counted; so one is written into the state on its way to QEMU.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The number that QEMU's recordings begin with, from 7.2 to 10.0 at least.
const VERSION: u32 = 0x0e_0200c;
/// Bytes before the first event: the number, and eight that are kept free.
const FIRST_EVENT: usize = 12;
/// Kinds of events: the host's clock and the real-time clock were read, each with eight bytes of time.
const CLOCKS: [u8; 2] = [28, 29];
/// Kinds of checkpoints, which have no content.
const CHECKPOINTS: std::ops::RangeInclusive<u8> = 30..=38;
/// The checkpoint of the machine's reset, the last thing before its state is read.
const RESET: u8 = 38;
/// Where the memory's section is looked for: it is the first of all.
const HEAD: usize = 64 << 10;
/// Where the clocks' section is looked for: the devices come after the memory, and are small.
const TAIL: u64 = 16 << 20;
/// A number that no section of a state has by itself.
const SECTION: u32 = 1_000_000;

/// How QEMU lays out the recorder's section, by its own number for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Layout {
    /// To 8.2.
    Two,
    /// From 9.0.
    Three,
}

/// What a state needs so that a recording can begin with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recorder {
    /// The byte of the state before which the section belongs.
    pub(crate) at: u64,
    /// Instructions counted before.
    pub(crate) instructions: u64,
    /// Virtual nanoseconds that were skipped before, while nothing was left to do.
    pub(crate) skipped_ns: u64,
    layout: Layout,
}

impl Recorder {
    /// Of the saved state at `path`.
    pub(crate) fn of(path: &Path, layout: Layout) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let mut head = Vec::new();
        (&file).take(HEAD as u64).read_to_end(&mut head)?;
        // A section begins with its kind, four bytes of number, and its name after the name's length.
        let memory = |bytes: &[u8]| bytes.first() == Some(&1) && bytes.ends_with(b"\x03ram");
        let at = head.windows(9).position(memory);
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        let mut tail = Vec::new();
        file.read_to_end(&mut tail)?;
        // A subsection: its kind, its name after the name's length, four bytes of version; then the time
        // that was skipped and the instructions, eight bytes each.
        let name = b"\x05\x0ctimer/icount";
        let clocks = tail.windows(name.len()).position(|bytes| bytes == name);
        let number = |nth: usize| {
            let bytes = tail.get(clocks? + name.len() + 4 + 8 * nth..)?.first_chunk()?;
            Some(u64::from_be_bytes(*bytes))
        };
        match (at, number(0), number(1)) {
            (Some(at), Some(skipped_ns), Some(instructions)) => {
                Ok(Self { at: at as u64, instructions, skipped_ns, layout })
            }
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "no count of instructions in it")),
        }
    }

    /// The section for a replay that goes on at the byte `position` of its recording. A recording of
    /// its own begins wherever it is.
    pub(crate) fn section(&self, position: u64) -> Vec<u8> {
        let mut bytes = vec![4];
        let mut put = |field: &[u8]| bytes.extend_from_slice(field);
        put(&SECTION.to_be_bytes());
        put(b"\x06replay");
        put(&0_u32.to_be_bytes());
        let version: u32 = match self.layout {
            Layout::Two => 2,
            Layout::Three => 3,
        };
        put(&version.to_be_bytes());
        // Two clocks, neither of which this machine asks for.
        put(&[0; 16]);
        put(&self.instructions.to_be_bytes());
        // Instructions to the next event.
        put(&0_u32.to_be_bytes());
        match self.layout {
            // Kind of the event, and whether it is still to be read.
            Layout::Two => put(&[0; 4 + 4]),
            // Its number besides.
            Layout::Three => put(&[0; 4 + 4 + 1]),
        }
        put(&position.to_be_bytes());
        // Requests to a disk, and answers.
        put(&[0; 16]);
        put(&[0x7e]);
        put(&SECTION.to_be_bytes());
        bytes
    }
}

/// The byte of a recording at which the restored machine went on: after what QEMU did before it read
/// the state.
pub(crate) fn resumed_at(recording: &Path) -> io::Result<u64> {
    let wrong = |what: String| Err(io::Error::new(io::ErrorKind::InvalidData, what));
    let bytes = fs::read(recording)?;
    match bytes.first_chunk().map(|number| u32::from_be_bytes(*number)) {
        Some(VERSION) => {}
        // Written last of all.
        Some(0) => return wrong("the recording was not ended".to_owned()),
        _ => return wrong("the recording is of a QEMU whose format is not known".to_owned()),
    }
    let mut at = FIRST_EVENT;
    loop {
        match bytes.get(at) {
            Some(&RESET) => return Ok(at as u64 + 1),
            Some(kind) if CLOCKS.contains(kind) => at += 9,
            Some(kind) if CHECKPOINTS.contains(kind) => at += 1,
            Some(kind) => {
                return wrong(format!("an event of kind {kind} before the machine's reset"));
            }
            None => return wrong("the recording ends before the machine's reset".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As QEMU 7.2 begins a state, and as it writes the clocks.
    fn state(instructions: u64) -> Vec<u8> {
        let mut bytes = b"QEVM\0\0\0\x03\x07\0\0\0\x0apc-q35-7.2".to_vec();
        bytes.extend(b"\x01\0\0\0\x02\x03ram\0\0\0\0\0\0\0\x04");
        bytes.extend([0; 100]);
        bytes.extend(b"\x05\x0ctimer/icount\0\0\0\x01");
        bytes.extend(77_u64.to_be_bytes());
        bytes.extend(instructions.to_be_bytes());
        bytes
    }

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        file
    }

    #[test]
    fn the_section_goes_before_the_memory_and_bears_the_count() {
        let recorder = Recorder::of(file(&state(0x1234)).path(), Layout::Two).unwrap();
        assert_eq!((recorder.at, recorder.skipped_ns, recorder.instructions), (23, 77, 0x1234));
        let section = recorder.section(23);
        let count = section.windows(8).position(|bytes| bytes == 0x1234_u64.to_be_bytes()).unwrap();
        assert_eq!(count, 1 + 4 + 7 + 4 + 4 + 16);
        assert_eq!(section.get(count + 20..count + 28), Some(&23_u64.to_be_bytes()[..]));
        assert_eq!(section.len(), count + 28 + 16 + 5);
        let newer = Recorder { layout: Layout::Three, ..recorder };
        assert_eq!(newer.section(23).len(), section.len() + 1);
    }

    #[test]
    fn a_state_without_a_count_is_refused() {
        let bytes = state(1).get(..60).unwrap().to_vec();
        assert!(Recorder::of(file(&bytes).path(), Layout::Two).is_err());
    }

    #[test]
    fn a_recording_goes_on_after_the_reset() {
        // The host's clock, two checkpoints, then the machine runs.
        let mut bytes = VERSION.to_be_bytes().to_vec();
        bytes.extend([0; 8]);
        bytes.push(28);
        bytes.extend([38; 8]);
        bytes.extend([37, 38, 34, 1, 0]);
        assert_eq!(resumed_at(file(&bytes).path()).unwrap(), 12 + 9 + 2);
        for (at, byte, says) in [(0, 9, "not known"), (12, 99, "of kind 99")] {
            let mut bytes = bytes.clone();
            *bytes.get_mut(at).unwrap() = byte;
            let error = resumed_at(file(&bytes).path()).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        let cut = bytes.get(..14).unwrap();
        assert!(resumed_at(file(cut).path()).unwrap_err().to_string().contains("ends before"));
        let killed = [vec![0; 12], vec![37]].concat();
        assert!(resumed_at(file(&killed).path()).unwrap_err().to_string().contains("not ended"));
    }
}
