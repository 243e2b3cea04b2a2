//! SHA-256 of values and files, and copies of large sparse files.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{SeekFrom as Extent, ioctl_ficlone, seek};
use sha2::{Digest, Sha256};

use crate::error::During;
use crate::{BuildError, Cancel, space};

const CHUNK: usize = 1 << 20;

/// A key over several values. Each goes in with its length, so that moving a letter from one value
/// to the next gives another key.
#[derive(Clone)]
pub struct Key(Sha256);

impl Key {
    /// An empty key; keys for two purposes never agree.
    pub fn new(purpose: &str) -> Self {
        let mut key = Self(Sha256::new());
        key.add(purpose);
        key
    }

    /// Adds a value.
    pub fn add(&mut self, value: impl AsRef<[u8]>) -> &mut Self {
        let value = value.as_ref();
        self.0.update((value.len() as u64).to_le_bytes());
        self.0.update(value);
        self
    }

    pub(crate) fn bytes(&self) -> [u8; 32] {
        self.0.clone().finalize().into()
    }

    /// 128 bits in hex: plenty to tell images apart, and a path one can still read.
    #[must_use]
    pub fn name(&self) -> String {
        self.bytes().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 of a file in hex; `read` is told after every piece how many bytes it had.
pub(crate) fn sha256(
    path: &Path,
    cancel: &Cancel,
    mut read: impl FnMut(usize),
) -> Result<String, BuildError> {
    let mut file = File::open(path).during("read", path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        if cancel.is_cancelled() {
            return Err(BuildError::Cancelled);
        }
        let length = file.read(&mut buffer).during("read", path)?;
        let Some(piece) = buffer.get(..length).filter(|piece| !piece.is_empty()) else {
            return Ok(hex(&hash.finalize()));
        };
        hash.update(piece);
        read(length);
    }
}

/// Copies a file, sharing its blocks where the file system can (`FICLONE`), else copying only what
/// is not a hole.
pub(crate) fn copy_sparse(
    from: &Path,
    to: &Path,
    cancel: &Cancel,
    mut copied: impl FnMut(u64),
) -> Result<(), BuildError> {
    let source = File::open(from).during("read", from)?;
    let target = File::create_new(to).during("create", to)?;
    if ioctl_ficlone(&target, &source).is_ok() {
        return Ok(());
    }
    let metadata = source.metadata().during("read", from)?;
    let length = metadata.len();
    space::require(to.parent().unwrap_or(to), metadata.blocks() * 512)?;
    target.set_len(length).during("write", to)?;
    let mut position = 0;
    // SEEK_DATA fails with ENXIO when only a hole is left.
    while let Ok(start) = seek(&source, Extent::Data(position)) {
        let end = seek(&source, Extent::Hole(start)).during("read", from)?;
        copy_range(&source, &target, start, end, cancel, &mut copied, to)?;
        position = end;
    }
    Ok(())
}

fn copy_range(
    mut source: &File,
    mut target: &File,
    start: u64,
    end: u64,
    cancel: &Cancel,
    copied: &mut impl FnMut(u64),
    to: &Path,
) -> Result<(), BuildError> {
    source.seek(SeekFrom::Start(start)).during("read", to)?;
    target.seek(SeekFrom::Start(start)).during("write", to)?;
    let mut position = start;
    while position < end {
        if cancel.is_cancelled() {
            return Err(BuildError::Cancelled);
        }
        let piece = (end - position).min(64 * CHUNK as u64);
        let written = io::copy(&mut source.take(piece), &mut target).during("write", to)?;
        if written == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof)).during("read", to);
        }
        position += written;
        copied(written);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn values_do_not_run_into_each_other() {
        let mut one = Key::new("test");
        one.add("ab").add("c");
        let mut other = Key::new("test");
        other.add("a").add("bc");
        assert_ne!(one.name(), other.name());
    }

    #[test]
    fn a_key_stays_the_same_from_version_to_version() {
        let mut key = Key::new("test");
        key.add("trixie");
        assert_eq!(key.name(), "765165822aaf5e56adec644e3805e0ee");
    }

    #[test]
    fn a_sparse_copy_is_equal_and_sparse() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let mut file = File::create(&from).unwrap();
        file.seek(SeekFrom::Start(8 << 20)).unwrap();
        file.write_all(&[7; 5000]).unwrap();
        file.set_len(32 << 20).unwrap();
        copy_sparse(&from, &to, &Cancel::new(), |_| ()).unwrap();
        let sum = |path: &Path| sha256(path, &Cancel::new(), |_| ()).unwrap();
        assert_eq!(sum(&from), sum(&to));
        assert!(to.metadata().unwrap().blocks() * 512 < 1 << 20);
    }
}
