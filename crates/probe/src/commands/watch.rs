//! `archibald-probe watch`: takes part in the graph and notes what happens, until SIGTERM, SIGINT or
//! the end of standard input; then one JSON document ([`archibald_latency::probe::Watch`]) on standard output.

use std::io::Write;

use super::end::End;
use super::log::Log;
use super::{Outcome, print};
use crate::ProbeError;
use crate::callback::{Through, rings};
use crate::jack::{Client, Library};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The client's name; the server may change it if it is taken
    #[arg(long, default_value = "archibald-probe")]
    name: String,
}

impl Arguments {
    pub(super) fn run(&self, out: &mut dyn Write) -> Result<Outcome, ProbeError> {
        let end = End::new()?;
        let library = Library::open()?;
        let (watcher, xruns, mut seen) = rings();
        let client = Client::open(library, &self.name)?;
        // Best effort: an ordinary user may lock little, and then a page fault may show as lateness.
        let _ = rustix::mm::mlockall(rustix::mm::MlockAllFlags::CURRENT);
        let client = client.activate(watcher, xruns, Box::new(Through))?;
        let mut log = Log::new(&client);
        while !client.is_lost() && !end.has_come()? {
            log.take(&client, &mut seen);
            log.load(&client);
            end.wait(log.next_load_ns)?;
        }
        let lost = client.is_lost();
        log.take(&client, &mut seen);
        let watch = log.finish(lost);
        print(out, &watch)?;
        client.close();
        Ok(if lost { Outcome::ServerLost } else { Outcome::Good })
    }
}
