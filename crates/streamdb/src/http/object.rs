//! One value: reading it whole or in part, asking for its facts, deleting it.
//!
//! Putting one is in [`super::upload`].

use std::io;
use std::time::{Duration, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use percent_encoding::percent_decode_str;

use super::Door;
use super::blocking::{blocking, look_up};
use super::condition::{conditions, etag};
use super::range::{Asked, asked};
use super::reply::Refusal;
use crate::{Conditions, Key, Meta, ObjectReader};

pub(super) const VERSION: HeaderName = HeaderName::from_static("streamdb-version");
pub(super) const CREATED: HeaderName = HeaderName::from_static("streamdb-created");
pub(super) const MODIFIED: HeaderName = HeaderName::from_static("streamdb-modified");

/// From when on the value is no longer there, in milliseconds since 1970.
pub(super) const EXPIRES: HeaderName = HeaderName::from_static("streamdb-expires");
/// Seconds from now after which the value is no longer there.
pub(super) const TTL: HeaderName = HeaderName::from_static("streamdb-ttl");
/// What the names of headers with the owner's notes begin with.
pub(super) const USER: &str = "streamdb-meta-";

impl Door {
    /// Tells the operator what is this side's fault.
    pub(super) fn tell(&self, refusal: &Refusal) {
        if refusal.is_fault() {
            (self.settings.notice)(refusal.error());
        }
    }
}

/// The key in an address: whatever follows the door's own part, decoded once.
pub(super) fn key(uri: &Uri) -> Result<Key, Refusal> {
    let path = uri.path();
    let encoded = path.strip_prefix("/v1/objects/").unwrap_or_default();
    let decoded: Vec<u8> = percent_decode_str(encoded).collect();
    Ok(Key::from_bytes(&decoded)?)
}

/// Answers a request for one value.
pub(super) async fn handle(door: Door, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    // What writes has more to remember than what reads, and is moved about less in a box of its own.
    match parts.method {
        Method::GET => get(door, &parts.uri, &parts.headers).await.into_response(),
        Method::HEAD => head(&door, &parts.uri, &parts.headers).into_response(),
        Method::PUT => Box::pin(super::upload::put(door, parts, body)).await.into_response(),
        Method::DELETE => Box::pin(delete(door, parts)).await.into_response(),
        Method::POST => Box::pin(super::stream::post(door, parts, body)).await.into_response(),
        _ => super::no_such_method().await.with(header::ALLOW, METHODS).into_response(),
    }
}

const METHODS: HeaderValue = HeaderValue::from_static("GET,HEAD,PUT,DELETE,POST");

pub(super) async fn get(door: Door, uri: &Uri, headers: &HeaderMap) -> Result<Response, Refusal> {
    let key = key(uri)?;
    let wanted = conditions(headers)?;
    match super::stream::asked(uri)? {
        super::stream::Asked::Tail(from) => return super::stream::tail(door, key, from).await,
        super::stream::Asked::Events => return super::stream::events(door, key).await,
        _ => {}
    }
    let object = look_up(|| door.store.get(&key)).inspect_err(|refusal| door.tell(refusal))?;
    if let Some(early) = decide(&key, object.as_ref().map(crate::Object::meta), &wanted)? {
        return Ok(early);
    }
    let object = object.ok_or_else(|| Refusal::not_found(&key))?;
    let meta = object.meta().clone();
    let size = meta.size;
    let (status, range) = match range(headers, &meta) {
        Asked::Whole => (StatusCode::OK, 0..size),
        Asked::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Asked::Outside => {
            return Err(Refusal::new(
                StatusCode::RANGE_NOT_SATISFIABLE,
                format!("{key:?} has {size} bytes, and none of those asked for"),
                "ask for bytes within the value",
            )
            .with(header::CONTENT_RANGE, text(format!("bytes */{size}"))));
        }
    };
    let reader = object.into_range(range.clone());
    // Damage at the start is told with a status; later only by breaking off.
    let (first, reader) = piece(reader).await.inspect_err(|refusal| door.tell(refusal))?;
    let mut response = facts(&meta).into_response();
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, (range.end - range.start).into());
    if status == StatusCode::PARTIAL_CONTENT {
        let part = format!("bytes {}-{}/{size}", range.start, range.end - 1);
        headers.insert(header::CONTENT_RANGE, text(part));
    }
    *response.body_mut() = body(door, first, reader);
    Ok(response)
}

pub(super) fn head(door: &Door, uri: &Uri, headers: &HeaderMap) -> Result<Response, Refusal> {
    let key = key(uri)?;
    let wanted = conditions(headers)?;
    let meta = look_up(|| door.store.stat(&key)).inspect_err(|refusal| door.tell(refusal))?;
    if let Some(early) = decide(&key, meta.as_ref(), &wanted)? {
        return Ok(early);
    }
    let meta = meta.ok_or_else(|| Refusal::not_found(&key))?;
    let mut response = facts(&meta).into_response();
    response.headers_mut().insert(header::CONTENT_LENGTH, meta.size.into());
    Ok(response)
}

async fn delete(door: Door, parts: Parts) -> Result<StatusCode, Refusal> {
    let key = key(&parts.uri)?;
    let wanted = conditions(&parts.headers)?;
    let (store, of) = (door.store.clone(), key.clone());
    let _turn = door.commits.acquire().await;
    let gone = blocking(move || store.delete(&of, &wanted))
        .await
        .inspect_err(|refusal| door.tell(refusal))?;
    gone.map(|_| StatusCode::NO_CONTENT).ok_or_else(|| Refusal::not_found(&key))
}

/// Applies the conditions of a read: `Some` is an answer that needs no value.
fn decide(
    key: &Key,
    meta: Option<&Meta>,
    wanted: &Conditions,
) -> Result<Option<Response>, Refusal> {
    let matches = Conditions { matches: wanted.matches.clone(), differs: None };
    matches.check(key, meta)?;
    match (meta, &wanted.differs) {
        (Some(meta), Some(tags)) if tags.name(Some(meta)) => {
            let mut response = facts(meta).into_response();
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response.headers_mut().remove(header::CONTENT_TYPE);
            Ok(Some(response))
        }
        _ => Ok(None),
    }
}

fn range(headers: &HeaderMap, meta: &Meta) -> Asked {
    let Some(Ok(wanted)) = headers.get(header::RANGE).map(HeaderValue::to_str) else {
        return Asked::Whole;
    };
    // If-Range: the part only if the value is still the same, else the whole of the new one.
    match headers.get(header::IF_RANGE) {
        Some(tag) if tag.as_bytes() != etag(&meta.checksum).as_bytes() => Asked::Whole,
        _ => asked(wanted, meta.size),
    }
}

/// The headers that tell about a value.
pub(super) fn facts(meta: &Meta) -> HeaderMap {
    let modified = UNIX_EPOCH + Duration::from_millis(meta.modified.min(MOST_MILLIS));
    // Room for what the answer adds, so that the table is not made twice.
    let mut headers = HeaderMap::with_capacity(16);
    headers.insert(header::ETAG, text(etag(&meta.checksum)));
    headers.insert(header::CONTENT_TYPE, text(meta.content_type.clone()));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::LAST_MODIFIED, text(httpdate::fmt_http_date(modified)));
    headers.insert(VERSION, meta.version.into());
    headers.insert(CREATED, meta.created.into());
    headers.insert(MODIFIED, meta.modified.into());
    if meta.open {
        headers.insert(super::stream::OPEN, HeaderValue::from_static("true"));
    }
    if let Some(at) = meta.expires {
        headers.insert(EXPIRES, at.into());
    }
    for (name, value) in &meta.user {
        let name = HeaderName::try_from(format!("{USER}{name}"));
        if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    }
    // What people store must not run as a page of this server, nor be guessed to be one.
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    headers
}

/// The last moment that an HTTP date can write: the end of the year 9999.
const MOST_MILLIS: u64 = 253_402_300_799_999;

fn text(value: String) -> HeaderValue {
    HeaderValue::try_from(value)
        .unwrap_or_else(|_| HeaderValue::from_static("application/octet-stream"))
}

/// The next bytes. Those that are in memory are read here and now: a hop to a thread that may wait for
/// the disk, and back, costs about as much as they do.
async fn piece(mut reader: ObjectReader) -> Result<(Option<Bytes>, ObjectReader), Refusal> {
    if let Some(piece) = reader.next_in_memory()? {
        return Ok((piece, reader));
    }
    blocking(move || reader.next_piece().map(|piece| (piece, reader))).await
}

fn body(door: Door, first: Option<Bytes>, reader: ObjectReader) -> Body {
    match first {
        None => Body::empty(),
        Some(first) if reader.left() == 0 => Body::from(first),
        Some(first) => {
            Body::from_stream(stream::try_unfold((Some(first), reader), move |(first, reader)| {
                let door = door.clone();
                async move {
                    if let Some(first) = first {
                        return Ok::<_, io::Error>(Some((first, (None, reader))));
                    }
                    let (piece, reader) = piece(reader).await.map_err(|refusal| {
                        door.tell(&refusal);
                        // Ends the connection short of the length that was announced, so that
                        // nobody takes the bytes for the whole.
                        io::Error::other(refusal.error().to_owned())
                    })?;
                    Ok(piece.map(|piece| (piece, (None, reader))))
                }
            }))
        }
    }
}
