//! `GET /v1/backup`: the store as it is now, as a tar archive that unpacks to a store.

use std::io::{self, Write};

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::mpsc;

use super::Door;

/// Bytes sent in one piece.
const PIECE: usize = 256 * 1024;

pub(super) async fn backup(State(door): State<Door>) -> Response {
    // A few pieces ahead of the client, and no more: the backup goes at its pace.
    let (send, receive) = mpsc::channel(4);
    tokio::task::spawn_blocking(move || {
        let mut out = Pieces { send: send.clone(), held: Vec::with_capacity(PIECE) };
        let done = door.store.backup_tar(&mut out).map_err(|error| error.to_string());
        let done = done.and_then(|backup| {
            for problem in &backup.problems {
                let key = problem.key.as_deref().unwrap_or_default();
                (door.settings.notice)(&format!("backup: {key:?}: {}", problem.error));
            }
            out.flush().map_err(|error| error.to_string())
        });
        if let Err(error) = done {
            (door.settings.notice)(&format!("a backup broke off: {error}"));
            // Ends the answer without its end, so that nobody takes it for the whole.
            let _ = send.blocking_send(Err(io::Error::other(error)));
        }
    });
    let pieces = stream::unfold(receive, |mut receive| async move {
        receive.recv().await.map(|piece| (piece, receive))
    });
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/x-tar")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, Body::from_stream(pieces)).into_response()
}

struct Pieces {
    send: mpsc::Sender<io::Result<Bytes>>,
    held: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.held.extend_from_slice(bytes);
        if self.held.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.held, Vec::with_capacity(PIECE));
        self.send.blocking_send(Ok(piece.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
