//! Listings: `GET /v1/objects?prefix=&suffix=&cursor=&limit=`.

use std::collections::BTreeMap;

use axum::extract::{Query as Params, State};
use axum::http::Uri;
use axum::response::{IntoResponse, Json, Response};

use super::Door;
use super::blocking::blocking;
use super::reply::Refusal;
use crate::{Checksum, Key, Meta, Query};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    suffix: String,
    cursor: Option<String>,
    limit: Option<usize>,
}

pub(super) async fn list(State(door): State<Door>, uri: Uri) -> Result<Response, Refusal> {
    let Params(asked) = Params::<Asked>::try_from_uri(&uri).map_err(|error| {
        Refusal::bad(
            error.body_text(),
            "a listing takes prefix, suffix, cursor and limit, percent-encoded",
        )
    })?;
    let limit = asked.limit.unwrap_or(Query::default().limit);
    if limit == 0 || limit > Query::MAX_LIMIT {
        return Err(Refusal::bad(
            format!("a page cannot have {limit} entries"),
            format!("give a limit of 1 to {}", Query::MAX_LIMIT),
        ));
    }
    let query = Query {
        prefix: asked.prefix,
        suffix: asked.suffix,
        // What forms send for "from the start".
        cursor: asked.cursor.filter(|cursor| !cursor.is_empty()),
        limit,
    };
    let store = door.store.clone();
    let page =
        blocking(move || store.list(&query)).await.inspect_err(|refusal| door.tell(refusal))?;
    let entries = page.entries.iter().map(|entry| told(&entry.key, &entry.meta)).collect();
    Ok(Json(Listing { entries, next: page.next }).into_response())
}

#[derive(serde::Serialize)]
struct Listing<'a> {
    entries: Vec<Told<'a>>,
    next: Option<String>,
}

/// A key and its facts as the door writes them.
#[derive(serde::Serialize)]
pub(super) struct Told<'a> {
    key: &'a str,
    size: u64,
    checksum: &'a Checksum,
    version: u64,
    created: u64,
    modified: u64,
    content_type: &'a str,
    // Only where there is something to tell: most values have none of these.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    open: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<u64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    user: &'a BTreeMap<String, String>,
}

pub(super) fn told<'a>(key: &'a Key, meta: &'a Meta) -> Told<'a> {
    let Meta { size, checksum, version, created, modified, content_type, open, expires, user } =
        meta;
    Told {
        key: key.as_str(),
        size: *size,
        checksum,
        version: *version,
        created: *created,
        modified: *modified,
        content_type,
        open: *open,
        expires: *expires,
        user,
    }
}
