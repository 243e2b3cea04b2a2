//! Putting a value: the body goes to the store as it comes.

use std::collections::BTreeMap;
use std::future::{Future, ready};
use std::pin::Pin;
use std::time::Duration;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use bytes::Bytes;
use http_body_util::BodyExt;

use super::blocking::blocking;
use super::condition::{conditions, conditions_named};
use super::object::{EXPIRES, TTL, USER, facts, key};
use super::reply::Refusal;
use super::{Door, listing};
use crate::store::Small;
use crate::{Conditions, Key, Meta, Put, Transfer, Upload, WriteError};

/// Stores a copy of the value under this key, percent-encoded, instead of a body.
pub(super) const COPY_FROM: HeaderName = HeaderName::from_static("streamdb-copy-from");
/// Moves the value under this key, percent-encoded, instead of storing a body.
pub(super) const RENAME_FROM: HeaderName = HeaderName::from_static("streamdb-rename-from");
/// As If-Match, of the value that is copied or moved.
pub(super) const SOURCE_IF_MATCH: HeaderName = HeaderName::from_static("streamdb-source-if-match");

/// Bytes gathered before they are written, so that small network pieces do not each cost a hop to
/// a blocking thread.
pub(super) const GATHERED: usize = 256 * 1024;

/// The most bytes taken in of a body that has been refused.
const DRAINED: usize = 8 << 20;

pub(super) async fn put(door: Door, parts: Parts, mut body: Body) -> Result<Response, Refusal> {
    let Parts { uri, headers, .. } = parts;
    let key = key(&uri)?;
    let put = Put { conditions: conditions(&headers)?, ..given(&headers, door.store.now())? };
    let source = conditions_named(&headers, &SOURCE_IF_MATCH, None)?;
    if let Some(from) = headers.get(&COPY_FROM).or_else(|| headers.get(&RENAME_FROM)) {
        let moves = headers.contains_key(&RENAME_FROM);
        return transfer(door, key, from, moves, [source, put.conditions]).await;
    }
    put.check()?;
    check_length(&door, &key, &headers).await?;
    if !put.conditions.is_none() {
        // Spares the client sending what will be refused; the commit decides anew.
        let (store, of, wanted) = (door.store.clone(), key.clone(), put.conditions.clone());
        let there =
            blocking(move || store.stat(&of)).await.inspect_err(|refusal| door.tell(refusal))?;
        wanted.check(&key, there.as_ref())?;
    }
    let received = receive(&door, &key, &mut body).await;
    if received.is_err() {
        drain(&mut body).await;
    }
    let (upload, rest) = received?;
    let stored = if upload.size() == 0 && length_of(&rest) <= Upload::SMALL {
        let upload = write_all(upload, rest)?;
        door.small.commit(Small { upload, key: key.clone(), put }).await
    } else {
        let _turn = door.commits.acquire().await;
        let of = key.clone();
        blocking(move || write_all(upload, rest)?.commit(&of, &put)).await
    };
    let stored = stored.inspect_err(|refusal| door.tell(refusal))?;
    let status = if stored.replaced { StatusCode::OK } else { StatusCode::CREATED };
    let body = Json(listing::told(&key, &stored.meta));
    Ok((status, stored_headers(&stored.meta), body).into_response())
}

/// Stores under a key what another key holds: as a copy, or by moving it.
async fn transfer(
    door: Door,
    to: Key,
    from: &HeaderValue,
    moves: bool,
    [source, target]: [Conditions; 2],
) -> Result<Response, Refusal> {
    let decoded: Vec<u8> = percent_encoding::percent_decode(from.as_bytes()).collect();
    let mut transfer = Transfer::new(Key::from_bytes(&decoded)?, to.clone());
    (transfer.source, transfer.target) = (source, target);
    let store = door.store.clone();
    let _turn = door.commits.acquire().await;
    let stored =
        blocking(move || if moves { store.rename(&transfer) } else { store.copy(&transfer) })
            .await
            .inspect_err(|refusal| door.tell(refusal))?;
    let status = if stored.replaced { StatusCode::OK } else { StatusCode::CREATED };
    let body = Json(listing::told(&to, &stored.meta));
    Ok((status, stored_headers(&stored.meta), body).into_response())
}

/// The headers of an answer about a value that was stored.
pub(super) fn stored_headers(meta: &Meta) -> HeaderMap {
    let mut told = facts(meta);
    // These belong to the value, and the body of this answer is not the value.
    told.remove(header::CONTENT_TYPE);
    told.remove(header::ACCEPT_RANGES);
    told
}

/// What the headers tell about the value that is sent.
pub(super) fn given(headers: &HeaderMap, now: u64) -> Result<Put, Refusal> {
    let mut user = BTreeMap::new();
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix(USER) else { continue };
        let value = value.to_str().map_err(|_| WriteError::User { name: name.to_owned() })?;
        user.insert(name.to_owned(), value.to_owned());
    }
    let number = |name: &HeaderName| {
        headers.get(name).map(|value| value.to_str().ok()?.parse::<u64>().ok()).map(|number| {
            number.ok_or_else(|| {
                Refusal::bad(
                    format!("the header {name} is no number"),
                    "send streamdb-ttl in seconds, or streamdb-expires in milliseconds since 1970",
                )
            })
        })
    };
    let (ttl, expires) = (number(&TTL).transpose()?, number(&EXPIRES).transpose()?);
    let expires = ttl.map(|ttl| now.saturating_add(ttl.saturating_mul(1000))).or(expires);
    let content_type = content_type(headers)?;
    Ok(Put { content_type, conditions: Conditions::default(), expires, user })
}

fn content_type(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    for (name, why) in [
        (header::CONTENT_RANGE, "a part of a value cannot be put"),
        (header::CONTENT_ENCODING, "values are kept as they are, without an encoding"),
    ] {
        if headers.contains_key(&name) {
            return Err(Refusal::bad(
                format!("{why}, but {name} was sent"),
                format!("send the whole value without {name}"),
            ));
        }
    }
    headers
        .get(header::CONTENT_TYPE)
        .map(|kind| {
            kind.to_str().map(str::to_owned).map_err(|_| {
                Refusal::bad(
                    "the content type is not ASCII",
                    "send a type and subtype, for example audio/wav",
                )
            })
        })
        .transpose()
}

/// Refuses a value whose length is told, and for which there is no room, before it is sent.
pub(super) async fn check_length(
    door: &Door,
    key: &Key,
    headers: &HeaderMap,
) -> Result<(), Refusal> {
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    match length {
        Some(length) => begin(door, key).await?.admits(length).map_err(Refusal::from),
        None => Ok(()),
    }
}

/// Begins an upload that is bounded by what there is room for.
pub(super) async fn begin(door: &Door, key: &Key) -> Result<Upload, Refusal> {
    if !door.store.has_quota(key) {
        return Ok(door.store.upload());
    }
    let (store, of) = (door.store.clone(), key.clone());
    blocking(move || store.upload_for(&of)).await.inspect_err(|refusal| door.tell(refusal))
}

/// Takes in the body; what is not yet written when it ends is handed back with the upload. While one
/// part is written the next one comes.
async fn receive(door: &Door, key: &Key, body: &mut Body) -> Result<(Upload, Vec<Bytes>), Refusal> {
    let upload = begin(door, key).await?;
    let mut written: Pin<Box<dyn Future<Output = Result<Upload, Refusal>> + Send>> =
        Box::pin(ready(Ok(upload)));
    let mut gathered = Vec::new();
    let mut length = 0;
    loop {
        let piece = match next(body, door.settings.stall).await {
            Ok(Some(piece)) => piece,
            // Nothing of it is left when the client learns that it was in vain.
            Err(refusal) => return written.await.and(Err(refusal)),
            Ok(None) => break,
        };
        length += piece.len();
        gathered.push(piece);
        if length >= GATHERED {
            let pieces = std::mem::take(&mut gathered);
            length = 0;
            let upload = written.await.inspect_err(|refusal| door.tell(refusal))?;
            written = Box::pin(blocking(move || write_all(upload, pieces)));
        }
    }
    let upload = written.await.inspect_err(|refusal| door.tell(refusal))?;
    Ok((upload, gathered))
}

/// Takes in a little more of a body that is refused. A connection that is closed while its client
/// still sends is reset, and the client never reads the refusal.
async fn drain(body: &mut Body) {
    let mut left = DRAINED;
    while let Ok(Some(piece)) = next(body, Duration::from_secs(1)).await {
        match left.checked_sub(piece.len()) {
            Some(less) => left = less,
            None => return,
        }
    }
}

pub(super) async fn next(body: &mut Body, stall: Duration) -> Result<Option<Bytes>, Refusal> {
    loop {
        match tokio::time::timeout(stall, body.frame()).await {
            Err(_) => {
                return Err(Refusal::new(
                    StatusCode::REQUEST_TIMEOUT,
                    "the body stopped coming before its end",
                    "send it again without pauses",
                ));
            }
            Ok(None) => return Ok(None),
            Ok(Some(Err(error))) => {
                return Err(Refusal::bad(
                    format!("the body broke off: {error}"),
                    "send it again; a value of which a part was sent is not stored",
                ));
            }
            Ok(Some(Ok(frame))) => {
                // Trailers carry nothing that is kept.
                if let Ok(piece) = frame.into_data() {
                    return Ok(Some(piece));
                }
            }
        }
    }
}

fn length_of(pieces: &[Bytes]) -> usize {
    pieces.iter().map(Bytes::len).sum()
}

pub(super) fn write_all(mut upload: Upload, pieces: Vec<Bytes>) -> Result<Upload, WriteError> {
    for piece in pieces {
        upload.write(&piece)?;
    }
    Ok(upload)
}
