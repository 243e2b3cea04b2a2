//! `archibald host status`: what was changed on this host, and whether it is still as it was made.

use std::path::PathBuf;

use archibald_host::Root;
use archibald_host::change::{Phase, Standing, Status as State, status};
use archibald_host::plan::Way;

use super::failure;
use crate::failure::Failure;
use crate::terminal;

/// Show what was changed on this host; exit status 1 when a change is not as it was made.
#[derive(Debug, clap::Args)]
pub(super) struct Status {
    /// Look at the system below this directory instead of the running one.
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// For programs.
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let standing = status(&Root::new(&self.root)).map_err(failure)?;
        if self.json {
            terminal::say_json(&serde_json::json!({ "schema": 1, "standing": standing }));
        } else {
            draw(&standing);
        }
        let whole = match &standing {
            Standing::Untouched | Standing::Gone => true,
            Standing::Changed { phase, places, .. } => {
                *phase == Phase::Applied && places.iter().all(|place| place.status == State::Made)
            }
        };
        Ok(u8::from(!whole))
    }
}

fn draw(standing: &Standing) {
    let (way, phase, places) = match standing {
        Standing::Untouched => return terminal::say("nothing was changed on this host"),
        Standing::Gone => {
            return terminal::say(
                "what was changed is gone with the last boot; `archibald host apply --live` does it again",
            );
        }
        Standing::Changed { way, phase, places } => (way, phase, places),
    };
    let how = match way {
        Way::Boot => "by files, in force from the boot after",
        Way::Live => "until the next boot",
    };
    terminal::say(&match phase {
        Phase::Applied => format!("changed {how}"),
        Phase::Applying => format!(
            "being changed {how}, or broken off: `archibald host apply` goes on, `archibald host revert` takes it back"
        ),
        Phase::Reverting => {
            "being taken back, or broken off: `archibald host revert` goes on".to_owned()
        }
    });
    let rows = places
        .iter()
        .map(|place| vec![place.status.word().to_owned(), place.path.clone()])
        .collect();
    terminal::say(&terminal::table(&[], rows));
}
