//! `archibald threads`: who goes first in the machine, and where the wrong one does.

use std::process::Stdio;

use serde_json::Value;

use super::exec::Remote;
use crate::failure::{Context as _, Exit, Failure};
use crate::terminal;

/// List the machine's threads by policy and priority; exit status 1 when the wrong one goes first.
#[derive(Debug, clap::Args)]
pub(crate) struct Threads {
    /// The machine; the machine file's when left out.
    name: Option<String>,
    /// Ordinary threads too, not only those of audio and with a real-time priority.
    #[arg(long)]
    all: bool,
    /// For programs.
    #[arg(long)]
    json: bool,
}

impl Threads {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        let remote = Remote::of(self.name.as_deref(), None)?;
        let mut command = ["archibald-guest", "threads", "--json"].map(String::from).to_vec();
        command.extend(self.all.then(|| "--all".to_owned()));
        let output = remote
            .command(&["-T"], &command)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .output()
            .context("ssh")?;
        let report: Value = serde_json::from_slice(&output.stdout).map_err(|_| {
            let said = String::from_utf8_lossy(&output.stderr);
            let message =
                format!("the machine listed no threads ({}): {}", output.status, said.trim());
            Failure::new(Exit::Failed, message)
                .with_remedy("A machine on an older image cannot: `archibald up --recreate`.")
        })?;
        let list = |key: &str| report[key].as_array().cloned().unwrap_or_default();
        let inversions = list("inversions");
        if self.json {
            terminal::say_json(&report);
        } else {
            draw(&list("threads"), &inversions);
        }
        Ok(u8::from(!inversions.is_empty()))
    }
}

fn draw(threads: &[Value], inversions: &[Value]) {
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let rows = threads.iter().map(|thread| {
        let role = match word(&thread["role"]).as_str() {
            "graph" => "drives the graph",
            "client" => "audio program",
            "soundinterrupt" => "sound interrupt",
            "interrupt" => "interrupt",
            "kernel" => "kernel",
            _ => "",
        };
        let priority = thread["priority"].as_u64().filter(|priority| *priority > 0);
        vec![
            word(&thread["policy"]),
            priority.map_or_else(String::new, |priority| priority.to_string()),
            word(&thread["cpus"]),
            word(&thread["id"]),
            named(&word(&thread["program"]), &word(&thread["name"])),
            role.to_owned(),
        ]
    });
    let header = ["POLICY", "PRIORITY", "CPUS", "THREAD", "NAME", "WHAT IT IS"];
    terminal::say(&terminal::table(&header, rows.collect()));
    for inversion in inversions {
        terminal::say(&format!("\n{}: {}", word(&inversion["thread"]), word(&inversion["what"])));
        terminal::say(&format!("  {}", word(&inversion["remedy"])));
    }
}

/// A process's first thread has the process's name.
fn named(program: &str, thread: &str) -> String {
    if program == thread { program.to_owned() } else { format!("{program}/{thread}") }
}
