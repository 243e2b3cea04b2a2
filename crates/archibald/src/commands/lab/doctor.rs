//! `archibald lab doctor`: whether the same experiment comes out the same every time on this host.

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

/// Run the same experiment again and again and compare everything: xruns, histograms, every task switch.
#[derive(Debug, clap::Args)]
pub(crate) struct Doctor {
    /// The scenario; the project's own client under the full load when left out.
    file: Option<PathBuf>,
    /// How often.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(2..=1000))]
    times: u32,
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
        let times = self.times;
        steps.step(&format!("lab: the same run {times} times"));
        let seed = file.scenario.time.seeds.first().copied().unwrap_or(1);
        let bench: &Bench = &place.bench;
        let one = |number: &u32| {
            let dir = bench.scratch.join(format!("run-{number}"));
            bench.run(&prepared, seed, false, &dir, &cancel)
        };
        let numbers: Vec<u32> = (1..=times).collect();
        let runs = in_parallel(place.jobs, &numbers, one);
        let runs = runs.into_iter().collect::<Result<Vec<_>, _>>().map_err(failure)?;
        let Some((first, others)) = runs.split_first() else {
            return Err(Failure::interrupted());
        };
        steps.finish();
        drop(steps);
        let mut differing = Vec::new();
        for (number, other) in (2..).zip(others) {
            let lines = self::differing(first, other).context("comparing two runs")?;
            differing.extend(lines.into_iter().map(|line| format!("run {number}: {line}")));
        }
        if self.json {
            terminal::say_json(&serde_json::json!({
                "schema": "archibald.lab-doctor/1", "same": differing.is_empty(),
                "differing": differing, "times": times, "run": first.without_cost(), "schedstat": first.schedstat,
            }));
        } else if differing.is_empty() {
            terminal::say(&format!(
                "the same run {times} times: {} xruns, {} periods, every histogram and /proc/schedstat alike",
                first.run.worst_meter().map_or(0, |(_, count)| count),
                first.run.periods
            ));
            terminal::say(
                "idle control 0 xruns, planted fault seen: the lab is to be trusted here",
            );
        } else {
            terminal::say(&format!("the same run did not come out the same {times} times:"));
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
