//! The verbs, one file each.

mod check;
mod echo;
mod exec;
mod generate;
mod lab;
mod ready;
mod record;
mod resumed;
mod scan;
mod setup;
mod threads;
mod trace;

use std::io::Write;

pub(crate) use setup::set_up;

use crate::GuestError;

/// How a verb ended that could do its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All good.
    Good,
    /// A check failed, or a part of the machine did.
    Failed,
}

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Turn the generic image into this machine; runs early in every boot
    Setup(setup::Arguments),
    /// Make the units whose values depend on the settings; called by systemd as a generator
    #[command(hide = true)]
    Generate(generate::Arguments),
    /// Tell the host how far the boot is, and when the machine is ready
    Ready(ready::Arguments),
    /// Set the clock of a machine that goes on from a snapshot; started by udev
    #[command(hide = true)]
    Resumed(resumed::Arguments),
    /// Record the graph into the store, as a value that grows
    Record(record::Arguments),
    /// Do one experiment of the virtual-time lab; runs only in a machine booted for it
    #[command(hide = true)]
    Lab(lab::Arguments),
    /// Check everything that must hold in this machine
    Check(check::Arguments),
    /// Show what rtcqs and realtimeconfigquickscan would say of this machine
    Scan(scan::Arguments),
    /// List the threads by policy and priority, and warn where the wrong one goes first
    Threads(threads::Arguments),
    /// Run a program with real-time priority, on given CPUs, with its memory locked
    Exec(exec::Arguments),
    /// Send back whatever comes, until standard input ends
    Echo(echo::Arguments),
    /// Record the kernel's events around an audio graph into a folder
    Trace(trace::Arguments),
}

impl Command {
    /// Does it; reports go to `out`.
    ///
    /// # Errors
    /// What kept the verb from doing its work.
    pub fn run(&self, out: &mut dyn Write) -> Result<Outcome, GuestError> {
        match self {
            Self::Setup(arguments) => arguments.run(),
            Self::Generate(arguments) => arguments.run(),
            Self::Ready(arguments) => arguments.run(),
            Self::Resumed(arguments) => arguments.run(),
            Self::Record(arguments) => arguments.run(out),
            Self::Lab(arguments) => arguments.run(),
            Self::Check(arguments) => arguments.run(out),
            Self::Scan(arguments) => arguments.run(out),
            Self::Threads(arguments) => arguments.run(out),
            Self::Exec(arguments) => arguments.run(),
            Self::Echo(arguments) => arguments.run(out),
            Self::Trace(arguments) => arguments.run(out),
        }
    }
}
