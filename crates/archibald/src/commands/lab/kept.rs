//! A run that was kept, and what is needed to have it again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use archibald_image::Cancel;
use archibald_lab::bench::Prepared;
use archibald_lab::evidence::ThreadUse;
use archibald_lab::replay::Clocks;
use archibald_lab::scenario::Variation;
use archibald_latency::Run;
use serde::Deserialize;

use super::bench::{ScenarioFile, Workplace};
use crate::failure::{Context as _, Exit, Failure};
use crate::places;
use crate::terminal::Steps;

/// A run and its folder.
pub(super) struct Kept {
    pub(super) folder: PathBuf,
    pub(super) run: Run,
    pub(super) beside: Beside,
    /// The scenario as it is now.
    pub(super) file: ScenarioFile,
}

/// What stands beside a run.
#[derive(Deserialize)]
pub(super) struct Beside {
    scenario: PathBuf,
    #[serde(default)]
    variation: Variation,
    /// The window's two moments on both clocks.
    pub(super) clocks: Clocks,
    /// Its threads, and what they used of the processor.
    pub(super) program: Vec<ThreadUse>,
    /// Where the program's files lay in its memory.
    pub(super) mapped: BTreeMap<String, u64>,
}

impl Kept {
    /// The run of this name below the state directory, or in this folder.
    pub(super) fn find(run: &Path) -> Result<Self, Failure> {
        let kept = places::directories().state.join("lab/runs");
        let tried = [run.to_owned(), kept.join(run)];
        let folder = tried.into_iter().find(|folder| folder.join("run.json").is_file());
        let folder = folder.ok_or_else(|| {
            Failure::new(Exit::Use, format!("there is no run {}", run.display()))
                .with_remedy(format!("The runs are in {}.", kept.display()))
        })?;
        let path = folder.join("run.json");
        let text = fs::read_to_string(&path).context(path.display())?;
        let run = Run::from_json(&text)
            .map_err(|error| again(&format!("{}: {error}", path.display())))?;
        let path = folder.join("experiment.json");
        let text = fs::read_to_string(&path).context(path.display())?;
        let beside: Beside = serde_json::from_str(&text)
            .map_err(|error| again(&format!("{}: {error}", path.display())))?;
        let file = ScenarioFile::read(&beside.scenario)?.varied(beside.variation);
        Ok(Self { folder, run, beside, file })
    }

    /// The run's seed.
    pub(super) fn seed(&self) -> u64 {
        self.run.conditions.seed.unwrap_or(0)
    }

    /// When the xrun of this number, counted from 1, was seen, on the guest's clock.
    pub(super) fn xrun(&self, number: usize) -> Result<u64, Failure> {
        let xruns = self.xruns();
        let at = number.checked_sub(1).and_then(|index| xruns.get(index));
        at.copied().ok_or_else(|| {
            let known = match xruns.len() {
                0 => "it had none".to_owned(),
                all => format!("the times of {all} are known"),
            };
            let what = format!("there is no xrun {number} in the run {}: {known}", self.run.id);
            Failure::new(Exit::Use, what).with_remedy("`archibald lab explain` lists them.")
        })
    }

    /// When something was late, on the guest's clock: several meters see one and the same xrun.
    pub(super) fn xruns(&self) -> Vec<u64> {
        archibald_lab::explain::xrun_times(&self.run.xruns)
    }

    /// Machine and program, if they still are those of the run.
    pub(super) fn prepare(
        &self,
        place: &Workplace,
        steps: &Steps,
        cancel: &Cancel,
    ) -> Result<Prepared, Failure> {
        let prepared = place.prepare(&self.file.scenario, steps, cancel)?;
        let name = place.bench.run_name(&prepared, self.seed());
        if name == self.run.id {
            return Ok(prepared);
        }
        Err(again(&format!(
            "program, scenario or machine have changed since the run {}: it would now be {name}",
            self.run.id
        )))
    }
}

/// The failure of a run that has to be made anew.
pub(super) fn again(message: &str) -> Failure {
    Failure::new(Exit::Use, message.to_owned())
        .with_remedy("Run the scenario again with `archibald lab run`, then ask about that run.")
}
