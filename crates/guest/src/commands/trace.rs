//! `archibald-guest trace`: records the kernel's events around an audio graph into a folder.

use std::path::PathBuf;
use std::time::Duration;

use archibald_trace::capture::Role;

use super::Outcome;
use crate::trace::{Options, Recorder};
use crate::{GuestError, Root};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where the capture goes
    folder: PathBuf,
    /// How long to record, in milliseconds
    #[arg(long = "for", value_name = "MS", default_value_t = 2000)]
    length: u64,
    /// Process of the audio server
    #[arg(long, value_name = "PID")]
    server: u32,
    /// Process of the program on trial; may be given more than once
    #[arg(long, value_name = "PID")]
    program: Vec<u32>,
    /// Process of the probe
    #[arg(long, value_name = "PID")]
    probe: Option<u32>,
}

impl Arguments {
    pub(super) fn run(&self) -> Result<Outcome, GuestError> {
        if !rustix::process::geteuid().is_root() {
            return Err(GuestError::NotRoot);
        }
        let mut graph = vec![(Role::Server, self.server)];
        graph.extend(self.program.iter().map(|pid| (Role::Program, *pid)));
        graph.extend(self.probe.map(|pid| (Role::Probe, pid)));
        let mut recorder = Recorder::prepare(&Root::default(), &Options::default())?;
        recorder.begin(&graph)?;
        std::thread::sleep(Duration::from_millis(self.length));
        recorder.end(&self.folder)?;
        Ok(Outcome::Good)
    }
}
