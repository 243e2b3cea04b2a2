//! `archibald lab sweep`: one scenario over periods and speeds of the processor, and where it breaks.

use std::path::PathBuf;

use archibald_lab::bench::{ControlKind, verdict};
use archibald_lab::scenario::{Mips, Variation};
use archibald_lab::sweep::{Edge, Outcome, Point, slowest_processor, smallest_quantum};
use archibald_latency::Source;
use archibald_machine::units::Frames;

use super::bench::{How, ScenarioFile, Workplace, failure, in_parallel};
use super::progress::Drawn;
use super::variants;
use crate::commands::build;
use crate::failure::{Exit, Failure};
use crate::terminal::{self, Steps};

/// Find the smallest period and the slowest processor at which a scenario still holds.
///
/// Every point of the grid is run with every seed. Exit status 1: no point holds.
#[derive(Debug, clap::Args)]
pub(crate) struct Sweep {
    /// The scenario file, or a folder with a lab.toml.
    file: PathBuf,
    /// Periods in frames, e.g. 8,16,32,64; the scenario's own when left out.
    #[arg(long, value_delimiter = ',', value_parser = variants::quantum)]
    quantum: Vec<Frames>,
    /// Speeds of the processor, e.g. 62,125,250,500; the scenario's own when left out.
    #[arg(long, value_delimiter = ',', value_parser = variants::mips)]
    mips: Vec<Mips>,
    /// Seeds instead of the scenario's.
    #[arg(long, value_delimiter = ',')]
    seed: Vec<u64>,
    #[command(flatten)]
    how: How,
    /// For programs.
    #[arg(long)]
    json: bool,
}

impl Sweep {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        if self.quantum.is_empty() && self.mips.is_empty() {
            return Err(Failure::new(Exit::Use, "there is nothing to sweep over")
                .with_remedy("Write for example --quantum 8,16,32,64 or --mips 62,125,250,500."));
        }
        let mut file = ScenarioFile::read(&self.file)?;
        if !self.seed.is_empty() {
            file.scenario.time.seeds.clone_from(&self.seed);
            file.scenario.time.seeds.sort_unstable();
            file.scenario.time.seeds.dedup();
        }
        let grid = grid(&file, &self.quantum, &self.mips);
        let cancel = build::called_off()?;
        let steps = Steps::new(self.how.quiet);
        let scenarios: Vec<_> = grid.iter().map(|file| &file.scenario).collect();
        let mut place = Workplace::open(&self.how, &scenarios, &steps, &cancel)?;
        let jobs = place.jobs;
        place.jobs = (jobs / grid.len()).max(1);
        steps.step(&format!("lab: {} points in virtual time", grid.len()));
        let points = in_parallel(jobs, &grid, |file| {
            let point = point(&place, file, &cancel)?;
            let (mips, quantum) = (point.mips, point.quantum);
            steps.note(&format!("{mips} MIPS, {quantum} frames: {}", point.outcome.word()));
            Ok::<_, Failure>(point)
        });
        let points = points.into_iter().collect::<Result<Vec<_>, _>>()?;
        steps.finish();
        drop(steps);
        plays_somewhere(&points)?;
        tell(&file, &points, self.json);
        Ok(u8::from(!points.iter().any(|point| point.outcome.held())))
    }
}

/// Every point, the easiest first.
pub(in crate::commands) fn grid(
    file: &ScenarioFile,
    quantum: &[Frames],
    mips: &[Mips],
) -> Vec<ScenarioFile> {
    let quanta = descending(quantum, file.scenario.audio.quantum, |frames| frames.0);
    let mut grid = Vec::new();
    for mips in descending(mips, file.scenario.time.mips, Mips::number) {
        for quantum in &quanta {
            let variation =
                Variation { mips: Some(mips), quantum: Some(*quantum), ..Variation::default() };
            grid.push(file.varied(variation));
        }
    }
    grid
}

/// A program that plays nowhere has a fault of its own.
pub(in crate::commands) fn plays_somewhere(points: &[Point]) -> Result<(), Failure> {
    if let [Point { outcome: Outcome::Silent { reason }, .. }, rest @ ..] = points {
        if rest.iter().all(|point| matches!(point.outcome, Outcome::Silent { .. })) {
            return Err(Failure::new(Exit::Use, format!("it plays at no point: {reason}")));
        }
    }
    Ok(())
}

/// What was found, for people or for programs.
pub(in crate::commands) fn tell(file: &ScenarioFile, points: &[Point], json: bool) {
    let (quantum, processor) = (smallest_quantum(points), slowest_processor(points));
    if json {
        terminal::say_json(&serde_json::json!({
            "schema": "archibald.lab-sweep/1", "scenario": file.path,
            "source": Source::VirtualTime, "caveat": Source::VirtualTime.caveat(),
            "seeds": file.scenario.time.seeds, "points": points,
            "smallest_quantum": quantum, "slowest_processor": processor,
        }));
    } else {
        show(file, points, &quantum, &processor);
    }
}

/// The easiest first, each once.
fn descending<T: Copy>(list: &[T], otherwise: T, number: impl Fn(T) -> u32) -> Vec<T> {
    let mut list = if list.is_empty() { vec![otherwise] } else { list.to_vec() };
    list.sort_unstable_by_key(|value| std::cmp::Reverse(number(*value)));
    list.dedup_by_key(|value| number(*value));
    list
}

fn point(
    place: &Workplace,
    file: &ScenarioFile,
    cancel: &archibald_image::Cancel,
) -> Result<Point, Failure> {
    let quiet = Steps::new(true);
    let scenario = &file.scenario;
    let at = |outcome| {
        Ok(Point { quantum: scenario.audio.quantum.0, mips: scenario.time.mips.number(), outcome })
    };
    let prepared = place.prepare(scenario, &quiet, cancel)?;
    let alone = place.control.lock();
    let control = place.bench.control(&prepared, ControlKind::Idle, &Drawn(&quiet), cancel);
    drop(alone);
    let control = match control {
        // Too slow a processor for the server alone, which is told with the other points.
        Err(error) if error.is_the_servers() => {
            return at(Outcome::Silent { reason: error.to_string() });
        }
        control => control.map_err(failure)?,
    };
    if !control.passed(ControlKind::Idle) {
        return at(Outcome::Server { xruns: control.xruns });
    }
    match place.try_runs(file, &prepared, Some(&control), &quiet, cancel) {
        Ok(runs) => {
            let judgement = verdict(scenario, &runs);
            let (xruns, periods) = (judgement.xruns, judgement.periods);
            at(Outcome::Judged { verdict: judgement.verdict, xruns, periods })
        }
        // Overloaded beyond playing, or none of the scenario's making: the other points tell which.
        Err(error) if error.is_the_scenarios() => at(Outcome::Silent { reason: error.to_string() }),
        Err(error) => Err(failure(error)),
    }
}

fn show(file: &ScenarioFile, points: &[Point], quantum: &[Edge], processor: &[Edge]) {
    let quanta: Vec<u32> = processor.iter().map(|edge| edge.at).collect();
    let mut header = vec!["MIPS".to_owned()];
    header.extend(quanta.iter().map(|quantum| format!("{quantum} FRAMES")));
    let rows = quantum.iter().map(|edge| {
        let cell = |quantum: &u32| {
            let found = points.iter().find(|p| p.mips == edge.at && p.quantum == *quantum);
            found.map_or_else(String::new, |point| point.outcome.word())
        };
        let mut row = vec![edge.at.to_string()];
        row.extend(quanta.iter().map(cell));
        row
    });
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    terminal::say(&terminal::table(&header, rows.collect()));
    terminal::say("");
    if quanta.len() > 1 {
        for edge in quantum {
            terminal::say(&format!(
                "at {} MIPS: {}",
                edge.at,
                words(edge, "frames", "smallest period")
            ));
        }
    }
    if quantum.len() > 1 {
        for edge in processor {
            terminal::say(&format!(
                "at {} frames: {}",
                edge.at,
                words(edge, "MIPS", "slowest processor")
            ));
        }
    }
    for point in points {
        if let Outcome::Silent { reason } = &point.outcome {
            let (mips, quantum) = (point.mips, point.quantum);
            let line = reason.lines().next().unwrap_or_default();
            terminal::say(&format!("no verdict at {mips} MIPS, {quantum} frames: {line}"));
        }
    }
    let seeds = file.scenario.time.seeds.len();
    let plural = if seeds == 1 { "" } else { "s" };
    terminal::say(&format!(
        "{} seed{plural}, load {}, {} kernel; figures in cells are xruns of all seeds, in virtual time",
        seeds,
        file.scenario.load.title(),
        file.scenario.machine.kernel.word()
    ));
    terminal::say(Source::VirtualTime.caveat());
}

fn words(edge: &Edge, unit: &str, what: &str) -> String {
    let again = edge.again.map_or_else(String::new, |again| {
        format!("; {again} {unit} held all the same, so that the edge is not a clean one")
    });
    match (edge.holds, edge.breaks) {
        (Some(holds), Some(breaks)) => {
            format!("the {what} that holds is {holds} {unit}; {breaks} does not{again}")
        }
        (Some(holds), None) => {
            format!("all hold; the {what} tried is {holds} {unit}, and where it breaks lies beyond")
        }
        (None, _) => format!("none holds{again}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_beyond_the_grid_is_not_claimed() {
        let edge = |holds, breaks, again| Edge { at: 500, holds, breaks, again };
        let said = |edge| words(&edge, "frames", "smallest period");
        assert!(said(edge(Some(32), Some(16), None)).ends_with("32 frames; 16 does not"));
        assert!(said(edge(Some(8), None, None)).contains("lies beyond"));
        assert!(said(edge(None, Some(64), Some(8))).starts_with("none holds; 8 frames held"));
    }
}
