//! `archibald snapshot restore`: the machine as it was, running.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use archibald_vm::instance::Status;
use archibald_vm::launch;

use crate::borrowed;
use crate::commands::up::Up;
use crate::failure::{Exit, Failure};
use crate::{places, terminal};

/// Bring the machine back to a snapshot: it runs as it did then, and what was done since is lost.
#[derive(Debug, clap::Args)]
pub(super) struct Restore {
    /// The snapshot.
    snapshot: String,
    /// The machine file; ./archibald.toml or the default one when left out.
    #[arg(short, long)]
    file: Option<PathBuf>,
    /// Also when the machine runs: it is ended without a shutdown.
    #[arg(long)]
    force: bool,
    /// No progress.
    #[arg(short, long)]
    quiet: bool,
}

impl Restore {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let begun = Instant::now();
        let name = places::machine_file(self.file.as_deref())?.machine.name;
        let up = Up::to_snapshot(self.file, self.snapshot.clone(), self.quiet);
        let instance = places::directories().instance(&name);
        if matches!(instance.status()?, Status::Running { .. }) {
            if !self.force {
                let message =
                    format!("\"{name}\" is running, and would lose what it has done since");
                return Err(Failure::new(Exit::Use, message).with_remedy(format!(
                    "`archibald stop {name}` first, or --force to end it at once."
                )));
            }
            // Nothing is ended for a snapshot that cannot be restored.
            up.fits()?;
            let _lock = instance.lock("archibald snapshot restore")?;
            launch::stop(&instance, Duration::ZERO)?;
            borrowed::mend(&instance)?;
        }
        up.run()?;
        terminal::say(&format!(
            "{name}: runs again as in \"{}\", after {:.1} s",
            self.snapshot,
            begun.elapsed().as_secs_f64()
        ));
        Ok(0)
    }
}
