//! `archibald.lock`: the package versions of one build, so that another gives the same image.
//! Holding apt to them is `debian`'s work.

use std::path::{Path, PathBuf};

use crate::Manifest;

/// One package at one version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pin {
    /// Package name.
    pub name: String,
    /// Debian version.
    pub version: String,
    /// Debian architecture (`amd64`, `all`).
    pub architecture: String,
    /// SHA-256 of the .deb, in hex.
    pub sha256: String,
}

/// The packages of an image, sorted by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lock {
    pins: Vec<Pin>,
}

/// A package that is not what the lock says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// Package name.
    pub name: String,
    /// What the lock says; `None` if it does not have the package.
    pub expected: Option<String>,
    /// What apt would install; `None` if nothing.
    pub found: Option<String>,
}

/// A lock file that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// The file could not be read.
    #[error("cannot read the lock {path}: {source}")]
    Read {
        /// The lock file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The file could not be written.
    #[error("cannot write the lock {path}: {source}")]
    Write {
        /// The lock file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A line that is no pin.
    #[error("{path}:{line}: {reason}; write the lock again from a built image")]
    Line {
        /// The lock file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl Lock {
    /// The versions of a built image.
    pub fn from_manifest(manifest: &Manifest) -> Self {
        let _ = manifest;
        std::process::abort()
    }

    /// Reads a lock file.
    pub fn read(path: &Path) -> Result<Self, LockError> {
        let _ = path;
        std::process::abort()
    }

    /// Writes a lock file, replacing an old one in one step.
    pub fn write(&self, path: &Path) -> Result<(), LockError> {
        let _ = path;
        std::process::abort()
    }

    /// The packages, sorted by name.
    pub fn pins(&self) -> &[Pin] {
        &self.pins
    }
}
