//! `archibald farm task`: one task of a job, as Slurm's arrays start it.

use std::path::{Path, PathBuf};

use archibald_farm::job::{self, Fault, Shared, Work, Worker};
use archibald_farm::scsynth::Scsynth;
use archibald_farm::slurm::RESTARTS;
use archibald_image::Cancel;

use super::{experiment, failure, fault};
use crate::commands::build;
use crate::failure::{Exit, Failure};
use crate::{places, terminal};

/// Do one task of a job (started by Slurm).
#[derive(Debug, clap::Args)]
pub(crate) struct Task {
    /// The job's folder.
    job: PathBuf,
    /// The task's number.
    number: usize,
}

impl Task {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        let cancel = build::called_off()?;
        let (shared, job) = Shared::read(&self.job).map_err(failure)?;
        let Some(task) = job.tasks.get(self.number) else {
            let what =
                format!("{} has {} tasks, no {}", self.job.display(), job.tasks.len(), self.number);
            return Err(Failure::new(Exit::Use, what));
        };
        terminal::complain(&format!("{} on {}", task.title, job::host()));
        let restarts = places::restarts();
        if restarts > RESTARTS {
            let fault = Fault {
                task: String::new(),
                message: format!("its node failed {restarts} times, so that it may be the reason"),
                remedy: None,
                again: false,
                host: String::new(),
            };
            shared.tell(&job, task, fault).map_err(failure)?;
            return Ok(1);
        }
        if shared.perform(&job, task, &Here, &cancel).map_err(failure)? {
            return Ok(0);
        }
        if let Some(fault) = shared.fault(&job, task) {
            terminal::complain(&fault.message);
        }
        Ok(1)
    }
}

/// One task in a process of its own.
struct Here;

impl Worker for Here {
    fn work(&self, task: &job::Task, dir: &Path, cancel: &Cancel) -> Result<(), Option<Fault>> {
        match &task.work {
            Work::Render(_) => Renders::find().map_err(fault)?.work(task, dir, cancel),
            Work::Experiment(asked) => {
                let laboratory = experiment::Laboratory::for_one(asked, cancel).map_err(fault)?;
                laboratory.work(task, dir, cancel)
            }
        }
    }
}

/// Renders by the server of this host.
pub(super) struct Renders(pub(super) Scsynth);

impl Renders {
    pub(super) fn find() -> Result<Self, Failure> {
        let program = places::find_program("scsynth").unwrap_or_else(|| "scsynth".into());
        Scsynth::find(&program).map(Self).map_err(failure)
    }
}

impl Worker for Renders {
    fn work(&self, task: &job::Task, dir: &Path, cancel: &Cancel) -> Result<(), Option<Fault>> {
        let Work::Render(piece) = &task.work else {
            return fault(Failure::new(Exit::Use, "no render"))
                .map_or(Ok(()), |fault| Err(Some(fault)));
        };
        self.0.render(piece, dir, cancel).map(drop).map_err(|error| fault(failure(error)))
    }
}
