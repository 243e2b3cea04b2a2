//! Dead properties: XML that clients hang on files and collections, kept as JSON beside them.
//!
//! Those of `takes/one.wav` are the value of `.streamdb/properties/takes/one.wav`, so that they
//! outlive a restart. A name too long for that has none, and is told so.

use axum::http::StatusCode;
use dav_server::fs::DavProp;

use super::super::reply::Refusal;
use crate::{Conditions, Key, Operation, Put, ReadError, Store, Transfer, WriteError};

/// What properties of one name may amount to, in bytes of JSON.
const MOST: usize = 256 * 1024;

#[derive(serde::Serialize, serde::Deserialize)]
struct Kept {
    name: String,
    prefix: Option<String>,
    namespace: Option<String>,
    xml: String,
}

fn place(name: &str) -> Option<Key> {
    Key::new(format!("{}properties/{name}", super::tree::OWN)).ok()
}

pub(super) fn same(one: &DavProp, other: &DavProp) -> bool {
    one.name == other.name && one.namespace == other.namespace
}

pub(super) fn all(store: &Store, name: &str) -> Result<Vec<DavProp>, Refusal> {
    let Some(key) = place(name) else {
        return Ok(Vec::new());
    };
    let Some(object) = store.get(&key)? else {
        return Ok(Vec::new());
    };
    let kept: Vec<Kept> = serde_json::from_slice(&object.into_bytes()?).unwrap_or_default();
    Ok(kept
        .into_iter()
        .map(|kept| DavProp {
            name: kept.name,
            prefix: kept.prefix,
            namespace: kept.namespace,
            xml: Some(kept.xml.into_bytes()),
        })
        .collect())
}

/// Sets (`true`) and removes properties in the order given, all or none.
pub(super) fn patch(
    store: &Store,
    name: &str,
    patch: Vec<(bool, DavProp)>,
) -> Result<Vec<(StatusCode, DavProp)>, Refusal> {
    let mut properties = all(store, name)?;
    let mut told = Vec::new();
    for (set, property) in patch {
        properties.retain(|there| !same(there, &property));
        told.push((StatusCode::OK, DavProp { xml: None, ..property.clone() }));
        if set {
            properties.push(property);
        }
    }
    let kept: Vec<Kept> = properties
        .into_iter()
        .map(|property| Kept {
            name: property.name,
            prefix: property.prefix,
            namespace: property.namespace,
            xml: String::from_utf8_lossy(&property.xml.unwrap_or_default()).into_owned(),
        })
        .collect();
    let json = serde_json::to_vec(&kept).unwrap_or_default();
    let refused = if json.len() > MOST {
        Some(StatusCode::INSUFFICIENT_STORAGE)
    } else if let Some(key) = place(name) {
        if kept.is_empty() {
            store.delete(&key, &Conditions::default())?;
        } else {
            let kind = Some("application/json".to_owned());
            store.put(&key, &json, &Put { content_type: kind, ..Put::default() })?;
        }
        None
    } else {
        Some(StatusCode::FORBIDDEN)
    };
    if let Some(status) = refused {
        told.iter_mut().for_each(|(told, _)| *told = status);
    }
    Ok(told)
}

pub(super) fn forget(store: &Store, name: &str) -> Result<(), WriteError> {
    let Some(key) = place(name) else {
        return Ok(());
    };
    // Most names have none, and looking costs less than a commit.
    if !matches!(store.stat(&key), Ok(None)) {
        store.delete(&key, &Conditions::default())?;
    }
    Ok(())
}

/// What gives the properties of one name to another as well, in place of what that had.
pub(super) fn copied(store: &Store, from: &str, to: &str) -> Result<Option<Operation>, Refusal> {
    Ok(match (kept(store, from)?, place(to)) {
        (Some(from), Some(to)) => Some(Operation::Copy(Transfer::new(from, to))),
        (None, _) => kept(store, to)?.map(delete),
        (Some(_), None) => None,
    })
}

/// What moves the properties of one name to another, in place of what that had.
pub(super) fn renamed(store: &Store, from: &str, to: &str) -> Result<Option<Operation>, Refusal> {
    Ok(match (kept(store, from)?, place(to)) {
        (Some(from), Some(to)) => Some(Operation::Rename(Transfer::new(from, to))),
        (None, _) => kept(store, to)?.map(delete),
        (Some(from), None) => Some(delete(from)),
    })
}

/// Where the properties of a name are, if it has any.
fn kept(store: &Store, name: &str) -> Result<Option<Key>, ReadError> {
    match place(name) {
        Some(key) => Ok(store.stat(&key)?.map(|_| key)),
        None => Ok(None),
    }
}

fn delete(key: Key) -> Operation {
    Operation::Delete { key, conditions: Conditions::default() }
}
