//! Putting and deleting: uploads, conditions, and the one transaction that makes them true.
//!
//! The order is what durability rests on: content file synced, then the index committed, then the
//! file of the value before removed. Reading is in [`super::read`].

use std::io::Read;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use redb::{ReadableTable, WriteTransaction};
use sha2::{Digest, Sha256};

use super::{IN_INDEX, IN_RECORD, Inner, Store, as_io};
use crate::content::Staged;
use crate::error::is_full;
use crate::index::{BYTES, COUNTERS, FILES, Fault, OBJECTS, SUFFIXES, VALUES, VERSION};
use crate::key::reversed;
use crate::record::{Place, Record};
use crate::{Checksum, Key, Meta, WriteError};

/// The values that a condition names, by their checksums.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tags {
    /// Any value at all.
    Any,
    /// Values with one of these checksums.
    Of(Vec<Checksum>),
}

/// What must hold of the value that is there for an operation to take place. The default asks for
/// nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conditions {
    /// The value must be there and be one of these.
    pub matches: Option<Tags>,
    /// The value must not be there, or be none of these.
    pub differs: Option<Tags>,
}

impl Conditions {
    /// Only if there is no value yet.
    #[must_use]
    pub fn absent() -> Self {
        Self { matches: None, differs: Some(Tags::Any) }
    }

    /// Only if the value is still the one with this checksum.
    #[must_use]
    pub fn unchanged(checksum: Checksum) -> Self {
        Self { matches: Some(Tags::Of(vec![checksum])), differs: None }
    }

    /// Whether nothing is asked for.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.matches.is_none() && self.differs.is_none()
    }

    /// Checks the conditions against the value that is there.
    ///
    /// # Errors
    /// [`WriteError::Condition`] says what was found instead.
    pub fn check(&self, key: &Key, there: Option<&Meta>) -> Result<(), WriteError> {
        let holds = self.matches.as_ref().is_none_or(|tags| tags.name(there))
            && self.differs.as_ref().is_none_or(|tags| !tags.name(there));
        if holds {
            return Ok(());
        }
        Err(WriteError::Condition {
            key: key.clone(),
            found: there.map_or_else(
                || "there is no value".to_owned(),
                |meta| format!("the value is now \"{}\"", meta.checksum),
            ),
        })
    }
}

impl Tags {
    pub(crate) fn name(&self, there: Option<&Meta>) -> bool {
        match (self, there) {
            (_, None) => false,
            (Self::Any, Some(_)) => true,
            (Self::Of(tags), Some(meta)) => tags.contains(&meta.checksum),
        }
    }
}

/// How a value is put.
#[derive(Debug, Clone, Default)]
pub struct Put {
    /// What kind of data it is; `application/octet-stream` if not told.
    pub content_type: Option<String>,
    /// What must hold of the value that is there.
    pub conditions: Conditions,
}

impl Put {
    /// Checks what can be checked before the value arrives.
    ///
    /// # Errors
    /// [`WriteError::ContentType`].
    pub fn check(&self) -> Result<(), WriteError> {
        match &self.content_type {
            Some(kind)
                if kind.is_empty()
                    || kind.len() > 255
                    || !kind.bytes().all(|byte| matches!(byte, b' '..=b'~')) =>
            {
                Err(WriteError::ContentType { given: kind.chars().take(80).collect() })
            }
            _ => Ok(()),
        }
    }
}

/// What a put has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The facts about the value now stored.
    pub meta: Meta,
    /// Whether there was a value before.
    pub replaced: bool,
}

/// A value on its way in. Its bytes go to the disk as they come; nothing is visible before
/// [`Upload::commit`], and an upload dropped before leaves nothing.
#[derive(Debug)]
pub struct Upload {
    inner: Arc<Inner>,
    small: Vec<u8>,
    staged: Option<Staged>,
    checksum: Sha256,
    size: u64,
}

impl Store {
    /// Begins an upload.
    #[must_use]
    pub fn upload(&self) -> Upload {
        Upload {
            inner: Arc::clone(&self.inner),
            small: Vec::new(),
            staged: None,
            checksum: Sha256::new(),
            size: 0,
        }
    }

    /// Stores a value under a key. When this returns, the value is on the disk.
    ///
    /// # Errors
    /// [`WriteError`]; what was stored before is then unchanged.
    pub fn put(&self, key: &Key, value: &[u8], put: &Put) -> Result<Stored, WriteError> {
        let mut upload = self.upload();
        upload.write(value)?;
        upload.commit(key, put)
    }

    /// Stores what a reader yields, without holding it in memory.
    ///
    /// # Errors
    /// [`WriteError`]; what was stored before is then unchanged. A failure of the reader is told as
    /// [`WriteError::Io`].
    pub fn put_from(
        &self,
        key: &Key,
        value: &mut dyn Read,
        put: &Put,
    ) -> Result<Stored, WriteError> {
        let mut upload = self.upload();
        let mut piece = vec![0; IN_INDEX];
        loop {
            let got = match value.read(&mut piece) {
                Ok(0) => break,
                Ok(got) => got,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    return Err(WriteError::Io {
                        doing: "read the value that was to be stored in",
                        path: self.inner.dir.clone(),
                        source,
                    });
                }
            };
            upload.write(piece.get(..got).unwrap_or_default())?;
        }
        upload.commit(key, put)
    }

    /// Deletes a value, and returns the facts about it, or `None` if there was none. When this
    /// returns, the deletion is on the disk.
    ///
    /// A value whose record is damaged is deleted too where no condition is given, and told with a
    /// version of 0.
    ///
    /// # Errors
    /// [`WriteError`]; the value is then still there.
    pub fn delete(&self, key: &Key, conditions: &Conditions) -> Result<Option<Meta>, WriteError> {
        let inner = &self.inner;
        let mut done = inner.index.write(|txn| remove(txn, key, conditions));
        // Even a delete needs room to write the changed pages to.
        if matches!(done, Err(Fault::Full)) && inner.reserve.release() {
            done = inner.index.write(|txn| remove(txn, key, conditions));
        }
        let done = done.map_err(|fault| inner.write_fault(fault));
        inner.reserve.take_back();
        done?.map(|gone| {
            gone.map(|(meta, place)| {
                inner.discard(&place, meta.size);
                meta
            })
        })
    }
}

impl Upload {
    /// Takes the next bytes of the value.
    ///
    /// # Errors
    /// [`WriteError::TooLarge`], [`WriteError::Full`] or [`WriteError::Io`]; the upload is then
    /// spoilt and must be dropped.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        let inner = Arc::clone(&self.inner);
        let size = self.size.saturating_add(bytes.len() as u64);
        if size > inner.max_object {
            return Err(WriteError::TooLarge { limit: inner.max_object });
        }
        self.checksum.update(bytes);
        self.size = size;
        if self.staged.is_none() && self.small.len() + bytes.len() <= IN_INDEX {
            self.small.extend_from_slice(bytes);
            return Ok(());
        }
        let failed =
            |error| WriteError::io("write a content file of the store in", &inner.dir)(error);
        let staged = match &mut self.staged {
            Some(staged) => staged,
            None => inner
                .reserve
                .admit(0)
                .and_then(|()| inner.content.stage())
                .and_then(|mut staged| {
                    staged.write(&std::mem::take(&mut self.small))?;
                    Ok(self.staged.insert(staged))
                })
                .map_err(failed)?,
        };
        staged.write(bytes).map_err(failed)
    }

    /// How many bytes have come.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Stores the bytes that have come as the value of a key. When this returns, the value is on
    /// the disk.
    ///
    /// # Errors
    /// [`WriteError`]; what was stored before is then unchanged. Only if the disk failed in the
    /// commit itself it may be either the old value or the new one, but always a whole one.
    pub fn commit(self, key: &Key, put: &Put) -> Result<Stored, WriteError> {
        put.check()?;
        let Self { inner, small, staged, checksum, size } = self;
        let in_index = if staged.is_some() { 0 } else { size };
        inner
            .reserve
            .admit(in_index)
            .map_err(WriteError::io("make room in the store in", &inner.dir))?;
        let (place, payload) = match staged {
            Some(staged) => {
                let (id, sums) = inner
                    .content
                    .publish(staged)
                    .map_err(WriteError::io("finish a content file of the store in", &inner.dir))?;
                (Place::File(id), sums)
            }
            None if small.len() <= IN_RECORD => (Place::Record(small), Vec::new()),
            None => (Place::Table, small),
        };
        let mut record = Record {
            meta: Meta {
                size,
                checksum: Checksum::from_bytes(checksum.finalize().into()),
                version: 0,
                created: now(),
                modified: now(),
                content_type: put
                    .content_type
                    .clone()
                    .unwrap_or_else(|| "application/octet-stream".to_owned()),
            },
            place: place.clone(),
        };
        let done =
            inner.index.write(|txn| insert(txn, key, &mut record, &payload, &put.conditions));
        match done {
            Ok(Ok(before)) => {
                let replaced = before.is_some();
                if let Some((meta, place)) = before {
                    inner.discard(&place, meta.size);
                }
                Ok(Stored { meta: record.meta, replaced })
            }
            Ok(Err(refusal)) => {
                inner.withdraw(&place);
                Err(refusal)
            }
            Err(fault) => {
                inner.revive();
                inner.withdraw(&place);
                Err(inner.write_fault(fault))
            }
        }
    }
}

impl Inner {
    fn write_fault(&self, fault: Fault) -> WriteError {
        match fault {
            Fault::Damaged(detail) => WriteError::DamagedIndex { detail },
            Fault::Full => WriteError::Full { dir: self.dir.clone() },
            other => {
                let error = as_io(other);
                if is_full(&error) {
                    return self.write_fault(Fault::Full);
                }
                WriteError::io("write the index of the store in", &self.dir)(error)
            }
        }
    }

    /// Reopens the index after a failure, lending it the reserve if the disk has no room even for
    /// that. What cannot be healed now is tried again by the next transaction.
    fn revive(&self) {
        if matches!(self.index.heal(), Err(Fault::Full)) && self.reserve.release() {
            let _ = self.index.heal();
            self.reserve.take_back();
        }
    }

    /// Frees what a value that is no longer named has held.
    fn discard(&self, place: &Place, size: u64) {
        match place {
            Place::File(id) => self.content.remove(*id),
            Place::Record(_) | Place::Table => self.reserve.freed(size),
        }
    }

    /// Removes the content file of a put that did not succeed, unless it did after all: when the
    /// disk fails in the commit itself, only the reopened index knows.
    fn withdraw(&self, place: &Place) {
        if let Place::File(id) = place {
            let named =
                self.index.read(|txn| Ok(txn.open_table(FILES)?.get(&id.to_bytes())?.is_some()));
            if matches!(named, Ok(false)) {
                self.content.remove(*id);
            }
        }
    }
}

type Before = Option<(Meta, Place)>;

fn insert(
    txn: &WriteTransaction,
    key: &Key,
    record: &mut Record,
    payload: &[u8],
    conditions: &Conditions,
) -> Result<Result<Before, WriteError>, Fault> {
    let mut objects = txn.open_table(OBJECTS)?;
    let before = match find(&objects, key, conditions)? {
        Ok(before) => before,
        Err(refusal) => return Ok(Err(refusal)),
    };
    clear(txn, key, before.as_ref())?;
    let mut counters = txn.open_table(COUNTERS)?;
    let version = counters.get(VERSION)?.map_or(0, |number| number.value()) + 1;
    let bytes = counters.get(BYTES)?.map_or(0, |number| number.value());
    let before_size = before.as_ref().map_or(0, |(meta, _)| meta.size);
    counters.insert(VERSION, version)?;
    counters.insert(BYTES, bytes.saturating_sub(before_size).saturating_add(record.meta.size))?;
    record.meta.version = version;
    if let Some((meta, _)) = before.as_ref().filter(|(meta, _)| meta.version > 0) {
        record.meta.created = meta.created;
    }
    match &record.place {
        Place::Record(_) => {}
        Place::Table => {
            txn.open_table(VALUES)?.insert(key.as_bytes(), payload)?;
        }
        Place::File(id) => {
            txn.open_table(FILES)?.insert(&id.to_bytes(), payload)?;
        }
    }
    objects.insert(key.as_bytes(), record.encode(key).as_slice())?;
    if before.is_none() {
        txn.open_table(SUFFIXES)?.insert(reversed(key.as_bytes()).as_slice(), ())?;
    }
    Ok(Ok(before))
}

fn remove(
    txn: &WriteTransaction,
    key: &Key,
    conditions: &Conditions,
) -> Result<Result<Before, WriteError>, Fault> {
    let mut objects = txn.open_table(OBJECTS)?;
    let before = match find(&objects, key, conditions)? {
        Ok(before) => before,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if let Some((meta, _)) = &before {
        clear(txn, key, before.as_ref())?;
        objects.remove(key.as_bytes())?;
        txn.open_table(SUFFIXES)?.remove(reversed(key.as_bytes()).as_slice())?;
        let mut counters = txn.open_table(COUNTERS)?;
        let bytes = counters.get(BYTES)?.map_or(0, |number| number.value());
        counters.insert(BYTES, bytes.saturating_sub(meta.size))?;
        // A deletion is a write too: the next put must not repeat a number.
        let version = counters.get(VERSION)?.map_or(0, |number| number.value());
        counters.insert(VERSION, version + 1)?;
    }
    Ok(Ok(before))
}

/// Looks up what is there and checks the conditions against it. A damaged record may be replaced or
/// removed, since that is its remedy, but it satisfies no condition.
fn find(
    objects: &impl ReadableTable<&'static [u8], &'static [u8]>,
    key: &Key,
    conditions: &Conditions,
) -> Result<Result<Before, WriteError>, Fault> {
    let Some(bytes) = objects.get(key.as_bytes())? else {
        return Ok(conditions.check(key, None).map(|()| None));
    };
    Ok(match Record::decode(key, bytes.value()) {
        Ok(record) => {
            conditions.check(key, Some(&record.meta)).map(|()| Some((record.meta, record.place)))
        }
        Err(_) if conditions.is_none() => Ok(Some((lost(), Place::Table))),
        Err(unreadable) => {
            Err(WriteError::DamagedIndex { detail: format!("{key:?}: {}", unreadable.0) })
        }
    })
}

/// What stands for the facts of a value whose record cannot be read.
fn lost() -> Meta {
    Meta {
        size: 0,
        checksum: Checksum::from_bytes([0; 32]),
        version: 0,
        created: 0,
        modified: 0,
        content_type: String::new(),
    }
}

fn clear(txn: &WriteTransaction, key: &Key, before: Option<&(Meta, Place)>) -> Result<(), Fault> {
    match before {
        Some((_, Place::Table)) => {
            txn.open_table(VALUES)?.remove(key.as_bytes())?;
        }
        Some((_, Place::File(id))) => {
            txn.open_table(FILES)?.remove(&id.to_bytes())?;
        }
        Some((_, Place::Record(_))) | None => {}
    }
    Ok(())
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
