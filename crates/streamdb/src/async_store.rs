//! The store for async callers: each operation on a thread that may block, values as streams.
//!
//! It decides nothing; what an operation means and how it fails is told at [`Store`].

use std::ops::Range;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};

use crate::{
    AppendError, BatchError, Conditions, Counts, Key, Meta, Object, ObjectReader, Operation, Page,
    Put, Query, ReadError, Store, Stored, Tailed, Transfer, WriteError,
};

/// A [`Store`] whose operations are futures. They need a Tokio runtime.
///
/// An operation that has begun goes on when its future is dropped: a put that nobody waits for any
/// more is still done, or not at all.
///
/// ```
/// use futures_util::TryStreamExt;
/// use streamdb::{AsyncStore, Key, Options, Put, Store};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let dir = tempfile::tempdir()?;
/// let store = AsyncStore::from(Store::open(dir.path(), &Options::default())?);
/// let key = Key::new("takes/one.wav")?;
/// store.put(&key, "RIFF", &Put::default()).await?;
/// let object = store.get(&key).await?.ok_or("it was put")?;
/// let pieces: Vec<_> = store.pieces(object.into_reader()).try_collect().await?;
/// assert_eq!(pieces.concat(), b"RIFF");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct AsyncStore {
    store: Store,
}

/// A value that was to be stored from a stream could not be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PutError<E> {
    /// The stream failed; nothing is stored.
    #[error("the value broke off: {0}")]
    Source(E),
    /// The store refused or failed.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl From<Store> for AsyncStore {
    fn from(store: Store) -> Self {
        Self { store }
    }
}

impl AsyncStore {
    /// The store itself, for what is done at once: its limits, its directory, its clock.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// As [`Store::put`].
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn put(
        &self,
        key: &Key,
        value: impl Into<Bytes>,
        put: &Put,
    ) -> Result<Stored, WriteError> {
        let (key, value, put) = (key.clone(), value.into(), put.clone());
        self.run(move |store| store.put(&key, &value, &put)).await
    }

    /// Stores what a stream yields, without holding it in memory. Nothing is visible before it has
    /// ended, and a stream that fails or is dropped leaves nothing.
    ///
    /// # Errors
    /// [`PutError`].
    pub async fn put_stream<S, B, E>(
        &self,
        key: &Key,
        value: S,
        put: &Put,
    ) -> Result<Stored, PutError<E>>
    where
        S: Stream<Item = Result<B, E>>,
        B: Into<Bytes>,
    {
        let of = key.clone();
        let mut upload =
            self.run(move |store| store.upload_for(&of)).await.map_err(unknown_room)?;
        let mut value = std::pin::pin!(value);
        while let Some(piece) = value.next().await {
            let piece = piece.map_err(PutError::Source)?.into();
            upload = self.run(move |_| upload.write(&piece).map(|()| upload)).await?;
        }
        let (key, put) = (key.clone(), put.clone());
        Ok(self.run(move |_| upload.commit(&key, &put)).await?)
    }

    /// As [`Store::get`]. The object's own methods block; [`AsyncStore::pieces`] and
    /// [`AsyncStore::bytes`] read it without.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn get(&self, key: &Key) -> Result<Option<Object>, ReadError> {
        let key = key.clone();
        self.run(move |store| store.get(&key)).await
    }
    /// The bytes of a value in a range, or all of them.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn bytes(
        &self,
        key: &Key,
        range: Option<Range<u64>>,
    ) -> Result<Option<Bytes>, ReadError> {
        let key = key.clone();
        self.run(move |store| {
            let Some(object) = store.get(&key)? else { return Ok(None) };
            let mut reader = object.into_range(range.unwrap_or(0..u64::MAX));
            let mut bytes = Vec::new();
            while let Some(piece) = reader.next_piece()? {
                bytes.extend_from_slice(&piece);
            }
            Ok(Some(bytes.into()))
        })
        .await
    }

    /// What a reader has left, piece by piece, each read when it is asked for. Damage ends it.
    pub fn pieces(
        &self,
        reader: ObjectReader,
    ) -> impl Stream<Item = Result<Bytes, ReadError>> + Send + use<> {
        stream::try_unfold((self.clone(), reader), |(this, mut reader)| async move {
            let read = this.run(move |_| reader.next_piece().map(|piece| (piece, reader)));
            let (piece, reader) = read.await?;
            Ok(piece.map(|piece| (piece, (this, reader))))
        })
    }

    /// As [`Store::tail`]: a value from an offset in bytes on, as it grows, until it is sealed.
    ///
    /// # Errors
    /// [`ReadError`]; the stream ends with [`ReadError::Gone`] if the value was replaced or deleted.
    pub async fn tail(
        &self,
        key: &Key,
        from: u64,
    ) -> Result<Option<impl Stream<Item = Result<Bytes, ReadError>> + Send + use<>>, ReadError>
    {
        let key = key.clone();
        let Some(tail) = self.run(move |store| store.tail(&key, from)).await? else {
            return Ok(None);
        };
        let state = (self.clone(), tail);
        Ok(Some(stream::try_unfold(state, |(this, mut tail)| async move {
            loop {
                // Most of the time the bytes are in memory, and no other thread is needed.
                let next = match tail.at_hand()? {
                    Some(next) => next,
                    None => {
                        let read = this.run(move |_| tail.try_next().map(|next| (next, tail)));
                        let next;
                        (next, tail) = read.await?;
                        next
                    }
                };
                match next {
                    Tailed::Piece(piece) => return Ok(Some((piece, (this, tail)))),
                    Tailed::End => return Ok(None),
                    Tailed::Nothing => tail.changed().await,
                }
            }
        })))
    }

    /// As [`Store::stat`].
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn stat(&self, key: &Key) -> Result<Option<Meta>, ReadError> {
        let key = key.clone();
        self.run(move |store| store.stat(&key)).await
    }

    /// As [`Store::list`].
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn list(&self, query: &Query) -> Result<Page, ReadError> {
        let query = query.clone();
        self.run(move |store| store.list(&query)).await
    }

    /// As [`Store::usage`].
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn usage(&self, prefix: &str) -> Result<Counts, ReadError> {
        let prefix = prefix.to_owned();
        self.run(move |store| store.usage(&prefix)).await
    }

    /// As [`Store::delete`].
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn delete(
        &self,
        key: &Key,
        conditions: &Conditions,
    ) -> Result<Option<Meta>, WriteError> {
        let (key, conditions) = (key.clone(), conditions.clone());
        self.run(move |store| store.delete(&key, &conditions)).await
    }

    /// As [`Store::copy`].
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn copy(&self, copy: &Transfer) -> Result<Stored, WriteError> {
        let copy = copy.clone();
        self.run(move |store| store.copy(&copy)).await
    }

    /// As [`Store::rename`].
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn rename(&self, rename: &Transfer) -> Result<Stored, WriteError> {
        let rename = rename.clone();
        self.run(move |store| store.rename(&rename)).await
    }

    /// As [`Store::batch`].
    ///
    /// # Errors
    /// [`BatchError`].
    pub async fn batch(&self, operations: Vec<Operation>) -> Result<Vec<Option<Meta>>, BatchError> {
        self.run(move |store| store.batch(&operations)).await
    }

    /// As [`Store::open_stream`].
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn open_stream(&self, key: &Key, put: &Put) -> Result<Stored, WriteError> {
        let (key, put) = (key.clone(), put.clone());
        self.run(move |store| store.open_stream(&key, &put)).await
    }

    /// As [`Store::append`].
    ///
    /// # Errors
    /// [`AppendError`].
    pub async fn append(
        &self,
        key: &Key,
        bytes: impl Into<Bytes>,
        at: Option<u64>,
    ) -> Result<Meta, AppendError> {
        let (key, bytes) = (key.clone(), bytes.into());
        self.run(move |store| store.append(&key, &bytes, at)).await
    }

    /// As [`Store::seal`].
    ///
    /// # Errors
    /// [`AppendError`].
    pub async fn seal(&self, key: &Key) -> Result<Meta, AppendError> {
        let key = key.clone();
        self.run(move |store| store.seal(&key)).await
    }

    /// Runs any operation of the store where it may block, also one that is not named here.
    ///
    /// # Errors
    /// Those of the operation. Where it ends in a panic of the engine, which meets pages that
    /// contradict each other, damage is told.
    pub async fn run<T, E>(
        &self,
        operation: impl FnOnce(&Store) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: Broken + Send + 'static,
    {
        let store = self.store.clone();
        match tokio::task::spawn_blocking(move || operation(&store)).await {
            Ok(done) => done,
            Err(error) if error.is_panic() => {
                Err(E::broken("the engine met something it cannot read and gave up"))
            }
            Err(_) => Err(E::broken("the runtime ended before the operation had begun")),
        }
    }
}

/// Errors that can tell that an operation was given up.
pub trait Broken {
    /// The operation met something that it cannot read, or its thread was never started.
    fn broken(detail: &str) -> Self;
}

impl Broken for ReadError {
    fn broken(detail: &str) -> Self {
        Self::DamagedIndex { detail: detail.to_owned() }
    }
}

impl Broken for WriteError {
    fn broken(detail: &str) -> Self {
        Self::DamagedIndex { detail: detail.to_owned() }
    }
}

impl Broken for AppendError {
    fn broken(detail: &str) -> Self {
        WriteError::broken(detail).into()
    }
}

impl Broken for BatchError {
    fn broken(detail: &str) -> Self {
        WriteError::broken(detail).into()
    }
}

fn unknown_room(error: ReadError) -> WriteError {
    match error {
        ReadError::Io { doing, path, source } => WriteError::Io { doing, path, source },
        other => WriteError::DamagedIndex { detail: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;
    use futures_util::TryStreamExt;

    fn open() -> (tempfile::TempDir, AsyncStore) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &Options::default()).unwrap();
        (dir, store.into())
    }

    fn key(name: &str) -> Key {
        Key::new(name).unwrap()
    }

    #[tokio::test]
    async fn values_go_in_and_come_out_as_streams() {
        let (_dir, store) = open();
        let pieces = || (0..10_u8).map(|n| Ok::<_, std::io::Error>(vec![n; 30_000]));
        let key = key("k");
        let put = store.put_stream(&key, stream::iter(pieces()), &Put::default()).await.unwrap();
        assert_eq!((put.meta.size, put.replaced), (300_000, false));
        let object = store.get(&key).await.unwrap().unwrap();
        let read: Vec<_> = store.pieces(object.into_reader()).try_collect().await.unwrap();
        let whole: Vec<u8> = pieces().flat_map(Result::unwrap).collect();
        assert_eq!(read.concat(), whole);
        let part = store.bytes(&key, Some(29_999..30_002)).await.unwrap().unwrap();
        assert_eq!(&*part, [0, 1, 1]);
        let usage = store.usage("").await.unwrap();
        assert_eq!((usage.keys, usage.bytes), (1, 300_000));
        let conditions = Conditions::unchanged(put.meta.checksum);
        assert_eq!(store.delete(&key, &conditions).await.unwrap(), Some(put.meta));
        assert_eq!(store.bytes(&key, None).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_stream_that_fails_leaves_nothing() {
        let (dir, store) = open();
        let pieces = [Ok(vec![0; 100_000]), Err("torn")];
        let put = store.put_stream(&key("k"), stream::iter(pieces), &Put::default()).await;
        assert!(matches!(put, Err(PutError::Source("torn"))));
        assert_eq!(store.stat(&key("k")).await.unwrap(), None);
        assert_eq!(std::fs::read_dir(dir.path().join("staging")).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn readers_follow_a_stream_until_it_is_sealed() {
        let (_dir, store) = open();
        let key = key("s");
        store.open_stream(&key, &Put::default()).await.unwrap();
        let followers: Vec<_> = (0..20)
            .map(|n| {
                let (store, key) = (store.clone(), key.clone());
                tokio::spawn(async move {
                    let tail = store.tail(&key, n).await.unwrap().unwrap();
                    tail.try_collect::<Vec<_>>().await.unwrap().concat()
                })
            })
            .collect();
        for piece in [b"one ".as_slice(), b"two ", b"three and more than twenty bytes"] {
            store.append(&key, piece, None).await.unwrap();
            tokio::task::yield_now().await;
        }
        store.seal(&key).await.unwrap();
        let whole = b"one two three and more than twenty bytes";
        for (n, follower) in followers.into_iter().enumerate() {
            assert_eq!(follower.await.unwrap(), &whole[n..]);
        }
        let wanted = store.append(&key, "late", None).await;
        assert!(matches!(wanted, Err(AppendError::Sealed { .. })));
    }

    #[tokio::test]
    async fn a_panic_of_the_engine_is_told_as_damage_and_batches_are_whole() {
        let (_dir, store) = open();
        let given_up = store.run(|_| -> Result<(), ReadError> { panic!("pages") }).await;
        assert!(matches!(given_up, Err(ReadError::DamagedIndex { .. })));
        let put = |name: &str| Operation::Put {
            key: key(name),
            value: b"x".to_vec(),
            put: Put::default(),
        };
        let none = Operation::Copy(Transfer::new(key("none"), key("b")));
        assert!(store.batch(vec![put("a"), none]).await.is_err());
        store.batch(vec![put("c"), put("d")]).await.unwrap();
        store.copy(&Transfer::new(key("c"), key("e"))).await.unwrap();
        store.rename(&Transfer::new(key("d"), key("f"))).await.unwrap();
        let page = store.list(&Query::default()).await.unwrap();
        let names: Vec<_> = page.entries.iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(names, ["c", "e", "f"]);
    }
}
