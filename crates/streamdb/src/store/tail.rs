//! Reading along: a reader that follows an open stream until it is sealed.
//!
//! Readers take their bytes from the end of the stream that is kept in memory, or from the file,
//! each at its own pace; none holds more than a piece, and none delays the writer or another reader.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::thread::Thread;

use bytes::Bytes;
use tokio::sync::watch;

use super::stream::{BLOCK, End, Live, Progress};
use super::{Inner, ObjectReader, Store};
use crate::content::{CHUNK, Refused, Verified};
use crate::index::{FILES, OPEN, SUMS};
use crate::{AppendError, Key, Meta, ReadError};

/// A reader of a value from an offset on, which waits at the end of an open stream for more.
#[derive(Debug)]
pub struct Tail {
    key: Key,
    meta: Meta,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Still(ObjectReader),
    Live { inner: Arc<Inner>, live: Arc<Live>, seen: watch::Receiver<Progress>, at: u64 },
}

/// What a [`Tail`] has to give now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tailed {
    /// The next bytes.
    Piece(Bytes),
    /// Nothing yet; [`Tail::changed`] tells when to ask again.
    Nothing,
    /// The value is sealed and all of it was handed out.
    End,
}

/// Chunks read from the file at a time.
const CHUNKS: u64 = 4;

impl Store {
    /// Follows a value from an offset in bytes on, or returns `None` if there is none under the key.
    /// A value that is no open stream is read to its end. An offset past the end of an open stream
    /// waits for the bytes there.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn tail(&self, key: &Key, from: u64) -> Result<Option<Tail>, ReadError> {
        // Twice, since the stream may be sealed between the two look-ups.
        for _ in 0..2 {
            let Some(meta) = self.stat(key)? else { return Ok(None) };
            if !meta.open {
                let Some(object) = self.get(key)? else { return Ok(None) };
                let meta = object.meta().clone();
                let source = Source::Still(object.into_range(from..u64::MAX));
                return Ok(Some(Tail { key: key.clone(), meta, source }));
            }
            let live = match self.inner.live(key) {
                Ok(live) => live,
                Err(AppendError::Sealed { .. } | AppendError::Missing { .. }) => continue,
                Err(error) => {
                    return Err(ReadError::Damaged {
                        key: key.clone(),
                        detail: format!("the stream cannot be followed: {error}"),
                    });
                }
            };
            let seen = live.progress.subscribe();
            let inner = Arc::clone(&self.inner);
            let source = Source::Live { inner, live, seen, at: from };
            return Ok(Some(Tail { key: key.clone(), meta, source }));
        }
        Ok(None)
    }
}

impl Tail {
    /// The facts about the value when the reader was opened.
    #[must_use]
    pub const fn meta(&self) -> &Meta {
        &self.meta
    }

    /// How many bytes the stream has now, and whether it can still grow.
    #[must_use]
    pub fn progress(&self) -> (u64, bool) {
        match &self.source {
            Source::Still(_) => (self.meta.size, false),
            Source::Live { seen, .. } => {
                let now = *seen.borrow();
                (now.size, now.end.is_none())
            }
        }
    }

    /// The next bytes, at most 1 MiB; waits for them. `None` once the stream is sealed and read.
    ///
    /// # Errors
    /// [`ReadError`]; [`ReadError::Gone`] if the stream was replaced or deleted.
    pub fn next_piece(&mut self) -> Result<Option<Bytes>, ReadError> {
        loop {
            match self.try_next()? {
                Tailed::Piece(piece) => return Ok(Some(piece)),
                Tailed::End => return Ok(None),
                Tailed::Nothing => wait(self.changed()),
            }
        }
    }

    /// Waits until there is more, or the stream has ended. Safe to give up.
    pub async fn changed(&mut self) {
        if let Source::Live { seen, .. } = &mut self.source {
            // The sender lives as long as this reader does.
            let _ = seen.changed().await;
        }
    }

    /// What there is now, without waiting for more; it may read from the disk.
    ///
    /// # Errors
    /// As [`Tail::next_piece`].
    pub fn try_next(&mut self) -> Result<Tailed, ReadError> {
        if let Some(at_hand) = self.at_hand()? {
            return Ok(at_hand);
        }
        match &mut self.source {
            Source::Still(reader) => Ok(reader.next_piece()?.map_or(Tailed::End, Tailed::Piece)),
            Source::Live { inner, live, seen, at } => {
                let size = seen.borrow().size;
                let piece = inner.tail_piece(&self.key, live, *at, size)?;
                *at += piece.len() as u64;
                Ok(Tailed::Piece(piece))
            }
        }
    }

    /// As [`Tail::try_next`], but `None` rather than a read from the disk: never blocks.
    ///
    /// # Errors
    /// [`ReadError::Gone`].
    pub fn at_hand(&mut self) -> Result<Option<Tailed>, ReadError> {
        let Source::Live { live, seen, at, .. } = &mut self.source else {
            return Ok(None);
        };
        let now = *seen.borrow_and_update();
        if now.end == Some(End::Gone) {
            return Err(ReadError::Gone { key: self.key.clone() });
        }
        if *at >= now.size {
            let ended = now.end.is_some();
            return Ok(Some(if ended { Tailed::End } else { Tailed::Nothing }));
        }
        // An append enters memory just before it is told of; what is not told yet is not given.
        let untold = usize::try_from(now.size - *at).unwrap_or(usize::MAX);
        Ok(live.recent(*at).map(|bytes| {
            let bytes = bytes.slice(..bytes.len().min(untold));
            *at += bytes.len() as u64;
            Tailed::Piece(bytes)
        }))
    }
}

impl Inner {
    fn tail_piece(&self, key: &Key, live: &Live, at: u64, size: u64) -> Result<Bytes, ReadError> {
        let chunk = CHUNK as u64;
        let id = live.id.to_bytes();
        let stop = (at / chunk + CHUNKS) * chunk;
        let found = self.index.read(|txn| {
            if let Some(size) = txn.open_table(OPEN)?.get(&id)? {
                let (first, last) = (at / chunk / BLOCK, stop / chunk / BLOCK);
                let mut sums = Vec::new();
                for block in txn.open_table(SUMS)?.range((&id, first)..=(&id, last))? {
                    sums.extend_from_slice(block?.1.value());
                }
                return Ok(Some((size.value(), first * BLOCK, sums)));
            }
            // Sealed since: its length no longer changes.
            let files = txn.open_table(FILES)?;
            let sums = files.get(&id)?;
            Ok(sums.map(|sums| (size, 0, sums.value().to_vec())))
        });
        let (size, first, sums) = found
            .map_err(|fault| self.read_fault(fault))?
            .ok_or_else(|| ReadError::Gone { key: key.clone() })?;
        let mut reader = Verified::new(Arc::clone(&live.file), size, first, sums);
        reader.narrow(at, stop);
        let piece = reader.next(CHUNKS as usize).map_err(|refused| match refused {
            Refused::Damaged(detail) => ReadError::Damaged { key: key.clone(), detail },
            Refused::Io(error) => ReadError::io("read", &self.content.path(live.id))(error),
        })?;
        piece.ok_or_else(|| ReadError::Gone { key: key.clone() })
    }
}

/// Waits for a future on a thread that may block.
fn wait(future: impl Future<Output = ()>) {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    while future.as_mut().poll(&mut context).is_pending() {
        std::thread::park();
    }
}
