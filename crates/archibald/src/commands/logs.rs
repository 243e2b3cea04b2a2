//! `archibald logs`: the machine's journal, its console, QEMU's own words.

use std::fs;

use super::exec::Remote;
use super::stop::absent;
use crate::failure::{Exit, Failure};
use crate::{places, terminal};

/// Show a machine's logs.
#[derive(Debug, clap::Args)]
pub(crate) struct Logs {
    /// The machine; the machine file's when left out.
    name: Option<String>,
    /// Which log: the guest's serial console, its journal (needs a running machine), or QEMU's own words.
    #[arg(long, value_enum, default_value_t = Which::Console)]
    log: Which,
    /// Only the journal of this unit.
    #[arg(short, long)]
    unit: Option<String>,
    /// Go on showing what comes (journal only).
    #[arg(short, long)]
    follow: bool,
    /// Only the last lines.
    #[arg(long, value_name = "N")]
    tail: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Which {
    Console,
    Journal,
    Qemu,
}

impl Logs {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        if self.log == Which::Journal || self.follow || self.unit.is_some() {
            return self.journal();
        }
        let instance = places::instance(self.name.as_deref())?;
        if !instance.directory().exists() {
            return Err(absent(instance.name()));
        }
        let path = match self.log {
            Which::Qemu => instance.file("qemu.log"),
            _ => instance.files().console,
        };
        let bytes = fs::read(&path).map_err(|error| {
            Failure::new(Exit::Failed, format!("{}: {error}", path.display()))
                .with_remedy("The machine has not been started yet.")
        })?;
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        let first = self.tail.map_or(0, |tail| lines.len().saturating_sub(tail));
        for line in lines.iter().skip(first) {
            terminal::say(line);
        }
        Ok(0)
    }

    fn journal(&self) -> Result<u8, Failure> {
        let remote = Remote::of(self.name.as_deref(), None)?;
        let mut command: Vec<String> =
            ["sudo", "-n", "journalctl", "--no-pager", "--boot"].map(String::from).to_vec();
        command.extend(self.unit.iter().flat_map(|unit| ["--unit".to_owned(), unit.clone()]));
        command.extend(self.follow.then(|| "--follow".to_owned()));
        command.extend(self.tail.map(|tail| format!("--lines={tail}")));
        remote.ssh(&["-T"], &command)
    }
}
