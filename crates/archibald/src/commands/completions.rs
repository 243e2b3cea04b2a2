//! `archibald completions`: what a shell needs to complete our words.

use crate::failure::Failure;

/// Print completions for a shell.
#[derive(Debug, clap::Args)]
pub(crate) struct Completions {
    /// The shell.
    shell: clap_complete::Shell,
}

impl Completions {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        clap_complete::generate(
            self.shell,
            &mut crate::cli::command(),
            "archibald",
            &mut std::io::stdout(),
        );
        Ok(0)
    }
}
