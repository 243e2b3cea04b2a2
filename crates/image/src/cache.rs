//! The directory in which bases, images and downloads are kept, and the one way into it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::{Cancel, Drift, Manifest, Progress, Request, Tools};

/// An image cache: `debs/`, `base/<key>/`, `images/<id>/`.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
    tools: Tools,
}

/// What to do when another process is building in the same cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contention {
    /// Wait until it is done ([`crate::Stage::Waiting`]).
    Wait,
    /// Give up with [`BuildError::Busy`].
    Fail,
}

/// An image that was found whole. Its files are read-only by agreement: a machine puts its own
/// copy-on-write layer over them.
#[derive(Debug, Clone)]
pub struct Image {
    dir: PathBuf,
    manifest: Manifest,
}

/// A build that failed. Nothing half-made stays in the cache.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Another process is building.
    #[error("another build is using {cache} (process {}); wait for it or stop it", .pid.map_or("unknown".into(), |p| p.to_string()))]
    Busy {
        /// The cache directory.
        cache: PathBuf,
        /// The other process, if it has told.
        pid: Option<u32>,
    },
    /// Called off.
    #[error("the build was called off")]
    Cancelled,
    /// The packages are not those of the lock.
    #[error("the packages differ from the lock")]
    Drift {
        /// Every package that differs.
        packages: Vec<Drift>,
    },
}

/// A cache directory that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// It could not be created or read.
    #[error("cannot use the cache {path}: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
}

/// An image that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No such image.
    #[error("no image `{id}` in {cache}; `list` shows those that exist")]
    Unknown {
        /// The id or its beginning.
        id: String,
        /// The cache directory.
        cache: PathBuf,
    },
    /// A file is not what the manifest says.
    #[error("{path} is damaged: {reason}; build the image again")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// An image that was not removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoveError {
    /// A machine stands on it.
    #[error("image {id} is in use; delete the machine first")]
    InUse {
        /// The image.
        id: String,
    },
}

impl Cache {
    /// The cache in `root`, which is created if need be.
    pub fn open(root: &Path, tools: Tools) -> Result<Self, CacheError> {
        Ok(Self {
            root: root.to_owned(),
            tools,
        })
    }

    /// The image of `request`: from the cache if it is there and whole, else built.
    pub fn build(
        &self,
        request: &Request,
        contention: Contention,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Image, BuildError> {
        let _ = (
            request,
            contention,
            progress,
            cancel,
            &self.root,
            &self.tools,
        );
        std::process::abort()
    }

    /// The images of the cache, newest first. Their checksums are not compared.
    pub fn list(&self) -> Result<Vec<Image>, CacheError> {
        std::process::abort()
    }

    /// Opens an image by its id or an unambiguous beginning of it, and verifies it.
    pub fn inspect(
        &self,
        id: &str,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Image, OpenError> {
        let _ = (id, progress, cancel);
        std::process::abort()
    }

    /// Removes an image that is not among those in use; says how many bytes that freed.
    pub fn remove(&self, id: &str, in_use: &BTreeSet<String>) -> Result<u64, RemoveError> {
        let _ = (id, in_use);
        std::process::abort()
    }
}

impl Image {
    /// Its name in the cache.
    pub fn id(&self) -> &str {
        &self.manifest.id
    }

    /// Everything known about it.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The directory of its files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The root file system, ext4 without a partition table.
    pub fn disk(&self) -> PathBuf {
        self.dir.join("disk.raw")
    }

    /// The uncompressed kernel for direct boot by PVH; `None` if this kernel cannot.
    pub fn vmlinux(&self) -> Option<PathBuf> {
        self.artifact("vmlinux")
    }

    /// The distribution's kernel as packaged.
    pub fn vmlinuz(&self) -> Option<PathBuf> {
        self.artifact("vmlinuz")
    }

    /// The project's small initrd.
    pub fn initrd(&self) -> Option<PathBuf> {
        self.artifact("initrd")
    }

    /// The distribution's initrd.
    pub fn stock_initrd(&self) -> Option<PathBuf> {
        self.artifact("initrd.stock")
    }

    fn artifact(&self, name: &str) -> Option<PathBuf> {
        self.manifest
            .artifacts
            .contains_key(name)
            .then(|| self.dir.join(name))
    }
}
