//! `archibald host revert`: every byte as it was.

use std::path::PathBuf;

use archibald_host::Root;
use archibald_host::change::revert;

use super::{Commands, failure};
use crate::failure::Failure;
use crate::terminal;

/// Take back what `apply` changed: files get their bytes and permissions back, or go.
#[derive(Debug, clap::Args)]
pub(super) struct Revert {
    /// Change the system below this directory instead of the running one.
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Take back also what somebody else has edited since; their edits are lost.
    #[arg(long)]
    force: bool,
    /// For programs.
    #[arg(long)]
    json: bool,
}

impl Revert {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let root = Root::new(&self.root);
        let mut commands = Commands { root: &self.root };
        let reverted =
            revert(&root, self.force, &mut commands, &mut |_: &str| {}).map_err(failure)?;
        if self.json {
            terminal::say_json(&serde_json::json!({
                "schema": 1, "restored": reverted.restored, "left": reverted.left,
            }));
            return Ok(0);
        }
        if reverted.restored.is_empty() {
            terminal::say("there was nothing to take back");
        }
        for path in &reverted.restored {
            terminal::say(&format!("as it was: {path}"));
        }
        for path in &reverted.left {
            terminal::say(&format!("{path}: set by somebody else since, and left alone"));
        }
        Ok(0)
    }
}
