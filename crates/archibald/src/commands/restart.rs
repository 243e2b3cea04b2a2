//! `archibald restart`: stop, then up with the machine file as it is now.

use super::stop::Stop;
use super::up::Up;
use crate::failure::Failure;
use crate::places;

/// Stop the machine and bring it up again, with the machine file as it is now.
#[derive(Debug, clap::Args)]
pub(crate) struct Restart {
    #[command(flatten)]
    up: Up,
}

impl Restart {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        let names = self.up.instance_names()?;
        for name in &names {
            // Of several nodes some may not be there yet.
            if names.len() == 1 || places::directories().instance(name).record()?.is_some() {
                Stop::of(name.clone()).run()?;
            }
        }
        self.up.run()
    }
}
