//! `archibald farm lab`: the experiments of a sweep, one task each, merged into the report of the sweep.

use std::path::{Path, PathBuf};

use archibald_farm::job::{Experiment, Job, Resources, Shared, Task, Work};
use archibald_image::Key;
use archibald_lab::experiment::Patience;
use archibald_lab::program::Folder;
use archibald_lab::scenario::{Mips, Source};
use archibald_machine::units::Frames;

use super::experiment::{Laboratory, agree, point, read};
use super::{Where, failure, program, tell_place};
use crate::commands::build;
use crate::commands::lab::bench::{How, ScenarioFile};
use crate::commands::lab::{bench, sweep, variants};
use crate::failure::Failure;
use crate::places;
use crate::terminal::Steps;

/// Run a scenario over periods, speeds of the processor and seeds, on many machines.
///
/// The report is that of `archibald lab sweep`, and the same whoever ran the experiments. Exit status 1: no
/// point holds.
#[derive(Debug, clap::Args)]
pub(crate) struct Lab {
    /// The scenario file, or a folder with a lab.toml.
    file: PathBuf,
    /// Periods in frames, e.g. 16,32,64; the scenario's own when left out.
    #[arg(long, value_delimiter = ',', value_parser = variants::quantum)]
    quantum: Vec<Frames>,
    /// Speeds of the processor, e.g. 125,250,500; the scenario's own when left out.
    #[arg(long, alias = "cpu-mips", value_delimiter = ',', value_parser = variants::mips)]
    mips: Vec<Mips>,
    /// Seeds instead of the scenario's, e.g. 1..200 or 1,5,7..9; both ends belong to it.
    #[arg(long, value_delimiter = ',', value_parser = seeds)]
    seeds: Vec<Seeds>,
    /// The machine file, for packages, users and real-time settings; ./archibald.toml or the default
    /// one when left out.
    #[arg(long)]
    machine: Option<PathBuf>,
    /// Seconds of the host's time that one experiment may take; what suits it when left out.
    #[arg(long)]
    timeout: Option<u64>,
    #[command(flatten)]
    on: Where,
    /// For programs.
    #[arg(long)]
    json: bool,
}

/// One seed or a row of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seeds(u64, u64);

/// The most that one row may have: more is a slip of the finger.
const MOST: u64 = 100_000;

fn seeds(text: &str) -> Result<Seeds, String> {
    let error = || format!("a seed or a row of at most {MOST}, such as 1..200");
    let (first, last) = text.split_once("..").unwrap_or((text, text));
    let number = |text: &str| text.trim().parse::<u64>().map_err(|_| error());
    let (first, last) = (number(first)?, number(last.trim_start_matches('='))?);
    if first > last || last - first >= MOST {
        return Err(error());
    }
    Ok(Seeds(first, last))
}

impl Lab {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        let mut file = ScenarioFile::read(&self.file)?;
        if !self.seeds.is_empty() {
            let mut seeds: Vec<u64> = self.seeds.iter().flat_map(|Seeds(a, b)| *a..=*b).collect();
            seeds.sort_unstable();
            seeds.dedup();
            file.scenario.time.seeds = seeds;
        }
        let grid = sweep::grid(&file, &self.quantum, &self.mips);
        let cancel = build::called_off()?;
        let steps = Steps::new(self.on.quiet);
        let how = How {
            machine: self.machine.clone(),
            jobs: self.on.jobs,
            timeout: self.timeout,
            quiet: self.on.quiet,
        };
        // The image is made once, here; a cache that the nodes share spares them the work.
        let laboratory = Laboratory::open(&how, &file, &steps, &cancel)?;
        let shared = self.on.shared()?;
        let job = self.job(&file, &grid, &laboratory, &shared)?;
        if !self.on.local && !self.on.quiet {
            tell_place(&shared, &job);
        }
        self.on.complete(&shared, &job, &laboratory, true, &steps, &cancel)?;
        let seeds = file.scenario.time.seeds.len();
        let found = job.tasks.iter().map(|task| read(&shared.result(&task.key)));
        let found = found.collect::<Result<Vec<_>, _>>().map_err(failure)?;
        agree(&found).map_err(failure)?;
        let by_point = grid.iter().zip(found.chunks(seeds.max(1)));
        let points: Vec<_> = by_point.map(|(file, found)| point(file, found)).collect();
        steps.finish();
        drop(steps);
        sweep::plays_somewhere(&points)?;
        sweep::tell(&file, &points, self.json);
        Ok(u8::from(!points.iter().any(|point| point.outcome.held())))
    }

    /// One task for each seed of each point, in this order.
    fn job(
        &self,
        file: &ScenarioFile,
        grid: &[ScenarioFile],
        laboratory: &Laboratory,
        shared: &Shared,
    ) -> Result<Job, Failure> {
        let machine = places::machine_file(self.machine.as_deref())?;
        let mut base = Key::new("farm experiment");
        base.add(program::key(true)?).add(&file.text).add(&machine.text);
        base.add(laboratory.place.bench.image.id()).add(&laboratory.place.bench.qemu.banner);
        let folder = match &file.scenario.program.source {
            Source::Folder(folder) => Some(Folder::read(folder).map_err(bench::failure)?),
            Source::Builtin(_) => None,
        };
        if let Some(folder) = &folder {
            base.add(folder.key());
        }
        let base = base.name();
        let put = put(shared, file, folder.as_ref(), &base)?;
        let machine = shared
            .input(&format!("{base}.machine.toml"), machine.text.as_bytes())
            .map_err(failure)?;
        let mut tasks = Vec::new();
        for point in grid {
            let (mips, quantum) =
                (point.scenario.time.mips.number(), point.scenario.audio.quantum.0);
            for seed in &point.scenario.time.seeds {
                let mut key = Key::new("farm experiment of");
                key.add(&base).add(mips.to_le_bytes()).add(quantum.to_le_bytes());
                key.add(seed.to_le_bytes());
                let work = Work::Experiment(Experiment {
                    scenario: put.clone(),
                    machine: machine.clone(),
                    mips,
                    quantum,
                    seed: *seed,
                    timeout: self.timeout,
                });
                let title = format!("{mips} MIPS, {quantum} frames, seed {seed}");
                tasks.push(Task { key: key.name(), title, work });
            }
        }
        let scenario = &file.scenario;
        let length = scenario.program.connect + scenario.time.warmup + scenario.time.duration;
        // The first task on a node boots the machine once, which every other finds done.
        let seconds = Patience::for_virtual(length).0.as_secs() + 900;
        // One processor in the machine, one thread that translates for it; its files lie in memory twice.
        let memory_mib = scenario.machine.memory.mib() + 1024;
        let resources = Resources { cpus: 1, memory_mib, minutes: seconds.div_ceil(60) };
        let title = format!("lab {}, {} points", self.file.display(), grid.len());
        Ok(Job::new(title, self.on.resources(resources), tasks))
    }
}

/// The scenario with its program where every node finds it.
fn put(
    shared: &Shared,
    file: &ScenarioFile,
    folder: Option<&Folder>,
    key: &str,
) -> Result<PathBuf, Failure> {
    let absolute = std::path::absolute(&file.path).unwrap_or_else(|_| file.path.clone());
    // A run is called by its file's folder when the file is called lab.toml.
    let name = absolute.parent().and_then(Path::file_name).unwrap_or_default().to_owned();
    let file_name = absolute.file_name().unwrap_or_default().to_owned();
    let text = file.text.clone();
    let inside = Path::new(&name).join(&file_name);
    let fill = |to: &Path| {
        let to = to.join(&name);
        let written = std::fs::create_dir_all(&to).map_err(|error| error.to_string());
        let written = written.and_then(|()| match folder {
            Some(folder) => folder.write(&to).map_err(|error| error.to_string()),
            None => Ok(()),
        });
        let path = to.join(&file_name);
        let written =
            written.and_then(|()| std::fs::write(&path, &text).map_err(|error| error.to_string()));
        written.map_err(|what| archibald_farm::FarmError::Job { path, what })
    };
    let folder = shared.folder(&format!("inputs/{key}"), fill).map_err(failure)?;
    Ok(folder.join(inside))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_seeds_have_both_ends() {
        assert_eq!(seeds("7"), Ok(Seeds(7, 7)));
        assert_eq!(seeds("1..200"), Ok(Seeds(1, 200)));
        for wrong in ["", "a", "3..1", "1..", "..4", "-1", "1..100001", "0..18446744073709551615"] {
            assert!(seeds(wrong).is_err(), "{wrong}");
        }
    }
}
