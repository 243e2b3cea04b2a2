//! Doing and undoing what the plan says, one step after the other.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use archibald_machine::{Machine, NetworkMode};
use rustix::fs::{FlockOperation, flock};

use super::plan::{self, Made, Plan, Refused, Step};
use super::{Facts, look, rules};
use crate::instance::{Instance, InstanceError};

/// The file of an instance that says what was made for it.
const JOURNAL: &str = "network.json";

/// Runs the host's programs.
pub trait Programs {
    /// Runs one to its end and returns its standard output.
    ///
    /// # Errors
    /// When it is not there, or ends with a failure.
    fn run(&mut self, words: &[&str], input: Option<&str>) -> Result<String, NetworkError>;
}

/// The host's real programs.
#[derive(Debug, Clone)]
pub struct System {
    /// Where they are looked for.
    pub path: OsString,
}

impl Programs for System {
    fn run(&mut self, words: &[&str], input: Option<&str>) -> Result<String, NetworkError> {
        let failed = |reason: String| NetworkError::Command { command: words.join(" "), reason };
        let (program, arguments) = words.split_first().unwrap_or((&"", &[]));
        let mut child = Command::new(program)
            .args(arguments)
            .env("PATH", &self.path)
            .env("LC_ALL", "C")
            .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        if let Some((mut pipe, input)) = child.stdin.take().zip(input) {
            // One that ends before it has read all says why by itself.
            let _ = pipe.write_all(input.as_bytes());
        }
        let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
        if !output.status.success() {
            return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Why a machine's network could not be made or taken away.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// The host cannot give it; nothing was touched.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A command failed.
    #[error("`{command}` failed: {reason}")]
    Command {
        /// The command.
        command: String,
        /// What it said.
        reason: String,
    },
    /// A file refused.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The instance's files refused.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// The journal cannot be read.
    #[error("{path} is damaged: {reason}")]
    Journal {
        /// Where.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl NetworkError {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Refused(refused) => refused.remedy(),
            Self::Command { .. } | Self::File { .. } => {
                "See the message above; as root, `archibald stop` takes away what is left."
                    .to_owned()
            }
            Self::Instance(_) => "See the message above.".to_owned(),
            Self::Journal { path, .. } => format!(
                "Take away the links and tables by hand (ip link, nft list tables: names with \"ar-\" and \"archibald-\"), then remove {}.",
                path.display()
            ),
        }
    }
}

/// Makes a machine's network, or tells why it cannot be had. `step` is told of each step before it is
/// done. What an earlier start has left is taken away first.
///
/// # Errors
/// [`NetworkError`]; nothing is left then.
pub fn bring_up(
    instance: &Instance,
    machine: &Machine,
    root: &Path,
    programs: &mut dyn Programs,
    step: &mut dyn FnMut(&str),
) -> Result<Option<Plan>, NetworkError> {
    let _lock = lock(instance)?;
    take_down_locked(instance, root, programs, step)?;
    if matches!(machine.network.mode, NetworkMode::User) {
        return Ok(None);
    }
    let facts = look(root, programs)?;
    let Some(plan) = plan::plan(machine, &facts)? else { return Ok(None) };
    let journal = serde_json::to_vec_pretty(&plan.made).unwrap_or_default();
    step("write the journal");
    instance.write(JOURNAL, &journal, 0o644)?;
    let made = plan.steps.iter().try_for_each(|one| take(one, root, programs, step));
    if let Err(error) = made {
        // The first failure is the one to tell; the journal stays if this fails too.
        let _ = take_down_locked(instance, root, programs, step);
        return Err(error);
    }
    Ok(Some(plan))
}

/// Takes away what was made for a machine, if anything was, and says whether there was something.
///
/// # Errors
/// [`NetworkError`]; the journal stays, and the next call goes on.
pub fn take_down(
    instance: &Instance,
    root: &Path,
    programs: &mut dyn Programs,
    step: &mut dyn FnMut(&str),
) -> Result<bool, NetworkError> {
    if !instance.file(JOURNAL).exists() {
        return Ok(false);
    }
    let _lock = lock(instance)?;
    take_down_locked(instance, root, programs, step)
}

fn take_down_locked(
    instance: &Instance,
    root: &Path,
    programs: &mut dyn Programs,
    step: &mut dyn FnMut(&str),
) -> Result<bool, NetworkError> {
    let Some(made) = journal(instance)? else { return Ok(false) };
    let facts = look(root, programs)?;
    for one in plan::undo(&made, &facts) {
        take(&one, root, programs, step)?;
    }
    step("remove the journal");
    let path = instance.file(JOURNAL);
    fs::remove_file(&path).map_err(|source| NetworkError::File { path, source })?;
    Ok(true)
}

fn journal(instance: &Instance) -> Result<Option<Made>, NetworkError> {
    let path = instance.file(JOURNAL);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(NetworkError::File { path, source }),
    };
    let made: Made = serde_json::from_slice(&bytes)
        .map_err(|error| NetworkError::Journal { path: path.clone(), reason: error.to_string() })?;
    match made.schema {
        plan::SCHEMA => Ok(Some(made)),
        other => {
            let reason = format!("its form is {other}, and this program knows {}", plan::SCHEMA);
            Err(NetworkError::Journal { path, reason })
        }
    }
}

fn take(
    one: &Step,
    root: &Path,
    programs: &mut dyn Programs,
    step: &mut dyn FnMut(&str),
) -> Result<(), NetworkError> {
    match one {
        Step::Run { words, input } => {
            step(&words.join(" "));
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            programs.run(&words, input.as_deref()).map(drop)
        }
        Step::Write { path, text } => {
            step(&one.to_string());
            let path = root.join(path.trim_start_matches('/'));
            fs::write(&path, text).map_err(|source| NetworkError::File { path, source })
        }
    }
}

/// Only one at a time changes what machines share. The lock is on the directory of all instances
/// itself, so that nothing of it is left behind.
fn lock(instance: &Instance) -> Result<File, NetworkError> {
    let directory = instance.directory().parent().unwrap_or(Path::new("/")).to_owned();
    let file =
        fs::create_dir_all(&directory).and_then(|()| File::open(&directory)).and_then(|file| {
            flock(&file, FlockOperation::LockExclusive)?;
            Ok(file)
        });
    file.map_err(|source| NetworkError::File { path: directory, source })
}

/// What of a running machine's network is not as it was made; empty when all is in force.
///
/// # Errors
/// When the host cannot be looked at, or the journal cannot be read.
pub fn lacks(
    instance: &Instance,
    root: &Path,
    programs: &mut dyn Programs,
) -> Result<Vec<String>, NetworkError> {
    let Some(made) = journal(instance)? else { return Ok(vec!["no network was made".to_owned()]) };
    let facts: Facts = look(root, programs)?;
    let mut lacks = Vec::new();
    match facts.link(&made.card) {
        None => lacks.push(format!("the card {} is not there", made.card)),
        Some(link) if link.master.as_deref() != Some(made.bridge.as_str()) => {
            lacks.push(format!("the card {} is not on {}", made.card, made.bridge));
        }
        Some(_) => {}
    }
    if !facts.forwarding {
        lacks.push("the host does not forward: the machine has no way outwards".to_owned());
    }
    let table = rules::table(&made.machine);
    for family in ["inet", "bridge"] {
        let rules = programs.run(&["nft", "list", "table", family, &table], None);
        if !rules.is_ok_and(|rules| rules.contains("chain machine")) {
            lacks.push(format!("the rules are not in force: table {family} {table}"));
        }
    }
    Ok(lacks)
}
