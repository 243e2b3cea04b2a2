//! The one transaction that changes the index, and what follows from it outside of the index.
//!
//! A [`Change`] is built from steps (insert, remove, copy, rename) that all become true together.
//! What is freed goes only after the commit; what was made for it goes if it does not happen.

use std::cell::Cell;

use redb::ReadableTable;

use super::stream::End;
use super::tables::Tables;
use super::{Conditions, Inner, Quota, as_io};
use crate::content::{ContentDir, ContentId};
use crate::error::is_full;
use crate::index::{BYTES, FILES, Fault, VERSION};
use crate::key::reversed;
use crate::record::{Place, Record};
use crate::{Checksum, Key, Meta, WriteError};

/// A step's outcome: the outer error spoils the index's handle, the inner one is a refusal.
pub(super) type Step<T> = Result<Result<T, WriteError>, Fault>;

/// Changes under way in one write transaction.
pub(super) struct Change<'t> {
    pub(super) tables: Tables<'t>,
    pub(super) content: &'t ContentDir,
    pub(super) now: u64,
    pub(super) quotas: &'t [Quota],
    pub(super) effects: &'t mut Effects,
}

/// What is to be done outside of the index once it is known whether the change holds.
#[derive(Default)]
pub(super) struct Effects {
    /// Places that nothing names any more, and how many bytes each held.
    pub(super) freed: Vec<(Place, u64)>,
    /// Content files made for this change.
    pub(super) made: Vec<ContentId>,
}

impl Inner {
    /// Runs a change and makes it last. One that only frees may use the reserve on a full disk.
    pub(super) fn commit<T, E: From<WriteError>>(
        &self,
        frees: bool,
        mut change: impl FnMut(&mut Change<'_>) -> Result<Result<T, E>, Fault>,
    ) -> Result<T, E> {
        let mut effects = Effects::default();
        let over = Cell::new(false);
        let mut run = |effects: &mut Effects| {
            self.index.write(|txn| {
                let (content, quotas) = (&self.content, &*self.quotas);
                let tables = Tables::new(txn);
                let mut under_way = Change { tables, content, now: self.now(), quotas, effects };
                let allowed = under_way.allowed()?;
                let done = change(&mut under_way)?;
                let kept = if frees { Ok(()) } else { under_way.keeps_to(&allowed)? };
                under_way.tables.settle()?;
                Ok(match kept {
                    Ok(()) => done,
                    Err(refusal) => {
                        over.set(done.is_ok());
                        done.and(Err(refusal.into()))
                    }
                })
            })
        };
        let mut done = run(&mut effects);
        // What has expired counts until it is swept.
        let again = over.get() && self.sweep_expired().is_ok_and(|swept| swept > 0);
        if again {
            effects.freed.clear();
            done = run(&mut effects);
        }
        // Even a delete needs room to write the changed pages to.
        if frees && matches!(done, Err(Fault::Full)) && self.reserve.release() {
            effects.freed.clear();
            done = run(&mut effects);
        }
        let done = match done {
            Ok(Ok(value)) => {
                for (place, size) in effects.freed {
                    self.discard(&place, size);
                }
                if again {
                    // What the first attempt had made.
                    self.withdraw(&effects.made);
                }
                Ok(value)
            }
            Ok(Err(refusal)) => {
                self.withdraw(&effects.made);
                Err(refusal)
            }
            Err(fault) => {
                self.revive();
                self.withdraw(&effects.made);
                Err(self.write_fault(fault).into())
            }
        };
        if frees {
            self.reserve.take_back();
        }
        done
    }

    pub(super) fn write_fault(&self, fault: Fault) -> WriteError {
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
            Place::File(id) => self.pins.remove(&self.content, *id),
            Place::Open(id) => {
                self.streams.end(*id, End::Gone);
                self.pins.remove(&self.content, *id);
            }
            Place::Record(_) | Place::Table => self.reserve.freed(size),
        }
    }

    /// Removes the content files of a change that did not succeed, unless it did after all: when
    /// the disk fails in the commit itself, only the reopened index knows.
    fn withdraw(&self, made: &[ContentId]) {
        for id in made {
            let named =
                self.index.read(|txn| Ok(txn.open_table(FILES)?.get(&id.to_bytes())?.is_some()));
            if matches!(named, Ok(false)) {
                self.content.remove(*id);
            }
        }
    }
}

/// What a change finds under a key.
pub(super) struct Found {
    pub(super) record: Record,
    /// Whether it may be seen: not expired, and its record readable.
    pub(super) there: bool,
}

impl Change<'_> {
    /// Puts a value. Returns whether there was one before.
    pub(super) fn insert(
        &mut self,
        key: &Key,
        record: &mut Record,
        payload: &[u8],
        conditions: &Conditions,
    ) -> Step<bool> {
        let before = match self.find(key, conditions)? {
            Ok(before) => before,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let replaced = before.as_ref().is_some_and(|found| found.there);
        let listed = before.as_ref().is_some_and(|found| found.record.meta.version > 0);
        if let Some(found) = before {
            if found.there && found.record.meta.version > 0 {
                record.meta.created = found.record.meta.created;
            }
            self.clear(key, &found.record)?;
            self.effects.freed.push((found.record.place, found.record.meta.size));
        }
        self.name(key, record, payload, listed)?;
        Ok(Ok(replaced))
    }

    /// Removes a value, and returns the facts about it.
    pub(super) fn remove(&mut self, key: &Key, conditions: &Conditions) -> Step<Option<Meta>> {
        let found = match self.find(key, conditions)? {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(Ok(None)),
            Err(refusal) => return Ok(Err(refusal)),
        };
        self.forget(key, &found.record)?;
        // A deletion is a write too: the next put must not repeat a number.
        self.next_version()?;
        self.effects.freed.push((found.record.place, found.record.meta.size));
        Ok(Ok(Some(found.record.meta).filter(|_| found.there)))
    }

    /// Gives a value a second key. Bytes in a file are shared, which is safe since they are never
    /// written again.
    pub(super) fn copy(
        &mut self,
        from: &Key,
        to: &Key,
        source: &Conditions,
        conditions: &Conditions,
    ) -> Step<(Meta, bool)> {
        let Record { mut meta, place, sum } = match self.readable(from, source)? {
            Ok(record) => record,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let mut payload = Vec::new();
        let place = match place {
            Place::Record(bytes) => Place::Record(bytes),
            Place::Table => {
                payload = self.value(from)?;
                Place::Table
            }
            Place::Open(_) => return Ok(Err(WriteError::StillOpen { key: from.clone() })),
            Place::File(id) => {
                payload = self.sums(id)?;
                match self.content.duplicate(id) {
                    Ok(id) => {
                        self.effects.made.push(id);
                        Place::File(id)
                    }
                    Err(error) => {
                        let path = self.content.path(id);
                        return Ok(Err(WriteError::io("copy the content file", &path)(error)));
                    }
                }
            }
        };
        meta.created = self.now;
        meta.modified = self.now;
        let mut record = Record { meta, place, sum };
        let done = self.insert(to, &mut record, &payload, conditions)?;
        Ok(done.map(|replaced| (record.meta, replaced)))
    }

    /// Moves a value to another key, and with it whoever reads the stream that it may be.
    pub(super) fn rename(
        &mut self,
        from: &Key,
        to: &Key,
        source: &Conditions,
        conditions: &Conditions,
    ) -> Step<(Meta, bool)> {
        let mut record = match self.readable(from, source)? {
            Ok(record) => record,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let target = match self.find(to, conditions)? {
            Ok(target) => target,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if from == to {
            return Ok(Ok((record.meta, true)));
        }
        let payload = match &record.place {
            Place::Table => self.value(from)?,
            Place::File(id) | Place::Open(id) => self.sums(*id)?,
            Place::Record(_) => Vec::new(),
        };
        let (mut replaced, mut listed) = (false, false);
        if let Some(found) = target {
            replaced = found.there;
            listed = found.record.meta.version > 0;
            self.clear(to, &found.record)?;
            self.effects.freed.push((found.record.place, found.record.meta.size));
        }
        // The sums of an open stream go by its file and stay where they are.
        let place = std::mem::replace(&mut record.place, Place::Table);
        let unplaced = match &place {
            Place::Open(_) => Place::Record(vec![]),
            place => place.clone(),
        };
        let unplaced = Record { meta: record.meta.clone(), place: unplaced, sum: record.sum };
        self.forget(from, &unplaced)?;
        record.place = place;
        self.name(to, &mut record, &payload, listed)?;
        Ok(Ok((record.meta, replaced)))
    }

    /// Looks up what is there and checks the conditions against it. A damaged record may be
    /// replaced or removed, since that is its remedy, but it satisfies no condition.
    pub(super) fn find(&mut self, key: &Key, conditions: &Conditions) -> Step<Option<Found>> {
        let Some(bytes) = self.tables.objects.get()?.get(key.as_bytes())? else {
            return Ok(conditions.check(key, None).map(|()| None));
        };
        Ok(match Record::decode(key, bytes.value()) {
            Ok(record) => {
                let there = !record.meta.expired(self.now);
                conditions
                    .check(key, Some(&record.meta).filter(|_| there))
                    .map(|()| Some(Found { record, there }))
            }
            Err(_) if conditions.is_none() => Ok(Some(Found { record: lost(), there: true })),
            Err(unreadable) => {
                Err(WriteError::DamagedIndex { detail: format!("{key:?}: {}", unreadable.0) })
            }
        })
    }

    fn readable(&mut self, key: &Key, conditions: &Conditions) -> Step<Record> {
        Ok(match self.find(key, conditions)? {
            Ok(Some(found)) if found.there && found.record.meta.version > 0 => Ok(found.record),
            Ok(Some(found)) if found.there => Err(WriteError::DamagedIndex {
                detail: format!("the record of {key:?} cannot be read"),
            }),
            Ok(_) => Err(WriteError::Missing { key: key.clone() }),
            Err(refusal) => Err(refusal),
        })
    }

    /// Enters a record under a key that holds nothing any more. A key that a record was found under
    /// is `listed` by its suffix already.
    fn name(
        &mut self,
        key: &Key,
        record: &mut Record,
        payload: &[u8],
        listed: bool,
    ) -> Result<(), Fault> {
        record.meta.version = self.next_version()?;
        let tables = &mut self.tables;
        match &record.place {
            Place::Record(_) => {}
            Place::Table => {
                tables.values.get()?.insert(key.as_bytes(), payload)?;
            }
            Place::File(id) => {
                tables.files.get()?.insert(&id.to_bytes(), payload)?;
            }
            Place::Open(id) => {
                tables.files.get()?.insert(&id.to_bytes(), payload)?;
                tables.open.get()?.insert(&id.to_bytes(), record.meta.size)?;
            }
        }
        if !listed {
            tables.suffixes.get()?.insert(reversed(key.as_bytes()).as_slice(), ())?;
        }
        self.count(key, 0, record.meta.size)?;
        self.write(key, record)
    }

    /// Writes a record anew where nothing but its facts has changed.
    pub(super) fn write(&mut self, key: &Key, record: &Record) -> Result<(), Fault> {
        let tables = &mut self.tables;
        if let Some(at) = record.meta.expires {
            tables.expires.get()?.insert((at, key.as_bytes()), record.meta.size)?;
        }
        tables.objects.get()?.insert(key.as_bytes(), record.encode(key).as_slice())?;
        Ok(())
    }

    /// Takes a key out of the index, with all that belongs to it.
    fn forget(&mut self, key: &Key, record: &Record) -> Result<(), Fault> {
        self.clear(key, record)?;
        self.tables.objects.get()?.remove(key.as_bytes())?;
        self.tables.suffixes.get()?.remove(reversed(key.as_bytes()).as_slice())?;
        Ok(())
    }

    /// Takes out what a record refers to, before it is itself replaced or taken out.
    fn clear(&mut self, key: &Key, record: &Record) -> Result<(), Fault> {
        let tables = &mut self.tables;
        match &record.place {
            Place::Table => {
                tables.values.get()?.remove(key.as_bytes())?;
            }
            Place::File(id) => {
                tables.files.get()?.remove(&id.to_bytes())?;
            }
            Place::Open(id) => {
                tables.files.get()?.remove(&id.to_bytes())?;
                self.close(*id)?;
            }
            Place::Record(_) => {}
        }
        if let Some(at) = record.meta.expires {
            self.tables.expires.get()?.remove((at, key.as_bytes()))?;
        }
        self.count(key, record.meta.size, 0)
    }

    /// Takes out what only an open stream has.
    pub(super) fn close(&mut self, id: ContentId) -> Result<(), Fault> {
        let id = id.to_bytes();
        self.tables.open.get()?.remove(&id)?;
        let sums = self.tables.sums.get()?;
        sums.retain_in((&id, 0)..=(&id, u64::MAX), |_, _| false)?;
        Ok(())
    }

    /// Takes the next number of a write.
    pub(super) fn next_version(&mut self) -> Result<u64, Fault> {
        let version = self.tables.counter(VERSION)? + 1;
        self.tables.set_counter(VERSION, version);
        Ok(version)
    }

    /// Counts bytes that have gone and come under a key.
    pub(super) fn count(&mut self, key: &Key, gone: u64, come: u64) -> Result<(), Fault> {
        let tables = &mut self.tables;
        let mut count = |name: &str| {
            let bytes = tables.counter(name)?;
            tables.set_counter(name, bytes.saturating_sub(gone).saturating_add(come));
            Ok::<(), Fault>(())
        };
        count(BYTES)?;
        for quota in self.quotas {
            if !quota.prefix.is_empty() && quota.covers(key.as_bytes()) {
                count(&quota.counter())?;
            }
        }
        Ok(())
    }

    fn value(&mut self, key: &Key) -> Result<Vec<u8>, Fault> {
        let value = self.tables.values.get()?.get(key.as_bytes())?;
        value.map(|value| value.value().to_vec()).ok_or_else(|| {
            Fault::Damaged(format!("the bytes of {key:?} are missing from the index"))
        })
    }

    fn sums(&mut self, id: ContentId) -> Result<Vec<u8>, Fault> {
        let sums = self.tables.files.get()?.get(&id.to_bytes())?;
        sums.map(|sums| sums.value().to_vec())
            .ok_or_else(|| Fault::Damaged("a content file is missing from the index".to_owned()))
    }
}

/// What stands for a record that cannot be read.
fn lost() -> Record {
    let meta = Meta {
        size: 0,
        checksum: Checksum::from_bytes([0; 32]),
        version: 0,
        created: 0,
        modified: 0,
        content_type: String::new(),
        open: false,
        expires: None,
        user: std::collections::BTreeMap::new(),
    };
    Record { meta, place: Place::Table, sum: None }
}
