//! Time to live: what has expired is not seen, and goes when somebody sweeps.
//!
//! The store has no thread of its own; a server sweeps now and then, and opening a store does.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use redb::ReadableTable;

use super::{Conditions, Inner, Store};
use crate::index::{EXPIRES, Fault};
use crate::record::Record;
use crate::{Key, Meta, WriteError};

/// Keys removed in one transaction, so that writers wait for a sweep only briefly.
const AT_ONCE: usize = 256;

/// The time as the store sees it, in milliseconds since 1970-01-01 UTC.
#[derive(Debug, Default)]
pub(super) struct Clock {
    // Only tests let time pass quicker.
    ahead: AtomicU64,
}

impl Clock {
    pub(super) fn now(&self) -> u64 {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
        now.saturating_add(self.ahead.load(Ordering::Relaxed))
    }

    #[cfg(test)]
    pub(super) fn advance(&self, millis: u64) {
        self.ahead.fetch_add(millis, Ordering::Relaxed);
    }
}

impl Meta {
    pub(super) fn expired(&self, now: u64) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }
}

impl Store {
    /// Removes what has expired, and returns how many values that were. Nothing is seen of them
    /// before either; this frees their space.
    ///
    /// # Errors
    /// [`WriteError`]; what is left is removed by the next sweep.
    pub fn sweep_expired(&self) -> Result<u64, WriteError> {
        self.inner.sweep_expired()
    }
}

impl Inner {
    pub(super) fn sweep_expired(&self) -> Result<u64, WriteError> {
        let mut swept = 0;
        loop {
            let now = self.now();
            let due = self.index.read(|txn| {
                let expires = txn.open_table(EXPIRES)?;
                let mut due = Vec::new();
                for item in expires.range(..(now.saturating_add(1), &b""[..]))?.take(AT_ONCE) {
                    let (key, _) = item?;
                    due.push((key.value().0, key.value().1.to_vec()));
                }
                Ok(due)
            });
            let due = due.map_err(|fault| self.write_fault(fault))?;
            if due.is_empty() {
                return Ok(swept);
            }
            self.commit::<_, WriteError>(true, |change| {
                for (at, raw) in &due {
                    change.tables.expires.get()?.remove((*at, raw.as_slice()))?;
                    // Anything else there is a newer value, or damage that is told elsewhere.
                    let Ok(key) = Key::from_bytes(raw) else { continue };
                    let Ok(Some(found)) = change.find(&key, &Conditions::default())? else {
                        continue;
                    };
                    if found.record.meta.expires == Some(*at) {
                        if let Err(refusal) = change.remove(&key, &Conditions::default())? {
                            return Ok(Err(refusal));
                        }
                    }
                }
                Ok(Ok(()))
            })?;
            swept += due.len() as u64;
        }
    }

    pub(super) fn now(&self) -> u64 {
        self.clock.now()
    }
}

/// What expires by the records: the name, and the moment and size that its row must have.
pub(super) fn wanted_expiry(
    objects: &impl ReadableTable<&'static [u8], &'static [u8]>,
) -> Result<BTreeMap<Vec<u8>, (u64, u64)>, Fault> {
    let mut wanted = BTreeMap::new();
    for item in objects.iter()? {
        let (raw, record) = item?;
        let Ok(key) = Key::from_bytes(raw.value()) else { continue };
        let Ok(Record { meta, .. }) = Record::read(&key, record.value()) else { continue };
        if let Some(at) = meta.expires {
            wanted.insert(raw.value().to_vec(), (at, meta.size));
        }
    }
    Ok(wanted)
}
