//! The socket: accepting connections, bounding what each may cost, and ending in order.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tower::ServiceExt;

use super::access::Peer;
use super::patience::Patient;
use super::tls::Tls;

/// What clients may cost.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How long a client may take to send the head of a request, or stay silent between two.
    pub head: Duration,
    /// How long a client may take nothing of an answer.
    pub write: Duration,
    /// The most bytes of a request's head.
    pub head_bytes: usize,
    /// The most headers of a request.
    pub headers: usize,
    /// The most connections at a time; more wait to be accepted.
    pub connections: usize,
    /// How long requests under way may go on once the server is asked to end.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(20),
            write: Duration::from_secs(60),
            head_bytes: 64 * 1024,
            headers: 100,
            connections: 1024,
            drain: Duration::from_secs(10),
        }
    }
}

/// Serves until `end` is ready, then lets the requests under way finish within [`Limits::drain`].
/// Returns whether all of them did.
pub async fn serve(
    listener: TcpListener,
    app: Router,
    limits: &Limits,
    end: impl Future<Output = ()>,
) -> bool {
    serve_with(listener, app, limits, None, end).await
}

/// The same as [`serve`], with TLS where a certificate is given.
pub async fn serve_with(
    listener: TcpListener,
    app: Router,
    limits: &Limits,
    tls: Option<Tls>,
    end: impl Future<Output = ()>,
) -> bool {
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_headers(limits.headers)
        .max_buf_size(limits.head_bytes.max(8192));
    let places = Arc::new(Semaphore::new(limits.connections));
    let graceful = GracefulShutdown::new();
    let mut end = std::pin::pin!(end);
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut end => break,
        };
        let Ok((socket, peer)) = accepted else {
            // Out of file descriptors, most likely: they come back as connections end.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        // Answers are written whole; waiting to fill a packet would only delay them.
        let _ = socket.set_nodelay(true);
        let service = TowerToHyperService::new(app.clone().map_request(
            move |mut request: hyper::Request<Incoming>| {
                request.extensions_mut().insert(Peer(peer.ip()));
                request
            },
        ));
        let socket = Patient::new(socket, limits.write);
        let (http, watcher, tls, patience) =
            (http.clone(), graceful.watcher(), tls.clone(), limits.head);
        tokio::spawn(async move {
            // A connection that breaks is its client's affair.
            match tls {
                None => {
                    let connection = http.serve_connection(TokioIo::new(socket), service);
                    let _ = watcher.watch(connection).await;
                }
                Some(Tls(tls)) => {
                    // A client that dawdles over the handshake holds a place as well.
                    let socket = tokio::time::timeout(patience, tls.accept(socket)).await;
                    if let Ok(Ok(socket)) = socket {
                        let connection = http.serve_connection(TokioIo::new(socket), service);
                        let _ = watcher.watch(connection).await;
                    }
                }
            }
            drop(place);
        });
    }
    drop(listener);
    tokio::time::timeout(limits.drain, graceful.shutdown()).await.is_ok()
}
