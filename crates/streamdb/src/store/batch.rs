//! Copies, renames, and several changes that become true together or not at all.

use sha2::{Digest, Sha256};

use super::write::place_small;
use super::{Conditions, IN_INDEX, Put, Store, Stored};
use crate::record::Record;
use crate::{BatchError, Key, Meta, WriteError};

/// One change of a batch.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Operation {
    /// Stores a value of at most [`Operation::MAX_VALUE`] bytes.
    Put {
        /// The key.
        key: Key,
        /// The value.
        value: Vec<u8>,
        /// The facts and conditions given with it.
        put: Put,
    },
    /// Deletes a value, if there is one.
    Delete {
        /// The key.
        key: Key,
        /// What must hold of the value.
        conditions: Conditions,
    },
    /// Gives a value a second key.
    Copy(Transfer),
    /// Moves a value to another key.
    Rename(Transfer),
}

impl Operation {
    /// The longest value in a batch, in bytes; longer ones are put on their own.
    pub const MAX_VALUE: usize = IN_INDEX;
    /// The most operations in a batch.
    pub const MAX_COUNT: usize = 1000;
}

/// From where to where a value goes.
#[derive(Debug, Clone)]
pub struct Transfer {
    /// The key that the value has.
    pub from: Key,
    /// The key that it gets.
    pub to: Key,
    /// What must hold of the value under `from`.
    pub source: Conditions,
    /// What must hold of a value that is under `to` already; without conditions it is replaced.
    pub target: Conditions,
}

impl Transfer {
    /// A transfer without conditions.
    #[must_use]
    pub fn new(from: Key, to: Key) -> Self {
        Self { from, to, source: Conditions::default(), target: Conditions::default() }
    }
}

impl Store {
    /// Gives a value a second key. Large values are shared on the disk, not copied, where the file
    /// system can. Content type, metadata and expiry go along.
    ///
    /// # Errors
    /// [`WriteError`]; nothing is then changed. A stream must be sealed before it is copied.
    pub fn copy(&self, copy: &Transfer) -> Result<Stored, WriteError> {
        let Transfer { from, to, source, target } = copy;
        let inner = &self.inner;
        let made = inner.commit(false, |change| change.copy(from, to, source, target))?;
        Ok(Stored { meta: made.0, replaced: made.1 })
    }

    /// Moves a value to another key at once: no reader sees both or neither. Who reads along an open
    /// stream goes on reading it.
    ///
    /// # Errors
    /// [`WriteError`]; nothing is then changed.
    pub fn rename(&self, rename: &Transfer) -> Result<Stored, WriteError> {
        let Transfer { from, to, source, target } = rename;
        let inner = &self.inner;
        let made = inner.commit(false, |change| change.rename(from, to, source, target))?;
        Ok(Stored { meta: made.0, replaced: made.1 })
    }

    /// Makes several changes in one commit, in this order: each sees what those before it did, and
    /// everybody else sees all of them or none. Returns the facts about each value that was put,
    /// copied or moved, and about each that was deleted, where there was one.
    ///
    /// # Errors
    /// [`BatchError`] names the first change that cannot be made; nothing is then changed.
    pub fn batch(&self, operations: &[Operation]) -> Result<Vec<Option<Meta>>, BatchError> {
        if operations.len() > Operation::MAX_COUNT {
            return Err(BatchError::TooMany { count: operations.len() });
        }
        let inner = &self.inner;
        let mut in_index = 0;
        for (at, operation) in operations.iter().enumerate() {
            let Operation::Put { value, put, .. } = operation else { continue };
            let limit = (Operation::MAX_VALUE as u64).min(inner.max_object);
            let length = value.len() as u64;
            in_index += length;
            let fits = if length > limit { Err(WriteError::TooLarge { limit }) } else { Ok(()) };
            fits.and_then(|()| put.check()).map_err(|error| BatchError::Step { at, error })?;
        }
        let frees = operations.iter().all(|one| matches!(one, Operation::Delete { .. }));
        if !frees {
            let room = inner.reserve.admit(in_index);
            room.map_err(WriteError::io("make room in the store in", &inner.dir))?;
        }
        inner.commit(frees, |change| {
            let mut done = Vec::with_capacity(operations.len());
            for (at, operation) in operations.iter().enumerate() {
                let step = match operation {
                    Operation::Put { key, value, put } => {
                        let checksum = Sha256::new().chain_update(value);
                        let meta = put.meta(value.len() as u64, checksum, change.now);
                        let (place, sum, payload) = place_small(value.clone());
                        let mut record = Record { meta, place, sum };
                        let step = change.insert(key, &mut record, &payload, &put.conditions)?;
                        step.map(|_| Some(record.meta))
                    }
                    Operation::Delete { key, conditions } => change.remove(key, conditions)?,
                    Operation::Copy(Transfer { from, to, source, target }) => {
                        change.copy(from, to, source, target)?.map(|made| Some(made.0))
                    }
                    Operation::Rename(Transfer { from, to, source, target }) => {
                        change.rename(from, to, source, target)?.map(|made| Some(made.0))
                    }
                };
                match step {
                    Ok(meta) => done.push(meta),
                    Err(error) => return Ok(Err(BatchError::Step { at, error })),
                }
            }
            Ok(Ok(done))
        })
    }
}
