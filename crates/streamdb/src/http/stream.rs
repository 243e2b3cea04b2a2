//! Open streams over HTTP: `POST ?append`, `POST ?seal`, and reading along by `GET ?tail` (the bytes
//! themselves) and `GET ?events` (how far the stream is, as server-sent events).

use std::io;
use std::time::Duration;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Json, Response};
use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, stream};

use super::Door;
use super::blocking::blocking;
use super::object::{facts, key};
use super::reply::Refusal;
use super::upload::{given, next, stored_headers};
use crate::{AppendError, Key, Meta, Put, ReadError, Tail, Tailed};

/// How long the stream is, in bytes.
pub(super) const SIZE: HeaderName = HeaderName::from_static("streamdb-size");
/// How long the stream must be for an append to be taken, in bytes.
pub(super) const OFFSET: HeaderName = HeaderName::from_static("streamdb-offset");
/// Told with an open stream.
pub(super) const OPEN: HeaderName = HeaderName::from_static("streamdb-open");

/// The most bytes of a body that are made durable in one step.
const STEP: usize = 256 * 1024;

/// How often a silent stream of events says that it still lives, so that what stands between does
/// not take it for dead.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// What the query of an address asks for besides the value itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Value,
    Tail(u64),
    Events,
    Append,
    Seal,
}

pub(super) fn asked(uri: &Uri) -> Result<Asked, Refusal> {
    let mut asked = Asked::Value;
    let mut from = None;
    for part in uri.query().unwrap_or_default().split('&') {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        // `tail=0` would most likely mean the contrary of what it would do.
        if !value.is_empty() && matches!(name, "tail" | "events" | "append" | "seal") {
            return Err(Refusal::bad(
                format!("{name} takes no value"),
                format!("give ?{name} alone, or leave it out"),
            ));
        }
        match name {
            "tail" => asked = Asked::Tail(0),
            "events" => asked = Asked::Events,
            "append" => asked = Asked::Append,
            "seal" => asked = Asked::Seal,
            "from" => {
                let offset = value.parse().map_err(|_| {
                    Refusal::bad("from is no number of bytes", "give ?tail&from=BYTES")
                })?;
                from = Some(offset);
            }
            // Others are passed over: players and caches add their own.
            _ => {}
        }
    }
    // Whoever says from where wants to read along from there.
    if let (Asked::Value | Asked::Tail(_) | Asked::Events, Some(from)) = (&asked, from) {
        asked = Asked::Tail(from);
    }
    Ok(asked)
}

pub(super) async fn post(door: Door, parts: Parts, body: Body) -> Result<Response, Refusal> {
    let Parts { uri, headers, .. } = parts;
    let key = key(&uri)?;
    match asked(&uri)? {
        Asked::Append => append(door, key, headers, body).await,
        Asked::Seal => {
            // Taken by appends alone, but not passed over where it makes no sense.
            offset(&headers)?;
            let (store, of) = (door.store.clone(), key.clone());
            let _turn = door.commits.acquire().await;
            let meta = blocking(move || store.seal(&of))
                .await
                .inspect_err(|refusal| door.tell(refusal))?;
            Ok(told(StatusCode::OK, &key, &meta))
        }
        _ => Err(Refusal::bad(
            "a POST to a value says what to do with it",
            "POST to KEY?append or KEY?seal; a whole value is stored with PUT",
        )),
    }
}

/// Appends the body. A stream that is not there yet is opened.
async fn append(
    door: Door,
    key: Key,
    headers: HeaderMap,
    mut body: Body,
) -> Result<Response, Refusal> {
    let put = given(&headers, door.store.now())?;
    put.check()?;
    let mut at = offset(&headers)?;
    let (opened, mut meta) = begin(&door, &key, put, at).await?;
    if let Some(at) = at.filter(|at| *at != meta.size) {
        return Err(AppendError::Offset { key, given: at, size: meta.size }.into());
    }
    // A short body is one step, seen whole or not at all; a long one, or one whose end nobody knows
    // yet, is seen as it comes.
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    let length = length.and_then(|length| length.parse::<usize>().ok());
    let whole = length.is_some_and(|length| length <= STEP);
    let mut ended = false;
    while !ended {
        let Some(first) = next(&mut body, door.settings.stall).await? else { break };
        // Whatever else has come already goes into the same step.
        let mut gathered = BytesMut::from(first);
        while gathered.len() < STEP || whole {
            let more = next(&mut body, door.settings.stall);
            let more = if whole { Some(more.await) } else { more.now_or_never() };
            match more.transpose()? {
                None => break,
                Some(Some(piece)) => gathered.extend_from_slice(&piece),
                Some(None) => {
                    ended = true;
                    break;
                }
            }
        }
        let (store, of, bytes) = (door.store.clone(), key.clone(), gathered.freeze());
        let _turn = door.commits.acquire().await;
        meta = blocking(move || store.append(&of, &bytes, at))
            .await
            .inspect_err(|refusal| door.tell(refusal))?;
        // From here on nobody else may come in between.
        at = at.map(|_| meta.size);
    }
    Ok(told(if opened { StatusCode::CREATED } else { StatusCode::OK }, &key, &meta))
}

/// The stream as it is, or a new one where there is none.
async fn begin(
    door: &Door,
    key: &Key,
    mut put: Put,
    at: Option<u64>,
) -> Result<(bool, Meta), Refusal> {
    let (store, of) = (door.store.clone(), key.clone());
    put.conditions = crate::Conditions::absent();
    let done = blocking::<_, AppendError>(move || {
        // Twice, since another client may open it between the two.
        for _ in 0..2 {
            match store.stat(&of) {
                Ok(Some(meta)) if meta.open => return Ok((false, meta)),
                Ok(Some(meta)) => {
                    return Err(AppendError::Sealed { key: of.clone(), meta: Box::new(meta) });
                }
                Ok(None) if at.is_some_and(|at| at > 0) => break,
                Ok(None) => match store.open_stream(&of, &put) {
                    Ok(stored) => return Ok((true, stored.meta)),
                    Err(crate::WriteError::Condition { .. }) => {}
                    Err(error) => return Err(error.into()),
                },
                Err(_) => return Err(AppendError::Damaged { key: of.clone() }),
            }
        }
        Err(AppendError::Missing { key: of.clone() })
    });
    done.await.inspect_err(|refusal| door.tell(refusal))
}

fn offset(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let Some(value) = headers.get(&OFFSET) else { return Ok(None) };
    let number = value.to_str().ok().and_then(|text| text.parse().ok());
    number.map(Some).ok_or_else(|| {
        Refusal::bad("streamdb-offset is no number of bytes", "send the length that you expect")
    })
}

fn told(status: StatusCode, key: &Key, meta: &Meta) -> Response {
    let headers = stored_headers(meta);
    (status, headers, Json(super::listing::told(key, meta))).into_response()
}

pub(super) async fn tail(door: Door, key: Key, from: u64) -> Result<Response, Refusal> {
    let tail = open(&door, &key, from).await?;
    let mut headers = facts(tail.meta());
    // It is not the value as it is now, and no cache may take it for that.
    headers.remove(header::ETAG);
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("none"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let pieces = stream::try_unfold((door, tail), |(door, mut tail)| async move {
        loop {
            // Most of the time the bytes are in memory, and no other thread is needed.
            let next = match tail.at_hand() {
                Ok(Some(next)) => Ok((next, tail)),
                Ok(None) => blocking(move || tail.try_next().map(|next| (next, tail))).await,
                Err(error) => Err(error.into()),
            };
            let (next, followed) = next.map_err(|refusal: Refusal| {
                door.tell(&refusal);
                // Breaks the answer off, so that nobody takes it for the whole.
                io::Error::other(refusal.error().to_owned())
            })?;
            tail = followed;
            match next {
                Tailed::Piece(piece) => return Ok::<_, io::Error>(Some((piece, (door, tail)))),
                Tailed::End => return Ok(None),
                Tailed::Nothing => tail.changed().await,
            }
        }
    });
    Ok((headers, Body::from_stream(pieces)).into_response())
}

pub(super) async fn events(door: Door, key: Key) -> Result<Response, Refusal> {
    let tail = open(&door, &key, u64::MAX).await?;
    let lines = stream::unfold(Some((tail, None)), |state| async move {
        let (mut tail, told): (Tail, Option<u64>) = state?;
        loop {
            // Asking marks what is seen, so that `changed` waits for what is new.
            let gone = matches!(tail.at_hand(), Err(ReadError::Gone { .. }));
            let (size, grows) = tail.progress();
            if gone {
                return Some((event("gone", size), None));
            }
            if !grows {
                return Some((event("sealed", size), None));
            }
            if told != Some(size) {
                return Some((event("size", size), Some((tail, Some(size)))));
            }
            if tokio::time::timeout(SIGN_OF_LIFE, tail.changed()).await.is_err() {
                return Some((Ok(Bytes::from_static(b":\n\n")), Some((tail, told))));
            }
        }
    });
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    Ok((headers, Body::from_stream(lines)).into_response())
}

fn event(name: &str, size: u64) -> Result<Bytes, io::Error> {
    Ok(format!("event: {name}\ndata: {{\"size\":{size}}}\n\n").into())
}

async fn open(door: &Door, key: &Key, from: u64) -> Result<Tail, Refusal> {
    let (store, of) = (door.store.clone(), key.clone());
    blocking(move || store.tail(&of, from))
        .await
        .inspect_err(|refusal| door.tell(refusal))?
        .ok_or_else(|| Refusal::not_found(key))
}
