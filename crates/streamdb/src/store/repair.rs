//! Repair: a damaged store becomes a whole one, and what was damaged goes to `quarantine/`.
//!
//! Nothing is dropped: of each value that is taken out, its key, its record and whatever is left of
//! its bytes are kept in files that a person can look at. What can be told from other tables of the
//! index is mended. Finding damage is [`super::check`]'s.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use redb::{ReadableTable, WriteTransaction};

use super::expire::wanted_expiry;
use super::{Conditions, Inner, Store};
use crate::content::{ContentId, sync_dir};
use crate::index::{BYTES, COUNTERS, EXPIRES, FILES, Fault, OBJECTS, OPEN, SUFFIXES, SUMS, VALUES};
use crate::key::reversed;
use crate::record::{Place, Record};
use crate::{BackupError, Check, Key, WriteError};

/// What a repair has done.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Repair {
    /// What the check had found.
    pub found: Check,
    /// What was taken out, and where it is now.
    pub quarantined: Vec<Quarantined>,
    /// Rows of the index put right from others.
    pub mended: u64,
}

/// Something that was taken out of the store.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Quarantined {
    /// The key of the value, where it is known.
    pub key: Option<String>,
    /// The directory that holds what is left of it.
    pub path: PathBuf,
}

impl Store {
    /// Checks the store as [`Store::check`] does, takes what is damaged out of it into
    /// `quarantine/`, and mends the tables of the index. A check afterwards finds nothing.
    ///
    /// Meant for a store that nobody else uses now.
    ///
    /// # Errors
    /// [`BackupError`] if the quarantine cannot be written or the index not changed; what was not
    /// yet taken out is then still in the store.
    pub fn repair(&self, progress: impl FnMut(u64)) -> Result<Repair, BackupError> {
        let inner = &self.inner;
        let found = self.check(progress).map_err(BackupError::Read)?;
        let mut repair = Repair { found, ..Repair::default() };
        let keys: Vec<_> = repair
            .found
            .problems
            .iter()
            .filter_map(|problem| Key::new(problem.key.clone()?).ok())
            .collect();
        for raw in inner.nameless()? {
            let path = inner.quarantine_row(&raw)?;
            repair.quarantined.push(Quarantined { key: None, path });
        }
        for key in keys {
            if inner.readable(&key)? {
                // Only its row among the suffixes is missing.
                continue;
            }
            let path = inner.set_aside(&key)?;
            inner.commit::<_, WriteError>(true, |change| {
                change.remove(&key, &Conditions::default()).map(|done| done.map(drop))
            })?;
            repair.quarantined.push(Quarantined { key: Some(key.as_str().into()), path });
        }
        if !repair.found.problems.is_empty() {
            inner.mend(&mut repair)?;
        }
        Ok(repair)
    }
}

impl Inner {
    /// Rows of the index whose names are no keys: nobody can ask for their values.
    fn nameless(&self) -> Result<Vec<Vec<u8>>, BackupError> {
        let found = self.index.read(|txn| {
            let mut found = Vec::new();
            for item in txn.open_table(OBJECTS)?.iter()? {
                let (raw, _) = item?;
                if Key::from_bytes(raw.value()).is_err() {
                    found.push(raw.value().to_vec());
                }
            }
            Ok(found)
        });
        found.map_err(|fault| BackupError::Read(self.read_fault(fault)))
    }

    /// Keeps such a row, and takes it out. A file that it named is nobody's then, and is found as
    /// such by [`Inner::mend`].
    fn quarantine_row(&self, raw: &[u8]) -> Result<PathBuf, BackupError> {
        let (record, value) = self.rows(raw)?;
        let parts = [("key", Some(raw)), ("record", Some(&*record)), ("value", value.as_deref())];
        let path = self.quarantine(&parts, None)?;
        self.commit::<_, WriteError>(true, |change| {
            change.tables.objects.get()?.remove(raw)?;
            change.tables.values.get()?.remove(raw)?;
            change.tables.suffixes.get()?.remove(reversed(raw).as_slice())?;
            Ok(Ok(()))
        })?;
        Ok(path)
    }

    /// What the index holds under a name: the record, and the value where it is apart from that.
    fn rows(&self, raw: &[u8]) -> Result<(Vec<u8>, Option<Vec<u8>>), BackupError> {
        let rows = self.index.read(|txn| {
            let record = txn.open_table(OBJECTS)?.get(raw)?;
            let record = record.map(|record| record.value().to_vec()).unwrap_or_default();
            let value = txn.open_table(VALUES)?.get(raw)?;
            Ok((record, value.map(|value| value.value().to_vec())))
        });
        rows.map_err(|fault| BackupError::Read(self.read_fault(fault)))
    }

    fn readable(&self, key: &Key) -> Result<bool, BackupError> {
        Ok(self.read_whole(key).map_err(BackupError::Read)?.is_ok())
    }

    /// Keeps what is left of a value, before it is removed.
    fn set_aside(&self, key: &Key) -> Result<PathBuf, BackupError> {
        let (record, value) = self.rows(key.as_bytes())?;
        let file = Record::read(key, &record).ok().and_then(|record| record.place.file());
        let parts =
            [("key", Some(key.as_bytes())), ("record", Some(&record)), ("value", value.as_deref())];
        self.quarantine(&parts, file)
    }

    /// Writes files into a new directory of the quarantine.
    fn quarantine(
        &self,
        parts: &[(&str, Option<&[u8]>)],
        content: Option<ContentId>,
    ) -> Result<PathBuf, BackupError> {
        let root = self.dir.join("quarantine");
        let write = || -> io::Result<PathBuf> {
            fs::create_dir_all(&root)?;
            let dir = unused(&root, self.now())?;
            for (name, bytes) in parts {
                if let Some(bytes) = bytes {
                    let mut file = File::create_new(dir.join(name))?;
                    file.write_all(bytes)?;
                    file.sync_all()?;
                }
            }
            if let Some(from) = content.map(|id| self.content.path(id)).filter(|path| path.exists())
            {
                let to = dir.join("content");
                if fs::hard_link(&from, &to).is_err() {
                    fs::copy(&from, &to)?;
                    File::open(&to)?.sync_all()?;
                }
            }
            sync_dir(&dir)?;
            sync_dir(&root)?;
            sync_dir(&self.dir)?;
            Ok(dir)
        };
        write().map_err(BackupError::io("write the quarantine", &root))
    }

    /// Makes the tables of the index agree with the records.
    fn mend(&self, repair: &mut Repair) -> Result<(), BackupError> {
        let stray = self
            .index
            .read(|txn| {
                let mut named = BTreeSet::new();
                let mut in_table = BTreeSet::new();
                for item in txn.open_table(OBJECTS)?.iter()? {
                    let (raw, record) = item?;
                    let Ok(key) = Key::from_bytes(raw.value()) else { continue };
                    match Record::read(&key, record.value()).map(|record| record.place) {
                        Ok(Place::File(id) | Place::Open(id)) => drop(named.insert(id)),
                        Ok(Place::Table) => drop(in_table.insert(key)),
                        _ => {}
                    }
                }
                let mut files = Vec::new();
                for item in txn.open_table(FILES)?.iter()? {
                    let id = ContentId::from_bytes(*item?.0.value());
                    files.extend((!named.contains(&id)).then_some(id));
                }
                let mut values = BTreeMap::new();
                for item in txn.open_table(VALUES)?.iter()? {
                    let (raw, value) = item?;
                    let known =
                        Key::from_bytes(raw.value()).is_ok_and(|key| in_table.contains(&key));
                    if !known {
                        values.insert(raw.value().to_vec(), value.value().to_vec());
                    }
                }
                Ok((files, values))
            })
            .map_err(|fault| BackupError::Read(self.read_fault(fault)))?;
        for id in &stray.0 {
            let path = self.quarantine(&[], Some(*id))?;
            repair.quarantined.push(Quarantined { key: None, path });
        }
        for (raw, value) in &stray.1 {
            let path = self.quarantine(&[("key", Some(raw)), ("value", Some(value))], None)?;
            let key = String::from_utf8(raw.clone()).ok();
            repair.quarantined.push(Quarantined { key, path });
        }
        repair.mended = self.commit::<_, WriteError>(true, |change| {
            for id in &stray.0 {
                change.tables.files.get()?.remove(&id.to_bytes())?;
                change.close(*id)?;
                change.effects.freed.push((Place::File(*id), 0));
            }
            for raw in stray.1.keys() {
                change.tables.values.get()?.remove(raw.as_slice())?;
            }
            let txn = change.tables.settle()?;
            let mended = mend_suffixes(txn)? + mend_expiry(txn)?;
            let sums = super::quota::sum(txn, change.quotas.iter())?;
            Ok(Ok(mended + sums))
        })?;
        Ok(())
    }
}

/// Writes the listing by suffix anew where it differs from the records, and the count of bytes.
fn mend_suffixes(txn: &WriteTransaction) -> Result<u64, Fault> {
    let mut mended = 0;
    let mut bytes = 0_u64;
    let objects = txn.open_table(OBJECTS)?;
    let mut suffixes = txn.open_table(SUFFIXES)?;
    for item in objects.iter()? {
        let (raw, record) = item?;
        mended += u64::from(suffixes.insert(reversed(raw.value()).as_slice(), ())?.is_none());
        if let Ok(key) = Key::from_bytes(raw.value()) {
            bytes += Record::read(&key, record.value()).map_or(0, |record| record.meta.size);
        }
    }
    suffixes.retain(|back, ()| {
        let there = matches!(objects.get(reversed(back).as_slice()), Ok(Some(_)));
        mended += u64::from(!there);
        there
    })?;
    let mut counters = txn.open_table(COUNTERS)?;
    let counted = counters.insert(BYTES, bytes)?.map(|counted| counted.value());
    mended += u64::from(counted != Some(bytes));
    // Sums of streams that are none any more are harmless, but nobody else would remove them.
    let open = txn.open_table(OPEN)?;
    txn.open_table(SUMS)?.retain(|(id, _), _| matches!(open.get(id), Ok(Some(_))))?;
    Ok(mended)
}

/// Writes the list of what expires anew.
fn mend_expiry(txn: &WriteTransaction) -> Result<u64, Fault> {
    let mut expires = txn.open_table(EXPIRES)?;
    let wanted = wanted_expiry(&txn.open_table(OBJECTS)?)?;
    let mut mended = 0;
    expires.retain(|(at, raw), size| {
        let right = wanted.get(raw) == Some(&(at, size));
        mended += u64::from(!right);
        right
    })?;
    for (raw, (at, size)) in &wanted {
        mended += u64::from(expires.insert((*at, raw.as_slice()), *size)?.is_none());
    }
    Ok(mended)
}

/// A directory that was not there before.
fn unused(root: &Path, now: u64) -> io::Result<PathBuf> {
    let mut number = 0_u64;
    loop {
        let dir = root.join(format!("{now}-{number}"));
        match fs::create_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            done => return done.map(|()| dir),
        }
    }
}
