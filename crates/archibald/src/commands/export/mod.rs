//! `archibald export`: the machine in the words of another program. Here lives what is remembered of
//! an export, so that the image below its disk stays in the cache.

mod libvirt;

use std::fs;
use std::path::{Path, PathBuf};

use archibald_vm::instance::InstanceError;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::places;

/// Hand the machine over to another program.
#[derive(Debug, clap::Args)]
pub(crate) struct Export {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Libvirt(libvirt::Libvirt),
}

impl Export {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        match self.verb {
            Verb::Libvirt(verb) => verb.run(),
        }
    }
}

/// What is remembered of an export.
#[derive(Debug, Serialize, Deserialize)]
struct Exported {
    /// Its folder.
    folder: PathBuf,
    /// The image that its disk stands on.
    image: String,
}

/// The disk in an export's folder.
const DISK: &str = "disk.qcow2";

/// Beside the instances, and none of them.
fn records() -> PathBuf {
    places::directories().state.join(".exports")
}

/// Every export whose disk is still there; what is remembered of the others goes.
fn all() -> Vec<(PathBuf, Exported)> {
    let files = fs::read_dir(records()).into_iter().flatten().flatten();
    let read = |path: PathBuf| {
        let export: Exported = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
        if export.folder.join(DISK).exists() {
            return Some((path, export));
        }
        let _ = fs::remove_file(path);
        None
    };
    files.map(|file| file.path()).filter_map(read).collect()
}

/// The images that the disks of exports stand on.
pub(crate) fn images_in_use() -> Vec<String> {
    all().into_iter().map(|(_, export)| export.image).collect()
}

/// The image that the disk in this folder stands on, as remembered.
fn image_of(folder: &Path) -> Option<String> {
    all().into_iter().find(|(_, export)| export.folder == folder).map(|(_, export)| export.image)
}

fn remember(folder: &Path, image: &str) -> Result<(), Failure> {
    let places = all();
    let known = places.iter().find(|(_, export)| export.folder == folder);
    let free = || (0..).map(|number| records().join(number.to_string())).find(|p| !p.exists());
    let path = known.map(|(path, _)| path.clone()).or_else(free).unwrap_or_else(records);
    let export = Exported { folder: folder.to_owned(), image: image.to_owned() };
    let partial = path.with_extension("partial");
    let failed = |source| Failure::from(InstanceError::File { path: path.clone(), source });
    fs::create_dir_all(records()).map_err(failed)?;
    fs::write(&partial, serde_json::to_vec(&export).unwrap_or_default()).map_err(failed)?;
    fs::rename(&partial, &path).map_err(failed)
}
