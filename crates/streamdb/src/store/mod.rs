//! The store: keys, values and their facts, held together from the index and the content files.
//!
//! This file opens a store and holds it against other processes; each operation has a file of its
//! own. Nothing here knows of HTTP or of a command line.

mod backup;
mod batch;
mod change;
mod check;
mod conditions;
mod expire;
mod list;
mod pins;
mod quota;
mod read;
mod repair;
mod stream;
mod tables;
mod tail;
mod write;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{ReadableTable, ReadableTableMetadata};

use crate::content::{ContentDir, ContentId};
use crate::disk::Disk;
use crate::index::{BYTES, COUNTERS, EXPIRES, FILES, Fault, Index, OBJECTS, OPEN};
use crate::space::Reserve;
use crate::{OpenError, ReadError};

pub use backup::Backup;
pub use batch::{Operation, Transfer};
pub use check::{Check, Problem};
pub use conditions::{Conditions, Tags};
pub use list::{Entry, Page, Query};
pub use quota::Quota;
pub use read::{Object, ObjectReader};
pub use repair::{Quarantined, Repair};
pub use tail::{Tail, Tailed};
pub use write::{Put, Stored, Upload};
#[cfg(feature = "server")]
pub(crate) use write::{Small, commit_together};

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// Make the store if the directory has none.
    pub create: bool,
    /// The longest value accepted, in bytes.
    pub max_object: u64,
    /// Disk space set aside so that deletes work on a full disk, in bytes.
    pub reserve: u64,
    /// Memory for pages of the index, in bytes.
    pub cache: usize,
    /// How many bytes values may have together, all of them or those below a prefix.
    pub quotas: Vec<Quota>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            create: true,
            max_object: u64::MAX,
            reserve: 8 << 20,
            cache: 64 << 20,
            quotas: Vec::new(),
        }
    }
}

/// How much a store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Number of keys.
    pub keys: u64,
    /// Sum of the sizes of all values, in bytes.
    pub bytes: u64,
}

/// An open store. Clones share it; the directory is let go when the last of them, and of the
/// uploads begun on it, is dropped.
///
/// All operations block on the disk: async callers run them on a thread that may block.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    index: Index,
    content: ContentDir,
    reserve: Reserve,
    max_object: u64,
    quotas: Vec<Quota>,
    streams: stream::Streams,
    pins: pins::Pins,
    clock: expire::Clock,
    // Dropped last, so that nobody opens the store while the index is still being closed.
    _lock: File,
}

/// Values up to this many bytes are kept in their record, where one look-up finds both.
const IN_RECORD: usize = 1024;

/// Values up to this many bytes are kept in the index; longer ones in a file of their own.
const IN_INDEX: usize = 64 * 1024;

impl Store {
    /// Opens the store in a directory: repairs what an interrupted write left, and removes files
    /// of uploads that were never acknowledged.
    ///
    /// # Errors
    /// [`OpenError`]; among them that another process holds the store.
    pub fn open(dir: &Path, options: &Options) -> Result<Self, OpenError> {
        Self::open_on(dir, options, Disk::default())
    }

    fn open_on(dir: &Path, options: &Options, disk: Disk) -> Result<Self, OpenError> {
        let index_path = dir.join("index.redb");
        if !options.create && !index_path.exists() && !dir.join("lock").exists() {
            return Err(OpenError::Missing { dir: dir.into() });
        }
        if !dir.is_dir() {
            // Values may be private; whoever wants to share the directory widens it.
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)
                .map_err(OpenError::io("make the directory", dir))?;
        }
        let lock = lock(dir)?;
        let fault = |fault| open_fault(fault, dir, &index_path);
        if !index_path.exists() {
            if ContentDir::any(dir).map_err(OpenError::io("list", dir))? {
                // Opening would make an empty index and sweep away every large value.
                return Err(OpenError::IndexMissing { dir: dir.into(), index: index_path });
            }
            if !options.create {
                return Err(OpenError::Missing { dir: dir.into() });
            }
            Index::create(&index_path).map_err(fault)?;
        }
        let index = Index::open(&index_path, options.cache, disk.clone()).map_err(fault)?;
        let content = ContentDir::open(dir, disk)
            .map_err(OpenError::io("make the directories of the store in", dir))?;
        sweep(&index, &content).map_err(fault)?;
        let quotas = quota::distinct(&options.quotas);
        quota::settle(&index, &quotas).map_err(fault)?;
        let reserve = Reserve::open(dir, options.reserve);
        let store = Self {
            inner: Arc::new(Inner {
                dir: dir.to_owned(),
                index,
                content,
                reserve,
                max_object: options.max_object,
                quotas,
                streams: stream::Streams::default(),
                pins: pins::Pins::default(),
                clock: expire::Clock::default(),
                _lock: lock,
            }),
        };
        // On a full disk or a damaged record this comes to nothing, and need not: what has expired
        // is not seen.
        let _ = store.sweep_expired();
        Ok(store)
    }

    /// The store's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// The longest value accepted, in bytes.
    #[must_use]
    pub fn max_object(&self) -> u64 {
        self.inner.max_object
    }

    /// The time by which values expire, in milliseconds since 1970-01-01 UTC.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.inner.now()
    }

    /// How much the store holds, read from the index in one transaction.
    ///
    /// # Errors
    /// [`ReadError`] if the index cannot be read; this is the store's test of health.
    pub fn counts(&self) -> Result<Counts, ReadError> {
        self.inner
            .index
            .read(|txn| {
                let mut keys = txn.open_table(OBJECTS)?.len()?;
                let bytes = txn.open_table(COUNTERS)?.get(BYTES)?;
                let mut bytes = bytes.map_or(0, |bytes| bytes.value());
                let expires = txn.open_table(EXPIRES)?;
                for item in expires.range(..(self.inner.now().saturating_add(1), &b""[..]))? {
                    keys = keys.saturating_sub(1);
                    bytes = bytes.saturating_sub(item?.1.value());
                }
                Ok(Counts { keys, bytes })
            })
            .map_err(|fault| self.inner.read_fault(fault))
    }
}

impl Inner {
    fn read_fault(&self, fault: Fault) -> ReadError {
        match fault {
            Fault::Damaged(detail) => ReadError::DamagedIndex { detail },
            other => ReadError::io("read the index of the store in", &self.dir)(as_io(other)),
        }
    }
}

fn as_io(fault: Fault) -> io::Error {
    match fault {
        Fault::Io(error) => error,
        Fault::Full => io::ErrorKind::StorageFull.into(),
        Fault::Held => io::Error::other("another process opened the index"),
        Fault::Damaged(detail) => io::Error::new(io::ErrorKind::InvalidData, detail),
        Fault::Closed => io::Error::other("the index was closed after a failed write"),
    }
}

fn open_fault(fault: Fault, dir: &Path, index: &Path) -> OpenError {
    match fault {
        Fault::Held => OpenError::Held { dir: dir.into(), pid: None },
        Fault::Damaged(detail) => OpenError::Damaged { index: index.into(), detail },
        Fault::Full => OpenError::Full { dir: dir.into() },
        other => OpenError::io("open the index", index)(as_io(other)),
    }
}

fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("lock");
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(OpenError::io("open", &path))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = String::new();
            let _ = file.read_to_string(&mut text);
            return Err(OpenError::Held { dir: dir.into(), pid: text.trim().parse().ok() });
        }
        Err(error) => return Err(OpenError::io("lock", &path)(error.into())),
    }
    // Only a courtesy to whoever finds the store held: failing to leave the note harms nothing.
    let _ = file
        .set_len(0)
        .and_then(|()| file.write_all(format!("{}\n", std::process::id()).as_bytes()));
    Ok(file)
}

fn sweep(index: &Index, content: &ContentDir) -> Result<u64, Fault> {
    index.read(|txn| {
        for item in txn.open_table(OPEN)?.iter()? {
            let (id, size) = item?;
            content.trim(ContentId::from_bytes(*id.value()), size.value())?;
        }
        let files = txn.open_table(FILES)?;
        content.sweep(|id| Ok::<_, Fault>(files.get(&id.to_bytes())?.is_some()))
    })
}

#[cfg(test)]
mod tests;
