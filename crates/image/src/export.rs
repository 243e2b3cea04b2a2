//! An image as a file for other hypervisors.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::child::{Watched, command};
use crate::{BuildError, Cancel, Image, Tools};

/// Format of an exported disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// QEMU's own, compressed.
    Qcow2,
    /// Plain sectors, sparse.
    Raw,
}

/// An export that failed. Nothing half-made is left at the destination.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The destination could not be written.
    #[error("cannot write {}: {source}; choose another place", .path.display())]
    Write {
        /// The destination or a file beside it.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// qemu-img failed or was called off.
    #[error(transparent)]
    Convert(#[from] BuildError),
}

/// Writes the image's disk to `to`, replacing what is there in one step.
pub fn export(
    image: &Image,
    format: Format,
    to: &Path,
    tools: &Tools,
    cancel: &Cancel,
) -> Result<(), ExportError> {
    let beside = |suffix: &str| {
        let mut name = to.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let (partial, log) = (beside(".partial"), beside(".log"));
    let mut convert = command(tools, "qemu-img")?;
    convert.args(["convert", "-f", "qcow2"]);
    match format {
        Format::Qcow2 => convert.args(["-O", "qcow2", "-c", "-o", "compression_type=zstd"]),
        Format::Raw => convert.args(["-O", "raw"]),
    };
    convert.arg(image.disk()).arg(&partial);
    let watched = Watched { action: "exporting the image", program: "qemu-img", log: &log, cancel };
    let wrong = |source| ExportError::Write { path: to.to_owned(), source };
    let result = watched.run(&mut convert, |_| Ok(())).map_err(ExportError::from).and_then(|()| {
        File::open(&partial).and_then(|file| file.sync_all()).map_err(wrong)?;
        fs::rename(&partial, to).map_err(wrong)
    });
    match &result {
        Ok(()) => drop(fs::remove_file(&log)),
        Err(_) => drop(fs::remove_file(&partial)),
    }
    result
}
