//! Slurm: a job's tasks as job arrays. What is said to its commands and what they answer are pure functions; the
//! commands themselves are those of the host, and find their cluster as Slurm's own do (SLURM_CONF).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use archibald_image::Cancel;
use serde::{Deserialize, Serialize};

use crate::FarmError;
use crate::error::During;
use crate::job::{Fault, Job, Resources, Shared};
use crate::runner::{Runner, Watcher};

/// How often a task whose node failed is begun again, before it is taken for the reason.
pub const RESTARTS: u32 = 3;

/// The cluster that this host's commands reach.
#[derive(Debug, Clone)]
pub struct Slurm {
    /// This program, by its path on every node.
    pub program: PathBuf,
    /// The partition; the cluster's default when absent.
    pub partition: Option<String>,
    /// Tasks at once; as many as the cluster gives when absent.
    pub at_once: Option<usize>,
    /// How often it is looked what goes on.
    pub poll: Duration,
}

/// One array that was handed in: its tasks are those of the job from `offset` on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Array {
    id: u64,
    offset: usize,
}

/// A task that Slurm knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number in the job.
    pub task: usize,
    /// Such as `RUNNING`.
    pub state: String,
    /// Why it waits, or where it runs.
    pub reason: String,
}

/// The words of one array: these tasks of the job, less `offset`, as Slurm writes lists.
#[must_use]
pub fn array_words(tasks: &[usize], offset: usize, at_once: Option<usize>) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for task in tasks {
        let index = task.saturating_sub(offset);
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == index => *last = index,
            _ => ranges.push((index, index)),
        }
    }
    let word = |(first, last): &(usize, usize)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    let words = ranges.iter().map(word).collect::<Vec<_>>().join(",");
    at_once.map_or_else(|| words.clone(), |most| format!("{words}%{most}"))
}

/// sbatch's arguments for one array.
#[must_use]
pub fn sbatch(
    job: &Job,
    folder: &Path,
    array: &str,
    offset: usize,
    partition: Option<&str>,
) -> Vec<String> {
    let Resources { cpus, memory_mib, minutes } = job.resources;
    let mut words = vec![
        "--parsable".to_owned(),
        format!("--job-name=archibald-{}", job.name),
        format!("--array={array}"),
        // A node that fails gives its tasks back.
        "--requeue".to_owned(),
        "--nodes=1".to_owned(),
        "--ntasks=1".to_owned(),
        format!("--cpus-per-task={cpus}"),
        format!("--mem={memory_mib}M"),
        format!("--time={minutes}"),
        "--input=/dev/null".to_owned(),
        format!("--output={}/logs/%A_%a.txt", folder.display()),
        "--open-mode=append".to_owned(),
        format!("--chdir={}", folder.display()),
    ];
    words.extend(partition.map(|partition| format!("--partition={partition}")));
    words.push(folder.join("task.sh").display().to_string());
    words.push(offset.to_string());
    words
}

/// What every task of an array runs.
fn script(program: &Path, folder: &Path) -> String {
    let quoted = |path: &Path| format!("'{}'", path.display().to_string().replace('\'', r"'\''"));
    format!(
        "#!/bin/sh\n# Written by `archibald farm`: one task of an array; $1 is the first one's number in the job.\n\
         # That of the login node is not on every node.\n[ -w \"${{XDG_RUNTIME_DIR:-/}}\" ] || unset XDG_RUNTIME_DIR\n\
         exec {} farm task {} \"$((SLURM_ARRAY_TASK_ID + $1))\"\n",
        quoted(program),
        quoted(folder)
    )
}

/// Reads `squeue --noheader --array --format=%F|%K|%T|%R`.
#[must_use]
pub fn queue(text: &str) -> Vec<(u64, usize, String, String)> {
    let entry = |line: &str| {
        let mut fields = line.trim().splitn(4, '|');
        let id = fields.next()?.parse().ok()?;
        let index = fields.next()?.parse().ok()?;
        Some((id, index, fields.next()?.to_owned(), fields.next()?.to_owned()))
    };
    text.lines().filter_map(entry).collect()
}

/// Reads `scontrol show job --oneliner`: index in the array, state, reason, exit status, node.
#[must_use]
pub fn shown(text: &str) -> Vec<(usize, Ended)> {
    let read = |line: &str| {
        let field = |name: &str| {
            let word =
                line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            word.map(str::to_owned)
        };
        let ended = Ended {
            state: field("JobState")?,
            reason: field("Reason").unwrap_or_default(),
            exit: field("ExitCode").unwrap_or_default(),
            node: field("NodeList").unwrap_or_default(),
        };
        Some((field("ArrayTaskId")?.parse().ok()?, ended))
    };
    text.lines().filter_map(read).collect()
}

/// Reads `sacct --noheader --parsable2 --format=JobID,State,ExitCode,NodeList --allocations`.
#[must_use]
pub fn accounted(text: &str) -> Vec<(usize, Ended)> {
    let read = |line: &str| {
        let mut fields = line.trim().split('|');
        let (_, index) = fields.next()?.split_once('_')?;
        let index = index.parse().ok()?;
        let state = fields.next()?.split_whitespace().next()?.to_owned();
        let exit = fields.next()?.to_owned();
        let node = fields.next().unwrap_or_default().to_owned();
        Some((index, Ended { state, reason: String::new(), exit, node }))
    };
    text.lines().filter_map(read).collect()
}

/// How Slurm says that a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Such as `TIMEOUT`.
    pub state: String,
    /// Why, in a word.
    pub reason: String,
    /// Exit status and signal, as `1:0`.
    pub exit: String,
    /// Where.
    pub node: String,
}

impl Ended {
    fn fault(&self, job: &Job) -> Fault {
        let Resources { memory_mib, minutes, .. } = job.resources;
        let remedy = match self.state.as_str() {
            "TIMEOUT" => Some(format!("It had {minutes} minutes: give it more with --time.")),
            "OUT_OF_MEMORY" => {
                Some(format!("It had {memory_mib} MiB: give it more with --memory."))
            }
            _ => None,
        };
        let exit = if self.exit.is_empty() {
            String::new()
        } else {
            format!(", exit status {}", self.exit)
        };
        let reason = match self.reason.as_str() {
            "" | "None" => String::new(),
            reason => format!(" ({reason})"),
        };
        Fault {
            task: String::new(),
            message: format!("Slurm ended it: {}{reason} on {}{exit}", self.state, self.node),
            // The same time and memory are not enough the next time either.
            again: remedy.is_none(),
            remedy,
            host: String::new(),
        }
    }
}

/// Runs one of Slurm's commands.
fn run(program: &'static str, words: &[String]) -> Result<String, FarmError> {
    let said =
        Command::new(program).args(words).stdin(Stdio::null()).output().map_err(|error| {
            if error.kind() == std::io::ErrorKind::NotFound {
                return FarmError::Missing { program: program.to_owned(), package: "slurm-client" };
            }
            FarmError::Program { program, message: error.to_string() }
        })?;
    if said.status.success() {
        return Ok(String::from_utf8_lossy(&said.stdout).into_owned());
    }
    let message = String::from_utf8_lossy(&said.stderr).trim().to_owned();
    Err(FarmError::Program { program, message })
}

/// The largest index of an array, less one (`MaxArraySize`).
fn largest_array() -> usize {
    let text = run("scontrol", &["show".to_owned(), "config".to_owned()]).unwrap_or_default();
    let line = text.lines().find(|line| line.trim_start().starts_with("MaxArraySize"));
    let size = line.and_then(|line| line.rsplit('=').next()?.trim().parse().ok());
    // Slurm's own default.
    size.unwrap_or(1001).max(1)
}

/// The arrays of a job that were handed in last.
fn arrays(folder: &Path) -> Vec<Array> {
    let text = fs::read(folder.join("slurm.json")).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// What of a job Slurm has waiting or running. Nothing where it cannot be asked.
///
/// # Errors
/// squeue is missing or has no cluster.
pub fn waiting(shared: &Shared, job: &Job) -> Result<Vec<Entry>, FarmError> {
    queued(&arrays(&shared.job(&job.name)))
}

fn queued(arrays: &[Array]) -> Result<Vec<Entry>, FarmError> {
    if arrays.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<String> = arrays.iter().map(|array| array.id.to_string()).collect();
    let words = ["--noheader", "--array", "--format=%F|%K|%T|%R"].map(str::to_owned);
    let words = [&words[..], &[format!("--jobs={}", ids.join(","))]].concat();
    let text = match run("squeue", &words) {
        Ok(text) => text,
        // Of a job that ended some minutes ago it knows nothing more.
        Err(FarmError::Program { message, .. }) if message.contains("Invalid job id") => {
            String::new()
        }
        Err(error) => return Err(error),
    };
    let entry = |(id, index, state, reason): (u64, usize, String, String)| {
        let array = arrays.iter().find(|array| array.id == id)?;
        Some(Entry { task: array.offset + index, state, reason })
    };
    Ok(queue(&text).into_iter().filter_map(entry).collect())
}

impl Slurm {
    fn submit(&self, shared: &Shared, job: &Job, tasks: &[usize]) -> Result<Vec<Array>, FarmError> {
        let folder = shared.job(&job.name);
        let path = folder.join("task.sh");
        fs::write(&path, script(&self.program, &folder)).during("write", &path)?;
        let size = largest_array();
        let mut by_offset: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for task in tasks {
            by_offset.entry(task / size * size).or_default().push(*task);
        }
        let mut arrays = Vec::new();
        for (offset, tasks) in by_offset {
            let array = array_words(&tasks, offset, self.at_once);
            let words = sbatch(job, &folder, &array, offset, self.partition.as_deref());
            let said = run("sbatch", &words);
            // What was handed in already would otherwise run without anybody who waits for it.
            let said = said.inspect_err(|_| cancel_all(&arrays))?;
            let id = said.trim().split(';').next().and_then(|id| id.parse().ok());
            let id = id.ok_or_else(|| FarmError::Program {
                program: "sbatch",
                message: format!("it told no number: {}", said.trim()),
            })?;
            arrays.push(Array { id, offset });
            let path = folder.join("slurm.json");
            let text = serde_json::to_vec(&arrays).unwrap_or_default();
            fs::write(&path, text).during("write", &path)?;
        }
        Ok(arrays)
    }

    /// Waits until nothing of these arrays is left.
    fn wait(
        &self,
        shared: &Shared,
        job: &Job,
        arrays: &[Array],
        watcher: &dyn Watcher,
        cancel: &Cancel,
    ) -> Result<(), FarmError> {
        let mut failures = 0;
        loop {
            if cancel.is_cancelled() {
                cancel_all(arrays);
                return Err(FarmError::Cancelled);
            }
            let left = match queued(arrays) {
                Ok(left) => {
                    failures = 0;
                    left
                }
                // A controller that is busy or restarts does not lose its jobs.
                Err(error @ FarmError::Program { .. }) if failures < 30 => {
                    failures += 1;
                    watcher.progress(0, 0, &error.to_string());
                    thread::sleep(self.poll);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let done = job.tasks.len() - shared.missing(job).len();
            watcher.progress(done, job.tasks.len(), &about(&left));
            if left.is_empty() {
                return Ok(());
            }
            let mut slept = Duration::ZERO;
            while slept < self.poll && !cancel.is_cancelled() {
                let step = Duration::from_millis(50).min(self.poll);
                thread::sleep(step);
                slept += step;
            }
        }
    }
}

/// In a few words: `2 running, 6 pending (Resources)`.
fn about(left: &[Entry]) -> String {
    let mut states: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
    for entry in left {
        let state = states.entry(&entry.state).or_insert((0, ""));
        state.0 += 1;
        if entry.state == "PENDING" {
            state.1 = &entry.reason;
        }
    }
    let word = |(state, (count, reason)): (&str, (usize, &str))| {
        let reason = if reason.is_empty() { String::new() } else { format!(" {reason}") };
        format!("{count} {}{reason}", state.to_lowercase())
    };
    states.into_iter().map(word).collect::<Vec<_>>().join(", ")
}

fn cancel_all(arrays: &[Array]) {
    let ids: Vec<String> = arrays.iter().map(|array| array.id.to_string()).collect();
    if !ids.is_empty() {
        // It is called off whether or not Slurm hears of it.
        let _ = run("scancel", &ids);
    }
}

impl Runner for Slurm {
    fn run(
        &self,
        shared: &Shared,
        job: &Job,
        tasks: &[usize],
        watcher: &dyn Watcher,
        cancel: &Cancel,
    ) -> Result<(), FarmError> {
        let before = arrays(&shared.job(&job.name));
        let arrays = if queued(&before)?.is_empty() {
            self.submit(shared, job, tasks)?
        } else {
            // Somebody was killed while waiting for them.
            watcher.note("going on with what Slurm still has of this job");
            before
        };
        let ids: Vec<String> = arrays.iter().map(|array| array.id.to_string()).collect();
        watcher.note(&format!("Slurm has it as job {}", ids.join(", ")));
        self.wait(shared, job, &arrays, watcher, cancel)?;
        for array in &arrays {
            for (index, ended) in ends(array.id) {
                let Some(task) = job.tasks.get(array.offset + index) else { continue };
                // What the task itself said is more than Slurm knows.
                let told = shared.fault(job, task).is_some();
                if !told && !shared.result(&task.key).is_dir() && ended.state != "COMPLETED" {
                    shared.tell(job, task, ended.fault(job))?;
                }
            }
        }
        for task in tasks.iter().filter_map(|index| job.tasks.get(*index)) {
            if let Some(fault) = shared.fault(job, task) {
                let line = fault.message.lines().next().unwrap_or_default();
                watcher.note(&format!("failed: {}: {line}", task.title));
            }
        }
        Ok(())
    }
}

/// How the tasks of an array ended, from the controller's memory or the accounting, where there is one.
fn ends(id: u64) -> Vec<(usize, Ended)> {
    let words = ["show", "job", "--oneliner"].map(str::to_owned);
    let text = run("scontrol", &[&words[..], &[id.to_string()]].concat()).unwrap_or_default();
    let ends = shown(&text);
    if !ends.is_empty() {
        return ends;
    }
    let words =
        ["--noheader", "--parsable2", "--allocations", "--format=JobID,State,ExitCode,NodeList"];
    let words = [&words.map(str::to_owned)[..], &[format!("--jobs={id}")]].concat();
    accounted(&run("sacct", &words).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::tests::job;

    #[test]
    fn lists_of_tasks_are_written_as_ranges() {
        assert_eq!(array_words(&[0, 1, 2, 5, 7, 8], 0, None), "0-2,5,7-8");
        assert_eq!(array_words(&[1001, 1002, 1005], 1001, Some(4)), "0-1,4%4");
    }

    #[test]
    fn sbatch_asks_for_what_a_task_needs() {
        let words = sbatch(&job(2), Path::new("/farm/jobs/x"), "0-1", 0, Some("audio"));
        for word in [
            "--array=0-1",
            "--cpus-per-task=1",
            "--mem=512M",
            "--time=30",
            "--requeue",
            "--partition=audio",
            "--output=/farm/jobs/x/logs/%A_%a.txt",
        ] {
            assert!(words.iter().any(|found| found == word), "{word} is not in {words:?}");
        }
        assert_eq!(words[words.len() - 2..], ["/farm/jobs/x/task.sh", "0"]);
        let text = script(Path::new("/it's/archibald"), Path::new("/farm"));
        assert!(text.contains(r"exec '/it'\''s/archibald' farm task '/farm'"), "{text}");
    }

    #[test]
    fn answers_are_read() {
        let text = "12|3|RUNNING|node1\n12|4|PENDING|(Resources)\nslurm_load_jobs error\n";
        assert_eq!(
            queue(text),
            [
                (12, 3, "RUNNING".to_owned(), "node1".to_owned()),
                (12, 4, "PENDING".to_owned(), "(Resources)".to_owned())
            ]
        );
        let text = "JobId=13 ArrayJobId=12 ArrayTaskId=3 JobName=a JobState=TIMEOUT Reason=TimeLimit ExitCode=0:15 NodeList=n2\n\
                    JobId=14 ArrayJobId=12 ArrayTaskId=4 JobName=a JobState=COMPLETED Reason=None ExitCode=0:0 NodeList=n1\n";
        let ends = shown(text);
        assert_eq!(ends.len(), 2);
        let fault = ends[0].1.fault(&job(1));
        assert_eq!(fault.message, "Slurm ended it: TIMEOUT (TimeLimit) on n2, exit status 0:15");
        assert!(fault.remedy.unwrap().contains("--time") && !fault.again);
        let ends = accounted("12_3|CANCELLED by 0|0:0|n1\n12_[5-9]|PENDING|0:0|\n");
        assert_eq!(ends.len(), 1);
        assert_eq!((ends[0].0, ends[0].1.state.as_str()), (3, "CANCELLED"));
        assert!(ends[0].1.fault(&job(1)).again);
    }

    #[test]
    fn what_waits_is_told_with_its_reason() {
        let entry = |state: &str, reason: &str| Entry {
            task: 0,
            state: state.to_owned(),
            reason: reason.to_owned(),
        };
        let left = [
            entry("RUNNING", "n1"),
            entry("PENDING", "(Resources)"),
            entry("PENDING", "(Resources)"),
        ];
        assert_eq!(about(&left), "2 pending (Resources), 1 running");
    }
}
