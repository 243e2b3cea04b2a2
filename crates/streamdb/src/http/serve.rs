//! The socket: accepting connections, bounding what each may cost, and ending in order.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::App;
use super::connection::{self, begins_second};
use super::patience::Patient;
use super::tls::Tls;
use super::workers::Workers;

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

/// Serves HTTP/1.1 and HTTP/2 until `end` is ready, then lets the requests under way finish within [`Limits::drain`].
/// Returns whether all of them did.
///
/// # Errors
/// When the threads that serve cannot be started.
pub async fn serve(
    listener: TcpListener,
    app: App,
    limits: &Limits,
    end: impl Future<Output = ()>,
) -> io::Result<bool> {
    serve_with(listener, app, limits, None, end).await
}

/// The same as [`serve`], with TLS where a certificate is given.
///
/// # Errors
/// As [`serve`].
pub async fn serve_with(
    listener: TcpListener,
    app: App,
    limits: &Limits,
    tls: Option<Tls>,
    end: impl Future<Output = ()>,
) -> io::Result<bool> {
    let workers = Workers::start()?;
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
        let Ok(socket) = socket.into_std() else { continue };
        let (app, tls, limits, watcher) =
            (app.clone(), tls.clone(), limits.clone(), graceful.watcher());
        workers.serve(socket, move |socket| async move {
            let peer = peer.ip();
            // A client that dawdles over its first bytes holds a place as well.
            match tls {
                None => {
                    let second = tokio::time::timeout(limits.head, begins_second(&socket)).await;
                    if let Ok(second) = second {
                        let socket = Patient::new(socket, limits.write);
                        connection::serve(socket, second, app, peer, &limits, watcher).await;
                    }
                }
                Some(Tls(tls)) => {
                    let socket = Patient::new(socket, limits.write);
                    if let Ok(Ok(socket)) =
                        tokio::time::timeout(limits.head, tls.accept(socket)).await
                    {
                        let second = socket.get_ref().1.alpn_protocol() == Some(b"h2");
                        connection::serve(socket, second, app, peer, &limits, watcher).await;
                    }
                }
            }
            drop(place);
        });
    }
    drop(listener);
    Ok(tokio::time::timeout(limits.drain, graceful.shutdown()).await.is_ok())
}
