//! `streamdb check`: reads everything in a store that is not being served, and compares it.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use streamdb::{Options, Repair, Store};

use super::print;
use crate::outcome::{Failure, Kind};

/// Read a whole store and compare it with its checksums
///
/// The store must not be served meanwhile. Exit status 1 if anything is damaged.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Directory of the store
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Move what is damaged to quarantine/ in that directory, so that the rest is whole
    #[arg(long)]
    repair: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let options = Options { create: false, ..Options::default() };
        let store = Store::open(&self.data, &options)?;
        let repair = if self.repair {
            store.repair(progress)?
        } else {
            Repair { found: store.check(progress)?, ..Repair::default() }
        };
        let report = &repair.found;
        if std::io::stderr().is_terminal() {
            // Leaves the line to what comes next.
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
        let whole = report.problems.is_empty();
        if self.json {
            print(json!({
                "schema": "streamdb.check/1",
                "whole": whole,
                "keys": report.keys,
                "bytes": report.bytes,
                "problems": report.problems,
                "quarantined": repair.quarantined,
                "mended": repair.mended,
            }))?;
        } else {
            for problem in &report.problems {
                let key = problem.key.as_deref().unwrap_or("(index)").escape_debug();
                print(format_args!("{key}: {}\n  {}", problem.error, problem.remedy))?;
            }
            let problems = report.problems.len();
            let (keys, bytes) = (report.keys, report.bytes);
            print(format_args!("{keys} keys, {bytes} bytes whole, {problems} problems"))?;
        }
        if self.repair && !self.json {
            for gone in &repair.quarantined {
                let key = gone.key.as_deref().unwrap_or("(no key)").escape_debug();
                print(format_args!("{key}: now in {}", gone.path.display()))?;
            }
        }
        // What was found and could be set right is told with a success only if nothing is left.
        let whole = whole || (self.repair && store.check(|_| {})?.problems.is_empty());
        if whole {
            return Ok(());
        }
        Err(Failure::new(Kind::No, format!("the store in {} is damaged", self.data.display()), ""))
    }
}

/// Tells how far the check is, where somebody watches.
fn progress(keys: u64) {
    let mut out = std::io::stderr();
    if out.is_terminal() {
        let _ = write!(out, "\r{keys} keys read");
    }
}
