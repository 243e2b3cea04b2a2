//! Content files: the bytes of large values, each in a file of its own beside the index.
//!
//! A file is written under `staging/`, synced, renamed to `blobs/ab/<id>`, its directory synced, and
//! only then named in the index; so a file that the index does not name is nobody's and may go.
//! Which value a file belongs to is the index's to know.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};

use crate::disk::Disk;

/// Bytes that one sum covers. A range is served after reading at most this much more at either end.
pub(crate) const CHUNK: usize = 64 * 1024;

/// Bytes of a new file after which the disk is set to work. In fewer it would write smaller pieces than
/// it can, more of them than it has to.
const SENT: u64 = 8 << 20;

/// The name of a content file: 16 random bytes, so that no name is ever used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ContentId([u8; 16]);

impl ContentId {
    fn random() -> io::Result<Self> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self(bytes))
    }

    pub(crate) const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// The path of the file under the store's directory.
    pub(crate) fn relative(self) -> String {
        let name = self.name();
        format!("blobs/{}/{name}", name.get(..2).unwrap_or_default())
    }

    fn name(self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.0))
    }

    fn from_name(name: &str) -> Option<Self> {
        let id = Self(u128::from_str_radix(name, 16).ok()?.to_be_bytes());
        // Rejects what only parses like a name: short ones, upper case, a plus sign.
        (id.name() == name).then_some(id)
    }
}

/// The directories of content files of one store.
#[derive(Debug)]
pub(crate) struct ContentDir {
    pub(crate) disk: Disk,
    blobs: PathBuf,
    staging: PathBuf,
    making: Mutex<()>,
}

impl ContentDir {
    /// Takes the two directories under the store's, making them where they are missing.
    pub(crate) fn open(dir: &Path, disk: Disk) -> io::Result<Self> {
        let content = Self { disk, ..Self::under(dir) };
        for path in [&content.blobs, &content.staging] {
            fs::create_dir_all(path)?;
        }
        sync_dir(dir)?;
        // A process killed between making a group's directory and syncing it left that to us.
        sync_dir(&content.blobs)?;
        Ok(content)
    }

    fn under(dir: &Path) -> Self {
        Self {
            disk: Disk::default(),
            blobs: dir.join("blobs"),
            staging: dir.join("staging"),
            making: Mutex::new(()),
        }
    }

    /// Whether there are content files at all under the store's directory.
    pub(crate) fn any(dir: &Path) -> io::Result<bool> {
        let content = Self::under(dir);
        let mut any = false;
        content.each::<io::Error>(|_, _| {
            any = true;
            Ok(())
        })?;
        Ok(any)
    }

    /// Removes unfinished uploads, and finished ones that the index does not name. Only safe before
    /// the first upload begins. Returns how many files went.
    pub(crate) fn sweep<E: From<io::Error>>(
        &self,
        mut named: impl FnMut(ContentId) -> Result<bool, E>,
    ) -> Result<u64, E> {
        let mut swept = 0;
        for entry in fs::read_dir(&self.staging)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_str().map(|name| name.strip_suffix(".new").unwrap_or(name));
            if name.and_then(ContentId::from_name).is_some() {
                fs::remove_file(entry.path())?;
                swept += 1;
            }
        }
        self.each(|id, path| {
            if !named(id)? {
                fs::remove_file(path)?;
                swept += 1;
            }
            Ok::<(), E>(())
        })?;
        Ok(swept)
    }

    /// A path for a file that is needed for a while; the sweep takes it if it is left.
    pub(crate) fn scratch(&self) -> io::Result<PathBuf> {
        Ok(self.staging.join(ContentId::random()?.name()))
    }

    /// Begins a new content file.
    pub(crate) fn stage(&self) -> io::Result<Staged> {
        let id = ContentId::random()?;
        let path = self.staging.join(id.name());
        let file = self.disk.create_new(&path)?;
        let disk = self.disk.clone();
        Ok(Staged { id, path: Some(path), file, size: 0, sent: 0, sums: Sums::default(), disk })
    }

    /// Gives a staged file its lasting name. After this returns, the file outlives a power cut.
    pub(crate) fn publish(&self, mut staged: Staged) -> io::Result<(ContentId, Vec<u8>)> {
        if let Some(path) = &staged.path {
            self.disk.sync(&staged.file, path)?;
        }
        let target = self.path(staged.id);
        if let Some(dir) = target.parent() {
            {
                // Nobody may rely on a directory that another upload has made but not yet synced.
                let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
                if !dir.is_dir() {
                    self.disk.create_dir(dir)?;
                    self.disk.sync_dir(&self.blobs)?;
                }
            }
            if let Some(from) = &staged.path {
                self.disk.rename(from, &target)?;
            }
            staged.path = Some(target.clone());
            self.disk.sync_dir(dir)?;
        }
        staged.path = None;
        Ok((staged.id, std::mem::take(&mut staged.sums).finish()))
    }

    /// Removes a file that the index no longer names. One that cannot be removed now goes with the
    /// sweep when the store is next opened, so nothing is reported.
    pub(crate) fn remove(&self, id: ContentId) {
        let _ = self.disk.remove(&self.path(id));
    }

    /// Opens a content file to read it, or a part of it.
    pub(crate) fn read(&self, id: ContentId, size: u64, sums: Vec<u8>) -> io::Result<Verified> {
        let file = Arc::new(File::open(self.path(id))?);
        Ok(Verified::new(file, size, 0, sums))
    }

    /// Opens the content file of an open stream to read and append.
    pub(crate) fn grow(&self, id: ContentId) -> io::Result<File> {
        File::options().read(true).write(true).open(self.path(id))
    }

    /// Takes away what an append that was never acknowledged has left behind an open stream.
    pub(crate) fn trim(&self, id: ContentId, size: u64) -> io::Result<()> {
        let file = match self.grow(id) {
            // Told when the stream is read; the rest of the store is well.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        if file.metadata()?.len() > size {
            self.disk.set_len(&file, &self.path(id), size)?;
        }
        Ok(())
    }

    /// Gives a finished content file a second name, or copies it where the file system cannot.
    /// After this returns, the name outlives a power cut.
    pub(crate) fn duplicate(&self, id: ContentId) -> io::Result<ContentId> {
        let mut staged = self.stage()?;
        if let Some(path) = &staged.path {
            self.disk.remove(path)?;
            if self.disk.link(&self.path(id), path).is_ok() {
                staged.file = File::open(path)?;
            } else {
                let mut copy = self.disk.create_new(path)?;
                io::copy(&mut File::open(self.path(id))?, &mut copy)?;
                staged.file = copy;
            }
        }
        Ok(self.publish(staged)?.0)
    }

    pub(crate) fn path(&self, id: ContentId) -> PathBuf {
        let name = id.name();
        self.blobs.join(name.get(..2).unwrap_or_default()).join(name)
    }

    /// Visits every file that has the name and place of a content file; others are not ours.
    fn each<E: From<io::Error>>(
        &self,
        mut visit: impl FnMut(ContentId, &Path) -> Result<(), E>,
    ) -> Result<(), E> {
        let groups = match fs::read_dir(&self.blobs) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        for group in groups {
            let group = group?;
            if !group.file_type()?.is_dir() {
                continue;
            }
            for entry in fs::read_dir(group.path())? {
                let path = entry?.path();
                let id =
                    path.file_name().and_then(|name| name.to_str()).and_then(ContentId::from_name);
                if let Some(id) = id.filter(|id| self.path(*id) == path) {
                    visit(id, &path)?;
                }
            }
        }
        Ok(())
    }
}

/// A content file being written; dropped before [`ContentDir::publish`], it goes.
#[derive(Debug)]
pub(crate) struct Staged {
    id: ContentId,
    path: Option<PathBuf>,
    file: File,
    size: u64,
    /// As far as this the bytes are on their way to the disk.
    sent: u64,
    sums: Sums,
    disk: Disk,
}

impl Staged {
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let path = self.path.as_deref().unwrap_or(Path::new(""));
        self.disk.write_at(&self.file, path, self.size, bytes)?;
        self.size += bytes.len() as u64;
        self.sums.add(bytes);
        let waiting = self.size - self.sent;
        if waiting >= SENT {
            self.disk.begin_sync(&self.file, self.sent, waiting);
            self.sent = self.size;
        }
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = self.disk.remove(path);
        }
    }
}

/// CRC-32 of each chunk, four bytes each, little-endian. They let a reader verify any range before
/// handing it out, and several times faster than the value's SHA-256 would.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    done: Vec<u8>,
    open: crc32fast::Hasher,
    filled: usize,
}

impl Sums {
    pub(crate) fn add(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = CHUNK - self.filled;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.open.update(now);
            self.filled += now.len();
            if self.filled == CHUNK {
                self.close();
            }
            bytes = later;
        }
    }

    fn close(&mut self) {
        let sum = std::mem::take(&mut self.open).finalize();
        self.done.extend_from_slice(&sum.to_le_bytes());
        self.filled = 0;
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        if self.filled > 0 {
            self.close();
        }
        self.done
    }

    /// The sums from a chunk on, that of the unfinished last chunk included.
    pub(crate) fn since(&self, chunk: u64) -> Vec<u8> {
        let from = usize::try_from(chunk.saturating_mul(4)).unwrap_or(usize::MAX);
        let mut sums = self.done.get(from..).unwrap_or_default().to_vec();
        if self.filled > 0 {
            sums.extend_from_slice(&self.open.clone().finalize().to_le_bytes());
        }
        sums
    }
}

/// Why a piece of a content file is not handed out.
#[derive(Debug)]
pub(crate) enum Refused {
    /// Its bytes are not those that were written.
    Damaged(String),
    /// The system failed to read it.
    Io(io::Error),
}

/// A content file being read: every byte it hands out has been verified.
#[derive(Debug)]
pub(crate) struct Verified {
    file: Arc<File>,
    size: u64,
    first: u64,
    sums: Vec<u8>,
    at: u64,
    end: u64,
    /// What was handed out last: its memory serves again once nobody else has it. Fresh memory has
    /// to be cleared, and is in no cache of the processor's.
    last: Bytes,
}

/// What a reader has to give that must not wait for the disk.
#[cfg(feature = "server")]
#[derive(Debug)]
pub(crate) enum InMemory {
    Piece(Bytes),
    End,
    /// The next bytes have to come from the disk.
    No,
}

impl Verified {
    /// A reader of a file of `size` bytes; `sums` are those of its chunks from number `first` on.
    pub(crate) const fn new(file: Arc<File>, size: u64, first: u64, sums: Vec<u8>) -> Self {
        Self { file, size, first, sums, at: 0, end: size, last: Bytes::new() }
    }

    /// Narrows what is left to read; bounds past the end mean the end.
    pub(crate) fn narrow(&mut self, from: u64, to: u64) {
        self.end = to.min(self.size);
        self.at = from.min(self.end);
    }

    pub(crate) fn left(&self) -> u64 {
        self.end - self.at
    }

    /// The next verified bytes, of up to `chunks` chunks; `None` at the end.
    pub(crate) fn next(&mut self, chunks: usize) -> Result<Option<Bytes>, Refused> {
        let Some(part) = self.part(chunks) else { return Ok(None) };
        let mut piece = self.memory(&part);
        self.file.read_exact_at(&mut piece, part.start).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                Refused::Damaged(format!("its content file ends before byte {}", part.end))
            }
            _ => Refused::Io(error),
        })?;
        self.verified(piece, &part).map(Some)
    }

    /// As [`Self::next`], if the system has the bytes in memory.
    #[cfg(feature = "server")]
    pub(crate) fn next_in_memory(&mut self, chunks: usize) -> Result<InMemory, Refused> {
        let Some(part) = self.part(chunks) else { return Ok(InMemory::End) };
        let mut piece = self.memory(&part);
        let into = &mut [io::IoSliceMut::new(&mut piece)];
        let now = rustix::io::ReadWriteFlags::NOWAIT;
        match rustix::io::preadv2(&self.file, into, part.start, now) {
            Ok(count) if count == piece.len() => self.verified(piece, &part).map(InMemory::Piece),
            // Not all of it, or a file system that cannot tell. What fails in earnest fails again
            // when it is read in earnest.
            Ok(_) | Err(_) => {
                self.last = piece.freeze();
                Ok(InMemory::No)
            }
        }
    }

    /// The whole chunks that the next bytes are in.
    fn part(&self, chunks: usize) -> Option<Range<u64>> {
        let chunk = CHUNK as u64;
        let first = self.at / chunk;
        let stop = self.end.div_ceil(chunk).min(first + chunks.max(1) as u64);
        (self.at < self.end).then(|| first * chunk..(stop * chunk).min(self.size))
    }

    fn memory(&mut self, part: &Range<u64>) -> BytesMut {
        let length = (part.end - part.start) as usize;
        match std::mem::take(&mut self.last).try_into_mut() {
            Ok(mut used) if used.capacity() >= length => {
                used.resize(length, 0);
                used
            }
            _ => BytesMut::zeroed(length),
        }
    }

    /// Checks what was read of a part, and cuts out what is wanted of it.
    fn verified(&mut self, piece: BytesMut, part: &Range<u64>) -> Result<Bytes, Refused> {
        let chunk = CHUNK as u64;
        for (at, bytes) in (part.start / chunk..).zip(piece.chunks(CHUNK)) {
            let at_sum = at.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
            let sum = at_sum.and_then(|at| self.sums.chunks_exact(4).nth(at));
            if sum != Some(&crc32fast::hash(bytes).to_le_bytes()) {
                return Err(Refused::Damaged(format!(
                    "bytes {}..{} of its content file are not those that were written",
                    at * chunk,
                    (at * chunk + chunk).min(self.size)
                )));
            }
        }
        let from = (self.at - part.start) as usize;
        let to = (self.end.min(part.end) - part.start) as usize;
        self.at = self.end.min(part.end);
        self.last = piece.freeze();
        Ok(self.last.slice(from..to))
    }
}

/// Makes renames and new files in a directory outlive a power cut.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(dir: &Path, bytes: &[u8]) -> (ContentDir, ContentId, Vec<u8>) {
        let content = ContentDir::open(dir, Disk::default()).unwrap();
        let mut staged = content.stage().unwrap();
        // Pieces that do not fall on the chunks' bounds.
        for piece in bytes.chunks(7001) {
            staged.write(piece).unwrap();
        }
        let (id, sums) = content.publish(staged).unwrap();
        (content, id, sums)
    }

    fn all(mut reader: Verified) -> Result<Vec<u8>, Refused> {
        let mut out = Vec::new();
        while let Some(piece) = reader.next(2)? {
            out.extend_from_slice(&piece);
        }
        Ok(out)
    }

    #[test]
    fn ranges_come_back_across_chunks() {
        let dir = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..CHUNK * 3 + 5).map(|i| (i % 251) as u8).collect();
        let (content, id, sums) = stored(dir.path(), &bytes);
        let size = bytes.len() as u64;
        for (from, to) in [(0, size), (1, 2), (65_535, 65_537), (size - 1, size), (9, 9)] {
            let mut reader = content.read(id, size, sums.clone()).unwrap();
            reader.narrow(from, to);
            assert_eq!(reader.left(), to - from);
            assert_eq!(all(reader).unwrap(), bytes[from as usize..to as usize]);
        }
    }

    #[test]
    fn a_flipped_byte_or_a_short_file_is_refused_and_nothing_of_it_handed_out() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = vec![7; CHUNK * 2];
        let (content, id, sums) = stored(dir.path(), &bytes);
        let file = File::options().write(true).open(content.path(id)).unwrap();
        file.write_all_at(&[8], CHUNK as u64 + 3).unwrap();
        let mut reader = content.read(id, bytes.len() as u64, sums.clone()).unwrap();
        assert_eq!(reader.next(1).unwrap().unwrap().len(), CHUNK);
        assert!(matches!(reader.next(1), Err(Refused::Damaged(_))));
        file.set_len(10).unwrap();
        let mut reader = content.read(id, bytes.len() as u64, sums).unwrap();
        assert!(matches!(reader.next(1), Err(Refused::Damaged(_))));
    }

    /// Memory is used again for the next piece, but never while somebody has the one before.
    #[test]
    fn a_piece_that_is_held_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..CHUNK * 5).map(|i| (i / CHUNK) as u8 + 1).collect();
        let (content, id, sums) = stored(dir.path(), &bytes);
        let mut reader = content.read(id, bytes.len() as u64, sums).unwrap();
        let first = reader.next(1).unwrap().unwrap();
        let second = reader.next(1).unwrap().unwrap();
        let kept = second.slice(7..9);
        drop(second);
        let third = reader.next(1).unwrap().unwrap();
        assert_eq!(first, bytes[..CHUNK]);
        assert_eq!(kept, [2, 2][..]);
        assert_eq!(third, bytes[2 * CHUNK..3 * CHUNK]);
        drop(third);
        assert_eq!(all(reader).unwrap(), bytes[3 * CHUNK..]);
    }

    #[cfg(feature = "server")]
    #[test]
    fn what_is_in_memory_is_verified_as_well() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = vec![7; CHUNK * 2];
        let (content, id, sums) = stored(dir.path(), &bytes);
        let file = File::options().write(true).open(content.path(id)).unwrap();
        file.write_all_at(&[8], CHUNK as u64 + 3).unwrap();
        let mut reader = content.read(id, bytes.len() as u64, sums).unwrap();
        // Just written, so it is in memory, unless the file system cannot tell or memory was short.
        match reader.next_in_memory(1).unwrap() {
            InMemory::Piece(piece) => assert_eq!(piece, bytes[..CHUNK]),
            InMemory::No => assert_eq!(reader.next(1).unwrap().unwrap(), bytes[..CHUNK]),
            InMemory::End => panic!("two chunks are left"),
        }
        match reader.next_in_memory(1) {
            Err(Refused::Damaged(_)) => {}
            Ok(InMemory::No) => assert!(matches!(reader.next(1), Err(Refused::Damaged(_)))),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_sweep_takes_only_what_is_ours_and_not_named() {
        let dir = tempfile::tempdir().unwrap();
        let (content, kept, _) = stored(dir.path(), b"kept");
        let (_, orphan, _) = stored(dir.path(), b"orphan");
        let staged = content.stage().unwrap();
        let unfinished = staged.path.clone().unwrap();
        std::mem::forget(staged);
        let foreign = dir.path().join("blobs/README");
        fs::write(&foreign, "not ours").unwrap();
        let swept = content.sweep::<io::Error>(|id| Ok(id == kept)).unwrap();
        assert_eq!(swept, 2);
        assert!(content.path(kept).exists() && foreign.exists());
        assert!(!content.path(orphan).exists() && !unfinished.exists());
    }

    #[test]
    fn an_upload_given_up_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let content = ContentDir::open(dir.path(), Disk::default()).unwrap();
        drop(content.stage().unwrap());
        assert_eq!(fs::read_dir(&content.staging).unwrap().count(), 0);
    }
}
