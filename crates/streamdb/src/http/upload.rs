//! Putting a value: the body goes to the store as it comes.

use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Json, Response};
use bytes::Bytes;
use http_body_util::BodyExt;

use super::Door;
use super::blocking::blocking;
use super::condition::conditions;
use super::object::{facts, key};
use super::reply::Refusal;
use crate::{Entry, Put, Upload, WriteError};

/// Bytes gathered before they are written, so that small network pieces do not each cost a hop to
/// a blocking thread.
pub(super) const GATHERED: usize = 256 * 1024;

pub(super) async fn put(
    State(door): State<Door>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let key = key(&uri)?;
    let put = Put { content_type: content_type(&headers)?, conditions: conditions(&headers)? };
    put.check()?;
    check_length(&door, &headers)?;
    if !put.conditions.is_none() {
        // Spares the client sending what will be refused; the commit decides anew.
        let (store, of, wanted) = (door.store.clone(), key.clone(), put.conditions.clone());
        let there =
            blocking(move || store.stat(&of)).await.inspect_err(|refusal| door.tell(refusal))?;
        wanted.check(&key, there.as_ref())?;
    }
    let (upload, rest) = receive(&door, body).await?;
    let turn = door.commits.acquire().await;
    let of = key.clone();
    let stored = blocking(move || write_all(upload, rest)?.commit(&of, &put))
        .await
        .inspect_err(|refusal| door.tell(refusal))?;
    drop(turn);
    let status = if stored.replaced { StatusCode::OK } else { StatusCode::CREATED };
    let mut told = facts(&stored.meta);
    // These belong to the value, and the body of this answer is not the value.
    told.remove(header::CONTENT_TYPE);
    told.remove(header::ACCEPT_RANGES);
    let entry = Entry { key, meta: stored.meta };
    Ok((status, told, Json(super::listing::entry(&entry))).into_response())
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

pub(super) fn check_length(door: &Door, headers: &HeaderMap) -> Result<(), Refusal> {
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let limit = door.store.max_object();
    if length.is_some_and(|length| length > limit) {
        return Err(WriteError::TooLarge { limit }.into());
    }
    Ok(())
}

/// Takes in the body; what is not yet written when it ends is handed back with the upload.
async fn receive(door: &Door, mut body: Body) -> Result<(Upload, Vec<Bytes>), Refusal> {
    let mut upload = door.store.upload();
    let mut gathered = Vec::new();
    let mut length = 0;
    while let Some(piece) = next(&mut body, door.settings.stall).await? {
        length += piece.len();
        gathered.push(piece);
        if length >= GATHERED {
            let pieces = std::mem::take(&mut gathered);
            length = 0;
            upload = blocking(move || write_all(upload, pieces))
                .await
                .inspect_err(|refusal| door.tell(refusal))?;
        }
    }
    Ok((upload, gathered))
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
                    "send it again; nothing of it was stored",
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

pub(super) fn write_all(mut upload: Upload, pieces: Vec<Bytes>) -> Result<Upload, WriteError> {
    for piece in pieces {
        upload.write(&piece)?;
    }
    Ok(upload)
}
