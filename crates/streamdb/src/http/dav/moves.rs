//! Copying and renaming, by the store's own operations: a value and its properties go together, in
//! one commit, and large values are not written again.

use super::super::reply::Refusal;
use super::properties;
use crate::{Key, Operation, Query, Store, Transfer};

/// Names of which one batch takes care. Each is up to two operations: its value and its properties.
const AT_ONCE: usize = Operation::MAX_COUNT / 2;

/// Copies a value with all that belongs to it. A stream that still grows is refused.
pub(super) fn copy(store: &Store, from: &str, to: &str) -> Result<(), Refusal> {
    let mut steps = vec![Operation::Copy(transfer(from, to)?)];
    steps.extend(properties::copied(store, from, to)?);
    store.batch(&steps)?;
    Ok(())
}

/// Renames a value; who reads along the stream that it may be goes on reading.
pub(super) fn rename(store: &Store, from: &str, to: &str) -> Result<(), Refusal> {
    let mut steps = vec![Operation::Rename(transfer(from, to)?)];
    steps.extend(properties::renamed(store, from, to)?);
    store.batch(&steps)?;
    Ok(())
}

/// Renames a collection, which is every key below it: up to [`AT_ONCE`] of them become true
/// together. What stops a longer one leaves each key under one of its two names.
pub(super) fn rename_all(store: &Store, from: &str, to: &str) -> Result<(), Refusal> {
    let (from, to) = (format!("{from}/"), format!("{to}/"));
    let mut steps = Vec::new();
    let names = below(store, &from)?;
    // A collection has properties also where it has no marker.
    if !names.contains(&from) {
        steps.extend(properties::renamed(store, &from, &to)?);
    }
    for name in names {
        if steps.len() >= 2 * AT_ONCE - 1 {
            store.batch(&std::mem::take(&mut steps))?;
        }
        let moved = format!("{to}{}", name.strip_prefix(&from).unwrap_or_default());
        steps.push(Operation::Rename(transfer(&name, &moved)?));
        steps.extend(properties::renamed(store, &name, &moved)?);
    }
    store.batch(&steps)?;
    Ok(())
}

fn transfer(from: &str, to: &str) -> Result<Transfer, Refusal> {
    Ok(Transfer::new(Key::new(from)?, Key::new(to)?))
}

fn below(store: &Store, folder: &str) -> Result<Vec<String>, Refusal> {
    let mut names = Vec::new();
    let mut query = Query { prefix: folder.to_owned(), ..Query::default() };
    loop {
        let page = store.list(&query)?;
        names.extend(page.entries.iter().map(|entry| entry.key.as_str().to_owned()));
        if page.next.is_none() {
            return Ok(names);
        }
        query.cursor = page.next;
    }
}
