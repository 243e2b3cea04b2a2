//! A real `streamdb` process for tests: started on a free port, asked, ended or killed.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed test should fail at the line that fails"
)]
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;
use ureq::Agent;

/// The program under test.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_streamdb"));
    command
        .env_remove("STREAMDB_SERVER")
        .env_remove("STREAMDB_TOKEN_FILE")
        .env_remove("NOTIFY_SOCKET");
    command
}

pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    agent: Agent,
}

impl Server {
    pub(crate) fn start(data: &Path) -> Self {
        Self::start_with(data, &[])
    }

    pub(crate) fn start_with(data: &Path, arguments: &[&str]) -> Self {
        let mut command = program();
        command.arg("serve").arg("--data").arg(data);
        command.args(["--listen", "127.0.0.1:0"]).args(arguments);
        Self::spawn(&mut command)
    }

    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let out = child.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut line).unwrap();
        let line = line.replacen("https://", "http://", 1);
        let address = line.trim().strip_prefix("listening on http://");
        let address = address.unwrap_or_else(|| panic!("the server said {line:?}"));
        Self { child, address: address.parse().unwrap(), agent: agent() }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn object(&self, key: &str) -> String {
        format!("{}/v1/objects/{key}", self.url())
    }

    /// Runs a verb of the client against this server.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let mut command = program();
        command.env("STREAMDB_SERVER", self.url()).args(arguments);
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// Puts a value and returns the status; `None` if the server went away.
    pub(crate) fn put(&self, key: &str, value: &[u8]) -> Option<u16> {
        let answer = self.agent.put(self.object(key)).send(value).ok()?;
        Some(answer.status().as_u16())
    }

    pub(crate) fn delete(&self, key: &str) -> Option<u16> {
        let answer = self.agent.delete(self.object(key)).call().ok()?;
        Some(answer.status().as_u16())
    }

    /// The whole value, or `None` if there is none.
    #[track_caller]
    pub(crate) fn get(&self, key: &str) -> Option<Vec<u8>> {
        let mut answer = self.agent.get(self.object(key)).call().unwrap();
        let whole = answer.body_mut().with_config().limit(1 << 30).read_to_vec();
        match answer.status().as_u16() {
            200 => Some(whole.unwrap()),
            404 => None,
            other => panic!("{key}: status {other}: {whole:?}"),
        }
    }

    /// Asks the server to end, as a service manager does, and returns its exit status.
    pub(crate) fn stop(mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap().code()
    }

    pub(crate) fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    /// Kills the server, if it still lives, and waits for its end.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn agent() -> Agent {
    Agent::config_builder().http_status_as_error(false).proxy(None).build().new_agent()
}

/// A server on an empty store.
pub(crate) fn fresh() -> (TempDir, Server) {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("store"));
    (dir, server)
}

#[track_caller]
pub(crate) fn expect(output: &Output, status: i32) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{said}");
    assert_eq!(said.is_empty(), status == 0, "{said}");
}

pub(crate) fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Bytes that differ with the seed, so that a torn or mixed-up value shows.
pub(crate) fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(len);
    out
}
