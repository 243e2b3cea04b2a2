//! `archibald lab explain`: why a run had xruns, out of the kernel's trace of the same run.

use std::path::{Path, PathBuf};
use std::{fs, io};

use archibald_lab::explain;

use super::bench::{How, Workplace, failure};
use super::kept::Kept;
use crate::commands::build;
use crate::failure::{Context as _, Failure};
use crate::terminal::{self, Steps};

/// Repeat a run with the kernel's trace and say why it had xruns.
#[derive(Debug, clap::Args)]
pub(crate) struct Explain {
    /// The run: its name as `lab run` tells it, or its folder.
    run: PathBuf,
    #[command(flatten)]
    how: How,
    /// For programs.
    #[arg(long)]
    json: bool,
}

impl Explain {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        let kept = Kept::find(&self.run)?;
        let cancel = build::called_off()?;
        let steps = Steps::new(self.how.quiet);
        let place = Workplace::open(&self.how, &[&kept.file.scenario], &steps, &cancel)?;
        let prepared = kept.prepare(&place, &steps, &cancel)?;
        let folder = &kept.folder;
        let program = &kept.beside.program;
        steps.step("lab: the same run again, with the kernel's trace");
        let scratch = place.bench.scratch.join("explain");
        let explained =
            explain::explain(&place.bench, &prepared, &kept.run, program, &scratch, &cancel)
                .map_err(failure)?;
        explained.keep(folder).map_err(failure)?;
        if explained.comparison.is_some() {
            keep_trace(&scratch, folder).context(folder.display())?;
        }
        steps.finish();
        drop(steps);
        if self.json {
            terminal::say_json(&serde_json::to_value(&explained).context("the explanation")?);
        } else {
            terminal::say(archibald_trace::text(&explained.explanation).trim_end());
            terminal::say("");
            match &explained.comparison {
                Some(comparison) => {
                    terminal::say(&comparison.words());
                    terminal::say(&format!("trace: {}", folder.join("trace").display()));
                }
                None => terminal::say(
                    "Seen from the books of the run itself, without a trace: nothing else ran that a trace could show.",
                ),
            }
            terminal::say(archibald_latency::Source::VirtualTime.caveat());
        }
        Ok(0)
    }
}

/// Puts the raw trace beside the explanation, for trace-cmd's and anybody else's eyes.
fn keep_trace(from: &Path, run: &Path) -> io::Result<()> {
    let to = run.join("trace");
    let _ = fs::remove_dir_all(&to);
    copy_tree(&from.join("trace"), &to)
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}
