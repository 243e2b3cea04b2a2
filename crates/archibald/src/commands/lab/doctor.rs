//! `archibald lab doctor`: whether the same experiment comes out the same twice on this host.

use std::path::PathBuf;

use archibald_lab::bench::{Bench, ControlKind};
use archibald_lab::evidence::Evidence;

use super::bench::{How, ScenarioFile, Workplace, failure, in_parallel};
use super::progress::Drawn;
use super::run::trusted;
use crate::commands::build;
use crate::failure::{Context as _, Failure};
use crate::places;
use crate::terminal::{self, Steps};

/// Run the same experiment twice and compare everything: xruns, histograms, every task switch.
#[derive(Debug, clap::Args)]
pub(crate) struct Doctor {
    /// The scenario; the project's own client under the full load when left out.
    file: Option<PathBuf>,
    #[command(flatten)]
    how: How,
    /// For programs.
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        let path = match &self.file {
            Some(path) => path.clone(),
            None => places::share()?.join("guest/lab/lab.toml"),
        };
        let file = ScenarioFile::read(&path)?;
        let cancel = build::called_off()?;
        let steps = Steps::new(self.how.quiet);
        let place = Workplace::open(&self.how, &[&file.scenario], &steps, &cancel)?;
        let prepared = place.prepare(&file.scenario, &steps, &cancel)?;
        let drawn = Drawn(&steps);
        trusted(&place, &prepared, ControlKind::Idle, &drawn, &cancel)?;
        trusted(&place, &prepared, ControlKind::Fault, &drawn, &cancel)?;
        steps.step("lab: the same run twice");
        let seed = file.scenario.time.seeds.first().copied().unwrap_or(1);
        let bench: &Bench = &place.bench;
        let one =
            |name: &&str| bench.run(&prepared, seed, false, &bench.scratch.join(name), &cancel);
        let mut twice = in_parallel(place.jobs, &["first", "second"], one).into_iter();
        let (first, second) = match (twice.next(), twice.next()) {
            (Some(first), Some(second)) => (first.map_err(failure)?, second.map_err(failure)?),
            _ => return Err(Failure::interrupted()),
        };
        steps.finish();
        drop(steps);
        let differing = differing(&first, &second).context("comparing two runs")?;
        if self.json {
            terminal::say_json(&serde_json::json!({
                "schema": "archibald.lab-doctor/1", "same": differing.is_empty(),
                "differing": differing, "run": first.without_cost(), "schedstat": first.schedstat,
            }));
        } else if differing.is_empty() {
            terminal::say(&format!(
                "the same run twice: {} xruns, {} periods, every histogram and /proc/schedstat alike",
                first.run.worst_meter().map_or(0, |(_, count)| count),
                first.run.periods
            ));
            terminal::say(
                "idle control 0 xruns, planted fault seen: the lab is to be trusted here",
            );
        } else {
            terminal::say("the same run came out differently twice:");
            for line in &differing {
                terminal::say(&format!("  {line}"));
            }
        }
        Ok(u8::from(!differing.is_empty()))
    }
}

/// What two runs that should be one differ in, key by key.
fn differing(first: &Evidence, second: &Evidence) -> Result<Vec<String>, serde_json::Error> {
    let mut lines = Vec::new();
    let value = |evidence: &Evidence| serde_json::to_value(evidence.without_cost());
    if let (serde_json::Value::Object(a), serde_json::Value::Object(b)) =
        (value(first)?, value(second)?)
    {
        for (key, value) in &a {
            if b.get(key) != Some(value) {
                lines.push(format!("{key} of the run"));
            }
        }
    }
    if first.late_clients != second.late_clients {
        lines.push("the clients that jackd called late".to_owned());
    }
    if first.program != second.program {
        lines.push("the processor time of the program's threads".to_owned());
    }
    if first.schedstat != second.schedstat {
        lines.push("/proc/schedstat: some task was switched at another time".to_owned());
    }
    Ok(lines)
}
