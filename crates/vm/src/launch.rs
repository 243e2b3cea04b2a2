//! Starting and stopping: QEMU by way of its keeper, threads placed before the first instruction,
//! then the wait for the guest's own word.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use archibald_machine::Machine;
use archibald_machine::units::CpuSet;
use serde_json::json;

use crate::instance::{Instance, InstanceError, Status};
use crate::keeper::KEEP;
use crate::placement::{self, Placed};
use crate::qmp::{Qmp, QmpError};
use crate::ready::{Signal, Signals};
use crate::snapshot::{self, Migration};

/// How a machine is started.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The instance; its disk and credentials are in place.
    pub instance: &'a Instance,
    /// What it should be.
    pub machine: &'a Machine,
    /// The keeper's program and first arguments; QEMU's program and arguments are put after them.
    pub keeper: Vec<OsString>,
    /// QEMU's program.
    pub qemu: PathBuf,
    /// QEMU's arguments.
    pub arguments: Vec<String>,
    /// The host's online CPUs.
    pub online: CpuSet,
    /// How long the guest may take to be ready.
    pub patience: Duration,
    /// The state of a snapshot that it goes on from instead of booting; its disk has been put back.
    pub state: Option<PathBuf>,
}

/// What a start tells while it goes on.
#[derive(Debug, Clone)]
pub enum Event {
    /// QEMU's threads are in their places.
    Placed(Vec<Placed>),
    /// The guest has come this far.
    Phase(String),
}

/// Why a machine did not start. Whatever was started has been ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A file or process refused.
    #[error("{what}: {source}")]
    Host {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// QEMU ended before the guest was ready.
    #[error("QEMU ended before the machine was ready ({how})\n{log}")]
    Ended {
        /// How.
        how: String,
        /// What QEMU said, or the guest's console.
        log: String,
    },
    /// QEMU did not do as it was told.
    #[error(transparent)]
    Qmp(#[from] QmpError),
    /// The guest says that it cannot be ready.
    #[error("the machine came up, but {what} failed\n{log}")]
    Failed {
        /// What failed.
        what: String,
        /// Its last words.
        log: String,
    },
    /// The guest said nothing for too long.
    #[error("the machine was not ready after {} seconds; its last phase was \"{phase}\"\n{log}", after.as_secs())]
    NotReady {
        /// How long it had.
        after: Duration,
        /// How far it came.
        phase: String,
        /// The console's last lines.
        log: String,
    },
    /// The snapshot's memory was not taken.
    #[error("QEMU did not take the snapshot's memory: {message}\n{log}")]
    State {
        /// Why.
        message: String,
        /// What QEMU said.
        log: String,
    },
    /// The caller called it off.
    #[error("called off")]
    Cancelled,
    /// The instance's files refused.
    #[error(transparent)]
    Instance(#[from] InstanceError),
}

impl Launch<'_> {
    /// Starts the machine and waits until it is ready.
    ///
    /// # Errors
    /// [`StartError`]; no process is left behind then.
    pub fn start(&self, cancel: &AtomicBool, mut on: impl FnMut(Event)) -> Result<(), StartError> {
        let files = self.instance.files();
        let host = |what: &str| {
            let what = what.to_owned();
            move |source| StartError::Host { what, source }
        };
        fs::create_dir_all(self.instance.runtime())
            .map_err(host(&format!("{}", self.instance.runtime().display())))?;
        for stale in [&files.ready, &files.qmp, &files.console, &self.instance.file("exit")] {
            let _ = fs::remove_file(stale);
        }
        let keeper = Keeper(self.spawn_keeper()?);
        let outcome = self.follow(&keeper, cancel, &mut on);
        match outcome {
            Ok(()) => keeper.keep().map_err(host("the keeper")),
            Err(error) => {
                keeper.call_off();
                Err(error)
            }
        }
    }

    fn spawn_keeper(&self) -> Result<Child, StartError> {
        let mut words = self.keeper.iter();
        let program = words.next().cloned().unwrap_or_default();
        Command::new(&program)
            .args(words)
            .arg("--")
            .arg(&self.qemu)
            .args(&self.arguments)
            .args(self.state.iter().flat_map(|_| ["-incoming", "defer"]))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|source| StartError::Host {
                what: format!("starting {}", Path::new(&program).display()),
                source,
            })
    }

    fn follow(
        &self,
        keeper: &Keeper,
        cancel: &AtomicBool,
        on: &mut impl FnMut(Event),
    ) -> Result<(), StartError> {
        let deadline = Instant::now() + self.patience;
        let files = self.instance.files();
        let phase = "start of QEMU";
        let mut qmp = self.wait(keeper, cancel, deadline, phase, || {
            Ok(files.qmp.exists().then(|| Qmp::connect(&files.qmp)).and_then(Result::ok))
        })?;
        if let Some(state) = &self.state {
            on(Event::Phase("memory".to_owned()));
            self.take_memory(&mut qmp, state, keeper, cancel, deadline)?;
        }
        on(Event::Placed(self.place(&mut qmp)?));
        qmp.execute("cont", json!({}))?;
        if self.state.is_some() {
            // A paused guest would not hear of it.
            snapshot::announce(&mut qmp)?;
        }
        // QEMU talks to one client at a time; `status` may ask while the guest boots.
        drop(qmp);
        let mut signals = Signals::of(files.ready.clone());
        let mut latest = if self.state.is_some() { "clock" } else { "kernel" }.to_owned();
        let mut ready = false;
        while !ready {
            let new = self.wait(keeper, cancel, deadline, &latest, || {
                let new = signals.poll().map_err(|source| StartError::Host {
                    what: files.ready.display().to_string(),
                    source,
                })?;
                Ok((!new.is_empty()).then_some(new))
            })?;
            for signal in new {
                match signal {
                    Signal::Phase(name) => {
                        on(Event::Phase(name.clone()));
                        latest = name;
                    }
                    Signal::Ready => ready = true,
                    Signal::Failed { what, log } => return Err(StartError::Failed { what, log }),
                }
            }
        }
        if self.state.is_some() {
            snapshot::withdraw(&mut Qmp::connect(&files.qmp)?)?;
        }
        Ok(())
    }

    /// Gives QEMU a snapshot's memory, and waits until it has read all of it.
    fn take_memory(
        &self,
        qmp: &mut Qmp,
        state: &Path,
        keeper: &Keeper,
        cancel: &AtomicBool,
        deadline: Instant,
    ) -> Result<(), StartError> {
        let refused = |message: String| StartError::State {
            message,
            log: tail(&self.instance.file("qemu.log"), 20),
        };
        let sent = snapshot::send(qmp, self.instance, state).map_err(|e| refused(e.to_string()))?;
        self.wait(keeper, cancel, deadline, "memory", || match snapshot::migration(qmp) {
            Ok(Migration::Completed) => Ok(Some(())),
            Ok(Migration::Failed(why)) => Err(refused(why)),
            // A QEMU that does not take it ends; its log then says why.
            Ok(Migration::UnderWay) | Err(_) => Ok(None),
        })?;
        match sent.join() {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(refused(error.to_string())),
            Err(_) => Err(refused("it was not sent".to_owned())),
        }
    }

    /// Asks again and again until there is an answer, the keeper ends, the time is up, or the caller
    /// calls it off.
    fn wait<T>(
        &self,
        keeper: &Keeper,
        cancel: &AtomicBool,
        deadline: Instant,
        phase: &str,
        mut ask: impl FnMut() -> Result<Option<T>, StartError>,
    ) -> Result<T, StartError> {
        loop {
            // Whether it has ended is asked first: its last words are then in the files.
            let ended = keeper.ended();
            if let Some(answer) = ask()? {
                return Ok(answer);
            }
            if ended {
                return Err(self.ended());
            }
            if cancel.load(Ordering::Relaxed) {
                return Err(StartError::Cancelled);
            }
            if Instant::now() >= deadline {
                let log = tail(&self.instance.files().console, 20);
                return Err(StartError::NotReady {
                    after: self.patience,
                    phase: phase.to_owned(),
                    log,
                });
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn ended(&self) -> StartError {
        let how = fs::read_to_string(self.instance.file("exit"))
            .map_or_else(|_| "its keeper did not start it".to_owned(), |how| how.trim().to_owned());
        let mut log = tail(&self.instance.file("qemu.log"), 20);
        if log.is_empty() {
            log = tail(&self.instance.files().console, 20);
        }
        StartError::Ended { how, log }
    }

    fn place(&self, qmp: &mut Qmp) -> Result<Vec<Placed>, StartError> {
        let vcpus = placement::vcpu_threads(qmp)?;
        let Status::Running { pid } = self.instance.status()? else {
            return Err(self.ended());
        };
        let emulator = placement::other_threads(pid, &vcpus)
            .map_err(|source| StartError::Host { what: format!("/proc/{pid}/task"), source })?;
        Ok(placement::apply(placement::plan(self.machine, &self.online, &vcpus, &emulator)))
    }
}

/// The keeper as a child of this process, until it is told to keep.
struct Keeper(Child);

impl Keeper {
    fn ended(&self) -> bool {
        // waitid with WNOWAIT: the exit status stays for `call_off`.
        let Some(pid) = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw)
        else {
            return true;
        };
        let options = rustix::process::WaitIdOptions::EXITED
            | rustix::process::WaitIdOptions::NOHANG
            | rustix::process::WaitIdOptions::NOWAIT;
        !matches!(rustix::process::waitid(rustix::process::WaitId::Pid(pid), options), Ok(None))
    }

    fn keep(mut self) -> io::Result<()> {
        self.0.stdin.take().map_or(Ok(()), |mut pipe| pipe.write_all(&[KEEP]))
    }

    fn call_off(mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// The last lines of a file, without control characters; empty when there is none.
#[must_use]
pub fn tail(path: &Path, lines: usize) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<String> = text
        .lines()
        .map(|line| line.chars().filter(|c| !c.is_control() || *c == '\t').collect::<String>())
        .filter(|line| !line.trim().is_empty())
        .collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}

/// How a machine was brought to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// The guest shut itself down.
    Cleanly,
    /// It did not in time, and QEMU was ended.
    Forced,
    /// It did not run.
    AlreadyDown,
}

/// Shuts the machine down by its power button; after `patience`, or at once when that is zero, ends
/// QEMU.
///
/// # Errors
/// When the instance's files cannot be read.
pub fn stop(instance: &Instance, patience: Duration) -> Result<Stopped, InstanceError> {
    let Status::Running { pid } = instance.status()? else {
        return Ok(Stopped::AlreadyDown);
    };
    if !patience.is_zero() {
        let pressed = Qmp::connect(&instance.files().qmp)
            .and_then(|mut qmp| qmp.execute("system_powerdown", json!({})));
        if pressed.is_ok() && wait_down(instance, patience)? {
            return Ok(Stopped::Cleanly);
        }
    }
    let quit = Qmp::connect(&instance.files().qmp).and_then(|mut q| q.execute("quit", json!({})));
    if quit.is_err() {
        // A QEMU that does not answer on its socket is ended by its pid, which its keeper's lock
        // vouches for.
        if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
    wait_down(instance, Duration::from_secs(10))?;
    let _ = instance.write("exit", b"stopped\n", 0o644);
    Ok(Stopped::Forced)
}

fn wait_down(instance: &Instance, patience: Duration) -> Result<bool, InstanceError> {
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        if !matches!(instance.status()?, Status::Running { .. }) {
            return Ok(true);
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_has_no_escape_sequences_and_no_blank_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        fs::write(&path, "one\n\n\x1b[0;32mtwo\r\nthree\n").unwrap();
        assert_eq!(tail(&path, 2), "[0;32mtwo\nthree");
        assert_eq!(tail(&dir.path().join("none"), 2), "");
    }
}
