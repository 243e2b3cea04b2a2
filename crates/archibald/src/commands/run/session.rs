//! One time that a project is built and played in the machine, by one connection of ssh.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use archibald_machine::AudioServer;
use archibald_vm::argv::Accelerator;

use super::project::Project;
use super::xruns::Xruns;
use crate::commands::exec::{Remote, quote};
use crate::failure::{Context as _, Exit, Failure};
use crate::terminal;

/// What bash does at the other end.
const GUEST: &str = include_str!("guest.bash");
/// The machine gives a program three seconds to end, and may itself be slow.
const PATIENCE: Duration = Duration::from_secs(15);
/// ssh's own status for a connection that broke.
const BROKEN: i32 = 255;

/// How it ended.
pub(super) enum Ended {
    /// By itself, with this exit status.
    Program(u8),
    /// The build failed, with this exit status.
    Build(String),
    /// Because it was to end.
    Stopped,
}

/// This process's own input, for the session of the moment.
pub(super) struct Input(Arc<Mutex<Option<ChildStdin>>>);

pub(super) struct Session<'a> {
    ssh: Child,
    input: &'a Input,
    readers: Vec<JoinHandle<()>>,
    build_failed: Receiver<String>,
}

impl Input {
    pub(super) fn new() -> Self {
        let current: Arc<Mutex<Option<ChildStdin>>> = Arc::default();
        let given = Arc::clone(&current);
        // Reading cannot be called off: the thread goes with the process.
        thread::spawn(move || {
            let mut line = Vec::new();
            let mut own = std::io::stdin().lock();
            while own.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                if let Some(stdin) = given.lock().ok().as_mut().and_then(|given| given.as_mut()) {
                    let _ = stdin.write_all(&line).and_then(|()| stdin.flush());
                }
                line.clear();
            }
        });
        Self(current)
    }

    fn set(&self, stdin: Option<ChildStdin>) {
        if let Ok(mut current) = self.0.lock() {
            *current = stdin;
        }
    }
}

impl<'a> Session<'a> {
    pub(super) fn start(
        project: &Project,
        remote: &Remote,
        priority: Option<u8>,
        with_xruns: bool,
        input: &'a Input,
    ) -> Result<Self, Failure> {
        let audio = &remote.machine.audio;
        // What the lab tells a program too. Memory locks do not survive a shell's exec, so a command without
        // a shell's words is started without one.
        let told = format!("ARCHIBALD_QUANTUM={} ARCHIBALD_RATE={}", audio.quantum.0, audio.rate.0);
        let run = &project.run;
        let command = if is_plain(run) { run.clone() } else { format!("sh -c {}", quote(run)) };
        let command = match priority {
            Some(priority) => {
                format!("env {told} archibald-guest exec --priority {priority} -- {command}")
            }
            None => format!("env {told} {command}"),
        };
        let teller = match (with_xruns, audio.server) {
            (false, _) => "",
            (true, AudioServer::PipeWire) => "exec stdbuf -oL pw-top -b",
            (true, AudioServer::Jack) => {
                "exec sudo -n journalctl _SYSTEMD_USER_UNIT=jackd.service -o cat -n 0 -f"
            }
        };
        let place = project.place();
        let build = project.build.clone().unwrap_or_default();
        let words = ["bash", "-c", GUEST, "archibald-run", &place, &build, &command, teller];
        let mut ssh = remote.command(&["-T"], &words.map(str::to_owned));
        // Ctrl-C is for this process, which ends the program and waits for it.
        ssh.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut ssh = ssh.spawn().context("ssh")?;
        input.set(ssh.stdin.take());
        let emulated = matches!(
            remote.instance.record()?.map(|record| record.accelerator),
            Some(Accelerator::Tcg)
        );
        let title = match priority {
            Some(priority) => format!("running: {run} (FIFO {priority})"),
            None => format!("running: {run}"),
        };
        let mut teller = Teller { title, build, xruns: Xruns::new(audio.server, emulated) };
        let (failed, build_failed) = channel();
        let mut readers = Vec::new();
        if let Some(out) = ssh.stdout.take() {
            readers.push(thread::spawn(move || pass_on(out)));
        }
        if let Some(err) = ssh.stderr.take() {
            readers.push(thread::spawn(move || {
                let mut lines = BufReader::new(err);
                let mut line = Vec::new();
                while lines.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                    match line.strip_prefix(b"\x1e") {
                        Some(told) => {
                            let told = String::from_utf8_lossy(told);
                            if let Some(status) = teller.tell(told.trim_end()) {
                                let _ = failed.send(status);
                            }
                        }
                        None => terminal::pass_error(&line),
                    }
                    line.clear();
                }
            }));
        }
        Ok(Self { ssh, input, readers, build_failed })
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> Result<Option<Ended>, Failure> {
        let Some(status) = self.ssh.try_wait().context("ssh")? else { return Ok(None) };
        self.finish();
        if let Ok(status) = self.build_failed.try_recv() {
            return Ok(Some(Ended::Build(status)));
        }
        match status.code() {
            Some(BROKEN) => Err(Failure::new(Exit::Failed, "the connection to the machine broke")
                .with_remedy("`archibald status` tells how the machine stands.")),
            code => {
                Ok(Some(Ended::Program(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))))
            }
        }
    }

    /// Ends the program, and comes back when it has ended.
    pub(super) fn end(mut self) -> Result<Ended, Failure> {
        self.input.set(None);
        let begun = Instant::now();
        while self.ssh.try_wait().context("ssh")?.is_none() {
            if begun.elapsed() > PATIENCE {
                let _ = self.ssh.kill();
                let _ = self.ssh.wait();
                self.finish();
                return Err(Failure::new(Exit::Failed, "the machine does not end the program")
                    .with_remedy("`archibald exec -- ps x` lists what runs there."));
            }
            thread::sleep(Duration::from_millis(20));
        }
        self.finish();
        Ok(Ended::Stopped)
    }

    fn finish(&mut self) {
        self.input.set(None);
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }
}

/// Whether a shell would do no more with it than split it at its blanks.
fn is_plain(command: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || " -_./:=@%+,".contains(c);
    // A first word with `=` is an assignment.
    command.chars().all(plain) && !command.split(' ').next().unwrap_or_default().contains('=')
}

fn pass_on(mut from: impl Read) {
    let mut piece = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut piece) {
        terminal::pass(piece.get(..length).unwrap_or_default());
    }
}

/// Says what the other end tells.
struct Teller {
    title: String,
    build: String,
    xruns: Xruns,
}

impl Teller {
    /// Returns the status of a build that failed.
    fn tell(&mut self, told: &str) -> Option<String> {
        let (what, rest) = told.split_once(' ').unwrap_or((told, ""));
        match what {
            "build" => terminal::complain(&format!("building: {}", self.build)),
            "run" => terminal::complain(&self.title),
            "build-failed" => return Some(rest.to_owned()),
            "xruns" => {
                if let Some(line) = self.xruns.read(rest) {
                    terminal::complain(&line);
                }
            }
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::is_plain;

    #[test]
    fn a_shell_is_used_where_it_has_something_to_do() {
        for plain in ["./my-synth", "python3 main.py", "sclang main.scd --level=1"] {
            assert!(is_plain(plain), "{plain}");
        }
        for shell in
            ["./a && ./b", "A=1 ./a", "exec ./a | cat", "./a \"b c\"", "cd x; ./a", "./a $B"]
        {
            assert!(!is_plain(shell), "{shell}");
        }
    }
}
