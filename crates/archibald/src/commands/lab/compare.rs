//! `archibald lab compare`: two scenarios, or one in two variants, on the same seeds.

use std::fs::File;
use std::path::PathBuf;

use archibald_lab::bench::{Control, ControlKind, Finished};
use archibald_lab::scenario::Variation;
use archibald_latency::{Comparison, Report, Target};
use archibald_machine::AudioServer;
use archibald_machine::units::Frames;

use super::bench::{How, ScenarioFile, Workplace, in_parallel};
use super::progress::Drawn;
use super::run::trusted;
use super::variants::{self, Variants};
use crate::commands::build;
use crate::failure::{Context as _, Exit, Failure};
use crate::terminal::{self, Steps};

/// Run two scenarios, or one in two variants, on the same seeds, and hold them side by side.
///
/// Exit status 0 says that the comparison could be made, not that anything held.
#[derive(Debug, clap::Args)]
pub(crate) struct Compare {
    /// The first scenario.
    a: PathBuf,
    /// The second; left out when one of the options below names two values.
    b: Option<PathBuf>,
    /// Kernels: rt, stock. One value holds for both sides, two are one each: --kernel rt,stock.
    #[arg(long, value_delimiter = ',', value_parser = variants::kernel)]
    kernel: Vec<archibald_lab::scenario::KernelKind>,
    /// Tunings: machine, none.
    #[arg(long, value_delimiter = ',', value_parser = variants::tuning)]
    tuning: Vec<archibald_lab::scenario::Tuning>,
    /// Audio servers: jack, pipewire.
    #[arg(long, value_delimiter = ',', value_parser = variants::server)]
    server: Vec<AudioServer>,
    /// Speeds of the processor.
    #[arg(long, value_delimiter = ',', value_parser = variants::mips)]
    mips: Vec<archibald_lab::scenario::Mips>,
    /// Periods in frames.
    #[arg(long, value_delimiter = ',', value_parser = variants::quantum)]
    quantum: Vec<Frames>,
    /// Seeds for both instead of the first scenario's.
    #[arg(long, value_delimiter = ',')]
    seed: Vec<u64>,
    /// Write one page with charts, too.
    #[arg(long)]
    html: Option<PathBuf>,
    #[command(flatten)]
    how: How,
    /// For programs.
    #[arg(long)]
    json: bool,
}

impl Compare {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        let [a, b] = self.sides()?;
        let cancel = build::called_off()?;
        let steps = Steps::new(self.how.quiet);
        let mut place = Workplace::open(&self.how, &[&a.scenario, &b.scenario], &steps, &cancel)?;
        let jobs = place.jobs;
        place.jobs = jobs.div_ceil(2);
        steps.step("lab: two scenarios in virtual time");
        let sides = in_parallel(jobs, &[&a, &b], |file| {
            let quiet = Steps::new(true);
            let prepared = place.prepare(&file.scenario, &quiet, &cancel)?;
            let drawn = Drawn(&quiet);
            let idle = trusted(&place, &prepared, ControlKind::Idle, &drawn, &cancel)?;
            let runs = place.runs(file, &prepared, Some(&idle), &quiet, &cancel)?;
            Ok::<_, Failure>((idle, runs))
        });
        let mut sides = sides.into_iter();
        let (Some(of_a), Some(of_b)) = (sides.next(), sides.next()) else {
            return Err(Failure::interrupted());
        };
        let titles = titles(&a, &b);
        let a = report(&titles.0, &a, of_a?);
        let b = report(&titles.1, &b, of_b?);
        steps.finish();
        drop(steps);
        let comparison = Comparison::new(format!("{} against {}", titles.0, titles.1), &a, &b);
        if let Some(path) = &self.html {
            let mut file = File::create(path).context(path.display())?;
            comparison.write_html(&mut file).context(path.display())?;
        }
        let mut text = Vec::new();
        match self.json {
            true => comparison.write_json(&mut text),
            false => comparison.write_text(&mut text),
        }
        .context("the comparison")?;
        terminal::say(String::from_utf8_lossy(&text).trim_end());
        Ok(0)
    }

    /// What stands on each side.
    fn sides(&self) -> Result<[ScenarioFile; 2], Failure> {
        let wrong =
            |message: String, remedy: &str| Failure::new(Exit::Use, message).with_remedy(remedy);
        let variants = Variants {
            kernel: &self.kernel,
            tuning: &self.tuning,
            server: &self.server,
            mips: &self.mips,
            quantum: &self.quantum,
        };
        let [one, other] = variants.pair().map_err(|option| {
            wrong(
                format!("--{option} has more than two values"),
                "One value holds for both sides, two are one each. `archibald lab sweep` takes more.",
            )
        })?;
        if self.b.is_none() && one == other {
            return Err(wrong(
                "there is only one thing to compare".to_owned(),
                "Name a second scenario, or two values: --kernel rt,stock.",
            ));
        }
        let a = ScenarioFile::read(&self.a)?;
        let b = self.b.as_ref().map_or_else(|| Ok(a.clone()), |b| ScenarioFile::read(b))?;
        let [mut a, mut b] = [a.varied(one), b.varied(other)];
        if !self.seed.is_empty() {
            a.scenario.time.seeds.clone_from(&self.seed);
            a.scenario.time.seeds.sort_unstable();
            a.scenario.time.seeds.dedup();
        }
        b.scenario.time.seeds.clone_from(&a.scenario.time.seeds);
        Ok([a, b])
    }
}

/// What to call the two sides: by what is not the same.
fn titles(a: &ScenarioFile, b: &ScenarioFile) -> (String, String) {
    let title = |file: &ScenarioFile, other: &ScenarioFile| {
        let (path, variation) = (file.path.display().to_string(), file.variation.title());
        match (file.path == other.path, variation.is_empty()) {
            (true, false) => variation,
            (_, true) => path,
            (false, false) => format!("{path} ({variation})"),
        }
    };
    (title(a, b), title(b, a))
}

fn report(title: &str, file: &ScenarioFile, (idle, runs): (Control, Vec<Finished>)) -> Report {
    let runs = runs.into_iter().map(|finished| finished.evidence.run).collect();
    let mut report = Report::new(title, runs, Target::xruns(file.scenario.xruns));
    report.control = Some(archibald_latency::Control {
        title: "idle, the server alone".to_owned(),
        periods: idle.periods,
        xruns: idle.xruns,
        held: idle.passed(ControlKind::Idle),
    });
    report
}

impl Variants<'_> {
    /// The two sides that the lists give; the error is the option that has more than two values.
    fn pair(&self) -> Result<[Variation; 2], &'static str> {
        fn side<T: Copy>(list: &[T], index: usize) -> Option<T> {
            list.get(index).or_else(|| list.first()).copied()
        }
        let lengths = [
            ("kernel", self.kernel.len()),
            ("tuning", self.tuning.len()),
            ("server", self.server.len()),
            ("mips", self.mips.len()),
            ("quantum", self.quantum.len()),
        ];
        if let Some((option, _)) = lengths.into_iter().find(|(_, length)| *length > 2) {
            return Err(option);
        }
        Ok([0, 1].map(|index| Variation {
            kernel: side(self.kernel, index),
            tuning: side(self.tuning, index),
            server: side(self.server, index),
            mips: side(self.mips, index),
            quantum: side(self.quantum, index),
        }))
    }
}

#[cfg(test)]
mod tests {
    use archibald_lab::scenario::{KernelKind, Mips};

    use super::*;

    #[test]
    fn one_value_is_for_both_sides_and_two_are_one_each() {
        let kernels = [KernelKind::Rt, KernelKind::Stock];
        let speeds = [Mips::new(250).unwrap()];
        let variants = Variants { kernel: &kernels, mips: &speeds, ..Variants::default() };
        let [a, b] = variants.pair().unwrap();
        assert_eq!(
            (a.title().as_str(), b.title().as_str()),
            ("rt kernel, 250 MIPS", "stock kernel, 250 MIPS")
        );
        let speeds = [62, 125, 250].map(|mips| Mips::new(mips).unwrap());
        let variants = Variants { mips: &speeds, ..Variants::default() };
        assert_eq!(variants.pair(), Err("mips"));
    }
}
