//! `archibald snapshot guard`: lets a machine go on whose save was killed; started by `save`, never by
//! hand.

use archibald_vm::snapshot;

use crate::failure::Failure;
use crate::places;

/// Let a machine go on whose save was killed (started by `save`).
#[derive(Debug, clap::Args)]
pub(super) struct Guard {
    /// The instance.
    name: String,
}

impl Guard {
    pub(super) fn run(self) -> Result<u8, Failure> {
        snapshot::guard(&places::instance(Some(&self.name))?);
        Ok(0)
    }
}
