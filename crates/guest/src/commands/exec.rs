//! `archibald-guest exec`: a program with real-time priority whose memory stays locked.

use std::ffi::OsString;

use archibald_machine::units::{CpuSet, RtPriority};

use super::Outcome;
use crate::real_time::RealTime;
use crate::{GuestError, Root};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "The program keeps this process's number. What it starts in its turn inherits priority and CPUs, but no locked memory."
)]
pub struct Arguments {
    /// SCHED_FIFO priority, 1 to 97; the graph itself runs at the machine file's audio-priority
    #[arg(long, default_value = "80", value_parser = priority)]
    priority: RtPriority,
    /// CPUs such as "1" or "2-3"; the isolated ones when left out
    #[arg(long)]
    cpus: Option<CpuSet>,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

fn priority(text: &str) -> Result<RtPriority, String> {
    let number: u8 = text.parse().map_err(|_| "a number from 1 to 97".to_owned())?;
    RtPriority::try_from(number).map_err(|error| error.to_string())
}

impl Arguments {
    pub(super) fn run(&self) -> Result<Outcome, GuestError> {
        let isolated = || Root::default().line("/sys/devices/system/cpu/isolated")?.parse().ok();
        let cpus = self.cpus.clone().or_else(isolated).unwrap_or_default();
        let Some((program, arguments)) = self.command.split_first() else {
            return Ok(Outcome::Failed);
        };
        Err(RealTime { priority: self.priority, cpus }.become_program(program, arguments).into())
    }
}
