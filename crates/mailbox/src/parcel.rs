//! A parcel: bytes of any number with a head that tells how many, and their checksum. The head is
//! written last, so that a parcel whose writer was stopped is none.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;

use crate::SCHEMA;
use crate::buffer::{BLOCK, Buffer};

const MAGIC: &[u8; 8] = b"ARCHLAB\n";
/// Blocks of one transfer.
const BLOCKS: usize = 256;

/// What is wrong with a parcel.
#[derive(Debug)]
#[non_exhaustive]
pub enum ParcelError {
    /// There is none: nothing was written, or its writer did not come to its end.
    Absent,
    /// It was written by another version of this program.
    Schema(u32),
    /// Reading failed.
    Io(io::Error),
}

impl std::fmt::Display for ParcelError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Absent => {
                f.write_str("the mailbox is empty: the other side did not come to its end")
            }
            Self::Schema(schema) => {
                write!(f, "the mailbox holds schema {schema}, this program reads {SCHEMA}")
            }
            Self::Io(error) => write!(f, "the mailbox cannot be read: {error}"),
        }
    }
}

impl std::error::Error for ParcelError {}

/// Writes one parcel. Transfers are whole aligned blocks, so that the file may be open past the page
/// cache (`O_DIRECT`).
pub struct ParcelWriter<'a> {
    file: &'a File,
    at: u64,
    room: u64,
    buffer: Buffer,
    filled: usize,
    written: u64,
    checksum: crc32fast::Hasher,
}

impl<'a> ParcelWriter<'a> {
    /// A parcel at `at`, a multiple of 4096, that may take `room` bytes with its head.
    #[must_use]
    pub fn new(file: &'a File, at: u64, room: u64) -> Self {
        let checksum = crc32fast::Hasher::new();
        Self { file, at, room, buffer: Buffer::new(BLOCKS), filled: 0, written: 0, checksum }
    }

    /// Writes what is left, then the head.
    ///
    /// # Errors
    /// What the system said.
    pub fn finish(mut self) -> io::Result<()> {
        let length = self.written + self.filled as u64;
        self.transfer()?;
        let mut head = Buffer::new(1);
        let fields = [length.to_le_bytes(), u64::from(self.checksum.finalize()).to_le_bytes()];
        let schema = u64::from(SCHEMA).to_le_bytes();
        let bytes = [*MAGIC, schema].into_iter().chain(fields).flatten();
        for (to, byte) in head.as_mut_slice().iter_mut().zip(bytes) {
            *to = byte;
        }
        self.file.write_all_at(head.as_slice(), self.at)
    }

    fn transfer(&mut self) -> io::Result<()> {
        let whole = self.filled.next_multiple_of(BLOCK);
        let at = self.at + BLOCK as u64 + self.written;
        if BLOCK as u64 + self.written + whole as u64 > self.room {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!("more than the {} MiB that the mailbox has room for", self.room >> 20),
            ));
        }
        let content = self.buffer.as_slice();
        self.checksum.update(content.get(..self.filled).unwrap_or_default());
        self.file.write_all_at(content.get(..whole).unwrap_or_default(), at)?;
        self.written += self.filled as u64;
        self.filled = 0;
        Ok(())
    }
}

impl Write for ParcelWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.buffer.as_mut_slice().get_mut(self.filled..).unwrap_or_default();
        let length = bytes.len().min(room.len());
        for (to, byte) in room.iter_mut().zip(bytes) {
            *to = *byte;
        }
        self.filled += length;
        if self.filled == self.buffer.as_slice().len() {
            self.transfer()?;
        }
        Ok(length)
    }

    /// Nothing: only whole blocks are written.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads one parcel.
pub struct ParcelReader<'a> {
    file: &'a File,
    /// Where the next transfer begins.
    at: u64,
    left: u64,
    buffer: Buffer,
    filled: usize,
    taken: usize,
    checksum: crc32fast::Hasher,
    expected: u32,
}

impl<'a> ParcelReader<'a> {
    /// The parcel at `at`, a multiple of 4096.
    ///
    /// # Errors
    /// When there is none, or one of another version.
    pub fn open(file: &'a File, at: u64) -> Result<Self, ParcelError> {
        let mut head = Buffer::new(1);
        file.read_exact_at(head.as_mut_slice(), at).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => ParcelError::Absent,
            _ => ParcelError::Io(error),
        })?;
        let head = head.as_slice();
        let word = |from: usize| {
            let bytes = head.get(from..).and_then(|rest| rest.first_chunk::<8>());
            bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
        };
        if !head.starts_with(MAGIC) {
            return Err(ParcelError::Absent);
        }
        let schema = word(8) as u32;
        if schema != SCHEMA {
            return Err(ParcelError::Schema(schema));
        }
        Ok(Self {
            file,
            at: at + BLOCK as u64,
            left: word(16),
            buffer: Buffer::new(BLOCKS),
            filled: 0,
            taken: 0,
            checksum: crc32fast::Hasher::new(),
            expected: word(24) as u32,
        })
    }
}

impl Read for ParcelReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.filled && self.left > 0 {
            let room = self.buffer.as_mut_slice();
            let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(room.len());
            let whole = length.next_multiple_of(BLOCK);
            self.file.read_exact_at(room.get_mut(..whole).unwrap_or_default(), self.at)?;
            self.checksum.update(self.buffer.as_slice().get(..length).unwrap_or_default());
            self.at += whole as u64;
            self.left -= length as u64;
            (self.taken, self.filled) = (0, length);
            if self.left == 0 && self.checksum.clone().finalize() != self.expected {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the mailbox does not hold what was put into it",
                ));
            }
        }
        let content = self.buffer.as_slice().get(self.taken..self.filled).unwrap_or_default();
        let length = content.len().min(into.len());
        for (to, byte) in into.iter_mut().zip(content) {
            *to = *byte;
        }
        self.taken += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROOM: u64 = 4 << 20;

    fn sent(content: &[u8]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(2 * ROOM).unwrap();
        let mut writer = ParcelWriter::new(&file, ROOM, ROOM);
        writer.write_all(content).unwrap();
        writer.finish().unwrap();
        file
    }

    fn received(file: &File) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        ParcelReader::open(file, ROOM).unwrap().read_to_end(&mut content)?;
        Ok(content)
    }

    proptest! {
        #[test]
        fn what_is_sent_is_received(content in prop::collection::vec(any::<u8>(), 0..20_000)) {
            prop_assert_eq!(received(&sent(&content)).unwrap(), content);
        }
    }

    #[test]
    fn a_parcel_of_several_transfers_arrives() {
        let content: Vec<u8> = (0..3_000_000_u32).map(|n| n as u8).collect();
        assert_eq!(received(&sent(&content)).unwrap(), content);
    }

    #[test]
    fn a_writer_that_did_not_finish_has_sent_nothing() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(ROOM).unwrap();
        let mut writer = ParcelWriter::new(&file, 0, ROOM);
        writer.write_all(&[1; 2_000_000]).unwrap();
        drop(writer);
        assert!(matches!(ParcelReader::open(&file, 0), Err(ParcelError::Absent)));
        let empty = tempfile::tempfile().unwrap();
        assert!(matches!(ParcelReader::open(&empty, 0), Err(ParcelError::Absent)));
    }

    #[test]
    fn a_changed_byte_is_noticed_and_another_version_named() {
        let file = sent(&[7; 10_000]);
        file.write_all_at(&[8], ROOM + 4096 + 500).unwrap();
        assert_eq!(received(&file).unwrap_err().kind(), io::ErrorKind::InvalidData);
        file.write_all_at(&[99], ROOM + 8).unwrap();
        assert!(matches!(ParcelReader::open(&file, ROOM), Err(ParcelError::Schema(99))));
    }

    #[test]
    fn more_than_there_is_room_for_is_refused() {
        let file = tempfile::tempfile().unwrap();
        let mut writer = ParcelWriter::new(&file, 0, 8192);
        writer.write_all(&[1; 5000]).unwrap();
        assert_eq!(writer.finish().unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
