//! `archibald lab explain`: why a run had xruns, out of the kernel's trace of the same run.

use std::path::{Path, PathBuf};
use std::{fs, io};

use archibald_lab::explain;
use archibald_lab::scenario::Variation;
use archibald_latency::Run;
use serde::Deserialize;

use super::bench::{How, ScenarioFile, Workplace, failure};
use crate::commands::build;
use crate::failure::{Context as _, Exit, Failure};
use crate::places;
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

/// What stands beside a run and is needed to repeat it.
#[derive(Deserialize)]
struct Beside {
    scenario: PathBuf,
    #[serde(default)]
    variation: Variation,
}

impl Explain {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        let folder = find(&self.run)?;
        let run = read_run(&folder)?;
        let path = folder.join("experiment.json");
        let text = fs::read_to_string(&path).context(path.display())?;
        let beside: Beside = serde_json::from_str(&text)
            .map_err(|error| again(&format!("{}: {error}", path.display())))?;
        let file = ScenarioFile::read(&beside.scenario)?.varied(beside.variation);
        let cancel = build::called_off()?;
        let steps = Steps::new(self.how.quiet);
        let place = Workplace::open(&self.how, &[&file.scenario], &steps, &cancel)?;
        let prepared = place.prepare(&file.scenario, &steps, &cancel)?;
        let seed = run.conditions.seed.unwrap_or(0);
        let name = place.bench.run_name(&prepared, seed);
        if name != run.id {
            return Err(again(&format!(
                "program, scenario or machine have changed since the run {}: it would now be {name}",
                run.id
            )));
        }
        steps.step("lab: the same run again, with the kernel's trace");
        let scratch = place.bench.scratch.join("explain");
        let explained =
            explain::explain(&place.bench, &prepared, &run, &scratch, &cancel).map_err(failure)?;
        explained.keep(&folder).map_err(failure)?;
        keep_trace(&scratch, &folder).context(folder.display())?;
        steps.finish();
        drop(steps);
        if self.json {
            terminal::say_json(&serde_json::to_value(&explained).context("the explanation")?);
        } else {
            terminal::say(archibald_trace::text(&explained.explanation).trim_end());
            terminal::say("");
            terminal::say(&explained.comparison.words());
            terminal::say(archibald_latency::Source::VirtualTime.caveat());
            terminal::say(&format!("trace: {}", folder.join("trace").display()));
        }
        Ok(0)
    }
}

/// The run's folder: as given, or below the state directory.
fn find(run: &Path) -> Result<PathBuf, Failure> {
    let kept = places::directories().state.join("lab/runs");
    let tried = [run.to_owned(), kept.join(run)];
    tried.into_iter().find(|folder| folder.join("run.json").is_file()).ok_or_else(|| {
        Failure::new(Exit::Use, format!("there is no run {}", run.display()))
            .with_remedy(format!("The runs are in {}.", kept.display()))
    })
}

fn read_run(folder: &Path) -> Result<Run, Failure> {
    let path = folder.join("run.json");
    let text = fs::read_to_string(&path).context(path.display())?;
    Run::from_json(&text).map_err(|error| again(&format!("{}: {error}", path.display())))
}

fn again(message: &str) -> Failure {
    Failure::new(Exit::Use, message.to_owned())
        .with_remedy("Run the scenario again with `archibald lab run`, then explain that run.")
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
