//! A jackd of a test's own, on its dummy driver, which needs no sound card.
// Each test file uses some of it; a failed call here is a failed test.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::zombie_processes
)]

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

pub(crate) const PROBE: &str = env!("CARGO_BIN_EXE_archibald-probe");

pub(crate) fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// A server of its own for each test.
pub(crate) struct Server {
    pub(crate) jackd: Child,
    name: String,
    scratch: tempfile::TempDir,
}

impl Server {
    /// None, and a line that says so, where a program that the test needs is missing.
    pub(crate) fn start(test: &str, needs: &[&str]) -> Option<Self> {
        for program in ["jackd"].iter().chain(needs) {
            if !has(program) {
                println!("SKIPPED {test}: there is no {program} here");
                return None;
            }
        }
        let name = format!("archibald-{test}-{}", std::process::id());
        let scratch = tempfile::tempdir().unwrap();
        let jackd = Self::jackd(&name, scratch.path());
        Some(Self { jackd, name, scratch })
    }

    fn jackd(name: &str, scratch: &Path) -> Child {
        Command::new("jackd")
            .args(["--no-realtime", "-n", name, "-d", "dummy", "-r", "48000", "-p", "1024"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(scratch.join("jackd")).unwrap())
            .spawn()
            .unwrap()
    }

    /// Without a warning to anybody.
    pub(crate) fn kill(&mut self) {
        self.jackd.kill().unwrap();
        self.jackd.wait().unwrap();
    }

    /// Gives back its place of the eight in JACK's registry, which a killed server keeps until one of its
    /// name has ended well.
    pub(crate) fn forget(&mut self) {
        self.jackd = Self::jackd(&self.name, self.scratch.path());
        for _ in 0..100 {
            if self.listed().status.success() {
                return;
            }
            sleep(Duration::from_millis(100));
        }
        panic!("jackd did not start again: {}", self.errors());
    }

    /// What jack_lsp says. JACK's metadata are a database in shared memory, one for all of a user's servers, and
    /// one that is killed, as here on purpose, can leave it locked: whoever opens it then stands still. Then the
    /// server begins anew without it.
    fn listed(&mut self) -> std::process::Output {
        let listed = self.command("timeout").args(["10", "jack_lsp"]).output().unwrap();
        if listed.status.code() == Some(124) {
            self.kill();
            let user = std::fs::metadata("/proc/self").unwrap().uid();
            let _ = std::fs::remove_dir_all(format!("/dev/shm/jack_db-{user}"));
            self.jackd = Self::jackd(&self.name, self.scratch.path());
        }
        listed
    }

    fn errors(&self) -> String {
        std::fs::read_to_string(self.path("jackd")).unwrap()
    }

    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("JACK_DEFAULT_SERVER", &self.name);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        command
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// The server may not be there yet: a probe that found none is started again.
    pub(crate) fn start_until_listed(&mut self, command: &mut Command, name: &str) -> Running {
        let mut probe = Running(command.spawn().unwrap());
        let port = format!("{name}:out");
        for _ in 0..300 {
            let listed = self.listed();
            if String::from_utf8_lossy(&listed.stdout).lines().any(|line| line == port) {
                return probe;
            }
            if let Some(ended) = self.jackd.try_wait().unwrap() {
                panic!("jackd: {ended}: {}", self.errors());
            }
            if probe.0.try_wait().unwrap().is_some() {
                probe.0 = command.spawn().unwrap();
            }
            sleep(Duration::from_millis(100));
        }
        panic!("{port} did not appear");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.jackd.try_wait(), Ok(None)) {
            signal(&self.jackd, "TERM");
            let _ = self.jackd.wait();
        }
    }
}

/// A client; killed when the value goes.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    /// Ends it by SIGTERM.
    pub(crate) fn end(self) -> Output {
        signal(&self.0, "TERM");
        self.ended()
    }

    /// Waits for its end.
    pub(crate) fn ended(mut self) -> Output {
        let mut texts = [String::new(), String::new()];
        self.0.stdout.take().unwrap().read_to_string(&mut texts[0]).unwrap();
        if let Some(mut stderr) = self.0.stderr.take() {
            stderr.read_to_string(&mut texts[1]).unwrap();
        }
        let status = self.0.wait().unwrap().code().unwrap();
        let [out, err] = texts;
        Output { status, out, err }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a client left.
pub(crate) struct Output {
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

pub(crate) fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
}
