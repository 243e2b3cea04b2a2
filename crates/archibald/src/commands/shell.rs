//! `archibald shell`: a login shell in the machine.

use super::exec::Remote;
use crate::failure::Failure;

/// Open a shell in the machine.
#[derive(Debug, clap::Args)]
pub(crate) struct Shell {
    /// The machine; the machine file's when left out.
    name: Option<String>,
    /// As this user; the machine's first one when left out.
    #[arg(short, long)]
    user: Option<String>,
}

impl Shell {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        let remote = Remote::of(self.name.as_deref(), self.user.as_deref())?;
        remote.ssh(&["-t"], &[])
    }
}
