//! `GET /metrics`: what monitors want to know, in Prometheus' text format.
//!
//! Counted here and nowhere else; values and keys are never named.

use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use axum::extract::State;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::Door;
use super::blocking::blocking;
use super::reply::Refusal;

/// A method that no one uses must not become a series of its own: clients choose them.
const METHODS: [&str; 8] = ["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PROPFIND", "other"];

/// Counts of one door.
#[derive(Debug, Default)]
pub(super) struct Tally {
    // By method, then by the first digit of the status, from 1 to 5.
    answers: [[AtomicU64; 5]; METHODS.len()],
    open: AtomicI64,
}

/// A request under way. Its end lowers the number of open ones, also when the client goes away first.
pub(super) struct Counted<'a> {
    tally: &'a Tally,
    method: usize,
}

impl Tally {
    /// Counts a request as open.
    pub(super) fn begin(&self, method: &Method) -> Counted<'_> {
        let method = METHODS.iter().position(|name| *name == method.as_str());
        self.open.fetch_add(1, Relaxed);
        Counted { tally: self, method: method.unwrap_or(METHODS.len() - 1) }
    }
}

impl Counted<'_> {
    /// Counts the answer.
    pub(super) fn end(self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        let classes = self.tally.answers.get(self.method);
        if let Some(count) = classes.and_then(|classes| classes.get(class)) {
            count.fetch_add(1, Relaxed);
        }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.tally.open.fetch_sub(1, Relaxed);
    }
}

pub(super) async fn metrics(State(door): State<Door>) -> Result<Response, Refusal> {
    let store = door.store.clone();
    let counts =
        blocking(move || store.counts()).await.inspect_err(|refusal| door.tell(refusal))?;
    let mut out = String::new();
    let mut tell = |name: &str, kind: &str, help: &str, samples: &[(String, String)]| {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(out, "{name}{labels} {value}");
        }
    };
    let one = |value: String| [(String::new(), value)];
    let version = format!("{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    tell("streamdb_info", "gauge", "The program.", &[(version, "1".to_owned())]);
    tell("streamdb_keys", "gauge", "Keys in the store.", &one(counts.keys.to_string()));
    tell(
        "streamdb_value_bytes",
        "gauge",
        "Sum of the sizes of all values.",
        &one(counts.bytes.to_string()),
    );
    tell(
        "streamdb_http_requests_open",
        "gauge",
        "Requests not yet answered, without the sending of long bodies.",
        &one(door.tally.open.load(Relaxed).to_string()),
    );
    let mut samples = Vec::new();
    for (method, classes) in METHODS.iter().zip(&door.tally.answers) {
        for (class, count) in (1..).zip(classes) {
            // Series appear when there is something to tell.
            let count = count.load(Relaxed);
            if count > 0 {
                let labels = format!("{{method=\"{method}\",status=\"{class}xx\"}}");
                samples.push((labels, count.to_string()));
            }
        }
    }
    let help = "Requests answered, by method and kind of status.";
    tell("streamdb_http_requests_total", "counter", help, &samples);
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    Ok((kind, out).into_response())
}
