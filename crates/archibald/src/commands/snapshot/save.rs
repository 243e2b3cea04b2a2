//! `archibald snapshot save`: the running machine, memory and disk of one moment.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use archibald_machine::units::Bytes;
use archibald_vm::instance::Status;
use archibald_vm::snapshot;

use crate::commands::build::called_off_by;
use crate::commands::stop::{absent, not_running};
use crate::failure::Failure;
use crate::{places, terminal};

/// Save the running machine; it pauses for a moment and goes on.
#[derive(Debug, clap::Args)]
pub(super) struct Save {
    /// What to call the snapshot.
    snapshot: String,
    /// The machine; the machine file's when left out.
    #[arg(short, long)]
    name: Option<String>,
    /// Replace the one that has this name.
    #[arg(short, long)]
    force: bool,
}

impl Save {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let instance = places::instance(self.name.as_deref())?;
        if instance.record()?.is_none() {
            return Err(absent(instance.name()));
        }
        snapshot::check_name(&self.snapshot)?;
        let flag = Arc::new(AtomicBool::new(false));
        called_off_by(&flag)?;
        let _lock = instance.lock("archibald snapshot save")?;
        if !matches!(instance.status()?, Status::Running { .. }) {
            return Err(not_running(instance.name()));
        }
        let mut guard = Command::new(places::this_program()?);
        guard.args(["snapshot", "guard", instance.name()]);
        let begun = Instant::now();
        let made = snapshot::save(&instance, &self.snapshot, self.force, &mut guard, &flag)?;
        terminal::say(&format!(
            "{}: saved in {:.1} s, {}",
            made.name,
            begun.elapsed().as_secs_f64(),
            Bytes(made.size())
        ));
        Ok(0)
    }
}
