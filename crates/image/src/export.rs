//! An image as a file for other hypervisors.

use std::path::{Path, PathBuf};

use crate::{Cancel, Image, Tools};

/// Format of an exported disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// QEMU's own, compressed.
    Qcow2,
    /// Plain sectors, sparse.
    Raw,
}

/// An export that failed. Nothing is left at the destination.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// qemu-img failed.
    #[error("qemu-img could not write {to}: {message}")]
    Convert {
        /// The destination.
        to: PathBuf,
        /// qemu-img's words.
        message: String,
    },
}

/// Writes the image's disk to `to`, replacing what is there in one step.
pub fn export(
    image: &Image,
    format: Format,
    to: &Path,
    tools: &Tools,
    cancel: &Cancel,
) -> Result<(), ExportError> {
    let _ = (image, format, to, tools, cancel);
    std::process::abort()
}
