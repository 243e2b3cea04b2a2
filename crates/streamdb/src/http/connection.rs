//! One connection: HTTP/1.1 or HTTP/2 on it, and an end to one that only holds its place.
//!
//! HTTP/1.1 bounds itself: a head that does not come, and a socket that takes nothing. On HTTP/2 many
//! requests share a socket that looks well, so what each of them waits for is watched here.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::Watcher;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::App;
use super::access::Peer;
use super::serve::Limits;

/// Requests under way at a time on one HTTP/2 connection.
const STREAMS: u32 = 100;

/// How often waiting is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Serves the requests of one connection to its end.
pub(super) async fn serve<S>(
    socket: S,
    second: bool,
    app: App,
    peer: IpAddr,
    limits: &Limits,
    watcher: Watcher,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let waits = Arc::new(Waits::default());
    let noted = Arc::clone(&waits);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        let app = app.clone();
        // On HTTP/1.1 the socket tells what there is to tell.
        let turn = second.then(|| Turn::begin(&noted));
        async move {
            let answer = app.answer(request.map(Body::new)).await;
            Ok::<_, Infallible>(match turn {
                Some(turn) => answer.map(|body| Body::new(Watched { body, turn })),
                None => answer,
            })
        }
    });
    let socket = TokioIo::new(socket);
    if !second {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(limits.head)
            .max_headers(limits.headers)
            .max_buf_size(limits.head_bytes.max(8192));
        // A connection that breaks is its client's affair.
        let _ = watcher.watch(http.serve_connection(socket, service)).await;
        return;
    }
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        // Finds those that are gone without a word.
        .keep_alive_interval(Some(limits.write))
        .keep_alive_timeout(limits.write);
    let mut connection = pin!(watcher.watch(http.serve_connection(socket, service)));
    loop {
        tokio::select! {
            _ = &mut connection => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        if waits.too_long(limits, Instant::now()) {
            return;
        }
    }
}

/// What the first bytes on a socket in the clear begin: HTTP/2 (RFC 9113, 3.4), or HTTP/1.1.
pub(super) async fn begins_second(socket: &TcpStream) -> bool {
    let mut first = [0; 3];
    loop {
        match socket.peek(&mut first).await {
            Ok(3) => return &first == b"PRI",
            Ok(0) | Err(_) => return false,
            Ok(some) if !b"PRI".starts_with(first.get(..some).unwrap_or_default()) => return false,
            // So few bytes rarely come alone, and there is no waiting for more of them.
            Ok(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// The requests under way on a connection, and since when each waits for its client.
#[derive(Debug)]
struct Waits(Mutex<Under>);

#[derive(Debug)]
struct Under {
    next: u64,
    way: BTreeMap<u64, Option<Instant>>,
    idle: Instant,
}

impl Default for Waits {
    fn default() -> Self {
        Self(Mutex::new(Under { next: 0, way: BTreeMap::new(), idle: Instant::now() }))
    }
}

impl Waits {
    fn too_long(&self, limits: &Limits, now: Instant) -> bool {
        let under = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if under.way.is_empty() {
            return now.saturating_duration_since(under.idle) > limits.head;
        }
        let mut since = under.way.values().flatten();
        since.any(|since| now.saturating_duration_since(*since) > limits.write)
    }
}

/// A request under way.
#[derive(Debug)]
struct Turn {
    number: u64,
    of: Arc<Waits>,
}

impl Turn {
    fn begin(of: &Arc<Waits>) -> Self {
        let mut under = of.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = under.next;
        under.next += 1;
        under.way.insert(number, None);
        Self { number, of: Arc::clone(of) }
    }

    fn note(&self, waiting: Option<Instant>) {
        let mut under = self.of.0.lock().unwrap_or_else(PoisonError::into_inner);
        under.way.insert(self.number, waiting);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut under = self.of.0.lock().unwrap_or_else(PoisonError::into_inner);
        under.way.remove(&self.number);
        under.idle = Instant::now();
    }
}

/// A body of which it is noted when it was last asked for more: whoever has been given a piece and
/// asks no more has a client that takes nothing.
struct Watched {
    body: Body,
    turn: Turn,
}

impl hyper::body::Body for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.turn.note(None);
        let frame = ready!(pin!(self.body.frame()).poll(cx));
        self.turn.note(Some(Instant::now()));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_who_wait_for_their_client_or_for_nothing_are_given_up() {
        let limits = Limits {
            head: Duration::from_secs(20),
            write: Duration::from_secs(60),
            ..Limits::default()
        };
        let waits = Arc::new(Waits::default());
        let start = Instant::now();
        let after = |seconds| waits.too_long(&limits, start + Duration::from_secs(seconds));
        assert!(!after(19) && after(25));
        // A long answer in the making, or a stream without news, is nobody's fault.
        let turn = Turn::begin(&waits);
        assert!(!after(3600));
        turn.note(Some(start));
        assert!(!after(59) && after(61));
        turn.note(None);
        let other = Turn::begin(&waits);
        other.note(Some(start));
        assert!(after(61));
        drop(other);
        assert!(!after(61));
        drop(turn);
        assert!(after(25));
    }
}
