//! What a build tells its caller while it runs, and how the caller calls it off. How progress is
//! drawn is the caller's business.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The steps of a build, in the order in which they come. A build that finds a step's result in the
/// cache leaves the step out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Stage {
    /// Waiting for another build in the same cache.
    Waiting,
    /// Comparing a cached image with its checksums.
    Verifying,
    /// mmdebstrap: downloading, unpacking and configuring the packages.
    Packages,
    /// Nix: evaluating the flake, building or fetching what it names.
    Nix,
    /// Writing the ext4 file system of the base.
    Filesystem,
    /// Copying the base and laying the guest's own files over it.
    GuestFiles,
    /// Taking kernel and initrd out of the image.
    Boot,
    /// Checksums, flush to disk, manifest.
    Sealing,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting => "waiting for another build",
            Self::Verifying => "verifying",
            Self::Packages => "installing packages",
            Self::Nix => "building with Nix",
            Self::Filesystem => "writing the file system",
            Self::GuestFiles => "adding guest files",
            Self::Boot => "extracting kernel and initrd",
            Self::Sealing => "sealing",
        })
    }
}

/// Receives a build's progress. Calls come from the thread that builds and from its readers.
pub trait Progress: Sync {
    /// A stage has started; the one before it is done.
    fn stage(&self, stage: Stage);
    /// What the stage is doing now, one line.
    fn detail(&self, line: &str) {
        let _ = line;
    }
    /// Something was wrong and is being put right, such as a damaged file that is built again.
    fn warning(&self, line: &str) {
        self.detail(line);
    }
    /// How far the stage is, from 0 to 1; called only where that is known.
    fn fraction(&self, done: f64) {
        let _ = done;
    }
}

/// A [`Progress`] that drops everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn stage(&self, _: Stage) {}
}

/// Calls a build off from another thread or a signal handler. Clones share one flag.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// A flag that nobody has raised yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Calls off every operation that was given this flag or a clone of it.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether [`Cancel::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// For callers that have a flag already, such as one that a signal handler raises.
impl From<Arc<AtomicBool>> for Cancel {
    fn from(flag: Arc<AtomicBool>) -> Self {
        Self(flag)
    }
}
