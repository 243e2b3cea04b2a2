//! `archibald snapshot delete`: a snapshot with the space that it takes.

use archibald_vm::snapshot;

use crate::commands::stop::absent;
use crate::failure::Failure;
use crate::{places, terminal};

/// Delete a snapshot, and give its space back; the machine itself stays as it is.
#[derive(Debug, clap::Args)]
pub(super) struct Delete {
    /// The snapshot.
    snapshot: String,
    /// The machine; the machine file's when left out.
    #[arg(short, long)]
    name: Option<String>,
}

impl Delete {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let instance = places::instance(self.name.as_deref())?;
        if instance.record()?.is_none() {
            return Err(absent(instance.name()));
        }
        let _lock = instance.lock("archibald snapshot delete")?;
        snapshot::delete(&instance, &self.snapshot)?;
        terminal::say(&format!("{}: deleted", self.snapshot));
        Ok(0)
    }
}
