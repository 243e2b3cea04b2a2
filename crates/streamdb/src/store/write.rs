//! Putting and deleting: uploads on their way in, and the facts given with them.
//!
//! The order is what durability rests on: content file synced, then the index committed, then the
//! file of the value before removed. The transaction itself is in [`super::change`].

#[cfg(feature = "server")]
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::{Conditions, IN_INDEX, IN_RECORD, Inner, Store};
use crate::content::Staged;
use crate::record::{Place, Record, USUAL_KIND};
use crate::{Checksum, Key, Meta, ReadError, WriteError};

/// How a value is put.
#[derive(Debug, Clone, Default)]
pub struct Put {
    /// What kind of data it is; `application/octet-stream` if not told.
    pub content_type: Option<String>,
    /// What must hold of the value that is there.
    pub conditions: Conditions,
    /// From when on the value is no longer there, in milliseconds since 1970-01-01 UTC; never if
    /// not told.
    pub expires: Option<u64>,
    /// Notes of the owner's own, by name. Names are lower-case letters, digits, `-`, `_` and `.`;
    /// values visible ASCII and spaces, so that headers carry them.
    pub user: BTreeMap<String, String>,
}

impl Put {
    /// The most names in [`Put::user`].
    pub const MAX_USER: usize = 32;
    /// The most bytes of names and values in [`Put::user`] together.
    pub const MAX_USER_BYTES: usize = 4096;

    /// Checks what can be checked before the value arrives.
    ///
    /// # Errors
    /// [`WriteError::ContentType`] or [`WriteError::User`].
    pub fn check(&self) -> Result<(), WriteError> {
        let mut bytes = 0;
        for (name, value) in &self.user {
            bytes += name.len() + value.len();
            let named = !name.is_empty()
                && name.len() <= 128
                && name
                    .bytes()
                    .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.'));
            if !named || !value.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
                return Err(WriteError::User { name: name.chars().take(80).collect() });
            }
        }
        if bytes > Self::MAX_USER_BYTES || self.user.len() > Self::MAX_USER {
            return Err(WriteError::UserTooLarge { bytes, names: self.user.len() });
        }
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
    limit: u64,
    of: Option<Key>,
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
            limit: self.inner.max_object,
            of: None,
        }
    }

    /// Begins an upload of a value for this key: one that [`Store::room`] has no room for is
    /// refused while it comes, rather than when all of it is on the disk.
    ///
    /// # Errors
    /// [`ReadError`] if the index cannot be read.
    pub fn upload_for(&self, key: &Key) -> Result<Upload, ReadError> {
        Ok(Upload { limit: self.room(key)?, of: Some(key.clone()), ..self.upload() })
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
        let mut found = None;
        let gone = self.inner.commit(true, |change| {
            let gone = change.remove(key, conditions)?;
            if let Ok(Some(meta)) = &gone {
                found = Some(meta.clone());
            }
            Ok(gone)
        });
        match gone {
            // A full disk is tried again, and what failed in the commit itself may have been done.
            Ok(None) | Err(WriteError::Condition { .. }) if found.is_some() => Ok(found),
            gone => gone,
        }
    }
}

impl Upload {
    /// Up to so many bytes a value is kept in the index.
    #[cfg(feature = "server")]
    pub(crate) const SMALL: usize = IN_INDEX;

    /// Takes the next bytes of the value.
    ///
    /// # Errors
    /// [`WriteError::TooLarge`], [`WriteError::Quota`], [`WriteError::Full`] or [`WriteError::Io`];
    /// the upload is then spoilt and must be dropped.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        let inner = Arc::clone(&self.inner);
        let size = self.size.saturating_add(bytes.len() as u64);
        self.admits(size)?;
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

    /// Whether the value may have so many bytes.
    ///
    /// # Errors
    /// [`WriteError::TooLarge`] or [`WriteError::Quota`].
    pub fn admits(&self, size: u64) -> Result<(), WriteError> {
        if size <= self.limit {
            return Ok(());
        }
        Err(match &self.of {
            Some(key) => self.inner.over(key, size),
            None => WriteError::TooLarge { limit: self.limit },
        })
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
        let Self { inner, small, staged, checksum, size, .. } = self;
        let in_index = if staged.is_some() { 0 } else { size };
        inner
            .reserve
            .admit(in_index)
            .map_err(WriteError::io("make room in the store in", &inner.dir))?;
        let (place, sum, payload) = match staged {
            Some(staged) => {
                let (id, sums) = inner
                    .content
                    .publish(staged)
                    .map_err(WriteError::io("finish a content file of the store in", &inner.dir))?;
                (Place::File(id), None, sums)
            }
            None => place_small(small),
        };
        let made = place.file();
        let mut record = Record { meta: put.meta(size, checksum, inner.now()), place, sum };
        let replaced = inner.commit(false, |change| {
            change.effects.made.extend(made);
            change.insert(key, &mut record, &payload, &put.conditions)
        })?;
        Ok(Stored { meta: record.meta, replaced })
    }
}

/// A value short enough for the index, with its key, before its commit.
#[cfg(feature = "server")]
#[derive(Debug)]
pub(crate) struct Small {
    pub(crate) upload: Upload,
    pub(crate) key: Key,
    pub(crate) put: Put,
}

/// Commits several small values of one store in one transaction. Each is taken or refused as if it
/// had come alone, in this order.
#[cfg(feature = "server")]
pub(crate) fn commit_together(smalls: Vec<Small>) -> Vec<Result<Stored, WriteError>> {
    let Some(inner) = smalls.first().map(|small| Arc::clone(&small.upload.inner)) else {
        return Vec::new();
    };
    let one_by_one = |smalls: Vec<Small>| {
        smalls.into_iter().map(|Small { upload, key, put }| upload.commit(&key, &put)).collect()
    };
    // Quotas refuse a transaction as a whole, and what refused it is only known of a single one.
    let simple = |small: &Small| small.upload.staged.is_none() && small.put.check().is_ok();
    let size = smalls.iter().map(|small| small.upload.size).sum();
    if smalls.len() == 1
        || !inner.quotas.is_empty()
        || !smalls.iter().all(simple)
        || inner.reserve.admit(size).is_err()
    {
        return one_by_one(smalls);
    }
    let now = inner.now();
    // Whether all of them were in the index but for the commit itself.
    let entered = Cell::new(false);
    let done = inner.commit(false, |change| {
        let mut done = Vec::with_capacity(smalls.len());
        for Small { upload, key, put } in &smalls {
            let (place, sum, payload) = place_small(upload.small.clone());
            let meta = put.meta(upload.size, upload.checksum.clone(), now);
            let mut record = Record { meta, place, sum };
            // Refuses before it changes anything, so the others stand.
            let step = change.insert(key, &mut record, &payload, &put.conditions)?;
            done.push(step.map(|replaced| Stored { meta: record.meta, replaced }));
        }
        entered.set(true);
        Ok(Ok::<_, WriteError>(done))
    });
    match done {
        Ok(done) => done,
        // When the disk fails in the commit itself they may be stored all the same. Tried again, one
        // that was to be put only where nothing is would find itself, and be refused.
        Err(error) if entered.get() => smalls.iter().map(|_| Err(error.again())).collect(),
        // What stopped all of them may be the fault of one.
        Err(_) => one_by_one(smalls),
    }
}

impl Put {
    /// The facts about a value that is put now.
    pub(super) fn meta(&self, size: u64, checksum: Sha256, now: u64) -> Meta {
        Meta {
            size,
            checksum: Checksum::from_bytes(checksum.finalize().into()),
            version: 0,
            created: now,
            modified: now,
            content_type: self.content_type.clone().unwrap_or_else(|| USUAL_KIND.to_owned()),
            open: false,
            expires: self.expires,
            user: self.user.clone(),
        }
    }
}

/// Where a value short enough for the index goes, its sum, and what goes into the table of values.
pub(super) fn place_small(value: Vec<u8>) -> (Place, Option<u32>, Vec<u8>) {
    let sum = Some(crc32fast::hash(&value));
    if value.len() <= IN_RECORD {
        (Place::Record(value), sum, Vec::new())
    } else {
        (Place::Table, sum, value)
    }
}
