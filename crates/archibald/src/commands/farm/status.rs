//! `archibald farm status`: how far the jobs of a shared folder are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use archibald_farm::job::{Job, Shared};
use archibald_farm::{FarmError, slurm};

use super::{SHARED, failure};
use crate::failure::{Exit, Failure};
use crate::{places, terminal};

/// Show the jobs of a shared folder: what is done, waits, runs and failed.
#[derive(Debug, clap::Args)]
pub(crate) struct Status {
    /// One job; all when left out.
    job: Option<String>,
    /// The shared folder; ./archibald-farm when left out, or the one of --local if there is none.
    #[arg(long)]
    shared: Option<PathBuf>,
    /// For programs.
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        let local = places::directories().state.join("farm");
        let here = Path::new(SHARED);
        let path = match &self.shared {
            Some(path) => path.clone(),
            None if here.is_dir() => here.to_owned(),
            None => local,
        };
        if !path.join("jobs").is_dir() {
            return Err(Failure::new(Exit::Use, format!("{} is no farm's folder", path.display()))
                .with_remedy("Name it with --shared, as `archibald farm render` was told it."));
        }
        let shared = Shared::open(&path).map_err(failure)?;
        let mut jobs = shared.jobs().map_err(failure)?;
        if let Some(name) = &self.job {
            jobs.retain(|job| job.name == *name);
            if jobs.is_empty() {
                return Err(Failure::new(
                    Exit::Use,
                    format!("there is no job {name} in {}", path.display()),
                )
                .with_remedy("`archibald farm status` lists them."));
            }
        }
        let told = jobs.iter().map(|job| Told::of(&shared, job)).collect::<Result<Vec<_>, _>>()?;
        if self.json {
            let jobs: Vec<_> = told.iter().map(Told::json).collect();
            terminal::say_json(&serde_json::json!({
                "schema": "archibald.farm-status/1", "shared": shared.root(), "jobs": jobs,
            }));
        } else {
            show(&told);
        }
        Ok(u8::from(told.iter().any(|told| !told.failed.is_empty())))
    }
}

struct Told<'a> {
    job: &'a Job,
    done: usize,
    /// What Slurm has, by state.
    queued: BTreeMap<String, usize>,
    /// Tasks with why they failed.
    failed: Vec<(String, String)>,
}

impl<'a> Told<'a> {
    fn of(shared: &Shared, job: &'a Job) -> Result<Self, Failure> {
        let missing = shared.missing(job);
        let mut queued = BTreeMap::new();
        match slurm::waiting(shared, job) {
            Ok(entries) => {
                for entry in entries {
                    *queued.entry(entry.state.to_lowercase()).or_insert(0) += 1;
                }
            }
            // Folders of --local are looked at where there is no Slurm.
            Err(FarmError::Missing { .. }) => {}
            Err(error) => return Err(failure(error)),
        }
        let tasks = missing.iter().filter_map(|index| job.tasks.get(*index));
        let failed = tasks.filter_map(|task| {
            let fault = shared.fault(job, task)?;
            let host =
                if fault.host.is_empty() { String::new() } else { format!(" (on {})", fault.host) };
            Some((task.title.clone(), format!("{}{host}", fault.message)))
        });
        Ok(Self { job, done: job.tasks.len() - missing.len(), queued, failed: failed.collect() })
    }

    fn json(&self) -> serde_json::Value {
        let failed: Vec<_> = self
            .failed
            .iter()
            .map(|(task, message)| serde_json::json!({ "task": task, "message": message }))
            .collect();
        serde_json::json!({
            "job": self.job.name, "title": self.job.title, "tasks": self.job.tasks.len(),
            "done": self.done, "queued": self.queued, "failed": failed,
        })
    }
}

fn show(told: &[Told<'_>]) {
    if told.is_empty() {
        return terminal::say("no jobs");
    }
    let row = |told: &Told<'_>| {
        let queued = told.queued.iter().map(|(state, count)| format!("{count} {state}"));
        vec![
            told.job.name.clone(),
            format!("{}/{}", told.done, told.job.tasks.len()),
            queued.collect::<Vec<_>>().join(", "),
            if told.failed.is_empty() { String::new() } else { told.failed.len().to_string() },
            told.job.title.clone(),
        ]
    };
    let header = ["JOB", "DONE", "SLURM", "FAILED", "WHAT"];
    terminal::say(&terminal::table(&header, told.iter().map(row).collect()));
    for (task, message) in told.iter().flat_map(|told| &told.failed) {
        terminal::say(&format!("\n{task}: {message}"));
    }
}
