//! `archibald lab init`: a commented scenario in this folder.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;

use archibald_lab::scenario::EXAMPLE;

use crate::failure::{Context as _, Exit, Failure};
use crate::terminal;

/// The scenario's name in a folder.
pub(super) const SCENARIO_FILE: &str = "lab.toml";

/// Write a commented scenario into this folder.
#[derive(Debug, clap::Args)]
pub(crate) struct Init {
    /// Where to write it.
    #[arg(default_value = SCENARIO_FILE)]
    file: PathBuf,
    /// Replace a file that is there.
    #[arg(long)]
    force: bool,
}

impl Init {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        let mut options = OpenOptions::new();
        options.write(true);
        if self.force {
            options.create(true).truncate(true)
        } else {
            options.create_new(true)
        };
        let name = self.file.display();
        let mut file = options.open(&self.file).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                Failure::new(Exit::Use, format!("{name} is there already"))
                    .with_remedy("Edit it, or replace it with --force.")
            }
            _ => Failure::new(Exit::Environment, format!("{name}: {error}")),
        })?;
        file.write_all(EXAMPLE.as_bytes()).context(&name)?;
        terminal::say(&format!("{name} written; `archibald lab run` runs it"));
        Ok(0)
    }
}
