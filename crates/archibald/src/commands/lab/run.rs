//! `archibald lab run`: one scenario, its runs, a verdict.

use std::path::PathBuf;

use archibald_lab::bench::{ControlKind, verdict};
use archibald_latency::Verdict;

use super::bench::{How, ScenarioFile, Workplace, failure};
use super::init::SCENARIO_FILE;
use super::progress::Drawn;
use super::report;
use crate::commands::build;
use crate::failure::{Exit, Failure};
use crate::terminal::{self, Steps};

/// Run a scenario and judge it.
#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    /// The scenario file, or a folder with a lab.toml.
    #[arg(default_value = SCENARIO_FILE)]
    file: PathBuf,
    /// Seeds instead of the scenario's, e.g. --seed 7 or --seed 1,2,3.
    #[arg(long, value_delimiter = ',')]
    seed: Vec<u64>,
    /// Run the control with a planted fault too: the lab must see it.
    #[arg(long)]
    control: bool,
    #[command(flatten)]
    how: How,
    /// For programs.
    #[arg(long)]
    json: bool,
}

impl Run {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        let mut file = ScenarioFile::read(&self.file)?;
        if !self.seed.is_empty() {
            file.scenario.time.seeds = self.seed.clone();
            file.scenario.time.seeds.dedup();
        }
        let cancel = build::called_off()?;
        let steps = Steps::new(self.how.quiet);
        let place = Workplace::open(&self.how, &[&file.scenario], &steps, &cancel)?;
        let prepared = place.prepare(&file.scenario, &steps, &cancel)?;
        let drawn = Drawn(&steps);
        let idle = trusted(&place, &prepared, ControlKind::Idle, &drawn, &cancel)?;
        if self.control {
            trusted(&place, &prepared, ControlKind::Fault, &drawn, &cancel)?;
        }
        let runs = place.runs(&file, &prepared, Some(&idle), &steps, &cancel)?;
        steps.finish();
        drop(steps);
        let judgement = verdict(&file.scenario, &runs);
        if self.json {
            let runs: Vec<_> = runs
                .iter()
                .map(|run| serde_json::json!({ "directory": run.dir, "run": run.evidence.run }))
                .collect();
            terminal::say_json(&serde_json::json!({
                "schema": "archibald.lab-run/1", "scenario": file.path, "verdict": judgement.verdict,
                "idle_control": idle, "judgement": judgement, "runs": runs,
            }));
        } else {
            report::show(&file.scenario, &runs, &judgement, &idle);
        }
        Ok(if judgement.verdict == Verdict::Held { 0 } else { 1 })
    }
}

/// A control that showed what it must.
pub(super) fn trusted(
    place: &Workplace,
    prepared: &archibald_lab::bench::Prepared,
    kind: ControlKind,
    drawn: &Drawn<'_>,
    cancel: &archibald_image::Cancel,
) -> Result<archibald_lab::bench::Control, Failure> {
    // Scenarios that wait here find the control that the first of them ran.
    let alone = place.control.lock();
    let control = place.bench.control(prepared, kind, drawn, cancel).map_err(failure)?;
    drop(alone);
    if control.passed(kind) {
        return Ok(control);
    }
    let (xruns, periods) = (control.xruns, control.periods);
    let what = match kind {
        ControlKind::Idle => format!("the idle server had {xruns} xruns in {periods} periods"),
        ControlKind::Fault => {
            format!("a server without priority under full load had no xrun in {periods} periods")
        }
    };
    Err(Failure::new(Exit::Environment, format!("the lab is not trustworthy here: {what}"))
        .with_remedy(
            "No verdict is given. A slower processor (time.mips) or a shorter quantum than the machine can serve does that; so would a fault of the lab.",
        ))
}
