//! `archibald keep`: the process that keeps a QEMU; started by `up`, never by hand.

use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use archibald_vm::keeper;

use crate::failure::{Context as _, Exit, Failure};
use crate::places;

/// Keep a machine's QEMU (started by `up`).
#[derive(Debug, clap::Args)]
pub(crate) struct Keep {
    /// The instance.
    name: String,
    /// QEMU and its arguments.
    #[arg(last = true, required = true)]
    qemu: Vec<OsString>,
}

impl Keep {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        let stop = Arc::new(AtomicBool::new(false));
        for signal in
            [signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP, signal_hook::consts::SIGINT]
        {
            signal_hook::flag::register(signal, Arc::clone(&stop)).context("signal handler")?;
        }
        let instance = places::instance(Some(&self.name))?;
        let Some((qemu, arguments)) = self.qemu.split_first() else {
            return Err(Failure::new(Exit::Use, "no QEMU given"));
        };
        keeper::keep(&instance, qemu, arguments, &stop).context("keeper")?;
        Ok(0)
    }
}
