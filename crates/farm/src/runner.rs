//! Who runs a job's tasks, and how often: this machine's cores, or Slurm.

use std::sync::atomic::{AtomicUsize, Ordering};

use archibald_image::Cancel;

use crate::FarmError;
use crate::job::{Fault, Job, Shared, Worker};

/// What goes on, for the caller to draw.
pub trait Watcher: Sync {
    /// So many of so many tasks are done; what else is known of the rest.
    fn progress(&self, done: usize, of: usize, about: &str);
    /// Something worth a line of its own.
    fn note(&self, line: &str);
}

/// Runs tasks once each.
pub trait Runner {
    /// Runs the tasks of these numbers. Those that have a result afterwards were done.
    ///
    /// # Errors
    /// The farm itself failed, or was called off. That tasks failed is no error.
    fn run(
        &self,
        shared: &Shared,
        job: &Job,
        tasks: &[usize],
        watcher: &dyn Watcher,
        cancel: &Cancel,
    ) -> Result<(), FarmError>;
}

/// Runs what is missing of a job, and what fails again at most `retries` times. Returns the faults of those that
/// stayed without a result.
///
/// # Errors
/// Those of [`Runner::run`].
pub fn complete(
    shared: &Shared,
    job: &Job,
    runner: &dyn Runner,
    retries: u32,
    watcher: &dyn Watcher,
    cancel: &Cancel,
) -> Result<Vec<Fault>, FarmError> {
    for task in &job.tasks {
        shared.forget(job, task);
    }
    let mut missing = shared.missing(job);
    watcher.progress(job.tasks.len() - missing.len(), job.tasks.len(), "");
    for attempt in 0..=retries {
        if missing.is_empty() {
            break;
        }
        if attempt > 0 {
            let plural = if missing.len() == 1 { "" } else { "s" };
            watcher.note(&format!(
                "{} task{plural} failed; try {} of {}",
                missing.len(),
                attempt + 1,
                retries + 1
            ));
        }
        runner.run(shared, job, &missing, watcher, cancel)?;
        let again = |index: &usize| {
            let task = job.tasks.get(*index);
            task.and_then(|task| shared.fault(job, task)).is_none_or(|fault| fault.again)
        };
        missing = shared.missing(job);
        missing.retain(again);
    }
    let faults = shared.missing(job).into_iter().filter_map(|index| job.tasks.get(index));
    Ok(faults
        .map(|task| {
            shared.fault(job, task).unwrap_or_else(|| Fault {
                task: task.title.clone(),
                message: "it ended without a result and without a word".to_owned(),
                remedy: Some(format!(
                    "See its log in {}.",
                    shared.job(&job.name).join("logs").display()
                )),
                again: true,
                host: String::new(),
            })
        })
        .collect())
}

/// This machine's cores.
pub struct Local<'a> {
    /// Tasks at once.
    pub jobs: usize,
    /// Who does them.
    pub worker: &'a dyn Worker,
}

impl Runner for Local<'_> {
    fn run(
        &self,
        shared: &Shared,
        job: &Job,
        tasks: &[usize],
        watcher: &dyn Watcher,
        cancel: &Cancel,
    ) -> Result<(), FarmError> {
        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(job.tasks.len() - tasks.len()));
        let worker = || -> Result<(), FarmError> {
            while let Some(index) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
                if cancel.is_cancelled() {
                    return Err(FarmError::Cancelled);
                }
                let Some(task) = job.tasks.get(*index) else { continue };
                if shared.perform(job, task, self.worker, cancel)? {
                    let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                    watcher.progress(done, job.tasks.len(), &task.title);
                } else if let Some(fault) = shared.fault(job, task) {
                    watcher.note(&format!(
                        "failed: {}: {}",
                        task.title,
                        first_line(&fault.message)
                    ));
                }
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> =
                (0..self.jobs.clamp(1, tasks.len().max(1))).map(|_| scope.spawn(worker)).collect();
            let mut outcome = Ok(());
            for worker in workers {
                match worker.join() {
                    Ok(ended) => outcome = outcome.and(ended),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            outcome
        })
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Mutex;

    use super::*;
    use crate::job::Task;
    use crate::job::tests::{Fails, job};

    #[derive(Default)]
    struct Notes(Mutex<Vec<String>>);

    impl Watcher for Notes {
        fn progress(&self, _: usize, _: usize, _: &str) {}
        fn note(&self, line: &str) {
            self.0.lock().unwrap().push(line.to_owned());
        }
    }

    fn completed(worker: &dyn Worker, retries: u32) -> (Vec<Fault>, Vec<String>, Vec<usize>) {
        let dir = tempfile::tempdir().unwrap();
        let shared = Shared::open(dir.path()).unwrap();
        let job = job(5);
        shared.write(&job).unwrap();
        let notes = Notes::default();
        let runner = Local { jobs: 2, worker };
        let faults = complete(&shared, &job, &runner, retries, &notes, &Cancel::new()).unwrap();
        let missing = shared.missing(&job);
        (faults, notes.0.into_inner().unwrap(), missing)
    }

    #[test]
    fn a_task_that_fails_is_tried_so_often_and_named() {
        let (faults, notes, missing) = completed(&Fails(&["k3"], true), 2);
        assert_eq!(missing, [3]);
        assert_eq!(faults.iter().map(|fault| fault.task.as_str()).collect::<Vec<_>>(), ["seed 3"]);
        assert_eq!(
            notes.iter().filter(|line| line.starts_with("failed: seed 3")).count(),
            3,
            "{notes:?}"
        );
        // What cannot come out otherwise is not tried again.
        let (faults, notes, _) = completed(&Fails(&["k0"], false), 2);
        assert_eq!((faults.len(), notes.len()), (1, 1), "{notes:?}");
    }

    #[test]
    fn what_fails_once_is_done_in_the_end() {
        struct Once(Mutex<bool>);
        impl Worker for Once {
            fn work(&self, task: &Task, dir: &Path, cancel: &Cancel) -> Result<(), Option<Fault>> {
                let fails = std::mem::replace(&mut *self.0.lock().unwrap(), false);
                let names: &[&str] = if fails { &["k0", "k1", "k2", "k3", "k4"] } else { &[] };
                Fails(names, true).work(task, dir, cancel)
            }
        }
        let (faults, _, missing) = completed(&Once(Mutex::new(true)), 1);
        assert!(faults.is_empty() && missing.is_empty());
    }
}
