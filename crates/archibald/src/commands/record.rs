//! `archibald record`: what the machine plays, into StreamDB while it plays.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::process::{ChildStdin, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::build::called_off_by;
use super::exec::Remote;
use crate::failure::{Context as _, Exit, Failure};
use crate::terminal;

/// How often it is looked whether Ctrl-C came.
const GLANCE: Duration = Duration::from_millis(100);

/// Record what the machine plays straight into StreamDB; Ctrl-C ends it and keeps what is there.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "It can be heard while it is made: the address is told at once, and the page on StreamDB's port plays it.\nSamples are the graph's own, 32-bit floats.\n\nExamples:\n  archibald record --seconds 10 take1.wav\n  archibald record --from SuperCollider:out_1 --from SuperCollider:out_2 takes/synth.wav"
)]
pub(crate) struct Record {
    /// Key in the store, such as take1.wav or takes/one.wav.
    key: String,
    /// Length of the recording; until Ctrl-C when left out.
    #[arg(long, value_parser = seconds)]
    seconds: Option<f64>,
    /// A port of the graph, as jack_lsp names it, once for each channel; the graph's output when left
    /// out.
    #[arg(long, value_name = "PORT")]
    from: Vec<String>,
    /// Replace what is there under this key.
    #[arg(short, long)]
    force: bool,
    /// The machine; the machine file's when left out.
    #[arg(short, long)]
    name: Option<String>,
    /// For programs.
    #[arg(long)]
    json: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    // A day of two channels is far beyond what a WAV file can say of its length.
    let number = text.parse().ok().filter(|number| (0.01..=86_400.0).contains(number));
    number.ok_or_else(|| "seconds from 0.01 to 86400".to_owned())
}

impl Record {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        let remote = Remote::of(self.name.as_deref(), None)?;
        let url = self.address(&remote)?;
        let flag = Arc::new(AtomicBool::new(false));
        called_off_by(&flag)?;
        let mut command: Vec<String> =
            ["sudo", "-n", "archibald-guest", "record", "--while-listened"]
                .map(String::from)
                .to_vec();
        command.extend(self.seconds.map(|seconds| format!("--seconds={seconds}")));
        command.extend(self.from.iter().map(|port| format!("--from={port}")));
        command.extend(self.force.then(|| "--force".to_owned()));
        command.extend(["--".to_owned(), self.key.clone()]);
        let mut ssh = remote
            .command(&["-T"], &command)
            // Ctrl-C is for this process, which ends the recording by closing the pipe.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("ssh")?;
        let listened = ssh.stdin.take();
        let lines = lines_of(ssh.stdout.take());
        let told = self.follow(&lines, listened, &flag, &url);
        let mut said = String::new();
        if let Some(mut stderr) = ssh.stderr.take() {
            let _ = stderr.read_to_string(&mut said);
        }
        let status = ssh.wait().context("ssh")?;
        let told = told.ok_or_else(|| {
            let message = format!("the machine recorded nothing ({status}): {}", said.trim());
            Failure::new(Exit::Failed, message)
                .with_remedy("A machine on an older image cannot: `archibald up --recreate`.")
        })?;
        self.end(&told, &url)
    }

    /// Where the recording is heard on the host.
    fn address(&self, remote: &Remote) -> Result<String, Failure> {
        let store = &remote.machine.streamdb;
        let door = remote.machine.network.door_to(store.port).filter(|_| store.enable);
        let Some((address, port)) = door else {
            let message = "no port of the host leads to a store in the machine";
            return Err(Failure::new(Exit::Use, message).with_remedy(
                "Write streamdb.enable = true and \"8080:8080\" in network.forward, and restart the machine.",
            ));
        };
        let key: String = self
            .key
            .bytes()
            .map(|byte| match byte {
                b'/' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
                byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
                byte => format!("%{byte:02X}"),
            })
            .collect();
        Ok(format!("http://{address}:{port}/v1/objects/{key}"))
    }

    /// Reads what the machine tells until it ends; the last line is the outcome.
    fn follow(
        &self,
        lines: &mpsc::Receiver<Value>,
        mut listened: Option<ChildStdin>,
        called_off: &AtomicBool,
        url: &str,
    ) -> Option<Value> {
        let mut last = None;
        loop {
            match lines.recv_timeout(GLANCE) {
                Ok(line) => {
                    if line.get("key").is_some() && !self.json {
                        terminal::say(url);
                    }
                    last = Some(line);
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => return last,
                Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
            if called_off.load(Ordering::Relaxed) {
                drop(listened.take());
            }
        }
    }

    fn end(&self, told: &Value, url: &str) -> Result<u8, Failure> {
        if let Some(failed) = told.get("failed").and_then(Value::as_str) {
            return Err(match told.get("clash").and_then(Value::as_bool) {
                Some(true) => Failure::new(Exit::Use, failed)
                    .with_remedy("Choose another name, or --force to replace it."),
                _ => Failure::new(Exit::Failed, format!("no recording: {failed}")),
            });
        }
        let Some(seconds) = told.get("seconds").and_then(Value::as_f64) else {
            return Err(Failure::new(Exit::Failed, "the machine went away while it recorded")
                .with_remedy(format!("What came before is in the store, still open: {url}")));
        };
        let complete = told.get("complete").and_then(Value::as_bool) == Some(true);
        if self.json {
            terminal::say_json(&json!({
                "schema": 1, "url": url, "key": self.key, "seconds": seconds,
                "frames": told["frames"], "complete": complete,
            }));
        } else {
            let early = if complete { "" } else { ", ended early" };
            terminal::say(&format!("{}: {seconds:.2} s recorded{early}", self.key));
        }
        Ok(0)
    }
}

fn lines_of(out: Option<impl std::io::Read + Send + 'static>) -> mpsc::Receiver<Value> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(out?).lines() {
            let line = line.ok()?;
            if let Ok(value) = serde_json::from_str(&line) {
                sender.send(value).ok()?;
            }
        }
        Some(())
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn a_length_is_a_number_of_seconds() {
        assert_eq!(seconds("10"), Ok(10.0));
        assert_eq!(seconds("0.5"), Ok(0.5));
        for text in ["0", "-1", "nan", "inf", "1e9", "ten"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
