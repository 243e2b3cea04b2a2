//! `archibald scan`: the checks of rtcqs and realtimeconfigquickscan, host and machine side by side.

use std::path::PathBuf;
use std::process::Stdio;

use archibald_host::Root;
use archibald_host::scan::{Row, Verdict, scan};
use archibald_vm::instance::Status;
use serde::Deserialize;

use super::exec::Remote;
use crate::failure::{Context as _, Exit, Failure};
use crate::{places, terminal};

/// Show what rtcqs and realtimeconfigquickscan would say, of this host and of the running machine.
///
/// A comparison and no judgement, so that the exit status is 0 whatever they say: `archibald doctor`
/// judges the host, `archibald check` the machine.
#[derive(Debug, clap::Args)]
pub(crate) struct Scan {
    /// The machine; the machine file's when left out.
    name: Option<String>,
    /// Look at the host whose /proc, /sys and /etc lie below this directory, and at no machine.
    #[arg(long, value_name = "DIR", conflicts_with = "name")]
    root: Option<PathBuf>,
    /// For programs.
    #[arg(long)]
    json: bool,
}

/// What archibald-guest prints.
#[derive(Deserialize)]
struct GuestScan {
    rows: Vec<Row>,
}

impl Scan {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        let root = self.root.as_ref().map_or_else(Root::default, Root::new);
        let host = scan(&root).map_err(|error| {
            Failure::new(Exit::Use, error)
                .with_remedy("Give --root a directory that holds a host's /proc, /sys and /etc.")
        })?;
        let machine = match (&self.root, &self.name) {
            (Some(_), _) => None,
            (None, Some(name)) => Some(machine(&Remote::of(Some(name), None)?)?),
            (None, None) if runs()? => Some(machine(&Remote::of(None, None)?)?),
            (None, None) => None,
        };
        if self.json {
            let report = serde_json::json!({ "schema": 1, "host": host, "machine": machine });
            terminal::say_json(&report);
        } else {
            draw(&host, machine.as_deref());
        }
        Ok(0)
    }
}

/// Whether the machine file's machine runs.
fn runs() -> Result<bool, Failure> {
    Ok(matches!(places::instance(None)?.status()?, Status::Running { .. }))
}

/// What the machine's own archibald-guest says, asked as the user who runs the audio programs.
fn machine(remote: &Remote) -> Result<Vec<Row>, Failure> {
    let command = ["archibald-guest", "scan", "--json"].map(String::from);
    let output = remote
        .command(&["-T"], &command)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .context("ssh")?;
    serde_json::from_slice::<GuestScan>(&output.stdout).map(|scan| scan.rows).map_err(|_| {
        let said = String::from_utf8_lossy(&output.stderr);
        let message = format!("the machine gave no scan ({}): {}", output.status, said.trim());
        Failure::new(Exit::Failed, message)
            .with_remedy("A machine on an older image has no scan: `archibald up --recreate`.")
    })
}

fn draw(host: &[Row], machine: Option<&[Row]>) {
    let word = |row: &Row| match row.verdict {
        Verdict::Good => "ok",
        Verdict::Warning => "WARNING",
        Verdict::Nothing => "-",
    };
    let mut header = vec!["CHECK", "OF", "HOST", ""];
    if machine.is_some() {
        header.extend(["MACHINE", ""]);
    }
    let lines = host.iter().map(|row| {
        let tools: Vec<&str> = row.tools.iter().map(|tool| tool.name()).collect();
        let mut line =
            vec![row.title.clone(), tools.join(", "), word(row).to_owned(), row.found.clone()];
        if let Some(machine) = machine {
            let twin = machine.iter().find(|twin| twin.id == row.id);
            line.extend(twin.map_or([String::new(), String::new()], |twin| {
                [word(twin).to_owned(), twin.found.clone()]
            }));
        }
        line
    });
    terminal::say(&terminal::table(&header, lines.collect()));
    for (place, rows) in [("host", Some(host)), ("machine", machine)] {
        let warnings = rows.into_iter().flatten().filter(|row| row.verdict == Verdict::Warning);
        for row in warnings {
            let remedy = row.remedy.as_deref().unwrap_or_default();
            terminal::say(&format!("{place}: {}: {remedy}", row.title));
        }
    }
    if machine.is_none() {
        terminal::say("The host alone; with a running machine, its verdicts stand beside.");
    }
}
