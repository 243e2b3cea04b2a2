//! Cross-origin requests: refused by every browser unless the operator names who may make them.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, PUT, POST, DELETE");
const TOLD: HeaderValue = HeaderValue::from_static(
    "etag, content-range, accept-ranges, content-length, last-modified, location, \
     streamdb-version, streamdb-created, streamdb-modified",
);

/// Whether a page of the origin asks.
pub(super) fn asks(origin: &HeaderValue, request: &Request) -> bool {
    request.headers().get(header::ORIGIN) == Some(origin)
}

/// The answer to a browser that asks for such a page before it makes the request, if that is what it does.
pub(super) fn preflight(request: &Request) -> Option<Response> {
    let asked = request.headers();
    if *request.method() != Method::OPTIONS
        || !asked.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
    {
        return None;
    }
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    if let Some(wanted) = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    Some((StatusCode::NO_CONTENT, headers).into_response())
}

/// Tells browsers, where a page of the origin asked, that it may read the answer.
pub(super) fn share(origin: &HeaderValue, asks: bool, mut response: Response) -> Response {
    let headers = response.headers_mut();
    if asks {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, TOLD);
    }
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    response
}
