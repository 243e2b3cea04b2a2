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
/// How long a replay may take to its next stop.
const TO_A_BREAK: Duration = Duration::from_secs(300);
/// How long QEMU may take to close its recording.
const FAREWELL: Duration = Duration::from_secs(30);

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
        start: &Start,
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

    /// Reads a state back, with the content of a second file put in at a byte of it; the machine is then
    /// paused.
    pub(crate) fn restore(
        &mut self,
        file: &Path,
        with: Option<(u64, &Path)>,
        cancel: &Cancel,
    ) -> Result<(), LabError> {
        self.ignore_shared()?;
        let file = quoted(file);
        let uri = match with {
            None => format!("exec:cat {file}"),
            Some((at, section)) => {
                let (section, rest) = (quoted(section), at + 1);
                format!("exec:head -c {at} {file} && cat {section} && tail -c +{rest} {file}")
            }
        };
        self.ask("migrate-incoming", json!({ "uri": uri }))?;
        self.migrated(cancel)
    }

    /// Lets the paused machine go on.
    pub(crate) fn go_on(&mut self) -> Result<(), LabError> {
        self.ask("cont", json!({})).map(drop)
    }

    /// Ends QEMU in order, so that its recording is whole.
    pub(crate) fn finish(mut self) -> Result<(), LabError> {
        self.ask("quit", json!({}))?;
        let deadline = Instant::now() + FAREWELL;
        while self.child.try_wait().during("wait for", &self.log)?.is_none() {
            if Instant::now() >= deadline {
                return Err(self.failed("it did not end when it was asked to".to_owned()));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
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
                Ok(_) => return ended(cancel),
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
                Err(QmpError::Connection { .. }) => return ended(cancel),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Instructions counted so far; for a replay that is stopped.
    pub(crate) fn instruction(&mut self) -> Result<u64, LabError> {
        let answer = self.ask("query-replay", json!({}))?;
        let count = answer.get("icount").and_then(serde_json::Value::as_u64);
        count.ok_or_else(|| self.failed(format!("it counts no instructions: {answer}")))
    }

    /// Lets a replay run to this instruction and stop before it. Says whether it came there: it stops
    /// earlier where the recording ends.
    pub(crate) fn run_to(&mut self, instruction: u64, cancel: &Cancel) -> Result<bool, LabError> {
        self.ask("replay-break", json!({ "icount": instruction }))?;
        self.go_on()?;
        match self.wait(TO_A_BREAK, cancel)? {
            Waited::Paused => Ok(self.instruction()? == instruction),
            Waited::Ended => Ok(false),
            Waited::Late => Err(self.failed(format!("its replay hangs before {instruction}"))),
        }
    }

    /// The machine's ACPI timer: 24 bits that count 3,579,545 times a second of the virtual clock.
    pub(crate) fn acpi_timer(&mut self) -> Result<u32, LabError> {
        let said = self.monitor("i /wx 0x608")?;
        // portw[0x0608] = 0x00123456
        let number = said.trim().rsplit("0x").next().map(|text| u32::from_str_radix(text, 16));
        match number {
            Some(Ok(ticks)) => Ok(ticks),
            _ => Err(self.failed(format!("it cannot read the machine's timer: {}", said.trim()))),
        }
    }

    /// What QEMU's monitor for people says.
    pub(crate) fn monitor(&mut self, line: &str) -> Result<String, LabError> {
        let answer = self.ask("human-monitor-command", json!({ "command-line": line }))?;
        Ok(answer.as_str().unwrap_or_default().to_owned())
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

/// What the end of QEMU means: an interrupt from the terminal reaches it as well as this process.
fn ended(cancel: &Cancel) -> Result<Waited, LabError> {
    let deadline = Instant::now() + GLANCE;
    while !cancel.is_cancelled() {
        if Instant::now() >= deadline {
            return Ok(Waited::Ended);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Err(LabError::Cancelled)
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
