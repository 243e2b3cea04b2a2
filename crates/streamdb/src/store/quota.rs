//! Quotas: how many bytes the values of the store, or those below a prefix, may have together.
//!
//! Sums are kept in the index and change in the transaction that changes the values, so that no
//! crowd of writers gets past a quota. Sums of prefixes are only kept while the store is open with
//! a quota on them.

use std::convert::Infallible;

use redb::{ReadableTable, WriteTransaction};

use super::change::{Change, Step};
use super::{Inner, Store};
use crate::index::{BYTES, COUNTERS, Fault, Index, OBJECTS};
use crate::record::Record;
use crate::{Key, ReadError, WriteError};

/// How many bytes values may have together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    /// The values whose keys begin so; empty for all.
    pub prefix: String,
    /// The most bytes that they may have together. What is over it already stays, but may not grow.
    pub bytes: u64,
}

/// What the names of the sums of prefixes begin with, in the table of counters.
const OF_PREFIX: &str = "bytes:";

impl Quota {
    /// The name of its sum in the table of counters.
    pub(super) fn counter(&self) -> String {
        if self.prefix.is_empty() {
            BYTES.to_owned()
        } else {
            format!("{OF_PREFIX}{}", self.prefix)
        }
    }

    pub(super) fn covers(&self, key: &[u8]) -> bool {
        key.starts_with(self.prefix.as_bytes())
    }
}

impl Store {
    /// How many bytes a new value of this key may have, by the quotas and by the longest value that
    /// the store accepts. The value that is there now counts as gone; a commit decides anew.
    ///
    /// # Errors
    /// [`ReadError`] if the index cannot be read.
    pub fn room(&self, key: &Key) -> Result<u64, ReadError> {
        let inner = &self.inner;
        if !self.has_quota(key) {
            return Ok(inner.max_object);
        }
        // What has expired counts until it is swept; what fails now is told by the commit.
        let _ = inner.sweep_expired();
        let room = inner.index.read(|txn| {
            let objects = txn.open_table(OBJECTS)?;
            let record = objects.get(key.as_bytes())?;
            let there = record.map_or(0, |record| {
                Record::read(key, record.value()).map_or(0, |record| record.meta.size)
            });
            let counters = txn.open_table(COUNTERS)?;
            let mut room = u64::MAX;
            for quota in inner.quotas.iter().filter(|quota| quota.covers(key.as_bytes())) {
                let used = counters.get(&*quota.counter())?.map_or(0, |used| used.value());
                // A value that does not grow may replace one also where too much is there.
                let left = quota.bytes.saturating_sub(used.saturating_sub(there)).max(there);
                room = room.min(left);
            }
            Ok(room)
        });
        room.map(|room| room.min(inner.max_object)).map_err(|fault| inner.read_fault(fault))
    }

    /// Whether a quota covers the key.
    #[must_use]
    pub fn has_quota(&self, key: &Key) -> bool {
        self.inner.quotas.iter().any(|quota| quota.covers(key.as_bytes()))
    }

    /// The quota of the whole store, in bytes, where there is one.
    #[must_use]
    pub fn quota(&self) -> Option<u64> {
        let quotas = self.inner.quotas.iter().filter(|quota| quota.prefix.is_empty());
        quotas.map(|quota| quota.bytes).min()
    }
}

impl Inner {
    /// What refuses a value of so many bytes, where a quota covers the key.
    pub(super) fn over(&self, key: &Key, size: u64) -> WriteError {
        let mut quotas: Vec<_> =
            self.quotas.iter().filter(|quota| quota.covers(key.as_bytes())).collect();
        quotas.sort_by_key(|quota| quota.bytes);
        match quotas.first() {
            Some(quota) if size <= self.max_object => {
                WriteError::Quota { prefix: quota.prefix.clone(), limit: quota.bytes }
            }
            _ => WriteError::TooLarge { limit: self.max_object },
        }
    }
}

impl Change<'_> {
    /// What the quotas allow, looked up before a change: the most that each sum may be after it.
    pub(super) fn allowed(&mut self) -> Result<Vec<u64>, Fault> {
        self.quotas.iter().map(|quota| Ok(quota.bytes.max(self.sum(quota)?))).collect()
    }

    /// Refuses a change that has made a sum greater than it may be.
    pub(super) fn keeps_to(&mut self, allowed: &[u64]) -> Step<()> {
        for (quota, allowed) in self.quotas.iter().zip(allowed) {
            if self.sum(quota)? > *allowed {
                let prefix = quota.prefix.clone();
                return Ok(Err(WriteError::Quota { prefix, limit: quota.bytes }));
            }
        }
        Ok(Ok(()))
    }

    fn sum(&mut self, quota: &Quota) -> Result<u64, Fault> {
        self.tables.counter(&quota.counter())
    }
}

/// Adds up, before the store is used, what is below each prefix that has a quota and had none when
/// the store was open last, and drops the sums of those that have none any more.
pub(super) fn settle(index: &Index, quotas: &[Quota]) -> Result<(), Fault> {
    let wanted: Vec<_> = quotas.iter().filter(|quota| !quota.prefix.is_empty()).collect();
    let there = index.read(|txn| {
        let mut there = Vec::new();
        for item in txn.open_table(COUNTERS)?.range(OF_PREFIX..)? {
            let (name, _) = item?;
            if !name.value().starts_with(OF_PREFIX) {
                break;
            }
            there.push(name.value().to_owned());
        }
        Ok(there)
    })?;
    let dropped: Vec<_> =
        there.iter().filter(|name| !wanted.iter().any(|quota| quota.counter() == **name)).collect();
    let missing: Vec<_> =
        wanted.iter().filter(|quota| !there.contains(&quota.counter())).copied().collect();
    if dropped.is_empty() && missing.is_empty() {
        return Ok(());
    }
    let done: Result<u64, Infallible> = index.write(|txn| {
        for name in &dropped {
            txn.open_table(COUNTERS)?.remove(name.as_str())?;
        }
        sum(txn, missing.iter().copied()).map(Ok)
    })?;
    match done {
        Ok(_) => Ok(()),
        Err(never) => match never {},
    }
}

/// One quota for each prefix, the smallest: each has one sum.
pub(super) fn distinct(quotas: &[Quota]) -> Vec<Quota> {
    let mut distinct = quotas.to_vec();
    distinct.sort_by(|one, other| (&one.prefix, one.bytes).cmp(&(&other.prefix, other.bytes)));
    distinct.dedup_by(|later, earlier| later.prefix == earlier.prefix);
    distinct
}

/// Writes the sums of prefixes anew, from the records. Returns how many were not as they stood.
pub(super) fn sum<'q>(
    txn: &WriteTransaction,
    quotas: impl Iterator<Item = &'q Quota>,
) -> Result<u64, Fault> {
    let mut mended = 0;
    let objects = txn.open_table(OBJECTS)?;
    let mut counters = txn.open_table(COUNTERS)?;
    for quota in quotas.filter(|quota| !quota.prefix.is_empty()) {
        let mut bytes = 0_u64;
        for item in objects.range::<&[u8]>(quota.prefix.as_bytes()..)? {
            let (raw, record) = item?;
            if !quota.covers(raw.value()) {
                break;
            }
            if let Ok(key) = Key::from_bytes(raw.value()) {
                bytes += Record::read(&key, record.value()).map_or(0, |record| record.meta.size);
            }
        }
        let before = counters.insert(&*quota.counter(), bytes)?.map(|before| before.value());
        mended += u64::from(before != Some(bytes));
    }
    Ok(mended)
}
