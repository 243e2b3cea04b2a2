//! Cross-origin requests: refused by every browser unless the operator names who may make them.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, PUT, POST, DELETE");
const TOLD: HeaderValue = HeaderValue::from_static(
    "etag, content-range, accept-ranges, content-length, last-modified, location, \
     streamdb-version, streamdb-created, streamdb-modified",
);

/// Tells browsers that pages of this origin may read the answers.
pub(super) async fn share(
    State(origin): State<HeaderValue>,
    request: Request,
    next: Next,
) -> Response {
    let asked = request.headers();
    if asked.get(header::ORIGIN) != Some(&origin) {
        let mut response = next.run(request).await;
        response.headers_mut().append(header::VARY, HeaderValue::from_static("origin"));
        return response;
    }
    let preflight = *request.method() == Method::OPTIONS
        && asked.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if preflight {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        if let Some(wanted) = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
        }
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        (StatusCode::NO_CONTENT, headers).into_response()
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, TOLD);
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    response
}
