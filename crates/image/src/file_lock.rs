//! A lock that ends with the process that holds it, also when that is killed, and that names its
//! holder to those who wait.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::Cancel;

/// The lock on a file; it ends with the value. The file itself stays.
#[derive(Debug)]
pub struct FileLock {
    _file: File,
}

impl FileLock {
    /// Takes the lock, or tells the process that has it, as far as that is known.
    ///
    /// # Errors
    /// What the system said of the file.
    pub fn try_take(path: &Path) -> io::Result<Result<Self, Option<u32>>> {
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let holder = fs::read_to_string(path).ok();
                return Ok(Err(holder.and_then(|text| text.trim().parse().ok())));
            }
            Err(error) => return Err(error.into()),
        }
        // Only told to those who wait; the lock itself is the kernel's.
        file.set_len(0)?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Ok(Self { _file: file }))
    }

    /// Waits for the lock; `waiting` is told once who has it. `None` when called off.
    ///
    /// # Errors
    /// What the system said of the file.
    pub fn take(
        path: &Path,
        cancel: &Cancel,
        waiting: impl FnOnce(Option<u32>),
    ) -> io::Result<Option<Self>> {
        let mut waiting = Some(waiting);
        loop {
            match Self::try_take(path)? {
                Ok(lock) => return Ok(Some(lock)),
                Err(_) if cancel.is_cancelled() => return Ok(None),
                Err(holder) => {
                    if let Some(waiting) = waiting.take() {
                        waiting(holder);
                    }
                }
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}
