//! Reading values: whole or in part, verified before a byte is handed out.
//!
//! Small values are checked against their CRC-32, content files against the sums of their chunks.
//! Checking everything that is stored is [`super::check`]'s.

use std::io::{self, Read};
use std::ops::Range;

use bytes::Bytes;

use super::{Inner, Store};
#[cfg(feature = "server")]
use crate::content::InMemory;
use crate::content::{ContentId, Refused, Verified};
use crate::index::{FILES, Fault, OBJECTS, SUMS, VALUES};
use crate::record::{Place, Record};
use crate::{Checksum, Key, Meta, ReadError};

/// A stored value, opened: it stays readable, as it is now, whatever is put or deleted meanwhile.
#[derive(Debug)]
pub struct Object {
    key: Key,
    meta: Meta,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Whole(Bytes),
    File(Verified),
}

/// What one transaction has seen of a value.
pub(super) enum Seen {
    Nothing,
    Whole(Meta, Option<u32>, Vec<u8>),
    File(Meta, ContentId, Vec<u8>),
    Damaged(String),
}

impl Store {
    /// The facts about a value, or `None` if there is none under the key.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn stat(&self, key: &Key) -> Result<Option<Meta>, ReadError> {
        let found = self.inner.index.read(|txn| {
            let objects = txn.open_table(OBJECTS)?;
            let record = objects.get(key.as_bytes())?;
            Ok(record.map(|bytes| Record::read(key, bytes.value()).map(|record| record.meta)))
        });
        match found.map_err(|fault| self.inner.read_fault(fault))? {
            None => Ok(None),
            Some(Ok(meta)) => Ok(Some(meta).filter(|meta| !meta.expired(self.inner.now()))),
            Some(Err(unreadable)) => Err(damaged(key, unreadable.0)),
        }
    }

    /// Opens a value, or returns `None` if there is none under the key.
    ///
    /// # Errors
    /// [`ReadError`]; a small value that is damaged is told here, a large one while it is read.
    pub fn get(&self, key: &Key) -> Result<Option<Object>, ReadError> {
        let mut missing = None;
        loop {
            let (meta, id, sums) = match self.inner.see(key)? {
                Seen::Nothing => return Ok(None),
                Seen::Damaged(detail) => return Err(damaged(key, detail)),
                Seen::Whole(meta, ..) | Seen::File(meta, ..) if meta.expired(self.inner.now()) => {
                    return Ok(None);
                }
                Seen::Whole(meta, sum, bytes) => {
                    let intact = match sum {
                        Some(sum) => crc32fast::hash(&bytes) == sum,
                        None => Checksum::of(&bytes) == meta.checksum,
                    };
                    if !intact || bytes.len() as u64 != meta.size {
                        return Err(damaged(key, "its bytes are not those that were put"));
                    }
                    return Ok(Some(Object {
                        key: key.clone(),
                        meta,
                        content: Content::Whole(bytes.into()),
                    }));
                }
                Seen::File(meta, id, sums) => (meta, id, sums),
            };
            match self.inner.content.read(id, meta.size, sums) {
                Ok(reader) => {
                    return Ok(Some(Object {
                        key: key.clone(),
                        meta,
                        content: Content::File(reader),
                    }));
                }
                // Replaced or deleted since the look-up; unless the index still says the same.
                Err(error) if error.kind() == io::ErrorKind::NotFound && missing != Some(id) => {
                    missing = Some(id);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(damaged(key, "its content file is missing"));
                }
                Err(error) => {
                    return Err(ReadError::io("open", &self.inner.content.path(id))(error));
                }
            }
        }
    }
}

impl Inner {
    pub(super) fn see(&self, key: &Key) -> Result<Seen, ReadError> {
        self.index
            .read(|txn| {
                let objects = txn.open_table(OBJECTS)?;
                let Some(bytes) = objects.get(key.as_bytes())? else {
                    return Ok(Seen::Nothing);
                };
                let Record { meta, place, sum } = match Record::read(key, bytes.value()) {
                    Ok(record) => record,
                    Err(unreadable) => return Ok(Seen::Damaged(unreadable.0.to_owned())),
                };
                Ok::<_, Fault>(match place {
                    Place::Record(value) => Seen::Whole(meta, sum, value.to_vec()),
                    Place::Table => match txn.open_table(VALUES)?.get(key.as_bytes())? {
                        Some(value) => Seen::Whole(meta, sum, value.value().to_vec()),
                        None => Seen::Damaged("its bytes are missing from the index".to_owned()),
                    },
                    Place::File(id) => match txn.open_table(FILES)?.get(&id.to_bytes())? {
                        Some(sums) => Seen::File(meta, id, sums.value().to_vec()),
                        None => Seen::Damaged("its file is missing from the index".to_owned()),
                    },
                    Place::Open(id) => {
                        let mut sums = Vec::new();
                        let id_bytes = id.to_bytes();
                        let blocks = txn.open_table(SUMS)?;
                        for block in blocks.range((&id_bytes, 0)..=(&id_bytes, u64::MAX))? {
                            sums.extend_from_slice(block?.1.value());
                        }
                        Seen::File(meta, id, sums)
                    }
                })
            })
            .map_err(|fault| self.read_fault(fault))
    }
}

fn told(key: &Key, refused: Refused) -> ReadError {
    match refused {
        Refused::Damaged(detail) => damaged(key, detail),
        Refused::Io(source) => {
            ReadError::Io { doing: "read the content file of", path: key.as_str().into(), source }
        }
    }
}

fn damaged(key: &Key, detail: impl Into<String>) -> ReadError {
    ReadError::Damaged { key: key.clone(), detail: detail.into() }
}

impl Object {
    /// The facts about the value.
    #[must_use]
    pub const fn meta(&self) -> &Meta {
        &self.meta
    }

    /// A reader of the whole value.
    #[must_use]
    pub fn into_reader(self) -> ObjectReader {
        let whole = 0..self.meta.size;
        self.into_range(whole)
    }

    /// A reader of a part of the value, in bytes from its start; a bound past the end means the end.
    #[must_use]
    pub fn into_range(self, range: Range<u64>) -> ObjectReader {
        let content = match self.content {
            Content::Whole(bytes) => {
                let end = usize::try_from(range.end).unwrap_or(usize::MAX).min(bytes.len());
                let start = usize::try_from(range.start).unwrap_or(usize::MAX).min(end);
                Content::Whole(bytes.slice(start..end))
            }
            Content::File(mut reader) => {
                reader.narrow(range.start, range.end);
                Content::File(reader)
            }
        };
        ObjectReader { key: self.key, content, held: Bytes::new() }
    }

    /// The whole value in memory.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn into_bytes(self) -> Result<Vec<u8>, ReadError> {
        let mut reader = match self.content {
            // Handed on as it stands, without a copy.
            Content::Whole(bytes) => return Ok(bytes.into()),
            Content::File(_) => self.into_reader(),
        };
        let mut whole = Vec::new();
        while let Some(piece) = reader.next_piece()? {
            whole.extend_from_slice(&piece);
        }
        Ok(whole)
    }
}

/// Reads a value, or a part of one, piece by piece. Every byte it yields has been verified; after an
/// error it must be dropped.
#[derive(Debug)]
pub struct ObjectReader {
    key: Key,
    content: Content,
    held: Bytes,
}

/// Chunks read at a time: enough that the hop to a blocking thread costs little, few enough that
/// a thousand slow readers fit in memory.
const CHUNKS: usize = 4;

impl ObjectReader {
    /// The next bytes, at most 256 KiB of a large value; `None` at the end.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] if they are not those that were written, [`ReadError::Io`] if they
    /// could not be read.
    pub fn next_piece(&mut self) -> Result<Option<Bytes>, ReadError> {
        if !self.held.is_empty() {
            return Ok(Some(std::mem::take(&mut self.held)));
        }
        match &mut self.content {
            Content::Whole(bytes) if bytes.is_empty() => Ok(None),
            Content::Whole(bytes) => Ok(Some(std::mem::take(bytes))),
            Content::File(reader) => {
                reader.next(CHUNKS).map_err(|refused| told(&self.key, refused))
            }
        }
    }

    /// The next bytes, if they are to be had without waiting for the disk: `None` means that
    /// [`Self::next_piece`] has to.
    #[cfg(feature = "server")]
    pub(crate) fn next_in_memory(&mut self) -> Result<Option<Option<Bytes>>, ReadError> {
        match &mut self.content {
            Content::File(reader) if self.held.is_empty() => {
                let next = reader.next_in_memory(CHUNKS);
                Ok(match next.map_err(|refused| told(&self.key, refused))? {
                    InMemory::Piece(piece) => Some(Some(piece)),
                    InMemory::End => Some(None),
                    InMemory::No => None,
                })
            }
            _ => self.next_piece().map(Some),
        }
    }

    /// How many bytes are left to read.
    #[must_use]
    pub fn left(&self) -> u64 {
        let content = match &self.content {
            Content::Whole(bytes) => bytes.len() as u64,
            Content::File(reader) => reader.left(),
        };
        self.held.len() as u64 + content
    }
}

impl Read for ObjectReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        match self.next_piece().map_err(io::Error::other)? {
            None => Ok(0),
            Some(mut piece) => {
                let count = piece.len().min(buffer.len());
                for (to, from) in buffer.iter_mut().zip(piece.split_to(count)) {
                    *to = from;
                }
                self.held = piece;
                Ok(count)
            }
        }
    }
}
