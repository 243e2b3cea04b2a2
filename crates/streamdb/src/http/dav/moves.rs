//! Copying and renaming, made of the store's gets, puts and deletes.
//!
//! The one place to change where the store learns to do either in one transaction.

use super::super::reply::Refusal;
use super::properties;
use crate::{Conditions, Key, Put, Query, Store};

/// Copies a value with its content type and properties.
pub(super) fn copy(store: &Store, from: &str, to: &str) -> Result<(), Refusal> {
    copy_value(store, &Key::new(from)?, &Key::new(to)?)?;
    properties::carry(store, from, to)
}

/// Renames a value: the copy is on the disk before the old name goes.
pub(super) fn rename(store: &Store, from: &str, to: &str) -> Result<(), Refusal> {
    copy(store, from, to)?;
    store.delete(&Key::new(from)?, &Conditions::default())?;
    Ok(properties::forget(store, from)?)
}

/// Renames a collection, which is every key below it. What stops it leaves both names.
pub(super) fn rename_all(store: &Store, from: &str, to: &str) -> Result<(), Refusal> {
    let names = below(store, &format!("{from}/"))?;
    for name in &names {
        copy(store, name, &moved(name, from, to))?;
    }
    // A collection has properties also where it has no marker.
    properties::carry(store, &format!("{from}/"), &format!("{to}/"))?;
    for name in &names {
        store.delete(&Key::new(name.as_str())?, &Conditions::default())?;
        properties::forget(store, name)?;
    }
    Ok(properties::forget(store, &format!("{from}/"))?)
}

fn moved(name: &str, from: &str, to: &str) -> String {
    format!("{to}{}", name.strip_prefix(from).unwrap_or_default())
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

fn copy_value(store: &Store, from: &Key, to: &Key) -> Result<(), Refusal> {
    let object = store.get(from)?.ok_or_else(|| Refusal::not_found(from))?;
    let put = Put { content_type: Some(object.meta().content_type.clone()), ..Put::default() };
    let mut reader = object.into_reader();
    let mut upload = store.upload();
    while let Some(piece) = reader.next_piece()? {
        upload.write(&piece)?;
    }
    upload.commit(to, &put)?;
    Ok(())
}
