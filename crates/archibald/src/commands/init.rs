//! `archibald init`: a commented machine file in this folder.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;

use archibald_machine::DEFAULT_FILE;

use crate::failure::{Context as _, Exit, Failure};
use crate::places::MACHINE_FILE;
use crate::terminal;

/// Write a commented machine file into this folder.
#[derive(Debug, clap::Args)]
pub(crate) struct Init {
    /// Where to write it.
    #[arg(default_value = MACHINE_FILE)]
    file: PathBuf,
    /// The machine's name; the default file's when left out.
    #[arg(short, long)]
    name: Option<String>,
    /// Replace a file that is there.
    #[arg(long)]
    force: bool,
}

impl Init {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        let mut text = DEFAULT_FILE.to_owned();
        if let Some(name) = &self.name {
            text = text.replacen("name = \"archibald\"", &format!("name = \"{name}\""), 1);
        }
        // A file that this verb writes must be one that `up` reads.
        archibald_machine::Machine::parse(
            &self.file.display().to_string(),
            &text,
            &Default::default(),
        )?;
        let mut options = OpenOptions::new();
        options.write(true);
        if self.force {
            options.create(true).truncate(true)
        } else {
            options.create_new(true)
        };
        let mut file = options.open(&self.file).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                Failure::new(Exit::Use, format!("{} is there already", self.file.display()))
                    .with_remedy("Edit it, or replace it with --force.")
            }
            _ => Failure::new(Exit::Environment, format!("{}: {error}", self.file.display())),
        })?;
        file.write_all(text.as_bytes()).context(self.file.display())?;
        terminal::say(&format!(
            "{} written; `archibald up` makes what it says",
            self.file.display()
        ));
        Ok(0)
    }
}
