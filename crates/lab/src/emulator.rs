//! One QEMU of the lab: started, asked, waited for, and gone when the value is.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use archibald_image::Cancel;
use archibald_vm::qemu::{Qemu, spawn};
use archibald_vm::qmp::{Qmp, QmpError};
use serde_json::json;

use crate::LabError;
use crate::error::{During, last_lines};
use crate::machine::{Console, Files, Hardware, Start, argv};

/// How often a wait looks whether it was called off.
const GLANCE: Duration = Duration::from_millis(200);

/// A running QEMU. It is killed when the value is dropped, and when the thread that started it ends.
#[derive(Debug)]
pub(crate) struct Emulator {
    child: Child,
    qmp: Qmp,
    log: PathBuf,
    console: Console,
}

/// How a wait for the guest ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waited {
    /// The guest has paused itself.
    Paused,
    /// It switched itself off, or QEMU ended.
    Ended,
    /// Neither, within the time given.
    Late,
}

impl Emulator {
    /// Starts QEMU; its own output goes to `log`.
    pub(crate) fn start(
        qemu: &Qemu,
        hardware: &Hardware,
        files: &Files,
        start: Start,
        log: &Path,
    ) -> Result<Self, LabError> {
        let output = File::create(log).during("write", log)?;
        let (ours, theirs) = UnixStream::pair().during("connect", &qemu.program)?;
        let arguments = argv(hardware, files, start);
        let mut child =
            spawn(&qemu.program, &arguments, std::os::fd::OwnedFd::from(theirs), &output)
                .during("start", &qemu.program)?;
        let told = |message: String| LabError::Qemu {
            message,
            log: last_lines(&fs::read_to_string(log).unwrap_or_default()),
        };
        match Qmp::greet(ours) {
            Ok(qmp) => Ok(Self { child, qmp, log: log.to_owned(), console: files.console.clone() }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(told(error.to_string()))
            }
        }
    }

    /// Writes the paused machine's state to `file`, without the memory that it shares with the host.
    pub(crate) fn save(&mut self, file: &Path, cancel: &Cancel) -> Result<(), LabError> {
        self.ignore_shared()?;
        // A terabyte a second: no limit.
        self.ask("migrate-set-parameters", json!({ "max-bandwidth": 1_u64 << 40 }))?;
        let uri = format!("exec:cat > {}", quoted(file));
        self.ask("migrate", json!({ "uri": uri }))?;
        self.migrated(cancel)
    }

    /// Reads a state back; the machine is then paused.
    pub(crate) fn restore(&mut self, file: &Path, cancel: &Cancel) -> Result<(), LabError> {
        self.ignore_shared()?;
        let uri = format!("exec:cat {}", quoted(file));
        self.ask("migrate-incoming", json!({ "uri": uri }))?;
        self.migrated(cancel)
    }

    /// Lets the paused machine go on.
    pub(crate) fn go_on(&mut self) -> Result<(), LabError> {
        self.ask("cont", json!({})).map(drop)
    }

    /// Waits until the guest pauses itself or ends.
    pub(crate) fn wait(&mut self, limit: Duration, cancel: &Cancel) -> Result<Waited, LabError> {
        let deadline = Instant::now() + limit;
        loop {
            if cancel.is_cancelled() {
                return Err(LabError::Cancelled);
            }
            match self.qmp.wait_for(&["STOP", "SHUTDOWN"], GLANCE) {
                Ok(event) if event == "STOP" => return Ok(Waited::Paused),
                Ok(_) => return Ok(Waited::Ended),
                Err(QmpError::Connection { source, .. })
                    if matches!(
                        source.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) =>
                {
                    if Instant::now() >= deadline {
                        return Ok(Waited::Late);
                    }
                }
                Err(QmpError::Connection { .. }) => return Ok(Waited::Ended),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Processor seconds that QEMU has used, user and system.
    pub(crate) fn processor_seconds(&self) -> Option<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        // proc_pid_stat(5): 14 and 15, counted from 1.
        let ticks: u64 =
            fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
        Some(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
    }

    /// The console's last lines.
    pub(crate) fn console(&self) -> String {
        // What went over a socket has been read by a person.
        let Console::File(path) = &self.console else { return String::new() };
        let text = fs::read(path).unwrap_or_default();
        last_lines(&String::from_utf8_lossy(&text))
    }

    fn ignore_shared(&mut self) -> Result<(), LabError> {
        let capability = json!([{ "capability": "x-ignore-shared", "state": true }]);
        self.ask("migrate-set-capabilities", json!({ "capabilities": capability })).map(drop)
    }

    fn migrated(&mut self, cancel: &Cancel) -> Result<(), LabError> {
        loop {
            if cancel.is_cancelled() {
                return Err(LabError::Cancelled);
            }
            let state = self.ask("query-migrate", json!({}))?;
            match state.get("status").and_then(serde_json::Value::as_str) {
                Some("completed") => return Ok(()),
                Some("failed" | "cancelled") => {
                    let why = state.get("error-desc").and_then(serde_json::Value::as_str);
                    return Err(self.failed(format!(
                        "the machine's state could not be written or read: {}",
                        why.unwrap_or("no reason given")
                    )));
                }
                _ => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    fn ask(
        &mut self,
        command: &str,
        arguments: serde_json::Value,
    ) -> Result<serde_json::Value, LabError> {
        self.qmp.execute(command, arguments).map_err(|error| self.failed(error.to_string()))
    }

    fn failed(&self, message: String) -> LabError {
        let log = last_lines(&fs::read_to_string(&self.log).unwrap_or_default());
        LabError::Qemu { message, log }
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // Nothing in it is worth a farewell: what counts lies in files.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A path for the shell that QEMU starts.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_to_the_shell() {
        assert_eq!(quoted(Path::new("/a b/c'd")), r"'/a b/c'\''d'");
    }
}
