//! `archibald man`: one page for the program and one for each verb.

use std::path::PathBuf;

use crate::failure::{Context as _, Failure};
use crate::terminal;

/// Write the man pages into a folder.
#[derive(Debug, clap::Args)]
pub(crate) struct Man {
    /// The folder; made when it is not there.
    #[arg(default_value = "man1")]
    folder: PathBuf,
}

impl Man {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        std::fs::create_dir_all(&self.folder).context(self.folder.display())?;
        clap_mangen::generate_to(crate::cli::command(), &self.folder)
            .context(self.folder.display())?;
        terminal::say(&format!(
            "{}: written; read with `man -l {0}/archibald.1`",
            self.folder.display()
        ));
        Ok(0)
    }
}
