//! The guides in docs/guides, as commands with what they must say. A block of a guide is fenced as
//!
//! - `console`: runs anywhere, and in every walk, since later blocks go on in its folder;
//! - `console machine`: runs where a machine runs;
//! - `console lab`: runs in virtual time;
//! - `console left-out: REASON`: not run, and counted.
//!
//! A line after `$ ` is a command, `> ` goes on with it, `[N]` is its exit status when that is not 0, `...`
//! stands for any lines; every other line must be in what the command writes, in this order. `^C` is Ctrl-C,
//! pressed when the line above it has come.
// Each test file uses some of it.
#![allow(dead_code, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use crate::world::{World, beside, project};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Anywhere,
    Machine,
    Lab,
}

#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) line: usize,
    pub(crate) place: Place,
    pub(crate) command: String,
    pub(crate) output: Vec<String>,
    pub(crate) status: i32,
    /// Ctrl-C is pressed when this line has come.
    pub(crate) interrupted_at: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Guide {
    pub(crate) name: String,
    pub(crate) steps: Vec<Step>,
    /// Line and reason of every block that is not run.
    pub(crate) left_out: Vec<(usize, String)>,
}

pub(crate) fn folder() -> PathBuf {
    project().join("docs/guides")
}

/// All guides, in the order of their names.
pub(crate) fn all() -> Vec<Guide> {
    let mut paths: Vec<_> =
        fs::read_dir(folder()).unwrap().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    paths.iter().map(|path| read(name(path), &fs::read_to_string(path).unwrap())).collect()
}

pub(crate) fn read(name: String, text: &str) -> Guide {
    let mut guide = Guide { name, steps: Vec::new(), left_out: Vec::new() };
    let mut block: Option<Option<Place>> = None;
    for (number, line) in (1..).zip(text.lines()) {
        let fence = line.trim_start().strip_prefix("```");
        match (block, fence) {
            (None, Some(words)) => {
                block = Some(match words {
                    "console" => Some(Place::Anywhere),
                    "console machine" => Some(Place::Machine),
                    "console lab" => Some(Place::Lab),
                    other => {
                        if let Some(reason) = other.strip_prefix("console left-out: ") {
                            guide.left_out.push((number, reason.to_owned()));
                        } else {
                            assert!(!other.contains("console"), "{}:{number}: {other}", guide.name);
                        }
                        None
                    }
                });
            }
            (Some(_), Some(_)) => block = None,
            (Some(Some(place)), None) => guide.add(number, place, line.trim_start()),
            _ => {}
        }
    }
    guide
}

impl Guide {
    fn add(&mut self, line: usize, place: Place, text: &str) {
        let at = || format!("{}:{line}: {text}", self.name);
        if let Some(command) = text.strip_prefix("$ ") {
            let command = command.to_owned();
            let output = Vec::new();
            let step = Step { line, place, command, output, status: 0, interrupted_at: None };
            return self.steps.push(step);
        }
        let place = at();
        let step = self.steps.last_mut().unwrap_or_else(|| panic!("{place}"));
        let status = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')?.parse().ok());
        if let Some(more) = text.strip_prefix("> ") {
            step.command = format!("{}\n{more}", step.command);
        } else if text == "^C" {
            step.interrupted_at = step.output.last().cloned();
            step.status = 130;
        } else if let Some(status) = status {
            step.status = status;
        } else if !text.is_empty() && text != "..." {
            step.output.push(text.to_owned());
        }
    }

    /// Runs the steps of this place, and those of anywhere, in one shell; `changed` turns a command of the
    /// guide into the test's, whose machine has other ports.
    pub(crate) fn walk(&self, world: &World, place: Place, changed: &dyn Fn(&str) -> String) {
        if !self.steps.iter().any(|step| step.place == place) {
            return;
        }
        let stem = self.name.trim_end_matches(".md");
        let record = world.path(&format!("walk-{stem}"));
        fs::create_dir_all(&record).unwrap();
        fs::create_dir_all(world.path("bin")).unwrap();
        let link = world.path("bin/archibald");
        let _ = std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_archibald"), link);
        let steps: Vec<&Step> = self
            .steps
            .iter()
            .filter(|step| step.place == place || step.place == Place::Anywhere)
            .collect();
        // Jobs of their own, so that what runs in the background does not ignore Ctrl-C.
        let mut script = "set -m\n".to_owned();
        for step in &steps {
            let out = record.join(step.line.to_string());
            let out = out.display();
            let command = changed(&step.command);
            match &step.interrupted_at {
                // In the background, so that the shell goes on to the key.
                Some(last) => writeln!(
                    script,
                    "{command} >{out} 2>&1 </dev/null & program=$!
                    for _ in $(seq 600); do
                        ! grep -qF {} {out} && kill -0 $program || break
                        sleep 0.2
                    done
                    kill -INT $program; wait $program; echo $? >{out}.status",
                    quoted(last)
                ),
                None => writeln!(
                    script,
                    "{{ {command}\n}} >{out} 2>&1 </dev/null; echo $? >{out}.status"
                ),
            }
            .unwrap();
        }
        let mut path = std::ffi::OsString::from(world.path("bin"));
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap());
        let example = world.command_with_image(&[]);
        let mut bash = beside(&["bash", "-c", &script], &example);
        bash.env("PATH", path);
        assert!(bash.status().unwrap().code().is_some(), "{}", self.name);
        for step in steps {
            let out = record.join(step.line.to_string());
            let read = |path: &PathBuf| fs::read_to_string(path).unwrap_or_default();
            let (said, status) = (read(&out), read(&record.join(format!("{}.status", step.line))));
            let at = format!("{}:{}: $ {}\n{said}", self.name, step.line, step.command);
            assert_eq!(status.trim(), step.status.to_string(), "{at}");
            let mut rest = said.as_str();
            for line in &step.output {
                // `...` in a line stands for what differs from time to time.
                for expected in line.split("...").filter(|piece| !piece.is_empty()) {
                    match rest.find(expected) {
                        Some(place) => rest = &rest[place + expected.len()..],
                        None => panic!("no {expected:?} (any more) in {at}"),
                    }
                }
            }
        }
    }

    pub(crate) fn tell_left_out(&self) {
        for (line, reason) in &self.left_out {
            println!("SKIPPED a block of docs/guides/{}:{line}: {reason}", self.name);
        }
    }
}

/// The first words of a line, for a shell.
fn quoted(line: &str) -> String {
    let first = line.split("...").find(|piece| !piece.is_empty()).unwrap_or_default();
    format!("'{}'", first.replace('\'', r"'\''"))
}
