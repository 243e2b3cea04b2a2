//! The threads that serve connections. Each has its own loop over its own sockets, and a connection
//! stays with the one that it was given to: what wakes it up is then on the same thread, and small
//! requests are not passed from core to core.

use std::future::Future;
use std::io;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;

/// One for each core that this process may use. They end when this is dropped.
#[derive(Debug)]
pub(super) struct Workers {
    handles: Vec<Handle>,
    next: AtomicUsize,
    end: Option<watch::Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// # Errors
    /// When the system has no thread to give.
    pub(super) fn start() -> io::Result<Self> {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        let (end, ended) = watch::channel(());
        let mut workers = Self {
            handles: Vec::new(),
            next: AtomicUsize::new(0),
            end: Some(end),
            threads: Vec::new(),
        };
        for _ in 0..count {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            workers.handles.push(runtime.handle().clone());
            let mut ended = ended.clone();
            let thread = std::thread::Builder::new().name("connections".to_owned());
            workers.threads.push(thread.spawn(move || {
                // An error means that the sender is gone, and nothing else is ever sent.
                runtime.block_on(async { ended.changed().await }).unwrap_or_default();
            })?);
        }
        Ok(workers)
    }

    /// Gives a connection to the next worker in turn. The socket is not blocking.
    pub(super) fn serve<F>(
        &self,
        socket: TcpStream,
        serve: impl FnOnce(tokio::net::TcpStream) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let Some(worker) = self.handles.get(turn % self.handles.len().max(1)) else { return };
        drop(worker.spawn(async move {
            // It is told to the poller of the thread that this runs on.
            if let Ok(socket) = tokio::net::TcpStream::from_std(socket) {
                serve(socket).await;
            }
        }));
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        drop(self.end.take());
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
