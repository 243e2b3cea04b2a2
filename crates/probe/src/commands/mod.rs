//! The verbs, one file each.

mod cpus;
mod end;
mod log;
mod relay;
mod round_trip;
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
    /// Nothing of the signal came back.
    NothingHeard,
}

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Take part in the graph until SIGTERM or the end of standard input, then print what was seen
    Watch(watch::Arguments),
    /// Send a signal that tells its frames apart, and tell what becomes of it on its way back
    Loop(round_trip::Arguments),
    /// Hand frames on, and drop or repeat some: a planted fault for `loop` to find
    Relay(relay::Arguments),
}

impl Command {
    /// Does it; the result goes to `out`.
    ///
    /// # Errors
    /// What kept the verb from doing its work.
    pub fn run(&self, out: &mut dyn Write) -> Result<Outcome, ProbeError> {
        match self {
            Self::Watch(arguments) => arguments.run(out),
            Self::Loop(arguments) => arguments.run(out),
            Self::Relay(arguments) => arguments.run(out),
        }
    }
}

/// Writes a result on a line of its own. Before the client is closed: closing may wait for a dead
/// server, or for one that mourns a killed client, and whoever has asked us to end may not wait that
/// long.
fn print(out: &mut dyn Write, result: &impl serde::Serialize) -> Result<(), ProbeError> {
    serde_json::to_writer(&mut *out, result)
        .map_err(std::io::Error::from)
        .and_then(|()| writeln!(out))
        .and_then(|()| out.flush())
        .map_err(|source| ProbeError::System { what: "write the result", source })
}
