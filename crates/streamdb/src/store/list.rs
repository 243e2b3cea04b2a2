//! Listings: keys by prefix, by suffix, or by both, a page at a time in a stable order.
//!
//! A page is read from one snapshot; a later page sees what was put meanwhile, but never skips or
//! repeats a key that stayed.

use std::ops::Bound;

use redb::{AccessGuard, ReadableTable};

use super::{Counts, Store};
use crate::index::{Fault, OBJECTS, SUFFIXES};
use crate::key::reversed;
use crate::record::{Record, Unreadable};
use crate::{Key, Meta, ReadError};

/// What to list.
#[derive(Debug, Clone)]
pub struct Query {
    /// Only keys that begin so. Empty means all.
    pub prefix: String,
    /// Only keys that end so. Empty means all.
    pub suffix: String,
    /// Where the page before ended: its [`Page::next`].
    pub cursor: Option<String>,
    /// The most entries wanted; at most [`Query::MAX_LIMIT`] come.
    pub limit: usize,
}

impl Query {
    /// The most entries that a page has.
    pub const MAX_LIMIT: usize = 10_000;
}

impl Default for Query {
    fn default() -> Self {
        Self { prefix: String::new(), suffix: String::new(), cursor: None, limit: 1000 }
    }
}

/// A key and the facts about its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Key,
    /// The facts about its value.
    pub meta: Meta,
}

/// One page of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The entries, in the order of the keys' bytes; where only a suffix was given, in the order of
    /// their bytes read backwards. Where both were given a page may have fewer entries than wanted,
    /// even none, and still not be the last.
    pub entries: Vec<Entry>,
    /// What to give as [`Query::cursor`] for the next page; `None` on the last.
    pub next: Option<String>,
}

/// Keys looked at for one page where most of them may not fit, so that no request runs for long.
const MOST_EXAMINED: usize = 100_000;

impl Store {
    /// How many values there are whose keys begin so, and how long they are together. Walks all of
    /// them, some 100,000 keys in a transaction.
    ///
    /// # Errors
    /// [`ReadError`]; a damaged record is told by its key.
    pub fn usage(&self, prefix: &str) -> Result<Counts, ReadError> {
        let now = self.inner.now();
        let mut counts = Counts { keys: 0, bytes: 0 };
        let mut after: Option<Vec<u8>> = None;
        loop {
            let part = self.inner.index.read(|txn| {
                let mut part = Counts { keys: 0, bytes: 0 };
                let from =
                    after.as_deref().map_or(Bound::Included(prefix.as_bytes()), Bound::Excluded);
                let objects = txn.open_table(OBJECTS)?;
                let range = objects.range::<&[u8]>((from, Bound::Unbounded))?;
                for (examined, item) in range.enumerate() {
                    let (key, record) = item?;
                    if !key.value().starts_with(prefix.as_bytes()) {
                        break;
                    }
                    match decode(key.value(), record.value(), now) {
                        Some(Ok(entry)) => {
                            part.keys += 1;
                            part.bytes += entry.meta.size;
                        }
                        Some(Err(error)) => return Ok(Err(error)),
                        None => {}
                    }
                    if examined == MOST_EXAMINED {
                        return Ok(Ok((part, Some(key.value().to_vec()))));
                    }
                }
                Ok(Ok((part, None)))
            });
            let (part, last) = part.map_err(|fault| self.inner.read_fault(fault))??;
            counts.keys += part.keys;
            counts.bytes += part.bytes;
            match last {
                Some(last) => after = Some(last),
                None => return Ok(counts),
            }
        }
    }

    /// Lists keys.
    ///
    /// # Errors
    /// [`ReadError`]; a damaged record is told by its key.
    pub fn list(&self, query: &Query) -> Result<Page, ReadError> {
        let now = self.inner.now();
        let page = self.inner.index.read(|txn| {
            let objects = txn.open_table(OBJECTS)?;
            if query.prefix.is_empty() && !query.suffix.is_empty() {
                let suffixes = txn.open_table(SUFFIXES)?;
                let back = reversed(query.suffix.as_bytes());
                let after = query.cursor.as_ref().map(|key| reversed(key.as_bytes()));
                let page = scan(&suffixes, &back, after.as_deref(), query.limit, |back, _| {
                    let key = reversed(back);
                    let record = objects.get(key.as_slice())?;
                    Ok(record.and_then(|record| decode(&key, record.value(), now)))
                })?;
                Ok(page.map(|(entries, last)| (entries, last.map(|back| reversed(&back)))))
            } else {
                let after = query.cursor.as_deref().map(str::as_bytes);
                let prefix = query.prefix.as_bytes();
                scan(&objects, prefix, after, query.limit, |key, record| {
                    let fits = key.ends_with(query.suffix.as_bytes());
                    Ok(if fits { decode(key, record.value(), now) } else { None })
                })
            }
        });
        let (entries, last) = page.map_err(|fault| self.inner.read_fault(fault))??;
        let next = last.map(|key| String::from_utf8_lossy(&key).into_owned());
        Ok(Page { entries, next })
    }
}

/// Entries, and the key looked at last where there may be more.
type Scanned = (Vec<Entry>, Option<Vec<u8>>);

/// Walks a table from a prefix on. `entry` makes a key of the table an entry, or passes it over.
fn scan<V: redb::Value + 'static>(
    table: &impl ReadableTable<&'static [u8], V>,
    prefix: &[u8],
    after: Option<&[u8]>,
    limit: usize,
    entry: impl Fn(&[u8], &AccessGuard<'_, V>) -> Result<Option<Result<Entry, ReadError>>, Fault>,
) -> Result<Result<Scanned, ReadError>, Fault> {
    let from = match after {
        Some(after) if after >= prefix => Bound::Excluded(after),
        _ => Bound::Included(prefix),
    };
    let limit = limit.clamp(1, Query::MAX_LIMIT);
    let mut entries = Vec::new();
    let mut last = Vec::new();
    for (examined, item) in table.range::<&[u8]>((from, Bound::Unbounded))?.enumerate() {
        let (key, value) = item?;
        if !key.value().starts_with(prefix) {
            break;
        }
        if entries.len() == limit || examined == MOST_EXAMINED {
            return Ok(Ok((entries, Some(last))));
        }
        match entry(key.value(), &value)? {
            Some(Ok(entry)) => entries.push(entry),
            Some(Err(error)) => return Ok(Err(error)),
            None => {}
        }
        last.clear();
        last.extend_from_slice(key.value());
    }
    Ok(Ok((entries, None)))
}

/// The entry of a record, or `None` if it has expired.
fn decode(key: &[u8], record: &[u8], now: u64) -> Option<Result<Entry, ReadError>> {
    let key = match Key::from_bytes(key) {
        Ok(key) => key,
        Err(error) => {
            let detail = format!("it holds a name that is no key: {error}");
            return Some(Err(ReadError::DamagedIndex { detail }));
        }
    };
    match Record::read(&key, record) {
        Ok(record) if record.meta.expired(now) => None,
        Ok(record) => Some(Ok(Entry { key, meta: record.meta })),
        Err(Unreadable(detail)) => Some(Err(ReadError::Damaged { key, detail: detail.to_owned() })),
    }
}
