//! `archibald stop`: the power button, then the plug.

use std::time::Duration;

use archibald_vm::instance::Status;
use archibald_vm::launch::{self, Stopped};

use crate::borrowed;
use crate::failure::{Exit, Failure};
use crate::{places, terminal};

/// Shut a machine down.
#[derive(Debug, clap::Args)]
pub(crate) struct Stop {
    /// The machine; the machine file's when left out.
    name: Option<String>,
    /// End it at once, like pulling the plug.
    #[arg(long)]
    force: bool,
    /// Seconds that the shutdown may take before it is forced.
    #[arg(long, default_value_t = 90)]
    timeout: u64,
}

impl Stop {
    /// A clean stop of this machine.
    pub(crate) fn of(name: String) -> Self {
        Self { name: Some(name), force: false, timeout: 90 }
    }

    pub(crate) fn run(self) -> Result<u8, Failure> {
        let instance = places::instance(self.name.as_deref())?;
        let name = instance.name();
        if instance.status()? == Status::Absent {
            return Err(absent(name));
        }
        let _lock = instance.lock("archibald stop")?;
        let patience = if self.force { 0 } else { self.timeout };
        match launch::stop(&instance, Duration::from_secs(patience))? {
            Stopped::Cleanly => terminal::say(&format!("{name}: stopped")),
            Stopped::Forced => terminal::say(&format!("{name}: ended by force")),
            Stopped::AlreadyDown => terminal::say(&format!("{name}: was not running")),
        }
        borrowed::mend(&instance)?;
        Ok(0)
    }
}

/// The failure of every verb that needs an instance which is not there.
pub(crate) fn absent(name: &str) -> Failure {
    Failure::new(Exit::Use, format!("there is no machine \"{name}\""))
        .with_remedy("`archibald ls` lists the machines, `archibald up` makes one.")
}

/// The failure of every verb that needs a running machine.
pub(crate) fn not_running(name: &str) -> Failure {
    Failure::new(Exit::Failed, format!("\"{name}\" is not running"))
        .with_remedy("`archibald up` starts it.")
}
