//! Listings: `GET /v1/objects?prefix=&suffix=&cursor=&limit=`.

use axum::extract::{Query as Params, State};
use axum::http::Uri;
use axum::response::Json;
use serde_json::{Value, json};

use super::Door;
use super::blocking::blocking;
use super::reply::Refusal;
use crate::{Entry, Query};

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

pub(super) async fn list(State(door): State<Door>, uri: Uri) -> Result<Json<Value>, Refusal> {
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
    let entries: Vec<_> = page.entries.iter().map(entry).collect();
    Ok(Json(json!({ "entries": entries, "next": page.next })))
}

/// A key and its facts as the door writes them.
pub(super) fn entry(entry: &Entry) -> Value {
    let mut told = json!({
        "key": entry.key.as_str(),
        "size": entry.meta.size,
        "checksum": entry.meta.checksum,
        "version": entry.meta.version,
        "created": entry.meta.created,
        "modified": entry.meta.modified,
        "content_type": entry.meta.content_type,
    });
    // Only where there is something to tell: most values have none of these.
    if let Some(fields) = told.as_object_mut() {
        if entry.meta.open {
            fields.insert("open".to_owned(), true.into());
        }
        if let Some(at) = entry.meta.expires {
            fields.insert("expires".to_owned(), at.into());
        }
        if !entry.meta.user.is_empty() {
            fields.insert("user".to_owned(), json!(entry.meta.user));
        }
    }
    told
}
