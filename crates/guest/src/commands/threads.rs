//! `archibald-guest threads`: who goes first, for `archibald threads`.

use std::io::Write;

use serde::Serialize;

use super::Outcome;
use crate::inversion::{Inversion, Role, inversions, role};
use crate::threads::{Scheduled, all};
use crate::{GuestError, Root};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Ordinary threads too
    #[arg(long)]
    all: bool,
    /// Write them as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    threads: Vec<Listed>,
    inversions: Vec<Inversion>,
}

#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    thread: Scheduled,
    role: Role,
}

impl Arguments {
    pub(super) fn run(&self, out: &mut dyn Write) -> Result<Outcome, GuestError> {
        let threads = all(&Root::default());
        let inversions = inversions(&threads);
        let outcome = if inversions.is_empty() { Outcome::Good } else { Outcome::Failed };
        // An audio thread without priority is what one looks for.
        let shown = threads.into_iter().map(|thread| Listed { role: role(&thread), thread });
        let threads: Vec<Listed> = shown
            .filter(|listed| {
                let audio = matches!(listed.role, Role::Graph | Role::Client);
                self.all || audio || listed.thread.is_real_time()
            })
            .collect();
        let report = Report { schema: "archibald.threads/1", threads, inversions };
        if self.json {
            serde_json::to_writer(&mut *out, &report).map_err(std::io::Error::from)?;
            writeln!(out)?;
            return Ok(outcome);
        }
        for Listed { thread, .. } in &report.threads {
            let Scheduled { policy, priority, cpus, program, name, .. } = thread;
            writeln!(out, "{policy:<8} {priority:>2}  CPU {cpus:<8} {program}/{name}")?;
        }
        for Inversion { thread, what, remedy } in &report.inversions {
            writeln!(out, "{thread}: {what}\n  {remedy}")?;
        }
        Ok(outcome)
    }
}
