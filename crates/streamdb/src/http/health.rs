//! The server's own state, for service managers and monitors.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Json;
use serde_json::{Value, json};

use super::Door;
use super::blocking::blocking;
use super::reply::Refusal;

/// Reads from the index, so that "ok" means more than that the process runs.
pub(super) async fn health(State(door): State<Door>) -> Result<Json<Value>, Refusal> {
    let counts = look(door).await?;
    Ok(Json(json!({
        "status": "ok",
        "version": env!("CARGO_PKG_VERSION"),
        "keys": counts.keys,
        "bytes": counts.bytes,
    })))
}

pub(super) async fn ready(State(door): State<Door>) -> Result<Json<Value>, Refusal> {
    look(door).await?;
    Ok(Json(json!({ "ready": true })))
}

async fn look(door: Door) -> Result<crate::Counts, Refusal> {
    let store = door.store.clone();
    blocking(move || {
        store.counts().map_err(|error| {
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string(), error.remedy())
        })
    })
    .await
    .inspect_err(|refusal| (door.settings.notice)(refusal.error()))
}
