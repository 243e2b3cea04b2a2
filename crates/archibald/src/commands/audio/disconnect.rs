//! `archibald audio disconnect`: what connect made is taken away, on the host and in the machine.

use super::{By, Host};
use crate::commands::exec::Remote;
use crate::commands::stop::absent;
use crate::failure::Failure;
use crate::{places, terminal};

/// Take away what connect made, and nothing else; the machine need not run.
#[derive(Debug, clap::Args)]
pub(super) struct Disconnect {
    /// The machine; the machine file's when left out.
    name: Option<String>,
    /// Which way, where this host has both servers.
    #[arg(long, value_enum)]
    by: Option<By>,
}

impl Disconnect {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let instance = places::instance(self.name.as_deref())?;
        let name = instance.name();
        if instance.record()?.is_none() {
            return Err(absent(name));
        }
        let was = match Host::find(self.by)? {
            Host::Pulse(server) => server.disconnect(name)? > 0,
            Host::Jack(server) => {
                // A machine that does not run has no end of it.
                let remote = Remote::of(Some(name), None).ok();
                server.disconnect(name, remote.as_ref())?
            }
        };
        let word = if was { "disconnected" } else { "was not connected" };
        terminal::say(&format!("{name}: {word}"));
        Ok(0)
    }
}
