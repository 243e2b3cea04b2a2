//! `archibald-guest trace`: records the kernel's events around an audio graph into a folder.

use std::io::{BufRead as _, Write};
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
    /// Record until a line or the end comes on standard input, and so many milliseconds longer, instead of
    /// for a time; what is older than the rings are long is gone then
    #[arg(long, value_name = "MS", conflicts_with = "length")]
    until_news: Option<u64>,
    /// After the news, leave the tracepoints as they are until the line `end` or the end comes
    #[arg(long, requires = "until_news")]
    hold: bool,
    /// MiB of each CPU's ring for scheduling; half as much goes to what the graph's threads call
    #[arg(long, value_name = "MIB")]
    ring: Option<u32>,
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
    pub(super) fn run(&self, out: &mut dyn Write) -> Result<Outcome, GuestError> {
        if !rustix::process::geteuid().is_root() {
            return Err(GuestError::NotRoot);
        }
        let mut graph = vec![(Role::Server, self.server)];
        graph.extend(self.program.iter().map(|pid| (Role::Program, *pid)));
        graph.extend(self.probe.map(|pid| (Role::Probe, pid)));
        let mut options = Options::default();
        if let Some(mib) = self.ring {
            options.sched_kib = mib.saturating_mul(1024);
            options.calls_kib = mib.saturating_mul(512);
        }
        let mut recorder = Recorder::prepare(&Root::default(), &options)?;
        recorder.begin(&graph)?;
        writeln!(out, "recording")?;
        out.flush()?;
        match self.until_news {
            None => std::thread::sleep(Duration::from_millis(self.length)),
            Some(after) => {
                let mut lines = std::io::stdin().lock().lines();
                let mut line = lines.next().transpose()?;
                std::thread::sleep(Duration::from_millis(after));
                recorder.pause()?;
                while self.hold && line.is_some_and(|line| line != "end") {
                    line = lines.next().transpose()?;
                }
            }
        }
        recorder.end(&self.folder)?;
        Ok(Outcome::Good)
    }
}
