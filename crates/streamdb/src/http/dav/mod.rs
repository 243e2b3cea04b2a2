//! The WebDAV door at `/dav/`: the store as a folder tree for file managers, audio programs, rclone.
//!
//! The protocol itself (XML, `If` headers, multi-status) is the crate `dav-server`'s; what a folder
//! is here is told in [`tree`]. Locks live in memory and run out; nothing becomes a file name.

mod file;
mod locks;
mod moves;
mod properties;
mod tree;

use std::io;
use std::panic::AssertUnwindSafe;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use dav_server::fs::FsError;
use dav_server::{DavConfig, DavHandler};
use futures_util::{FutureExt, stream};

use super::blocking::blocking;
use super::reply::{Refusal, SWEPT};
use super::{Door, object, upload};
pub(super) use locks::Leases;
use tree::Tree;

/// Serves one request under `/dav`.
pub(super) async fn handle(State(door): State<Door>, request: Request) -> Response {
    let method = request.method();
    if (method == Method::GET || method == Method::HEAD) && !request.uri().path().ends_with('/') {
        // Ranges, conditions and content types are better looked after there.
        if let Some(uri) = as_object(request.uri()) {
            let answer = if method == Method::GET {
                object::get(door.clone(), &uri, request.headers()).await
            } else {
                object::head(&door, &uri, request.headers())
            };
            match answer {
                // A collection without a slash, perhaps.
                Err(refusal) if refusal.status() == StatusCode::NOT_FOUND => {}
                answer => return answer.into_response(),
            }
        }
    }
    if method.as_str() == "PROPFIND" && !finite(&request) {
        return Response::builder()
            .status(StatusCode::FORBIDDEN)
            .header(header::CONTENT_TYPE, "application/xml; charset=utf-8")
            .body(Body::from(INFINITE))
            .unwrap_or_default();
    }
    if method.as_str() == "PATCH"
        || (method == Method::PUT && request.headers().contains_key(header::CONTENT_RANGE))
    {
        return Refusal::bad("a part of a value cannot be put", "send the whole value with PUT")
            .into_response();
    }
    if request.headers().get_all("if").iter().any(|value| !closed(value.as_bytes())) {
        return Refusal::bad(
            "the header If breaks off within a token or tag",
            "close every < with > and every [ with ]",
        )
        .into_response();
    }
    if method == Method::PUT {
        if let Some(Ok(key)) = as_object(request.uri()).map(|uri| object::key(&uri)) {
            if let Err(refusal) = upload::check_length(&door, &key, request.headers()).await {
                return refusal.into_response();
            }
        }
    }
    let kind = request.headers().get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).map(str::to_owned);
    let config = DavConfig::new()
        .strip_prefix("/dav")
        .autoindex(false)
        .locksystem(Box::new(door.locks.clone()))
        .filesystem(Box::new(Tree::new(door.clone(), kind)));
    let handler = DavHandler::new();
    let answer = handler.handle_with(config, bounded(&door, request));
    let Ok(response) = AssertUnwindSafe(answer).catch_unwind().await else {
        // Headers that the protocol's crate was not ready for.
        return Refusal::bad("this request is not WebDAV", "send it as RFC 4918 says")
            .into_response();
    };
    let (mut parts, body) = response.into_parts();
    if parts.status == StatusCode::INSUFFICIENT_STORAGE {
        parts.headers.insert(header::RETRY_AFTER, SWEPT);
    }
    Response::from_parts(parts, Body::new(body))
}

/// Whether the brackets of an `If` header are closed; the crate's parser reads past the end of one
/// whose are not.
fn closed(header: &[u8]) -> bool {
    let (mut until, mut quoted) = (None, false);
    for &byte in header {
        match (until, byte) {
            (Some(_), b'"') => quoted = !quoted,
            (Some(end), byte) if byte == end && !quoted => until = None,
            (None, b'<') => until = Some(b'>'),
            (None, b'[') => until = Some(b']'),
            _ => {}
        }
    }
    until.is_none()
}

const INFINITE: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n\
    <D:error xmlns:D=\"DAV:\"><D:propfind-finite-depth/></D:error>\n";

/// RFC 4918, 9.1: a server may refuse to walk the whole tree, which is what no depth asks for.
fn finite(request: &Request) -> bool {
    let depth = request.headers().get("depth").map(axum::http::HeaderValue::as_bytes);
    matches!(depth, Some(b"0" | b"1"))
}

fn as_object(uri: &Uri) -> Option<Uri> {
    format!("/v1/objects/{}", uri.path().strip_prefix("/dav/")?).parse().ok()
}

/// The request with a body that may not pause for longer than other uploads may.
fn bounded(door: &Door, request: Request) -> Request {
    let stall = door.settings.stall;
    request.map(|body| {
        Body::from_stream(stream::try_unfold(body, move |mut body| async move {
            let piece = upload::next(&mut body, stall).await;
            let piece = piece.map_err(|refusal| io::Error::other(refusal.error().to_owned()))?;
            Ok::<_, io::Error>(piece.map(|piece| (piece, body)))
        }))
    })
}

impl Door {
    /// Runs an operation of the store for a WebDAV request.
    async fn dav<T, E>(
        &self,
        operation: impl FnOnce(&crate::Store) -> Result<T, E> + Send + 'static,
    ) -> Result<T, FsError>
    where
        T: Send + 'static,
        E: Send + 'static,
        Refusal: From<E>,
    {
        let store = self.store.clone();
        blocking(move || operation(&store)).await.map_err(|refusal| {
            self.tell(&refusal);
            match refusal.status() {
                StatusCode::NOT_FOUND => FsError::NotFound,
                StatusCode::PRECONDITION_FAILED => FsError::Exists,
                StatusCode::PAYLOAD_TOO_LARGE => FsError::TooLarge,
                StatusCode::INSUFFICIENT_STORAGE => FsError::InsufficientStorage,
                // A stream that still grows is not copied.
                StatusCode::BAD_REQUEST | StatusCode::CONFLICT => FsError::Forbidden,
                _ => FsError::GeneralFailure,
            }
        })
    }

    /// The same for one that writes, which waits for its turn.
    async fn dav_write<T, E>(
        &self,
        operation: impl FnOnce(&crate::Store) -> Result<T, E> + Send + 'static,
    ) -> Result<T, FsError>
    where
        T: Send + 'static,
        E: Send + 'static,
        Refusal: From<E>,
    {
        let _turn = self.commits.acquire().await;
        self.dav(operation).await
    }
}

#[cfg(test)]
mod tests {
    use super::closed;

    #[test]
    fn headers_that_break_off_are_told_from_whole_ones() {
        for whole in ["", "(<a> [\"x]y\"])", "(Not <DAV:no-lock>)"] {
            assert!(closed(whole.as_bytes()), "{whole}");
        }
        for broken in ["(<a", "(<a> [\"x]", "[", "([\"]\""] {
            assert!(!closed(broken.as_bytes()), "{broken}");
        }
    }
}
