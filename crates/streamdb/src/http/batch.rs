//! `POST /v1/batch`: several changes in one commit; and `GET /v1/usage?prefix=`.

use axum::body::Body;
use axum::extract::{Query as Params, State};
use axum::http::{StatusCode, Uri};
use axum::response::Json;
use http_body_util::{BodyExt, Limited};
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::blocking::blocking;
use super::reply::Refusal;
use super::{Door, listing};
use crate::{Checksum, Conditions, Key, Operation, Put, Tags, Transfer};

/// The longest batch, in bytes of JSON.
const MOST: usize = 16 << 20;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    operations: Vec<Step>,
}

#[derive(serde::Deserialize)]
#[serde(tag = "op", rename_all = "lowercase", deny_unknown_fields)]
enum Step {
    Put {
        key: String,
        /// The value as text.
        text: String,
        #[serde(default, deserialize_with = "told")]
        content_type: Option<String>,
        #[serde(default, deserialize_with = "seconds")]
        ttl: Option<u64>,
        #[serde(default)]
        user: std::collections::BTreeMap<String, String>,
        #[serde(default, deserialize_with = "told")]
        if_match: Option<String>,
        #[serde(default)]
        if_absent: bool,
    },
    Delete {
        key: String,
        #[serde(default, deserialize_with = "told")]
        if_match: Option<String>,
    },
    Copy {
        from: String,
        to: String,
        #[serde(default, deserialize_with = "told")]
        if_match: Option<String>,
        #[serde(default)]
        if_absent: bool,
    },
    Rename {
        from: String,
        to: String,
        #[serde(default, deserialize_with = "told")]
        if_match: Option<String>,
        #[serde(default)]
        if_absent: bool,
    },
}

/// A member that may be left out, but is a text where it is there: `null` is none.
fn told<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    String::deserialize(from).map(Some)
}

/// A whole number, also where it is written with a fraction of nothing, which JSON does not tell apart.
fn seconds<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let number = serde_json::Number::deserialize(from)?;
    let whole = |number: &f64| {
        number.fract() == 0.0 && (0.0..18_446_744_073_709_551_616.0).contains(number)
    };
    let number =
        number.as_u64().or_else(|| number.as_f64().filter(whole).map(|whole| whole as u64));
    number.map(Some).ok_or_else(|| D::Error::custom("ttl is no number of seconds"))
}

pub(super) async fn batch(State(door): State<Door>, body: Body) -> Result<Json<Value>, Refusal> {
    let whole = tokio::time::timeout(door.settings.stall, Limited::new(body, MOST).collect());
    let whole = whole.await.map_err(|_| {
        Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            "the batch stopped coming before its end",
            "send it again without pauses",
        )
    })?;
    let whole = whole.map_err(|error| {
        Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the batch could not be taken: {error}"),
            format!("keep a batch under {MOST} bytes"),
        )
    })?;
    let asked: Asked = serde_json::from_slice(&whole.to_bytes()).map_err(|error| {
        Refusal::bad(
            format!("the batch cannot be read: {error}"),
            r#"send {"operations": [{"op": "put", "key": "k", "text": "..."}, {"op": "rename", "from": "a", "to": "b"}]}"#,
        )
    })?;
    let now = door.store.now();
    let operations = asked
        .operations
        .into_iter()
        .map(|step| step.operation(now))
        .collect::<Result<Vec<_>, _>>()?;
    let keys: Vec<_> = operations.iter().map(target).collect();
    let store = door.store.clone();
    let _turn = door.commits.acquire().await;
    let done = blocking(move || store.batch(&operations))
        .await
        .inspect_err(|refusal| door.tell(refusal))?;
    let told = keys.iter().zip(&done).map(|(key, meta)| Some(listing::told(key, meta.as_ref()?)));
    let done: Vec<_> = told.collect();
    Ok(Json(json!({ "done": done })))
}

fn target(operation: &Operation) -> Key {
    match operation {
        Operation::Put { key, .. } | Operation::Delete { key, .. } => key.clone(),
        Operation::Copy(transfer) | Operation::Rename(transfer) => transfer.to.clone(),
    }
}

impl Step {
    fn operation(self, now: u64) -> Result<Operation, Refusal> {
        Ok(match self {
            Self::Put { key, text, content_type, ttl, user, if_match, if_absent } => {
                let expires = ttl.map(|ttl| now.saturating_add(ttl.saturating_mul(1000)));
                let conditions = Conditions { matches: tag(if_match)?, differs: absent(if_absent) };
                let put = Put { content_type, conditions, expires, user };
                Operation::Put { key: Key::new(key)?, value: text.into_bytes(), put }
            }
            Self::Delete { key, if_match } => Operation::Delete {
                key: Key::new(key)?,
                conditions: Conditions { matches: tag(if_match)?, differs: None },
            },
            Self::Copy { from, to, if_match, if_absent } => {
                Operation::Copy(transfer(from, to, if_match, if_absent)?)
            }
            Self::Rename { from, to, if_match, if_absent } => {
                Operation::Rename(transfer(from, to, if_match, if_absent)?)
            }
        })
    }
}

fn transfer(
    from: String,
    to: String,
    if_match: Option<String>,
    if_absent: bool,
) -> Result<Transfer, Refusal> {
    Ok(Transfer {
        from: Key::new(from)?,
        to: Key::new(to)?,
        source: Conditions { matches: tag(if_match)?, differs: None },
        target: Conditions { matches: None, differs: absent(if_absent) },
    })
}

fn absent(wanted: bool) -> Option<Tags> {
    wanted.then_some(Tags::Any)
}

fn tag(text: Option<String>) -> Result<Option<Tags>, Refusal> {
    let Some(text) = text else { return Ok(None) };
    let tag = text.strip_prefix('"').unwrap_or(&text);
    let checksum: Checksum = tag
        .strip_suffix('"')
        .unwrap_or(tag)
        .parse()
        .map_err(|error| Refusal::bad(format!("{error}"), "give the SHA-256 of the value"))?;
    Ok(Some(Tags::Of(vec![checksum])))
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Prefix {
    #[serde(default)]
    prefix: String,
}

pub(super) async fn usage(State(door): State<Door>, uri: Uri) -> Result<Json<Value>, Refusal> {
    let Params(asked) = Params::<Prefix>::try_from_uri(&uri)
        .map_err(|error| Refusal::bad(error.body_text(), "give prefix, percent-encoded"))?;
    let store = door.store.clone();
    let (prefix, of) = (asked.prefix.clone(), asked.prefix);
    let counts =
        blocking(move || store.usage(&of)).await.inspect_err(|refusal| door.tell(refusal))?;
    Ok(Json(json!({ "prefix": prefix, "keys": counts.keys, "bytes": counts.bytes })))
}
