//! `archibald keep`: the process that keeps a QEMU; started by `up`, never by hand.

use std::ffi::OsString;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use archibald_machine::units::Forward;
use archibald_vm::keeper;
use archibald_vm::relay::Relay;

use crate::borrowed;
use crate::failure::{Context as _, Exit, Failure};
use crate::places;

/// Keep a machine's QEMU (started by `up`).
#[derive(Debug, clap::Args)]
pub(crate) struct Keep {
    /// The instance.
    name: String,
    /// A range of ports that the keeper forwards.
    #[arg(long)]
    relay: Vec<Forward>,
    /// Ports that QEMU forwards itself.
    #[arg(long)]
    except: Vec<u16>,
    /// The address on which the forwarded ports listen.
    #[arg(long)]
    bind: IpAddr,
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
        // As long as the machine runs, nobody's `prune` takes its image away, and nobody's need know of it.
        let record = instance.record()?;
        let image = record.as_ref().and_then(|record| record.boot.disk.parent());
        let _held = image.and_then(|dir| archibald_image::Hold::of(dir).ok());
        let Some((qemu, arguments)) = self.qemu.split_first() else {
            return Err(Failure::new(Exit::Use, "no QEMU given"));
        };
        keeper::raise_file_limit();
        let kept = Relay::listen(self.bind, &self.relay, &self.except)
            .map_err(|error| error.to_string())
            .and_then(|relay| {
                let mut at_end = || borrowed::give_back_quietly(&instance);
                keeper::keep(&instance, qemu, arguments, relay, &mut at_end, &stop)
                    .map_err(|e| e.to_string())
            });
        // Nobody reads a keeper's standard error; `up` reads this file.
        kept.or_else(|error| instance.write("exit", error.as_bytes(), 0o644))?;
        Ok(0)
    }
}
