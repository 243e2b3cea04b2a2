//! `archibald farm`: work that one machine outgrows, on Slurm or on this machine's cores. One file a verb.

mod experiment;
mod lab;
mod program;
mod render;
mod status;
mod task;

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use archibald_farm::job::{Fault, Job, Resources, Shared, Worker};
use archibald_farm::runner::{Local, Runner, Watcher, complete};
use archibald_farm::slurm::Slurm;
use archibald_farm::{FarmError, job};
use archibald_image::Cancel;
use archibald_machine::Span;
use archibald_machine::units::Bytes;

use crate::failure::{Exit, Failure};
use crate::places;
use crate::terminal::{self, Steps};

/// Render scores and run experiments on many machines, by Slurm, or on all cores of this one.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Results are kept by content in the shared folder: what is there is not made again, also after a failure or Ctrl-C."
)]
pub(crate) struct Farm {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Render(render::Render),
    Lab(lab::Lab),
    Status(status::Status),
    #[command(hide = true)]
    Task(task::Task),
}

impl Farm {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        match self.verb {
            Verb::Render(verb) => verb.run(),
            Verb::Lab(verb) => verb.run(),
            Verb::Status(verb) => verb.run(),
            Verb::Task(verb) => verb.run(),
        }
    }
}

/// Where the shared folder is when nobody says it.
const SHARED: &str = "archibald-farm";

/// Who runs the tasks.
#[derive(Debug, Clone, clap::Args)]
struct Where {
    /// On this machine's cores; without it, on Slurm.
    #[arg(long)]
    local: bool,
    /// Tasks at once here; one a core when left out.
    #[arg(short, long, requires = "local")]
    jobs: Option<usize>,
    /// The folder for results, under the same path on every node; ./archibald-farm when left out, with
    /// --local one in your state directory.
    #[arg(long)]
    shared: Option<PathBuf>,
    /// Slurm's partition; the cluster's default when left out.
    #[arg(long, conflicts_with = "local")]
    partition: Option<String>,
    /// At most so many of Slurm's tasks at once.
    #[arg(long, conflicts_with = "local")]
    at_once: Option<usize>,
    /// Memory for one task, such as "2 GiB"; what it needs by its file when left out.
    #[arg(long, conflicts_with = "local", value_parser = bytes)]
    memory: Option<Bytes>,
    /// Time for one task, such as 90min; what suits it when left out.
    #[arg(long, conflicts_with = "local", value_parser = span)]
    time: Option<Span>,
    /// How often a task that failed is tried again.
    #[arg(long, default_value_t = 2)]
    retries: u32,
    /// No progress.
    #[arg(short, long)]
    quiet: bool,
}

fn bytes(text: &str) -> Result<Bytes, String> {
    text.parse().map_err(|error: archibald_machine::units::NotA| error.expected.to_owned())
}

fn span(text: &str) -> Result<Span, String> {
    text.parse().map_err(|error: archibald_machine::units::NotA| error.expected.to_owned())
}

impl Where {
    fn shared(&self) -> Result<Shared, Failure> {
        let path = match &self.shared {
            Some(path) => path.clone(),
            None if self.local => places::directories().state.join("farm"),
            None => SHARED.into(),
        };
        let shared = Shared::open(&path).map_err(failure)?;
        shared.sweep();
        Ok(shared)
    }

    /// What one task is given, where it is not said.
    fn resources(&self, otherwise: Resources) -> Resources {
        let minutes = |span: Span| span.0.as_secs().div_ceil(60).max(1);
        Resources {
            cpus: otherwise.cpus,
            memory_mib: self.memory.map_or(otherwise.memory_mib, |memory| memory.mib().max(1)),
            minutes: self.time.map_or(otherwise.minutes, minutes),
        }
    }

    /// Runs what is missing of the job, and fails when something stays missing.
    fn complete(
        &self,
        shared: &Shared,
        job: &Job,
        worker: &dyn Worker,
        whole_install: bool,
        steps: &Steps,
        cancel: &Cancel,
    ) -> Result<(), Failure> {
        shared.write(job).map_err(failure)?;
        let _lock = shared.lock(job).map_err(failure)?.map_err(|holder| {
            let who = holder.map_or_else(String::new, |pid| format!(", process {pid},"));
            Failure::new(
                Exit::Environment,
                format!("another command{who} runs the very same tasks"),
            )
            .with_remedy("Wait for it to end; `archibald farm status` tells how far it is.")
        })?;
        let missing = shared.missing(job).len();
        let runner: Box<dyn Runner> = if self.local {
            let host = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
            Box::new(Local { jobs: self.jobs.unwrap_or(host), worker })
        } else {
            Box::new(Slurm {
                program: program::install(shared, whole_install)?,
                partition: self.partition.clone(),
                at_once: self.at_once,
                poll: Duration::from_millis(1000),
            })
        };
        let drawn = Drawn::new(steps);
        let place = if self.local { "here" } else { "on Slurm" };
        let kept = job.tasks.len() - missing;
        let kept = if kept == 0 { String::new() } else { format!(", {kept} kept from before") };
        steps.step(&format!("farm: {}: {missing} tasks {place}{kept}", job.title));
        let faults = complete(shared, job, runner.as_ref(), self.retries, &drawn, cancel);
        let faults = faults.map_err(failure)?;
        if faults.is_empty() {
            return Ok(());
        }
        Err(failed(job, &faults))
    }
}

/// A failure that names every task.
fn failed(job: &Job, faults: &[Fault]) -> Failure {
    let line = |fault: &Fault| {
        let host =
            if fault.host.is_empty() { String::new() } else { format!(" (on {})", fault.host) };
        format!("{}{host}: {}", fault.task, fault.message)
    };
    let lines: Vec<String> = faults.iter().take(10).map(line).collect();
    let more = faults.len().saturating_sub(lines.len());
    let more = if more == 0 { String::new() } else { format!("\nand {more} more") };
    let message = format!(
        "{} of {} tasks failed:\n{}{more}",
        faults.len(),
        job.tasks.len(),
        lines.join("\n")
    );
    let exit = if faults.iter().all(|fault| !fault.again) { Exit::Use } else { Exit::Environment };
    let failure = Failure::new(exit, message);
    match faults.iter().find_map(|fault| fault.remedy.clone()) {
        Some(remedy) => failure.with_remedy(remedy),
        None => failure.with_remedy("The same words again run only what is missing."),
    }
}

/// The farm's progress on [`Steps`].
struct Drawn<'a> {
    steps: &'a Steps,
    told: Mutex<usize>,
}

impl<'a> Drawn<'a> {
    fn new(steps: &'a Steps) -> Self {
        Self { steps, told: Mutex::new(0) }
    }
}

impl Watcher for Drawn<'_> {
    fn progress(&self, done: usize, of: usize, about: &str) {
        if of == 0 {
            return self.steps.about(about);
        }
        self.steps.about(&format!("{done} of {of} done  {about}"));
        // Tenths, for those who read a log.
        let tenth = done * 10 / of;
        let Ok(mut told) = self.told.lock() else { return };
        if tenth > *told && of >= 20 {
            *told = tenth;
            self.steps.note(&format!("{done} of {of} done"));
        }
    }

    fn note(&self, line: &str) {
        self.steps.note(line);
    }
}

/// The farm's errors as this program's failures.
fn failure(error: FarmError) -> Failure {
    if matches!(error, FarmError::Cancelled) {
        return Failure::interrupted();
    }
    let exit = if error.is_the_inputs() { Exit::Use } else { Exit::Environment };
    let remedy = error.remedy();
    let failure = Failure::new(exit, error);
    match remedy {
        Some(remedy) => failure.with_remedy(remedy),
        None => failure,
    }
}

/// A line about where the job is, for who looks for its logs.
fn tell_place(shared: &Shared, job: &Job) {
    terminal::complain(&format!("job {}: {}", job.name, shared.job(&job.name).display()));
}

/// A fault of a failure of this program.
fn fault(failure: Failure) -> Option<job::Fault> {
    let exit = failure.exit();
    if exit == Exit::Interrupted as u8 {
        return None;
    }
    let (message, remedy) = failure.words();
    let remedy = Some(remedy).filter(|remedy| !remedy.is_empty());
    let again = exit != Exit::Use as u8;
    Some(Fault { task: String::new(), message, remedy, again, host: String::new() })
}
