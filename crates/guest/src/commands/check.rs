//! `archibald-guest check`: the list of what must hold, for the host as JSON, for a person as lines.

use std::io::Write;

use super::Outcome;
use crate::check::check;
use crate::run::Programs;
use crate::{GuestError, Root, read_settings};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Write the rows as JSON
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(super) fn run(&self, out: &mut dyn Write) -> Result<Outcome, GuestError> {
        if !rustix::process::geteuid().is_root() {
            return Err(GuestError::NotRoot);
        }
        let root = Root::default();
        let report = check(&root, &read_settings(&root)?, &Programs);
        match self.json {
            true => report.write_json(out)?,
            false => report.write_lines(out)?,
        }
        Ok(if report.failed == 0 { Outcome::Good } else { Outcome::Failed })
    }
}
