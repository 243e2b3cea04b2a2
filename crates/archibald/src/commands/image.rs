//! `archibald image`: the images in the cache.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use archibald_image::{Cancel, Format, OpenError, RemoveError, export};
use archibald_machine::units::Bytes;

use super::build::{cache, called_off, tools};
use crate::failure::{Exit, Failure};
use crate::terminal::Steps;
use crate::{places, terminal};

/// List, remove, inspect and export images.
#[derive(Debug, clap::Args)]
pub(crate) struct Image {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List the images.
    Ls {
        /// For programs.
        #[arg(long)]
        json: bool,
    },
    /// Remove images that no machine stands on.
    Rm {
        /// Images, by the beginning of their name.
        #[arg(required_unless_present = "unused")]
        images: Vec<String>,
        /// Every image that no machine stands on.
        #[arg(long, conflicts_with = "images")]
        unused: bool,
    },
    /// Show an image's manifest: every package with version and checksum, kernel, files.
    Inspect {
        /// The image, by the beginning of its name.
        image: String,
    },
    /// Write an image's disk to a file.
    Export {
        /// The image, by the beginning of its name.
        image: String,
        /// The file.
        to: PathBuf,
        /// Its format.
        #[arg(long, value_enum, default_value_t = ExportFormat::Qcow2)]
        format: ExportFormat,
    },
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum ExportFormat {
    Qcow2,
    Raw,
}

impl Image {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        match self.verb {
            Verb::Ls { json } => ls(json),
            Verb::Rm { images, unused } => rm(images, unused),
            Verb::Inspect { image } => {
                let image = open(&image, &Cancel::new())?;
                terminal::say_json(image.manifest());
                Ok(0)
            }
            Verb::Export { image, to, format } => {
                let cancel = called_off()?;
                let image = open(&image, &cancel)?;
                let format = match format {
                    ExportFormat::Qcow2 => Format::Qcow2,
                    ExportFormat::Raw => Format::Raw,
                };
                export(&image, format, &to, &tools(), &cancel)
                    .map_err(|error| Failure::new(Exit::Environment, error))?;
                terminal::say(&format!("{} written", to.display()));
                Ok(0)
            }
        }
    }
}

/// An image by the beginning of its name, its checksums compared.
fn open(id: &str, cancel: &Cancel) -> Result<archibald_image::Image, Failure> {
    cache()?.inspect(id, &Steps::new(false), cancel).map_err(open_failure)
}

fn open_failure(error: OpenError) -> Failure {
    let exit = match error {
        OpenError::Unknown { .. } | OpenError::Ambiguous { .. } => Exit::Use,
        OpenError::Cancelled => Exit::Interrupted,
        _ => Exit::Environment,
    };
    Failure::new(exit, error)
}

/// The images that machines stand on.
pub(super) fn in_use() -> Result<BTreeSet<String>, Failure> {
    let mut images = BTreeSet::new();
    for instance in places::directories().instances()? {
        images.extend(instance.record()?.map(|record| record.image));
    }
    images.extend(super::export::images_in_use());
    Ok(images)
}

fn ls(json: bool) -> Result<u8, Failure> {
    let images = cache()?.list().map_err(|error| Failure::new(Exit::Environment, error))?;
    let used = in_use()?;
    let bytes = |image: &archibald_image::Image| {
        image.manifest().artifacts.values().map(|artifact| artifact.bytes).sum::<u64>()
    };
    if json {
        let rows: Vec<_> = images
            .iter()
            .map(|image| {
                let manifest = image.manifest();
                serde_json::json!({
                    "id": image.id(), "kernel": manifest.kernel, "built": manifest.built,
                    "packages": manifest.packages.len(), "bytes": bytes(image),
                    "in-use": used.contains(image.id()),
                })
            })
            .collect();
        terminal::say_json(&serde_json::json!({ "schema": 1, "images": rows }));
        return Ok(0);
    }
    if images.is_empty() {
        terminal::say("no images; `archibald build` makes one");
        return Ok(0);
    }
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let rows = images
        .iter()
        .map(|image| {
            let manifest = image.manifest();
            vec![
                image.id().chars().take(12).collect(),
                manifest.kernel.clone().unwrap_or_default(),
                manifest.packages.len().to_string(),
                Bytes(bytes(image)).to_string(),
                ago(now.saturating_sub(Duration::from_secs(manifest.built))),
                if used.contains(image.id()) { "yes" } else { "no" }.to_owned(),
            ]
        })
        .collect();
    let header = ["IMAGE", "KERNEL", "PACKAGES", "SIZE", "BUILT", "IN USE"];
    terminal::say(&terminal::table(&header, rows));
    Ok(0)
}

fn ago(age: Duration) -> String {
    match age.as_secs() {
        seconds if seconds < 120 => format!("{seconds} s ago"),
        seconds if seconds < 7200 => format!("{} min ago", seconds / 60),
        seconds if seconds < 172_800 => format!("{} h ago", seconds / 3600),
        seconds => format!("{} days ago", seconds / 86_400),
    }
}

fn rm(images: Vec<String>, unused: bool) -> Result<u8, Failure> {
    let (cache, used) = (cache()?, in_use()?);
    let images = if unused {
        let all = cache.list().map_err(|error| Failure::new(Exit::Environment, error))?;
        all.iter().map(|i| i.id().to_owned()).filter(|id| !used.contains(id)).collect()
    } else {
        images
    };
    for id in images {
        let freed = cache.remove(&id, &used).map_err(|error| match error {
            RemoveError::Open(error) => open_failure(error),
            RemoveError::InUse { .. } => Failure::new(Exit::Use, error),
            _ => Failure::new(Exit::Environment, error),
        })?;
        terminal::say(&format!("{id}: removed, {} freed", Bytes(freed)));
    }
    Ok(0)
}
