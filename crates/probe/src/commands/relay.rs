//! `archibald-probe relay`: a link of a chain with planted faults, until SIGTERM, SIGINT or the end of
//! standard input.

use std::io::Write;

use serde::Serialize;

use super::end::End;
use super::{Outcome, print};
use crate::ProbeError;
use crate::callback::{now_ns, rings};
use crate::jack::{Client, Library};
use crate::relay::{Done, Fault, relay};

/// How often the rings are emptied.
const STEP_NS: u64 = 50_000_000;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The client's name; the server may change it if it is taken
    #[arg(long, default_value = "archibald-relay")]
    name: String,
    /// drop:FRAMES@AFTER or repeat:FRAMES@AFTER, AFTER being how many frames have been handed on
    #[arg(long = "fault", value_name = "FAULT")]
    faults: Vec<Fault>,
}

/// What the relay did.
#[derive(Serialize)]
struct Report {
    schema: &'static str,
    done: Vec<Done>,
}

impl Arguments {
    pub(super) fn run(&self, out: &mut dyn Write) -> Result<Outcome, ProbeError> {
        let end = End::new()?;
        let (work, mut told) = relay(self.faults.clone()).map_err(ProbeError::Words)?;
        let library = Library::open()?;
        let (watcher, xruns, mut seen) = rings();
        let client = Client::open(library, &self.name)?;
        let _ = rustix::mm::mlockall(rustix::mm::MlockAllFlags::CURRENT);
        let client = client.activate(watcher, xruns, Box::new(work))?;
        let mut done = Vec::new();
        while !client.is_lost() && !end.has_come()? {
            // Nobody wants these.
            seen.periods().for_each(drop);
            seen.xruns().for_each(drop);
            done.extend(std::iter::from_fn(|| told.pop().ok()));
            end.wait(now_ns() + STEP_NS)?;
        }
        done.extend(std::iter::from_fn(|| told.pop().ok()));
        print(out, &Report { schema: "archibald.relay/1", done })?;
        let lost = client.is_lost();
        client.close();
        Ok(if lost { Outcome::ServerLost } else { Outcome::Good })
    }
}
