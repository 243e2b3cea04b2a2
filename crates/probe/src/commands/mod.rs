//! The verbs, one file each.

mod watch;

use std::io::Write;

use crate::ProbeError;

/// How a verb ended that could do its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It ran to the end that it was told.
    Good,
    /// The server went away before; what was seen until then has been written.
    ServerLost,
}

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Take part in the graph until SIGTERM or the end of standard input, then print what was seen
    Watch(watch::Arguments),
}

impl Command {
    /// Does it; the result goes to `out`.
    ///
    /// # Errors
    /// What kept the verb from doing its work.
    pub fn run(&self, out: &mut dyn Write) -> Result<Outcome, ProbeError> {
        match self {
            Self::Watch(arguments) => arguments.run(out),
        }
    }
}
