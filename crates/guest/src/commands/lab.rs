//! `archibald-guest lab`: the guest's side of an experiment in virtual time. Started by the unit that
//! the lab's own initrd brings along; an ordinary machine has no such unit.

use super::Outcome;
use crate::{GuestError, lab};

#[derive(Debug, clap::Args)]
pub struct Arguments {}

impl Arguments {
    pub(super) fn run(&self) -> Result<Outcome, GuestError> {
        lab::run()?;
        Ok(Outcome::Good)
    }
}
