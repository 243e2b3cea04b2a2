//! `archibald restart`: stop, then up with the machine file as it is now.

use super::stop::Stop;
use super::up::Up;
use crate::failure::Failure;

/// Stop the machine and bring it up again, with the machine file as it is now.
#[derive(Debug, clap::Args)]
pub(crate) struct Restart {
    #[command(flatten)]
    up: Up,
}

impl Restart {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        for name in self.up.instance_names()? {
            Stop::of(name).run()?;
        }
        self.up.run()
    }
}
