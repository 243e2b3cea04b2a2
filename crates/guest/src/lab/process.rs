//! Programs that an experiment starts: each in a process group of its own, its output in a file in
//! memory.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::lchown;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::graph::Session;

const POLL: Duration = Duration::from_millis(10);

/// A program that runs.
pub(super) struct Process {
    child: Child,
}

impl Process {
    /// Starts `words` in `folder`; both streams go to the end of `log`.
    pub(super) fn start(words: &[String], folder: &Path, log: &Path) -> Result<Self, String> {
        let (program, arguments) = words.split_first().ok_or("nothing to start")?;
        let told = |error: io::Error| format!("{program}: {error}");
        let output = OpenOptions::new().create(true).append(true).open(log).map_err(told)?;
        Self::spawn(program, arguments, folder, output.try_clone().map_err(told)?, output)
            .map_err(told)
    }

    /// As [`Process::start`], with the two streams in files of their own.
    pub(super) fn start_apart(
        words: &[String],
        folder: &Path,
        out: &Path,
        err: &Path,
    ) -> Result<Self, String> {
        let (program, arguments) = words.split_first().ok_or("nothing to start")?;
        let told = |error: io::Error| format!("{program}: {error}");
        let (out, err) = (File::create(out).map_err(told)?, File::create(err).map_err(told)?);
        Self::spawn(program, arguments, folder, out, err).map_err(told)
    }

    /// As [`Process::start`], with all three streams on a terminal.
    pub(super) fn start_on(
        words: &[String],
        folder: &Path,
        terminal: &File,
    ) -> Result<Self, String> {
        let (program, arguments) = words.split_first().ok_or("nothing to start")?;
        let again = || terminal.try_clone();
        let start = || {
            let input = Stdio::from(again()?);
            Self::spawn_reading(program, arguments, folder, input, again()?, again()?)
        };
        start().map_err(|error| format!("{program}: {error}"))
    }

    fn spawn(
        program: &str,
        arguments: &[String],
        folder: &Path,
        out: File,
        err: File,
    ) -> io::Result<Self> {
        Self::spawn_reading(program, arguments, folder, Stdio::null(), out, err)
    }

    fn spawn_reading(
        program: &str,
        arguments: &[String],
        folder: &Path,
        input: Stdio,
        out: File,
        err: File,
    ) -> io::Result<Self> {
        let child = Command::new(program)
            .args(arguments)
            .current_dir(folder)
            .stdin(input)
            .stdout(out)
            .stderr(err)
            .process_group(0)
            .spawn()?;
        Ok(Self { child })
    }

    /// Process group, which its descendants are in unless they left it.
    pub(super) fn group(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for its end.
    pub(super) fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            match self.ended() {
                None if Instant::now() < deadline => thread::sleep(POLL),
                ended => return ended,
            }
        }
    }

    /// Asks the group to end and gives it `grace` for that.
    pub(super) fn stop(&mut self, grace: Duration) {
        self.signal(Signal::TERM);
        self.wait(grace);
    }

    /// The same by an interrupt, which runuser(1) leaves to its program; told to end, it kills that after
    /// two seconds.
    pub(super) fn interrupt(&mut self, grace: Duration) {
        self.signal(Signal::INT);
        self.wait(grace);
    }

    /// Ends the group at once.
    pub(super) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait(Duration::from_secs(1));
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, signal);
        }
    }
}

/// How a program ended, for a person.
pub(super) fn how(status: ExitStatus) -> String {
    // A shell and runuser tell a signal as 128 and its number.
    let signal =
        status.signal().or_else(|| status.code().filter(|code| *code > 128).map(|code| code - 128));
    match (signal, status.code()) {
        (Some(signal), _) => format!("was ended by signal {signal}"),
        (None, Some(code)) => format!("ended with status {code}"),
        (None, None) => "ended".to_owned(),
    }
}

/// Gives a folder and all in it to the session's user.
pub(super) fn own_tree(path: &Path, session: &Session) -> io::Result<()> {
    let id = Some(session.uid);
    lchown(path, id, id)?;
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            own_tree(&entry?.path(), session)?;
        }
    }
    Ok(())
}

/// A shell command of the session's user, with the limits of a log-in.
pub(super) fn as_user(session: &Session, command: &str) -> Vec<String> {
    let shell = [
        "env",
        &format!("HOME=/home/{}", session.user),
        &format!("USER={}", session.user),
        // A program that finds no server is told so, and does not start one of its own.
        "JACK_NO_START_SERVER=1",
        "sh",
        "-c",
        command,
    ];
    session.program(&shell).words
}
