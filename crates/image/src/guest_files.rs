//! The project's own files in the guest: where each goes, with which mode and owner. Laying them
//! into a file system is `ext4`'s work.

use std::path::{Path, PathBuf};

/// One file of the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestFile {
    /// Absolute path in the guest.
    pub path: String,
    /// Permission bits, such as `0o644`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// What it is.
    pub content: Content,
}

/// What stands at a [`GuestFile`]'s path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A copy of this file of the host.
    File(PathBuf),
    /// These bytes.
    Bytes(Vec<u8>),
    /// A symbolic link to this target.
    Symlink(String),
    /// A directory; one that exists gets the mode and owner given here.
    Directory,
}

/// A `guest/root` directory that could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GuestTreeError {
    /// The directory or something in it could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// What was read.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A name or link target that debugfs cannot be given.
    #[error("{path}: {reason}; rename it")]
    Name {
        /// The offending path.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// The files under `root` as they should stand in the guest: owned by root, 0755 if the owner may
/// execute them and 0644 otherwise (what git records), symbolic links as they are. Directories are
/// created as needed and left alone where the distribution has them.
pub fn guest_tree(root: &Path) -> Result<Vec<GuestFile>, GuestTreeError> {
    let _ = root;
    std::process::abort()
}

impl GuestFile {
    /// A program of the host at `from` that the guest runs as `to`.
    pub fn program(from: impl Into<PathBuf>, to: impl Into<String>) -> Self {
        Self {
            path: to.into(),
            mode: 0o755,
            uid: 0,
            gid: 0,
            content: Content::File(from.into()),
        }
    }
}
