//! The reserve: disk space set aside so that values can still be deleted when the disk is full.
//!
//! The index writes changed pages to new places, so even a delete needs room. Deciding what a full
//! disk means for an operation is the business of [`crate::store`].

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::FallocateFlags;

use crate::error::is_full;

/// A file of real blocks, given up only while a delete or a reopening of the index needs them.
#[derive(Debug)]
pub(crate) struct Reserve {
    path: PathBuf,
    wanted: u64,
    held: Mutex<u64>,
    // Room that deletes have made inside the index file, in bytes. The file does not shrink, so the
    // disk still looks full while values of this many bytes fit.
    room: AtomicI64,
}

/// What changing one record costs the index at worst, in bytes: a few pages in each of its tables.
const PAGES: i64 = 64 * 1024;

impl Reserve {
    pub(crate) fn open(dir: &Path, wanted: u64) -> Self {
        let reserve = Self {
            path: dir.join("reserve"),
            wanted,
            held: Mutex::new(0),
            room: AtomicI64::new(0),
        };
        reserve.take_back();
        reserve
    }

    /// Whether a value of which `in_index` bytes go into the index may be written.
    ///
    /// # Errors
    /// The disk's answer, where there is no room to take the whole reserve back.
    pub(crate) fn admit(&self, in_index: u64) -> io::Result<()> {
        let mut held = self.lock();
        let Err(error) = self.take(&mut held, self.wanted) else {
            return Ok(());
        };
        // Pages come in powers of two: a value may take up to twice its length.
        let cost = i64::try_from(in_index).unwrap_or(i64::MAX / 4) * 2 + PAGES;
        let room = self.room.load(Ordering::Acquire);
        // Bytes of a content file never fit into room inside the index.
        if in_index == 0 || room < cost {
            return Err(error);
        }
        self.room.store(room - cost, Ordering::Release);
        Ok(())
    }

    /// Gives the reserved space to the caller, who hands back what is left by [`Self::take_back`].
    /// Returns whether there was any.
    pub(crate) fn release(&self) -> bool {
        let mut held = self.lock();
        self.room.store(0, Ordering::Release);
        std::mem::take(&mut *held) > 0 && fs::remove_file(&self.path).is_ok()
    }

    /// Takes back as much of the reserve as the disk has room for.
    pub(crate) fn take_back(&self) {
        let mut held = self.lock();
        let mut bytes = self.wanted;
        while bytes > *held && self.take(&mut held, bytes).is_err() {
            bytes /= 2;
        }
    }

    /// Notes that bytes inside the index have become free.
    pub(crate) fn freed(&self, in_index: u64) {
        let freed = i64::try_from(in_index).unwrap_or(0);
        self.room.fetch_add(freed, Ordering::AcqRel);
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, held: &mut u64, bytes: u64) -> io::Result<()> {
        if *held >= bytes {
            return Ok(());
        }
        let file = File::options().write(true).create(true).truncate(false).open(&self.path)?;
        let taken = rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes);
        match taken.map_err(io::Error::from) {
            Err(error) if is_full(&error) => {
                // Some file systems keep what they had found room for.
                let _ = file.set_len(*held);
                Err(error)
            }
            // A file system that cannot set space aside is used without a reserve.
            _ => {
                *held = bytes;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_held_given_up_and_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let reserve = Reserve::open(dir.path(), 4096);
        let file = dir.path().join("reserve");
        assert_eq!(fs::metadata(&file).unwrap().len(), 4096);
        assert!(reserve.release());
        assert!(!reserve.release());
        assert!(!file.exists());
        reserve.take_back();
        assert!(file.exists());
        assert!(reserve.release());
        reserve.admit(1).unwrap();
        assert!(file.exists());
    }
}
