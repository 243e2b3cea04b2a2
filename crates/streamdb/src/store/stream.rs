//! Open streams: values that grow by appends, until they are sealed.
//!
//! The order is what durability rests on: bytes written behind the file's acknowledged end, the file
//! synced, then the index committed with the new length. What a crash leaves beyond the length in
//! the index is nobody's and is cut off. Reading along is in [`super::tail`].

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::change::Change;
use super::{Conditions, Inner, Put, Store, Stored};
use crate::content::{CHUNK, ContentId, Sums};
use crate::index::{Fault, OBJECTS, SUMS};
use crate::record::{Place, Record};
use crate::{AppendError, Checksum, Key, Meta, WriteError};

/// Chunks whose sums share an entry of the index: 16 MiB of a stream to 1 KiB of sums.
pub(super) const BLOCK: u64 = 256;

/// Bytes of a stream's end kept in memory for those who read along, so that a thousand of them
/// cost neither a disk read nor a sum each.
const RECENT: usize = 1 << 20;

/// Streams kept in memory although nobody uses them, so that the next append need not read the
/// file again for its checksum.
const IDLE: usize = 64;

/// How far a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) size: u64,
    pub(super) end: Option<End>,
}

/// Why a stream grows no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It was sealed: its readers have all of it.
    Sealed,
    /// It was replaced, deleted or expired.
    Gone,
}

/// The streams of a store that somebody appends to or reads along.
#[derive(Debug, Default)]
pub(super) struct Streams {
    live: Mutex<HashMap<ContentId, Arc<Live>>>,
}

/// An open stream in memory.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) id: ContentId,
    pub(super) file: Arc<File>,
    pub(super) progress: watch::Sender<Progress>,
    writer: Mutex<Option<Writer>>,
    recent: Mutex<VecDeque<(u64, Bytes)>>,
}

/// What an append continues.
#[derive(Debug)]
struct Writer {
    size: u64,
    checksum: Sha256,
    sums: Sums,
}

impl Writer {
    fn add(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        self.checksum.update(bytes);
        self.sums.add(bytes);
    }
}

impl Store {
    /// Begins a stream: an empty value that grows by [`Store::append`] until it is sealed. It can be
    /// read from the start, as far as it was acknowledged.
    ///
    /// # Errors
    /// [`WriteError`]; what was stored before is then unchanged.
    pub fn open_stream(&self, key: &Key, put: &Put) -> Result<Stored, WriteError> {
        put.check()?;
        let inner = &self.inner;
        let made = inner
            .reserve
            .admit(0)
            .and_then(|()| inner.content.stage())
            .and_then(|staged| inner.content.publish(staged));
        let (id, _) =
            made.map_err(WriteError::io("make a content file of the store in", &inner.dir))?;
        let mut meta = put.meta(0, Sha256::new(), inner.now());
        meta.open = true;
        let mut record = Record { meta, place: Place::Open(id), sum: None };
        let replaced = inner.commit(false, |change| {
            change.effects.made.push(id);
            change.insert(key, &mut record, &[], &put.conditions)
        })?;
        Ok(Stored { meta: record.meta, replaced })
    }

    /// Appends to a stream. When this returns, the bytes are on the disk, and readers see them.
    ///
    /// With `at`, the bytes are taken only if the stream has exactly so many bytes: an append that
    /// may or may not have been acknowledged is repeated safely.
    ///
    /// # Errors
    /// [`AppendError`]; nothing of the bytes is then visible. Only if the disk failed in the commit
    /// itself they may be, and then all of them.
    pub fn append(&self, key: &Key, bytes: &[u8], at: Option<u64>) -> Result<Meta, AppendError> {
        let inner = &self.inner;
        let live = inner.live(key)?;
        let mut slot = live.writer();
        // Taken out: if anything fails, the next append begins from what the index says.
        let mut writer = match slot.take() {
            Some(writer) => writer,
            None => inner.load(key, &live)?,
        };
        let before = writer.size;
        if let Some(at) = at.filter(|at| *at != before) {
            *slot = Some(writer);
            return Err(AppendError::Offset { key: key.clone(), given: at, size: before });
        }
        let limit = inner.max_object;
        if before.saturating_add(bytes.len() as u64) > limit {
            *slot = Some(writer);
            return Err(WriteError::TooLarge { limit }.into());
        }
        if let Err(error) = inner.reserve.admit(0) {
            *slot = Some(writer);
            return Err(WriteError::io("make room in the store in", &inner.dir)(error).into());
        }
        let (disk, path) = (&inner.content.disk, inner.content.path(live.id));
        disk.write_at(&live.file, &path, before, bytes)
            .and_then(|()| disk.sync(&live.file, &path))
            .map_err(WriteError::io("append to", &path))?;
        writer.add(bytes);
        let meta = inner.commit(false, |change| change.grow(key, live.id, before, &writer))?;
        live.remember(before, bytes);
        live.progress.send_modify(|progress| progress.size = writer.size);
        *slot = Some(writer);
        Ok(meta)
    }

    /// Seals a stream: from now on it is a value like any other. Sealing it again changes nothing.
    ///
    /// # Errors
    /// [`AppendError`]; the stream is then still open.
    pub fn seal(&self, key: &Key) -> Result<Meta, AppendError> {
        let inner = &self.inner;
        let live = match inner.live(key) {
            Err(AppendError::Sealed { meta, .. }) => return Ok(*meta),
            other => other?,
        };
        let mut slot = live.writer();
        let writer = match slot.take() {
            Some(writer) => writer,
            None => match inner.load(key, &live) {
                Err(AppendError::Sealed { meta, .. }) => return Ok(*meta),
                other => other?,
            },
        };
        let sums = writer.sums.finish();
        let meta = inner.commit(false, |change| change.seal(key, live.id, &sums))?;
        inner.streams.end(live.id, End::Sealed);
        Ok(meta)
    }
}

impl Change<'_> {
    /// Enters what an append has added, if the stream is still the one that was appended to.
    fn grow(
        &mut self,
        key: &Key,
        id: ContentId,
        before: u64,
        writer: &Writer,
    ) -> Result<Result<Meta, AppendError>, Fault> {
        let mut record = match self.open_record(key, id)? {
            Ok(record) => record,
            Err(refusal) => return Ok(Err(refusal)),
        };
        self.count(key, record.meta.size, writer.size)?;
        record.meta.size = writer.size;
        record.meta.checksum = Checksum::from_bytes(writer.checksum.clone().finalize().into());
        record.meta.modified = self.now;
        record.meta.version = self.next_version()?;
        self.tables.open.get()?.insert(&id.to_bytes(), writer.size)?;
        let table = self.tables.sums.get()?;
        let first = before / CHUNK as u64 / BLOCK;
        let sums = writer.sums.since(first * BLOCK);
        for (block, sums) in (first..).zip(sums.chunks(BLOCK as usize * 4)) {
            table.insert((&id.to_bytes(), block), sums)?;
        }
        self.write(key, &record)?;
        Ok(Ok(record.meta))
    }

    fn seal(
        &mut self,
        key: &Key,
        id: ContentId,
        sums: &[u8],
    ) -> Result<Result<Meta, AppendError>, Fault> {
        let mut record = match self.open_record(key, id)? {
            Ok(record) => record,
            Err(refusal) => return Ok(Err(refusal)),
        };
        self.close(id)?;
        self.tables.files.get()?.insert(&id.to_bytes(), sums)?;
        record.meta.open = false;
        record.meta.version = self.next_version()?;
        record.place = Place::File(id);
        self.write(key, &record)?;
        Ok(Ok(record.meta))
    }

    fn open_record(
        &mut self,
        key: &Key,
        id: ContentId,
    ) -> Result<Result<Record, AppendError>, Fault> {
        let found = match self.find(key, &Conditions::default())? {
            Ok(found) => found,
            Err(refusal) => return Ok(Err(refusal.into())),
        };
        Ok(found
            .filter(|found| found.there && found.record.place == Place::Open(id))
            .map(|found| found.record)
            .ok_or_else(|| AppendError::Missing { key: key.clone() }))
    }
}

impl Inner {
    /// The stream under a key, taken into memory if it is not there yet.
    pub(super) fn live(&self, key: &Key) -> Result<Arc<Live>, AppendError> {
        // Held across the look-up, so that a stream enters memory with the length it has.
        let mut all = self.streams.live.lock().unwrap_or_else(PoisonError::into_inner);
        let (id, size) = self.open_place(key)?;
        if let Some(live) = all.get(&id) {
            return Ok(Arc::clone(live));
        }
        let path = self.content.path(id);
        let file = self.content.grow(id).map_err(WriteError::io("open", &path))?;
        let live = Arc::new(Live {
            id,
            file: Arc::new(file),
            progress: watch::Sender::new(Progress { size, end: None }),
            writer: Mutex::new(None),
            recent: Mutex::default(),
        });
        if all.len() >= IDLE {
            all.retain(|_, live| Arc::strong_count(live) > 1);
        }
        all.insert(id, Arc::clone(&live));
        Ok(live)
    }

    fn open_place(&self, key: &Key) -> Result<(ContentId, u64), AppendError> {
        let found = self.index.read(|txn| {
            let objects = txn.open_table(OBJECTS)?;
            let record = objects.get(key.as_bytes())?;
            Ok(record.map(|bytes| Record::decode(key, bytes.value())))
        });
        let missing = || AppendError::Missing { key: key.clone() };
        let record = found.map_err(|fault| self.write_fault(fault))?.ok_or_else(missing)?.map_err(
            |unreadable| WriteError::DamagedIndex { detail: format!("{key:?}: {}", unreadable.0) },
        )?;
        match record.place {
            _ if record.meta.expired(self.now()) => Err(missing()),
            Place::Open(id) => Ok((id, record.meta.size)),
            _ => Err(AppendError::Sealed { key: key.clone(), meta: Box::new(record.meta) }),
        }
    }

    /// Reads a stream as far as it was acknowledged, and cuts off what is beyond.
    fn load(&self, key: &Key, live: &Live) -> Result<Writer, AppendError> {
        let (id, size) = self.open_place(key)?;
        if id != live.id {
            return Err(AppendError::Missing { key: key.clone() });
        }
        let path = self.content.path(id);
        let failed = |error| AppendError::Write(WriteError::io("read", &path)(error));
        if live.file.metadata().map_err(failed)?.len() > size {
            self.content.disk.set_len(&live.file, &path, size).map_err(failed)?;
        }
        let mut writer = Writer { size: 0, checksum: Sha256::new(), sums: Sums::default() };
        let mut piece = vec![0; 4 * CHUNK];
        while writer.size < size {
            let wanted = usize::try_from(size - writer.size).unwrap_or(usize::MAX);
            let wanted = wanted.min(piece.len());
            let into = piece.get_mut(..wanted).unwrap_or_default();
            live.file.read_exact_at(into, writer.size).map_err(failed)?;
            writer.add(into);
        }
        let stored = self
            .index
            .read(|txn| {
                let sums = txn.open_table(SUMS)?;
                let mut all = Vec::new();
                for block in sums.range((&id.to_bytes(), 0)..=(&id.to_bytes(), u64::MAX))? {
                    all.extend_from_slice(block?.1.value());
                }
                Ok(all)
            })
            .map_err(|fault| self.write_fault(fault))?;
        if stored != writer.sums.since(0) {
            // Going on would make the damage look like what was written.
            return Err(AppendError::Damaged { key: key.clone() });
        }
        // A commit that failed for its caller may have reached the disk all the same.
        live.progress.send_modify(|progress| progress.size = size);
        Ok(writer)
    }
}

impl Streams {
    /// Tells everybody at a stream that it grows no more.
    pub(super) fn end(&self, id: ContentId, end: End) {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        if let Some(live) = live {
            live.progress.send_modify(|progress| progress.end = Some(end));
        }
    }
}

impl Live {
    fn writer(&self) -> MutexGuard<'_, Option<Writer>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, at: u64, bytes: &[u8]) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes.len() > RECENT {
            recent.clear();
            return;
        }
        if !bytes.is_empty() {
            recent.push_back((at, Bytes::copy_from_slice(bytes)));
        }
        let end = at + bytes.len() as u64;
        while recent.front().is_some_and(|(at, _)| end - at > RECENT as u64) {
            recent.pop_front();
        }
    }

    /// The bytes from an offset on, as far as one append brought them, if they are in memory.
    pub(super) fn recent(&self, at: u64) -> Option<Bytes> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let next = recent.partition_point(|(start, _)| *start <= at);
        let (start, bytes) = recent.get(next.checked_sub(1)?)?;
        let skip = usize::try_from(at - start).ok().filter(|skip| *skip < bytes.len())?;
        Some(bytes.slice(skip..))
    }
}
