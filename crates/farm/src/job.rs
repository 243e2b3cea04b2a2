//! Work as tasks, and the folder that all nodes share: a job is a list of tasks, a task's result is kept under
//! the name of everything that decides it, and so is never made twice.
//!
//! ```text
//! results/KEY/       what a task gave: there whole, or not at all
//! inputs/KEY...      scores and scenarios, by content
//! programs/KEY/      this program, for nodes that have none
//! jobs/NAME/         job.json; faults/KEY.json, why a task failed last; logs/, what Slurm's tasks wrote
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use archibald_image::{Cancel, FileLock, Key};
use serde::{Deserialize, Serialize};

use crate::FarmError;
use crate::error::During;
use crate::scsynth::Piece;

/// What is half done and was not touched for so long is nobody's, if its process is gone.
const OLD: Duration = Duration::from_secs(24 * 3600);

/// The schema of `job.json`.
pub const JOB_SCHEMA: &str = "archibald.farm-job/1";

/// One experiment of the lab. Paths are those of every node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Experiment {
    /// The scenario file.
    pub scenario: PathBuf,
    /// The machine file.
    pub machine: PathBuf,
    /// Speed of the processor.
    pub mips: u32,
    /// Frames in a period.
    pub quantum: u32,
    /// The one seed.
    pub seed: u64,
    /// Seconds of the host's time that it may take.
    pub timeout: Option<u64>,
}

/// What a task does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Work {
    /// A piece of a score.
    Render(Piece),
    /// An experiment.
    Experiment(Experiment),
}

/// One task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The name of its result.
    pub key: String,
    /// For people.
    pub title: String,
    /// What it does.
    pub work: Work,
}

/// What all nodes are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Cores for one task.
    pub cpus: u32,
    /// Memory of one task, in MiB.
    pub memory_mib: u64,
    /// Minutes that one task may take.
    pub minutes: u64,
}

/// A list of tasks under one name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// [`JOB_SCHEMA`]
    pub schema: String,
    /// The same tasks have the same name.
    pub name: String,
    /// For people.
    pub title: String,
    /// What one task needs.
    pub resources: Resources,
    /// The tasks.
    pub tasks: Vec<Task>,
}

/// Why a task failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The task's title.
    pub task: String,
    /// In one line or a few.
    pub message: String,
    /// What to do about it.
    pub remedy: Option<String>,
    /// Whether another try may help.
    pub again: bool,
    /// The host that it ran on.
    pub host: String,
}

impl Fault {
    /// Of an error of this crate.
    #[must_use]
    pub fn of(error: &FarmError) -> Self {
        Self {
            task: String::new(),
            message: error.to_string(),
            remedy: error.remedy(),
            again: !error.is_the_inputs(),
            host: String::new(),
        }
    }
}

/// Does one task: leaves its result in the folder, which is empty.
pub trait Worker: Sync {
    /// Does it.
    ///
    /// # Errors
    /// Why it could not be done; `None` when it was called off.
    fn work(&self, task: &Task, dir: &Path, cancel: &Cancel) -> Result<(), Option<Fault>>;
}

/// The shared folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    root: PathBuf,
}

impl Job {
    /// A job of these tasks.
    #[must_use]
    pub fn new(title: String, resources: Resources, tasks: Vec<Task>) -> Self {
        let mut key = Key::new("farm job");
        for task in &tasks {
            key.add(&task.key);
        }
        let name = key.name();
        let name = name.get(..12).unwrap_or(&name).to_owned();
        Self { schema: JOB_SCHEMA.to_owned(), name, title, resources, tasks }
    }
}

impl Shared {
    /// The folder, made if it is not there.
    ///
    /// # Errors
    /// What the system said.
    pub fn open(root: &Path) -> Result<Self, FarmError> {
        for name in ["results", "inputs", "programs", "jobs"] {
            let folder = root.join(name);
            fs::create_dir_all(&folder).during("create", &folder)?;
        }
        // Nodes look for it under this very path.
        let root = fs::canonicalize(root).during("find", root)?;
        Ok(Self { root })
    }

    /// Its path.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the result of this name is, or will be.
    #[must_use]
    pub fn result(&self, key: &str) -> PathBuf {
        self.root.join("results").join(key)
    }

    /// A job's folder.
    #[must_use]
    pub fn job(&self, name: &str) -> PathBuf {
        self.root.join("jobs").join(name)
    }

    /// Puts a file among the inputs, once, and returns its path.
    ///
    /// # Errors
    /// What the system said.
    pub fn input(&self, name: &str, content: &[u8]) -> Result<PathBuf, FarmError> {
        let path = self.root.join("inputs").join(name);
        if path.is_file() {
            return Ok(path);
        }
        write_whole(&path, content)?;
        Ok(path)
    }

    /// Puts a folder below this one, once, as `fill` makes it, and returns its path.
    ///
    /// # Errors
    /// What `fill` or the system said.
    pub fn folder(
        &self,
        name: &str,
        fill: impl FnOnce(&Path) -> Result<(), FarmError>,
    ) -> Result<PathBuf, FarmError> {
        let path = self.root.join(name);
        if path.is_dir() {
            return Ok(path);
        }
        let partial = self.partial(name)?;
        fill(&partial)?;
        keep(&partial, &path)?;
        Ok(path)
    }

    /// A new folder for what is not whole yet. Nodes that are containers may agree in name and process number.
    fn partial(&self, name: &str) -> Result<PathBuf, FarmError> {
        let plain = name.replace('/', "-");
        let mut number = 0;
        loop {
            let name = format!(".partial-{plain}-{}-{}-{number}", host(), std::process::id());
            let folder = self.root.join(name);
            match fs::create_dir(&folder) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
                made => return made.during("create", &folder).map(|()| folder),
            }
        }
    }

    /// Writes the job down.
    ///
    /// # Errors
    /// What the system said.
    pub fn write(&self, job: &Job) -> Result<PathBuf, FarmError> {
        let dir = self.job(&job.name);
        for name in ["faults", "logs"] {
            let folder = dir.join(name);
            fs::create_dir_all(&folder).during("create", &folder)?;
        }
        write_whole(&dir.join("job.json"), &serde_json::to_vec_pretty(job).unwrap_or_default())?;
        Ok(dir)
    }

    /// Reads a job.
    ///
    /// # Errors
    /// There is none, or its file is none of ours.
    pub fn read(dir: &Path) -> Result<(Self, Job), FarmError> {
        let path = dir.join("job.json");
        let text = fs::read(&path).during("read", &path)?;
        let job: Job = serde_json::from_slice(&text)
            .map_err(|error| FarmError::Job { path: path.clone(), what: error.to_string() })?;
        if job.schema != JOB_SCHEMA {
            let what = format!("it is a {}, not a {JOB_SCHEMA}", job.schema);
            return Err(FarmError::Job { path, what });
        }
        let root = dir.parent().and_then(Path::parent).unwrap_or(dir);
        Ok((Self { root: root.to_owned() }, job))
    }

    /// Every job in the folder, the latest first.
    ///
    /// # Errors
    /// What the system said of the folder; jobs that cannot be read are left out.
    pub fn jobs(&self) -> Result<Vec<Job>, FarmError> {
        let folder = self.root.join("jobs");
        let mut jobs = Vec::new();
        for entry in fs::read_dir(&folder).during("read", &folder)?.flatten() {
            let changed = entry.path().join("job.json").metadata().and_then(|file| file.modified());
            if let (Ok(changed), Ok((_, job))) = (changed, Self::read(&entry.path())) {
                jobs.push((changed, job));
            }
        }
        jobs.sort_by_key(|(changed, _)| std::cmp::Reverse(*changed));
        Ok(jobs.into_iter().map(|(_, job)| job).collect())
    }

    /// The tasks of a job that have no result.
    #[must_use]
    pub fn missing(&self, job: &Job) -> Vec<usize> {
        let missing = |task: &Task| !self.result(&task.key).is_dir();
        let tasks = job.tasks.iter().enumerate().filter(|(_, task)| missing(task));
        tasks.map(|(index, _)| index).collect()
    }

    /// Why a task failed last.
    #[must_use]
    pub fn fault(&self, job: &Job, task: &Task) -> Option<Fault> {
        let text = fs::read(self.fault_file(job, task)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    fn fault_file(&self, job: &Job, task: &Task) -> PathBuf {
        self.job(&job.name).join("faults").join(format!("{}.json", task.key))
    }

    /// Forgets why a task failed.
    pub fn forget(&self, job: &Job, task: &Task) {
        let _ = fs::remove_file(self.fault_file(job, task));
    }

    /// Writes down why a task failed.
    ///
    /// # Errors
    /// What the system said.
    pub fn tell(&self, job: &Job, task: &Task, fault: Fault) -> Result<(), FarmError> {
        let fault = Fault { task: task.title.clone(), host: host(), ..fault };
        write_whole(
            &self.fault_file(job, task),
            &serde_json::to_vec_pretty(&fault).unwrap_or_default(),
        )
    }

    /// The lock of a job: two commands for the same tasks are one too many.
    ///
    /// # Errors
    /// What the system said; inside, the process that has it.
    pub fn lock(&self, job: &Job) -> Result<Result<FileLock, Option<u32>>, FarmError> {
        let path = self.job(&job.name).join("lock");
        FileLock::try_take(&path).during("lock", &path)
    }

    /// Does one task here and keeps its result. One that is there is not made again.
    ///
    /// # Errors
    /// What the system said of the folder. That the task failed is written down, and returned as the value.
    pub fn perform(
        &self,
        job: &Job,
        task: &Task,
        worker: &dyn Worker,
        cancel: &Cancel,
    ) -> Result<bool, FarmError> {
        let result = self.result(&task.key);
        if result.is_dir() {
            return Ok(true);
        }
        let partial = self.partial(&format!("results/{}", task.key))?;
        let done = worker.work(task, &partial, cancel);
        match done {
            Ok(()) => {
                keep(&partial, &result)?;
                self.forget(job, task);
                Ok(true)
            }
            Err(fault) => {
                let _ = fs::remove_dir_all(&partial);
                let fault = fault.ok_or(FarmError::Cancelled)?;
                self.tell(job, task, fault)?;
                Ok(false)
            }
        }
    }

    /// Removes what processes of this host that ended long ago left half done.
    pub fn sweep(&self) {
        let mine = format!("-{}-", host());
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some((_, rest)) =
                name.strip_prefix(".partial-").and_then(|rest| rest.rsplit_once(&mine))
            else {
                continue;
            };
            let pid = rest.split('-').next().and_then(|pid| pid.parse::<u32>().ok());
            let ended = pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists());
            let changed = entry.metadata().and_then(|folder| folder.modified()).ok();
            // A process of a container of this name is not seen here.
            let old = changed.and_then(|at| at.elapsed().ok()).is_some_and(|age| age > OLD);
            if ended && old {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

/// A folder that is whole takes its name, unless another node was faster: the same content then.
fn keep(partial: &Path, path: &Path) -> Result<(), FarmError> {
    if let Err(error) = fs::rename(partial, path) {
        let _ = fs::remove_dir_all(partial);
        if !path.is_dir() {
            return Err(error).during("rename", partial);
        }
    }
    Ok(())
}

fn write_whole(path: &Path, content: &[u8]) -> Result<(), FarmError> {
    let partial = path.with_extension(format!("{}.{}.partial", host(), std::process::id()));
    fs::write(&partial, content).during("write", &partial)?;
    fs::rename(&partial, path).during("rename", &partial)
}

/// This host's name: process numbers are only told apart on one.
#[must_use]
pub fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn job(count: u64) -> Job {
        let task = |seed| {
            let work = Work::Experiment(Experiment {
                scenario: "lab.toml".into(),
                machine: "archibald.toml".into(),
                mips: 500,
                quantum: 32,
                seed,
                timeout: None,
            });
            Task { key: format!("k{seed}"), title: format!("seed {seed}"), work }
        };
        let resources = Resources { cpus: 1, memory_mib: 512, minutes: 30 };
        Job::new("a test".to_owned(), resources, (0..count).map(task).collect())
    }

    pub(crate) struct Fails<'a>(pub(crate) &'a [&'a str], pub(crate) bool);

    impl Worker for Fails<'_> {
        fn work(&self, task: &Task, dir: &Path, _: &Cancel) -> Result<(), Option<Fault>> {
            fs::write(dir.join("half"), "").unwrap();
            if self.0.contains(&task.key.as_str()) {
                let error = FarmError::Program { program: "test", message: "no".to_owned() };
                return Err(Some(Fault { again: self.1, ..Fault::of(&error) }));
            }
            Ok(())
        }
    }

    #[test]
    fn a_result_is_there_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let shared = Shared::open(dir.path()).unwrap();
        let job = job(3);
        let folder = shared.write(&job).unwrap();
        assert_eq!(Shared::read(&folder).unwrap().1, job);
        let worker = Fails(&["k1"], true);
        for task in &job.tasks {
            let done = shared.perform(&job, task, &worker, &Cancel::new()).unwrap();
            assert_eq!(done, task.key != "k1");
        }
        assert_eq!(shared.missing(&job), [1]);
        let fault = shared.fault(&job, &job.tasks[1]).unwrap();
        assert_eq!((fault.task.as_str(), fault.again), ("seed 1", true));
        assert!(shared.perform(&job, &job.tasks[1], &Fails(&[], true), &Cancel::new()).unwrap());
        assert_eq!((shared.missing(&job).len(), shared.fault(&job, &job.tasks[1])), (0, None));
        let left = fs::read_dir(dir.path()).unwrap().flatten();
        assert!(
            left.map(|entry| entry.file_name())
                .all(|name| !name.to_string_lossy().starts_with('.'))
        );
    }

    #[test]
    fn what_a_killed_process_left_is_swept_and_what_a_living_one_has_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let shared = Shared::open(dir.path()).unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let folder = |host: &str, pid: u32, old: bool| {
            let folder =
                dir.path().join(format!(".partial-results-k-{host}-{pid}-{}", u8::from(old)));
            fs::create_dir(&folder).unwrap();
            if old {
                let then = std::time::SystemTime::now() - 2 * OLD;
                fs::File::open(&folder).unwrap().set_modified(then).unwrap();
            }
            folder
        };
        let dead = folder(&host(), child.id(), true);
        let living = [
            folder(&host(), std::process::id(), true),
            folder(&host(), child.id(), false),
            folder("otherhost", child.id(), true),
        ];
        shared.sweep();
        assert!(!dead.exists() && living.iter().all(|folder| folder.exists()));
    }
}
