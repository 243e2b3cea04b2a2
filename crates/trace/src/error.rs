//! Why a capture could not be read.

use std::io;
use std::path::PathBuf;

/// What was tried, on what, and what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// A file could not be read or written.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// `capture.json` is not what this program reads.
    #[error(
        "{path} is no capture this program reads: {reason}. Record it again with `lab explain`"
    )]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A `format` file of the kernel does not have the form that kernels write.
    #[error("the event format {name} cannot be understood: {reason}")]
    Format {
        /// System and event.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A page of the ring is damaged.
    #[error("{path}, page {page}: {reason}. The capture is damaged: record it again")]
    Page {
        /// The file of raw pages.
        path: PathBuf,
        /// Which page, from 0.
        page: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl TraceError {
    /// For `map_err`: the failed `action` on `path`.
    pub fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}
