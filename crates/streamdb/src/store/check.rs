//! Checking: every byte that is stored is read and compared with what was written.
//!
//! It finds and tells; it changes nothing but what the engine itself repairs in its own file.

use std::collections::BTreeSet;
use std::ops::Bound;

use redb::{ReadableTable, ReadableTableMetadata};
use sha2::{Digest, Sha256};

use super::expire::wanted_expiry;
use super::read::Seen;
use super::{Inner, Store};
use crate::content::{ContentId, Refused};
use crate::index::{EXPIRES, FILES, Fault, OBJECTS, SUFFIXES, VALUES};
use crate::key::reversed;
use crate::{Checksum, Key, Meta, ReadError};

/// What a check has found.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Check {
    /// Values read and compared, damaged ones included.
    pub keys: u64,
    /// Bytes of values that are whole.
    pub bytes: u64,
    /// Everything that is wrong; empty means that the store is whole.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong with a store.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// The key of the value concerned, where it concerns one.
    pub key: Option<String>,
    /// What is wrong.
    pub error: String,
    /// What to do about it.
    pub remedy: &'static str,
}

impl Store {
    /// Reads everything that is stored and compares it with the checksums, and the tables of the
    /// index with each other. `progress` is told the count of keys now and then.
    ///
    /// Meant for a store that nobody else uses now: writes and reads wait while the engine checks its
    /// own file, and a value that is put or deleted later during the check may be misreported.
    ///
    /// # Errors
    /// [`ReadError`] if the check itself could not go on; damage is not an error but a result.
    pub fn check(&self, mut progress: impl FnMut(u64)) -> Result<Check, ReadError> {
        let inner = &self.inner;
        let mut check = Check::default();
        match inner.index.verify() {
            Ok(true) => {}
            Ok(false) => check.problems.push(Problem {
                key: None,
                error: "the index had damaged pages, which the engine has repaired".to_owned(),
                remedy: "check again; restore from a backup if anything is reported then",
            }),
            Err(Fault::Damaged(detail)) => {
                check.index(detail);
                return Ok(check);
            }
            Err(fault) => return Err(inner.read_fault(fault)),
        }
        let mut named = BTreeSet::new();
        let mut in_table = 0;
        let mut last: Option<Vec<u8>> = None;
        while let Some(raw) = inner.key_after(last.as_deref())? {
            match Key::from_bytes(&raw) {
                Ok(key) => match inner.verify(&key, &mut named, &mut in_table)? {
                    Ok(size) => check.bytes += size,
                    Err(problem) => check.problems.push(problem),
                },
                Err(error) => check.index(format!("it holds a name that is no key: {error}")),
            }
            check.keys += 1;
            if check.keys % 1024 == 0 {
                progress(check.keys);
            }
            last = Some(raw);
        }
        progress(check.keys);
        inner.cross_check(&named, in_table, &mut check)?;
        Ok(check)
    }
}

impl Check {
    fn index(&mut self, error: String) {
        self.problems.push(Problem {
            key: None,
            error,
            remedy: "restore the store from a backup, or put its values into a new one",
        });
    }
}

impl Inner {
    fn key_after(&self, last: Option<&[u8]>) -> Result<Option<Vec<u8>>, ReadError> {
        self.index
            .read(|txn| {
                let from = last.map_or(Bound::Unbounded, Bound::Excluded);
                let objects = txn.open_table(OBJECTS)?;
                let next = objects.range::<&[u8]>((from, Bound::Unbounded))?.next();
                Ok(next.transpose()?.map(|(key, _)| key.value().to_vec()))
            })
            .map_err(|fault| self.read_fault(fault))
    }

    fn verify(
        &self,
        key: &Key,
        named: &mut BTreeSet<ContentId>,
        in_table: &mut u64,
    ) -> Result<Result<u64, Problem>, ReadError> {
        let twin = self
            .index
            .read(|txn| {
                let back = reversed(key.as_bytes());
                if txn.open_table(VALUES)?.get(key.as_bytes())?.is_some() {
                    return Ok((true, txn.open_table(SUFFIXES)?.get(back.as_slice())?.is_some()));
                }
                Ok((false, txn.open_table(SUFFIXES)?.get(back.as_slice())?.is_some()))
            })
            .map_err(|fault| self.read_fault(fault))?;
        *in_table += u64::from(twin.0);
        let problem = |error: String| Problem {
            key: Some(key.as_str().to_owned()),
            error,
            remedy: "put the value again from its source, or delete it",
        };
        if let Seen::File(_, id, _) = self.see(key)? {
            named.insert(id);
        }
        let read = self.read_whole(key)?;
        if !twin.1 {
            return Ok(Err(problem("it is missing from the listing by suffix".to_owned())));
        }
        Ok(read.map_err(problem))
    }

    /// Reads a value to its end, and returns its size or what is wrong with it.
    pub(super) fn read_whole(&self, key: &Key) -> Result<Result<u64, String>, ReadError> {
        Ok(match self.see(key)? {
            Seen::Nothing => Ok(0),
            Seen::Damaged(detail) => Err(detail),
            Seen::Whole(meta, sum, bytes) => {
                let sound = Checksum::of(&bytes) == meta.checksum
                    && bytes.len() as u64 == meta.size
                    && sum.is_none_or(|sum| sum == crc32fast::hash(&bytes));
                if sound {
                    Ok(meta.size)
                } else {
                    Err("its bytes do not match its SHA-256 and its CRC-32".to_owned())
                }
            }
            Seen::File(meta, id, sums) => self.verify_file(&meta, id, sums),
        })
    }

    fn verify_file(&self, meta: &Meta, id: ContentId, sums: Vec<u8>) -> Result<u64, String> {
        let mut reader = self
            .content
            .read(id, meta.size, sums)
            .map_err(|error| format!("its content file cannot be opened: {error}"))?;
        let actual = std::fs::metadata(self.content.path(id)).map_or(0, |file| file.len());
        // An open stream may have bytes beyond its end that were never acknowledged.
        if actual != meta.size && !(meta.open && actual > meta.size) {
            return Err(format!("its content file has {actual} bytes instead of {}", meta.size));
        }
        let mut checksum = Sha256::new();
        loop {
            match reader.next(16) {
                Ok(Some(piece)) => checksum.update(&piece),
                Ok(None) => break,
                Err(Refused::Damaged(detail)) => return Err(detail),
                Err(Refused::Io(error)) => {
                    return Err(format!("its content file cannot be read: {error}"));
                }
            }
        }
        if Checksum::from_bytes(checksum.finalize().into()) != meta.checksum {
            return Err("its bytes do not match its SHA-256".to_owned());
        }
        Ok(meta.size)
    }

    /// Looks for what one table of the index has and its counterpart lacks.
    fn cross_check(
        &self,
        named: &BTreeSet<ContentId>,
        in_table: u64,
        check: &mut Check,
    ) -> Result<(), ReadError> {
        let (late, objects, suffixes, values, stray) = self
            .index
            .read(|txn| {
                let mut stray = 0_u64;
                for item in txn.open_table(FILES)?.iter()? {
                    let id = ContentId::from_bytes(*item?.0.value());
                    stray += u64::from(!named.contains(&id));
                }
                let mut wanted = wanted_expiry(&txn.open_table(OBJECTS)?)?;
                let mut late = 0;
                for item in txn.open_table(EXPIRES)?.iter()? {
                    let (row, size) = item?;
                    let (at, raw) = row.value();
                    late += u64::from(wanted.remove(raw) != Some((at, size.value())));
                }
                late += wanted.len() as u64;
                Ok((
                    late,
                    txn.open_table(OBJECTS)?.len()?,
                    txn.open_table(SUFFIXES)?.len()?,
                    txn.open_table(VALUES)?.len()?,
                    stray,
                ))
            })
            .map_err(|fault| self.read_fault(fault))?;
        if late > 0 {
            check.index(format!(
                "{late} values are to expire at another time than they are said to"
            ));
        }
        if suffixes != objects {
            check.index(format!("the listing by suffix has {suffixes} keys, the store {objects}"));
        }
        if values > in_table {
            check.index(format!("{} values belong to no key", values - in_table));
        }
        if stray > 0 {
            check.index(format!("{stray} content files belong to no key"));
        }
        Ok(())
    }
}
