//! Running the system's programs: logged, watched line by line, ended with the build, and kept in
//! namespaces of their own. What they are run for is in the modules named after that.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, geteuid, kill_process_group};

use crate::error::During;
use crate::{BuildError, Cancel, Tools, space};

/// The time that every file of an image bears that was not older: the day Debian 13 came out. Any
/// fixed value would do; what matters is that two builds agree.
pub(crate) const EPOCH: &str = "1754697600";

const POLL: Duration = Duration::from_millis(50);
const LAST_LINES: usize = 15;

/// How a program that installs packages is kept apart from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// Root, in mount and process namespaces that vanish with it.
    Namespaces,
    /// Root in a container that may not create namespaces; mmdebstrap then does without mounts.
    None,
    /// An ordinary user who is root in a user namespace.
    UserNamespace,
}

impl Isolation {
    /// Tries what this process may do.
    pub(crate) fn detect(tools: &Tools) -> Result<Self, BuildError> {
        let wanted = if geteuid().is_root() { Self::Namespaces } else { Self::UserNamespace };
        let unshare = tools.find("unshare")?;
        let trial = wanted.command(tools, "true")?.output().during("run", &unshare)?;
        match (trial.status.success(), wanted) {
            (true, wanted) => Ok(wanted),
            (false, Self::UserNamespace) => Err(BuildError::NoUserNamespace {
                message: String::from_utf8_lossy(&trial.stderr).trim().to_owned(),
            }),
            (false, _) => Ok(Self::None),
        }
    }

    /// `program`, to be run in these namespaces.
    pub(crate) fn command(self, tools: &Tools, program: &str) -> Result<Command, BuildError> {
        let found = tools.find(program)?;
        let namespaces: &[&str] = match self {
            Self::None => &[],
            Self::Namespaces => &["--mount", "--pid", "--fork", "--kill-child"],
            Self::UserNamespace => &[
                "--user",
                "--map-auto",
                "--map-root-user",
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
            ],
        };
        if namespaces.is_empty() {
            return command(tools, program);
        }
        let mut command = command(tools, "unshare")?;
        command.args(namespaces).arg("--").arg(found);
        Ok(command)
    }
}

/// `program`, which dies when this thread does, in a process group of its own, with everything in
/// its environment that could show in its output set to a fixed value.
pub(crate) fn command(tools: &Tools, program: &str) -> Result<Command, BuildError> {
    let mut command = Command::new(tools.find("setpriv")?);
    command
        .args(["--pdeathsig", "KILL", "--"])
        .arg(tools.find(program)?)
        .process_group(0)
        .stdin(Stdio::null())
        .env("PATH", tools.path())
        .env("HOME", "/root")
        .env("LC_ALL", "C.UTF-8")
        .env("TZ", "UTC")
        .env("PYTHONHASHSEED", "0")
        .env("PERL_HASH_SEED", "0")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("SOURCE_DATE_EPOCH", EPOCH)
        .env("E2FSPROGS_FAKE_TIME", EPOCH);
    // What the caller's session says about the caller must not reach maintainer scripts.
    for name in [
        "LANG",
        "LANGUAGE",
        "USER",
        "LOGNAME",
        "MAIL",
        "HOSTNAME",
        "DISPLAY",
        "SUDO_USER",
        "SUDO_UID",
        "SUDO_GID",
        "SUDO_COMMAND",
        "XDG_RUNTIME_DIR",
        "XDG_CONFIG_HOME",
        "XDG_CACHE_HOME",
        "XDG_DATA_HOME",
        "XDG_STATE_HOME",
        "DBUS_SESSION_BUS_ADDRESS",
        "SSH_AUTH_SOCK",
        "PERL5LIB",
        "PYTHONPATH",
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "TMPDIR",
    ] {
        command.env_remove(name);
    }
    Ok(command)
}

/// A program whose output goes to a log and which can be called off.
pub(crate) struct Watched<'a> {
    pub(crate) action: &'static str,
    pub(crate) program: &'static str,
    /// The log it appends to.
    pub(crate) log: &'a Path,
    pub(crate) cancel: &'a Cancel,
}

impl Watched<'_> {
    /// Runs `command` to its end, hands every line of its output to `line`, and fails unless it
    /// succeeds. An error from `line` ends the program.
    pub(crate) fn run(
        &self,
        command: &mut Command,
        mut line: impl FnMut(&str) -> Result<(), BuildError>,
    ) -> Result<(), BuildError> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log)
            .during("write", self.log)?;
        let mut reader = File::open(self.log).during("read", self.log)?;
        reader.seek(SeekFrom::End(0)).during("read", self.log)?;
        let both = log.try_clone().during("write", self.log)?;
        let mut child =
            Group(command.stdout(log).stderr(both).spawn().during("run", Path::new(self.program))?);
        let mut lines = Lines::default();
        let status = loop {
            let ended = child.0.try_wait().during("wait for", Path::new(self.program))?;
            for text in lines.read(&mut reader).during("read", self.log)? {
                line(&text)?;
            }
            if let Some(status) = ended {
                break status;
            }
            if self.cancel.is_cancelled() {
                return Err(BuildError::Cancelled);
            }
            thread::sleep(POLL);
        };
        if status.success() { Ok(()) } else { Err(self.failure(status, &lines.last())) }
    }

    fn failure(&self, status: ExitStatus, last_lines: &str) -> BuildError {
        let dir = self.log.parent().unwrap_or(self.log);
        let available = space::available(dir);
        if last_lines.contains("No space left on device") || available < 1 << 20 {
            return BuildError::NoSpace { dir: dir.to_owned(), needed: None, available };
        }
        BuildError::Command {
            action: self.action,
            program: self.program,
            status: status.to_string(),
            last_lines: last_lines.to_owned(),
            log: self.log.to_owned(),
        }
    }
}

/// Ends the child's whole process group when the run is left before the child's end.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
                // It may have ended since; there is nothing to be done about any other failure.
                let _ = kill_process_group(pid, Signal::KILL);
            }
            let _ = self.0.wait();
        }
    }
}

/// Whole lines out of a growing log.
#[derive(Default)]
struct Lines {
    rest: Vec<u8>,
    last: VecDeque<String>,
}

impl Lines {
    fn read(&mut self, log: &mut File) -> std::io::Result<Vec<String>> {
        log.read_to_end(&mut self.rest)?;
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else {
            return Ok(Vec::new());
        };
        let after = self.rest.split_off(end + 1);
        let whole = std::mem::replace(&mut self.rest, after);
        let lines: Vec<String> =
            String::from_utf8_lossy(&whole).lines().map(str::to_owned).collect();
        for line in &lines {
            self.keep(line);
        }
        Ok(lines)
    }

    fn keep(&mut self, line: &str) {
        if self.last.len() == LAST_LINES {
            self.last.pop_front();
        }
        self.last.push_back(line.to_owned());
    }

    fn last(&mut self) -> String {
        if !self.rest.is_empty() {
            let rest = String::from_utf8_lossy(&self.rest).into_owned();
            self.keep(&rest);
        }
        self.last.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
    }
}

/// Removes a directory of a build, also files that belong to the guest's users.
pub(crate) fn remove_tree(tools: &Tools, dir: &Path) -> Result<(), BuildError> {
    match std::fs::remove_dir_all(dir) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(_) => {
            let output = Isolation::detect(tools)?
                .command(tools, "rm")?
                .args(["-rf", "--one-file-system", "--"])
                .arg(dir)
                .output()
                .during("remove", dir)?;
            if output.status.success() {
                return Ok(());
            }
            Err(std::io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
                .during("remove", dir)
        }
    }
}

/// The log of one kind of step, emptied.
pub(crate) fn fresh_log(dir: &Path, name: &str) -> Result<PathBuf, BuildError> {
    std::fs::create_dir_all(dir).during("create", dir)?;
    let log = dir.join(name);
    File::create(&log).during("write", &log)?;
    Ok(log)
}
