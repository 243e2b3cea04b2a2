//! An image's disk: a qcow2 layer that holds what the project's files change in the base's file
//! system, so that a changed file neither copies nor sums gigabytes.
//!
//! debugfs cannot write to a qcow2 file. It is given a *sketch* instead: a sparse copy of the file
//! system's metadata (e2image), in which it finds everything that it needs to place files. What
//! differs afterwards are the blocks it wrote, and those become the layer.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::fs::{SeekFrom as Extent, seek};

use crate::child::command;
use crate::digest::copy_sparse;
use crate::error::During;
use crate::{BuildError, Cancel, Tools};

/// The file system's block, in which debugfs writes.
const BLOCK: usize = 4096;
/// Most bytes in one extent: bounds the memory for it.
const LONGEST: usize = 4 << 20;
/// Most commands handed to one qemu-io: bounds the length of its command line.
const COMMANDS: usize = 500;

/// The metadata of a file system, as a file system of the same size without the files' content.
pub(crate) struct Sketch<'a> {
    tools: &'a Tools,
    before: PathBuf,
    after: PathBuf,
}

/// Neighbouring blocks that were written.
#[derive(Debug, PartialEq, Eq)]
struct Written {
    /// Offset on the disk, bytes.
    at: u64,
    content: Vec<u8>,
}

impl<'a> Sketch<'a> {
    /// Sketches the file system in `disk`; `work` is where the sketch lies.
    pub(crate) fn of(
        tools: &'a Tools,
        disk: &Path,
        work: &Path,
        cancel: &Cancel,
    ) -> Result<Self, BuildError> {
        let (before, after) = (work.join("before.raw"), work.join("after.raw"));
        let mut image = command(tools, "e2image")?;
        image.arg("-r").arg(disk).arg(&before);
        run(&mut image, disk)?;
        copy_sparse(&before, &after, cancel, |_| ())?;
        Ok(Self { tools, before, after })
    }

    /// Where debugfs may work.
    pub(crate) fn path(&self) -> &Path {
        &self.after
    }

    /// Writes what has changed since the sketch was made as a qcow2 file `to` over `backing`, which
    /// is a path as seen from `to`. `work` is for files in between.
    pub(crate) fn write_layer(
        &self,
        to: &Path,
        backing: &str,
        work: &Path,
        cancel: &Cancel,
    ) -> Result<(), BuildError> {
        let mut create = command(self.tools, "qemu-img")?;
        create.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b", backing]).arg(to);
        run(&mut create, to)?;
        let written = written(&self.before, &self.after)?;
        let staged = work.join("written");
        fs::create_dir(&staged).during("create", &staged)?;
        for extents in written.chunks(COMMANDS) {
            if cancel.is_cancelled() {
                return Err(BuildError::Cancelled);
            }
            // Without flushing: sealing does that where it is wanted. Among the staged files, since
            // qemu-io takes a space in a path for its end.
            let mut write = command(self.tools, "qemu-io")?;
            write.args(["-t", "unsafe", "-f", "qcow2"]).current_dir(&staged);
            for Written { at, content } in extents {
                let file = staged.join(at.to_string());
                fs::write(&file, content).during("write", &file)?;
                write.arg("-c").arg(format!("write -q -s {at} {at} {}", content.len()));
            }
            write.arg(to);
            run(&mut write, to)?;
        }
        fs::remove_dir_all(&staged).during("remove", &staged)
    }
}

/// The blocks of `after` that differ from those of `before`.
///
/// A block of zeros where `before` has a hole counts as not written. debugfs leaves holes in files
/// where their content is zero and writes no metadata that is, so nothing is lost by it; and file
/// systems that report whole clusters as data for one written block cannot mislead.
fn written(before: &Path, after: &Path) -> Result<Vec<Written>, BuildError> {
    let (old, new) =
        (File::open(before).during("read", before)?, File::open(after).during("read", after)?);
    let length = new.metadata().during("read", after)?.len();
    let mut extents: Vec<Written> = Vec::new();
    let mut position = 0;
    let (mut was, mut is) = ([0; BLOCK], [0; BLOCK]);
    // SEEK_DATA fails with ENXIO when only a hole is left.
    while let Ok(start) = seek(&new, Extent::Data(position)) {
        position = seek(&new, Extent::Hole(start)).during("read", after)?;
        let first = start - start % BLOCK as u64;
        for at in (first..position.min(length)).step_by(BLOCK) {
            old.read_exact_at(&mut was, at).during("read", before)?;
            new.read_exact_at(&mut is, at).during("read", after)?;
            if was == is {
                continue;
            }
            match extents.last_mut() {
                Some(last)
                    if last.at + last.content.len() as u64 == at
                        && last.content.len() < LONGEST =>
                {
                    last.content.extend_from_slice(&is);
                }
                _ => extents.push(Written { at, content: is.to_vec() }),
            }
        }
    }
    Ok(extents)
}

fn run(command: &mut std::process::Command, on: &Path) -> Result<(), BuildError> {
    let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output();
    let output = output.during("write the layer of", on)?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let message = String::from_utf8_lossy(&said).trim().to_owned();
    Err(io::Error::other(message)).during("write the layer of", on)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_found_in_whole_blocks_and_joined() {
        let dir = tempfile::tempdir().unwrap();
        let (before, after) = (dir.path().join("before"), dir.path().join("after"));
        let make = |path: &Path, pieces: &[(u64, u8, usize)]| {
            let file = File::create(path).unwrap();
            file.set_len(64 << 20).unwrap();
            for (at, byte, length) in pieces {
                file.write_all_at(&vec![*byte; *length], *at).unwrap();
            }
        };
        make(&before, &[(0, 1, 4096), (8192, 2, 8192)]);
        // One byte changed, one block the same, two neighbours in a hole, zeros in a hole.
        make(&after, &[(0, 1, 4096), (8192, 2, 8192), (9000, 3, 1), (20 << 20, 4, 8192)]);
        File::options()
            .write(true)
            .open(&after)
            .unwrap()
            .write_all_at(&[0; 4096], 30 << 20)
            .unwrap();
        let found = written(&before, &after).unwrap();
        let shape: Vec<(u64, usize)> =
            found.iter().map(|extent| (extent.at, extent.content.len())).collect();
        assert_eq!(shape, [(8192, 4096), (20 << 20, 8192)]);
        assert_eq!(found[0].content[9000 - 8192], 3);
        assert_eq!(found[0].content[0], 2);
    }
}
