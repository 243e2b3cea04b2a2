//! `GET /v1/openapi.json`: the addresses under `/v1` as OpenAPI 3.1, for programs that read it.
//!
//! The text is `openapi.json`; a test holds it against the routes that there are.

use axum::http::header;
use axum::response::{IntoResponse, Response};

/// The document as it is served.
pub const OPENAPI: &str = include_str!("openapi.json");

pub(super) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}
