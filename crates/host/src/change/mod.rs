//! Changing a host and changing it back. What was there is written down first, in a journal that is
//! itself replaced as a whole; so whatever is broken off, at whatever point, `revert` gives back every
//! byte and `apply` goes on.
//!
//! Order of an apply: journal (applying), files and kernel files one by one, commands, journal
//! (applied). Order of a revert: journal (reverting), the same backwards, commands, no journal.

mod apply;
mod error;
mod files;
mod journal;
mod kernel;
mod revert;
mod status;

pub use apply::{Applied, apply};
pub use error::ChangeError;
pub use journal::{Entry, Journal, Phase, Saved, WithJournal};
pub use revert::{Reverted, revert};
pub use status::{Place, Standing, Status, status};

/// Brings changed files into force.
pub trait Activate {
    /// Runs a command on the host that is changed.
    ///
    /// # Errors
    /// What it said.
    fn run(&mut self, command: &[String]) -> Result<(), String>;
}

/// Told before each single thing that is done to the host; a test breaks off here.
pub trait Steps {
    /// What is about to be done.
    fn step(&mut self, what: &str);
}

impl<F: FnMut(&str)> Steps for F {
    fn step(&mut self, what: &str) {
        self(what);
    }
}
