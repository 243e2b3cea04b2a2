//! `archibald host apply`: the changes of a plan, written down so that they can be taken back.

use archibald_host::change::apply;
use archibald_host::plan::Way;

use super::{About, Commands, failure, plan};
use crate::failure::Failure;
use crate::terminal;

/// Make the changes that `plan` shows. A second time it does nothing, or what was left of it; after a
/// change of the machine file it takes the former changes back first.
#[derive(Debug, clap::Args)]
pub(super) struct Apply {
    #[command(flatten)]
    about: About,
    /// For programs.
    #[arg(long)]
    json: bool,
}

impl Apply {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let planned = self.about.plan()?;
        if planned.plan.is_empty() {
            plan::draw(&planned);
            return Ok(0);
        }
        let mut commands = Commands { root: planned.root.directory() };
        let applied = apply(&planned.root, &planned.plan, &mut commands, &mut |_: &str| {})
            .map_err(failure)?;
        if self.json {
            terminal::say_json(&serde_json::json!({
                "schema": 1, "way": planned.plan.way, "changed": applied.changed,
                "refused": applied.refused,
            }));
            return Ok(0);
        }
        if applied.changed.is_empty() {
            terminal::say("all is in place already");
        }
        for path in &applied.changed {
            terminal::say(&format!("changed {path}"));
        }
        for path in &applied.refused {
            terminal::say(&format!("{path}: the kernel keeps it where it is"));
        }
        for note in &planned.plan.notes {
            terminal::say(&format!("note: {note}"));
        }
        if planned.plan.way == Way::Boot && !applied.changed.is_empty() {
            terminal::say("In force after a reboot; `archibald doctor` then reads it back.");
        }
        terminal::say("`archibald host revert` takes it back.");
        Ok(0)
    }
}
