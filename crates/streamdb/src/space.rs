//! The reserve: disk space set aside so that values can still be deleted when the disk is full.
//!
//! The index writes changed pages to new places, so even a delete needs room. Deciding what a full
//! disk means for an operation is the business of [`crate::store`].

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use crate::error::is_full;

/// A file of real blocks that is given up when the disk is full and taken back when there is room.
#[derive(Debug)]
pub(crate) struct Reserve {
    path: PathBuf,
    bytes: u64,
    kept: AtomicBool,
    // Room that deletes have made inside the index file, in bytes. The file does not shrink, so the
    // disk still looks full while values of this many bytes fit.
    room: AtomicI64,
}

/// What changing one record costs the index at worst, in bytes: a few pages in each of its tables.
const PAGES: i64 = 64 * 1024;

impl Reserve {
    pub(crate) fn open(dir: &Path, bytes: u64) -> Self {
        let reserve = Self {
            path: dir.join("reserve"),
            bytes,
            kept: AtomicBool::new(false),
            room: AtomicI64::new(0),
        };
        reserve
            .kept
            .store(reserve.take().is_ok(), Ordering::Release);
        reserve
    }

    /// Whether a value of which `in_index` bytes go into the index may be written.
    ///
    /// # Errors
    /// The disk's answer, where there is no room to take the reserve back.
    pub(crate) fn admit(&self, in_index: u64) -> io::Result<()> {
        if self.kept.load(Ordering::Acquire) {
            return Ok(());
        }
        match self.take() {
            Ok(()) => {
                self.kept.store(true, Ordering::Release);
                Ok(())
            }
            Err(error) => {
                // Pages come in powers of two: a value may take up to twice its length.
                let cost = i64::try_from(in_index).unwrap_or(i64::MAX / 4) * 2 + PAGES;
                self.room
                    .fetch_update(Ordering::AcqRel, Ordering::Acquire, |room| {
                        (room >= cost).then(|| room - cost)
                    })
                    .map(drop)
                    .map_err(|_| error)
            }
        }
    }

    /// Gives the reserved space to whoever needs it now. Returns whether there was any.
    pub(crate) fn release(&self) -> bool {
        self.room.store(0, Ordering::Release);
        self.kept.swap(false, Ordering::AcqRel) && fs::remove_file(&self.path).is_ok()
    }

    /// Notes that bytes inside the index have become free.
    pub(crate) fn freed(&self, in_index: u64) {
        let freed = i64::try_from(in_index).unwrap_or(0);
        self.room.fetch_add(freed, Ordering::AcqRel);
    }

    fn take(&self) -> io::Result<()> {
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.path)?;
        let taken =
            rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, self.bytes)
                .map_err(io::Error::from);
        match taken {
            Err(error) if is_full(&error) => {
                let _ = fs::remove_file(&self.path);
                Err(error)
            }
            // A file system that cannot set space aside is used without a reserve.
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_kept_given_up_and_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let reserve = Reserve::open(dir.path(), 4096);
        let file = dir.path().join("reserve");
        assert_eq!(fs::metadata(&file).unwrap().len(), 4096);
        assert!(reserve.release());
        assert!(!reserve.release());
        assert!(!file.exists());
        reserve.admit(1).unwrap();
        assert!(file.exists());
    }
}
