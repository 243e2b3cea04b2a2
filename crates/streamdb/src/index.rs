//! The index: one B-tree file with every key, its record, the small values, and the sums of the
//! large ones. Opening it, transactions on it, and what to do when the disk fails it live here.
//!
//! What the tables mean to each other (a key and its reversed twin, a record and its file) is the
//! business of [`crate::store`].

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use redb::{
    Database, Durability, ReadTransaction, StorageError, TableDefinition, WriteTransaction,
};

use crate::disk::Disk;
use crate::error::is_full;

/// Key -> record.
pub(crate) const OBJECTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("objects");
/// Key back to front -> nothing; a search by suffix is a scan of this table by prefix.
pub(crate) const SUFFIXES: TableDefinition<'_, &[u8], ()> = TableDefinition::new("suffixes");
/// Key -> value, for values too long for the record and too short for a file.
pub(crate) const VALUES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("values");
/// Content file -> sums of its chunks. A file that is not named here is nobody's.
pub(crate) const FILES: TableDefinition<'_, &[u8; 16], &[u8]> = TableDefinition::new("files");
/// Content file of an open stream -> bytes acknowledged; what the file holds beyond is nobody's.
pub(crate) const OPEN: TableDefinition<'_, &[u8; 16], u64> = TableDefinition::new("open");
/// Content file of an open stream and number of a block -> sums of the block's chunks, so that an
/// append rewrites the last block and not the sums of hours of sound.
pub(crate) const SUMS: TableDefinition<'_, (&[u8; 16], u64), &[u8]> = TableDefinition::new("sums");
/// Moment of expiry and key -> size of the value.
pub(crate) const EXPIRES: TableDefinition<'_, (u64, &[u8]), u64> = TableDefinition::new("expires");
/// Running numbers of the whole store.
pub(crate) const COUNTERS: TableDefinition<'_, &str, u64> = TableDefinition::new("counters");

/// The version given last.
pub(crate) const VERSION: &str = "version";
/// Sum of the sizes of all values, in bytes.
pub(crate) const BYTES: &str = "bytes";

/// Why the index could not do something.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The disk is full.
    Full,
    /// The disk or the system failed.
    Io(io::Error),
    /// What is on the disk is not what was written.
    Damaged(String),
    /// Another handle holds the file.
    Held,
    /// An earlier failure closed the file; it is reopened by the next transaction.
    Closed,
}

/// The open index file.
#[derive(Debug)]
pub(crate) struct Index {
    path: PathBuf,
    cache: usize,
    disk: Disk,
    db: RwLock<Option<Database>>,
    health: AtomicU8,
}

// Values of `Index::health`. After a failed write the engine refuses everything until it has been
// opened anew, which makes it read back what really is on the disk.
const WELL: u8 = 0;
const FAILED: u8 = 1;
const FAILED_FULL: u8 = 2;

impl Index {
    /// Makes an empty index at a path where there is none, so that it is either whole or absent.
    pub(crate) fn create(path: &Path) -> Result<(), Fault> {
        let unfinished = path.with_extension("new");
        match std::fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        {
            let db = Database::builder().create_with_file_format_v3(true).create(&unfinished)?;
            make_tables(&db)?;
        }
        std::fs::rename(&unfinished, path)?;
        if let Some(dir) = path.parent() {
            crate::content::sync_dir(dir)?;
        }
        Ok(())
    }

    /// Opens the index, repairing what an interrupted write left behind.
    pub(crate) fn open(path: &Path, cache: usize, disk: Disk) -> Result<Self, Fault> {
        let db = open(path, cache, &disk)?;
        // A store made before there were streams and expiry lacks their tables.
        match db.begin_read()?.open_table(EXPIRES) {
            Err(redb::TableError::TableDoesNotExist(_)) => make_tables(&db)?,
            other => drop(other?),
        }
        Ok(Self {
            path: path.to_owned(),
            cache,
            disk,
            db: RwLock::new(Some(db)),
            health: AtomicU8::new(WELL),
        })
    }

    /// Runs a read on a snapshot. The read must be short: a reopening waits for it.
    pub(crate) fn read<T>(
        &self,
        read: impl Fn(&ReadTransaction) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let once = || {
            let guard = self.opened()?;
            let db = guard.as_ref().ok_or(Fault::Closed)?;
            read(&db.begin_read()?)
        };
        match self.note(once()) {
            // Another thread's write failed in between; nothing is wrong with this read.
            Err(Fault::Closed) => self.note(once()),
            done => done,
        }
    }

    /// Runs a change and commits it to the disk. An inner `Err` is the change's own refusal:
    /// nothing is written and the refusal is handed on.
    pub(crate) fn write<T, E>(
        &self,
        change: impl FnOnce(&WriteTransaction) -> Result<Result<T, E>, Fault>,
    ) -> Result<Result<T, E>, Fault> {
        let run = || {
            let guard = self.opened()?;
            let db = guard.as_ref().ok_or(Fault::Closed)?;
            let mut txn = db.begin_write()?;
            txn.set_durability(Durability::Immediate);
            match change(&txn)? {
                Ok(done) => {
                    txn.commit()?;
                    Ok(Ok(done))
                }
                Err(refusal) => {
                    txn.abort()?;
                    Ok(Err(refusal))
                }
            }
        };
        let health = self.health.load(Ordering::Acquire);
        match self.note(run()) {
            // The failure that closed the file was another thread's; its cause is this one's too.
            Err(Fault::Closed) => {
                let health = health.max(self.health.load(Ordering::Acquire));
                if health == FAILED_FULL {
                    Err(Fault::Full)
                } else {
                    Err(Fault::Io(io::Error::other(
                        "an earlier write failed; the index is being reopened",
                    )))
                }
            }
            done => done,
        }
    }

    /// Walks the whole file. `Ok(false)` means that it was damaged and has been repaired.
    pub(crate) fn verify(&self) -> Result<bool, Fault> {
        drop(self.opened()?);
        let mut guard = self.db.write().unwrap_or_else(PoisonError::into_inner);
        let done = guard.as_mut().ok_or(Fault::Closed)?.check_integrity().map_err(Fault::from);
        drop(guard);
        self.note(done)
    }

    /// Reopens the file now if a failure closed it, rather than at the next transaction.
    pub(crate) fn heal(&self) -> Result<(), Fault> {
        self.opened().map(drop)
    }

    fn opened(&self) -> Result<RwLockReadGuard<'_, Option<Database>>, Fault> {
        loop {
            {
                let guard = self.db.read().unwrap_or_else(PoisonError::into_inner);
                if guard.is_some() && self.health.load(Ordering::Acquire) == WELL {
                    return Ok(guard);
                }
            }
            let mut guard = self.db.write().unwrap_or_else(PoisonError::into_inner);
            if guard.is_none() || self.health.load(Ordering::Acquire) != WELL {
                // The old handle holds the file's lock until it is dropped.
                *guard = None;
                *guard = Some(open(&self.path, self.cache, &self.disk)?);
                self.health.store(WELL, Ordering::Release);
            }
        }
    }

    fn note<T>(&self, done: Result<T, Fault>) -> Result<T, Fault> {
        match &done {
            Err(Fault::Full) => self.health.store(FAILED_FULL, Ordering::Release),
            Err(Fault::Io(_)) => self.health.store(FAILED, Ordering::Release),
            Err(Fault::Closed) => {
                // Keep the cause that the failing thread has noted.
                let _ =
                    self.health.compare_exchange(WELL, FAILED, Ordering::AcqRel, Ordering::Acquire);
            }
            Ok(_) | Err(Fault::Damaged(_) | Fault::Held) => {}
        }
        done
    }
}

fn make_tables(db: &Database) -> Result<(), Fault> {
    let txn = db.begin_write()?;
    txn.open_table(OBJECTS)?;
    txn.open_table(SUFFIXES)?;
    txn.open_table(VALUES)?;
    txn.open_table(FILES)?;
    txn.open_table(COUNTERS)?;
    txn.open_table(OPEN)?;
    txn.open_table(SUMS)?;
    txn.open_table(EXPIRES)?;
    txn.commit()?;
    Ok(())
}

fn open(path: &Path, cache: usize, disk: &Disk) -> Result<Database, Fault> {
    #[cfg(not(test))]
    let _ = disk;
    #[cfg(test)]
    if let Some(log) = &disk.log {
        let backend = crate::disk::noted::Backend::open(path, log);
        return Ok(Database::builder().set_cache_size(cache).create_with_backend(backend)?);
    }
    Ok(Database::builder().set_cache_size(cache).open(path)?)
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        if is_full(&error) { Self::Full } else { Self::Io(error) }
    }
}

impl From<StorageError> for Fault {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Io(error) => error.into(),
            StorageError::PreviousIo => Self::Closed,
            other => Self::Damaged(other.to_string()),
        }
    }
}

impl From<redb::DatabaseError> for Fault {
    fn from(error: redb::DatabaseError) -> Self {
        match error {
            redb::DatabaseError::DatabaseAlreadyOpen => Self::Held,
            redb::DatabaseError::Storage(StorageError::Io(error))
                if matches!(
                    error.kind(),
                    io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
                ) =>
            {
                Self::Damaged(error.to_string())
            }
            redb::DatabaseError::Storage(error) => error.into(),
            other => Self::Damaged(other.to_string()),
        }
    }
}

impl From<redb::TransactionError> for Fault {
    fn from(error: redb::TransactionError) -> Self {
        match error {
            redb::TransactionError::Storage(error) => error.into(),
            other => Self::Damaged(other.to_string()),
        }
    }
}

impl From<redb::TableError> for Fault {
    fn from(error: redb::TableError) -> Self {
        match error {
            redb::TableError::Storage(error) => error.into(),
            other => Self::Damaged(other.to_string()),
        }
    }
}

impl From<redb::CommitError> for Fault {
    fn from(error: redb::CommitError) -> Self {
        match error {
            redb::CommitError::Storage(error) => error.into(),
            other => Self::Damaged(other.to_string()),
        }
    }
}
