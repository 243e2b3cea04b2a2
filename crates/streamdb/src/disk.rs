//! What the store asks of the file system to make something last, in one place, so that a test can
//! note it in order and cut the power between any two of them.
//!
//! Reading is done where it is needed. What is written when is decided in [`crate::content`],
//! [`crate::index`] and [`crate::store`].

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The file system as the store writes to it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    /// Where a test notes what is written.
    #[cfg(test)]
    pub(crate) log: Option<std::sync::Arc<noted::Log>>,
}

impl Disk {
    pub(crate) fn create_new(&self, path: &Path) -> io::Result<File> {
        let file = File::options().write(true).create_new(true).open(path)?;
        #[cfg(test)]
        self.note(|| noted::Event::Make(path.into()));
        Ok(file)
    }

    pub(crate) fn write_at(
        &self,
        file: &File,
        path: &Path,
        at: u64,
        bytes: &[u8],
    ) -> io::Result<()> {
        #[cfg(not(test))]
        let _ = path;
        #[cfg(test)]
        self.note(|| noted::Event::Write(path.into(), at, bytes.into()));
        file.write_all_at(bytes, at)
    }

    /// Has the system begin to write out a part of a file that will be synced later, so that the disk
    /// is at work while the rest comes. It promises nothing, and what fails is told by the sync.
    pub(crate) fn begin_sync(&self, file: &File, from: u64, length: u64) {
        let (Ok(from), Ok(length)) = (i64::try_from(from), i64::try_from(length)) else { return };
        // SAFETY: the descriptor is open as long as `file` is borrowed, and no memory is handed over.
        #[allow(unsafe_code, reason = "no safe crate offers sync_file_range(2)")]
        let _ = unsafe {
            libc::sync_file_range(file.as_raw_fd(), from, length, libc::SYNC_FILE_RANGE_WRITE)
        };
    }

    pub(crate) fn set_len(&self, file: &File, path: &Path, length: u64) -> io::Result<()> {
        #[cfg(not(test))]
        let _ = path;
        #[cfg(test)]
        self.note(|| noted::Event::SetLen(path.into(), length));
        file.set_len(length)
    }

    /// Makes the bytes of a file last.
    pub(crate) fn sync(&self, file: &File, path: &Path) -> io::Result<()> {
        #[cfg(not(test))]
        let _ = path;
        file.sync_all()?;
        #[cfg(test)]
        self.note(|| noted::Event::Sync(path.into()));
        Ok(())
    }

    pub(crate) fn create_dir(&self, path: &Path) -> io::Result<()> {
        #[cfg(test)]
        self.note(|| noted::Event::MakeDir(path.into()));
        fs::create_dir(path)
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        #[cfg(test)]
        self.note(|| noted::Event::Rename(from.into(), to.into()));
        fs::rename(from, to)
    }

    pub(crate) fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)?;
        #[cfg(test)]
        self.note(|| noted::Event::Link(from.into(), to.into()));
        Ok(())
    }

    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        #[cfg(test)]
        self.note(|| noted::Event::Remove(path.into()));
        fs::remove_file(path)
    }

    /// Makes the names in a directory last.
    pub(crate) fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()?;
        #[cfg(test)]
        self.note(|| noted::Event::SyncDir(path.into()));
        Ok(())
    }

    #[cfg(test)]
    fn note(&self, event: impl FnOnce() -> noted::Event) {
        if let Some(log) = &self.log {
            log.note(event());
        }
    }
}

/// Noting what is written. A write is noted before it is done, a sync after it: a cut in between
/// counts against the store.
#[cfg(test)]
pub(crate) mod noted {
    use std::fs::File;
    use std::io;
    use std::path::{Path, PathBuf};
    use std::sync::{Arc, Mutex};

    use redb::StorageBackend;
    use redb::backends::FileBackend;

    #[derive(Debug, Clone)]
    pub(crate) enum Event {
        Make(PathBuf),
        Write(PathBuf, u64, Vec<u8>),
        SetLen(PathBuf, u64),
        Sync(PathBuf),
        MakeDir(PathBuf),
        Rename(PathBuf, PathBuf),
        Link(PathBuf, PathBuf),
        Remove(PathBuf),
        SyncDir(PathBuf),
    }

    #[derive(Debug, Default)]
    pub(crate) struct Log {
        events: Mutex<Vec<Event>>,
        /// How the next sync of the index is reported to have failed, although it is done.
        pub(crate) fails: Mutex<Option<io::ErrorKind>>,
    }

    impl Log {
        pub(crate) fn note(&self, event: Event) {
            self.events.lock().unwrap().push(event);
        }

        pub(crate) fn len(&self) -> usize {
            self.events.lock().unwrap().len()
        }

        pub(crate) fn take(&self) -> Vec<Event> {
            std::mem::take(&mut self.events.lock().unwrap())
        }
    }

    /// The index file, noted.
    #[derive(Debug)]
    pub(crate) struct Backend {
        file: FileBackend,
        path: PathBuf,
        log: Arc<Log>,
    }

    impl Backend {
        pub(crate) fn open(path: &Path, log: &Arc<Log>) -> Self {
            let file = File::options().read(true).write(true).open(path).unwrap();
            let file = FileBackend::new(file).unwrap();
            Self { file, path: path.into(), log: Arc::clone(log) }
        }
    }

    impl StorageBackend for Backend {
        fn len(&self) -> Result<u64, io::Error> {
            self.file.len()
        }

        fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, io::Error> {
            self.file.read(offset, len)
        }

        fn set_len(&self, len: u64) -> Result<(), io::Error> {
            self.log.note(Event::SetLen(self.path.clone(), len));
            self.file.set_len(len)
        }

        fn sync_data(&self, eventual: bool) -> Result<(), io::Error> {
            self.file.sync_data(eventual)?;
            self.log.note(Event::Sync(self.path.clone()));
            let fails = self.log.fails.lock().unwrap().take();
            fails.map_or(Ok(()), |kind| Err(io::Error::new(kind, "made up by a test")))
        }

        fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
            self.log.note(Event::Write(self.path.clone(), offset, data.into()));
            self.file.write(offset, data)
        }
    }
}
