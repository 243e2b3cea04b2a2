//! `archibald delete`: the machine with everything that it left on the host.

use std::time::Duration;

use archibald_vm::instance::Status;
use archibald_vm::launch;

use super::stop::absent;
use crate::borrowed;
use crate::failure::{Exit, Failure};
use crate::{places, terminal};

/// Delete a machine with its disk; images stay in the cache.
#[derive(Debug, clap::Args)]
pub(crate) struct Delete {
    /// The machine; the machine file's when left out.
    name: Option<String>,
    /// Also when it runs: it is ended without a shutdown.
    #[arg(short, long)]
    force: bool,
}

impl Delete {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        let instance = places::instance(self.name.as_deref())?;
        let name = instance.name();
        // A damaged record or a start that was killed must be deletable too.
        if !instance.directory().exists() {
            return Err(absent(name));
        }
        let _lock = instance.lock("archibald delete")?;
        if matches!(instance.status(), Ok(Status::Running { .. })) {
            if !self.force {
                return Err(Failure::new(Exit::Use, format!("\"{name}\" is running"))
                    .with_remedy(format!("`archibald stop {name}` first, or --force.")));
            }
            launch::stop(&instance, Duration::ZERO)?;
        }
        borrowed::mend(&instance)?;
        instance.remove()?;
        terminal::say(&format!("{name}: deleted"));
        Ok(0)
    }
}
