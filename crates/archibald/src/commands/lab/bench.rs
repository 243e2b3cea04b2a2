//! The workbench of this host: where the lab's image, files and caches are, and the scenarios that
//! were named.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use archibald_image::{Cancel, GuestFile, Recipe, guest_tree, package_list};
use archibald_lab::bench::{Bench, Finished, Origin, Prepared};
use archibald_lab::scenario::{KernelKind, Variation};
use archibald_lab::{LabError, Scenario};
use archibald_vm::qemu::Qemu;

use super::init::SCENARIO_FILE;
use super::progress::Drawn;
use crate::commands::build;
use crate::failure::{Context as _, Exit, Failure};
use crate::places;
use crate::terminal::Steps;

/// What every verb that runs experiments takes.
#[derive(Debug, Clone, clap::Args)]
pub(in crate::commands) struct How {
    /// The machine file, for packages, users and real-time settings; ./archibald.toml or the
    /// default one when left out.
    #[arg(long)]
    pub(in crate::commands) machine: Option<PathBuf>,
    /// Experiments at once; one a host CPU when left out.
    #[arg(short, long)]
    pub(in crate::commands) jobs: Option<usize>,
    /// Seconds of the host's time that one experiment may take; what suits it when left out.
    #[arg(long)]
    pub(in crate::commands) timeout: Option<u64>,
    /// No progress.
    #[arg(short, long)]
    pub(in crate::commands) quiet: bool,
}

/// A scenario file that was found and read.
#[derive(Debug, Clone)]
pub(in crate::commands) struct ScenarioFile {
    /// Where.
    pub(in crate::commands) path: PathBuf,
    /// Its text, kept with the runs.
    pub(in crate::commands) text: String,
    /// What it says, changed as the variation tells.
    pub(in crate::commands) scenario: Scenario,
    /// What is not as the file says.
    pub(in crate::commands) variation: Variation,
}

impl ScenarioFile {
    pub(in crate::commands) fn read(path: &Path) -> Result<Self, Failure> {
        // A folder means the scenario in it.
        let path = if path.is_dir() { path.join(SCENARIO_FILE) } else { path.to_owned() };
        let name = path.display().to_string();
        let text = fs::read_to_string(&path).map_err(|error| {
            Failure::new(Exit::Use, format!("{name}: {error}"))
                .with_remedy("`archibald lab init` writes a scenario into this folder.")
        })?;
        let absolute = std::path::absolute(&path).context(&name)?;
        let folder = absolute.parent().unwrap_or(&absolute);
        let mut scenario = Scenario::parse(&name, &text, folder)?;
        scenario.name = absolute.display().to_string();
        Ok(Self { path, text, scenario, variation: Variation::default() })
    }

    /// The same with something changed.
    pub(in crate::commands) fn varied(&self, variation: Variation) -> Self {
        Self { scenario: variation.of(&self.scenario), variation, ..self.clone() }
    }
}

/// A bench that goes with its scratch folder.
pub(in crate::commands) struct Workplace {
    pub(in crate::commands) bench: Bench,
    pub(in crate::commands) runs: PathBuf,
    pub(in crate::commands) jobs: usize,
    /// Held while a control runs.
    pub(in crate::commands) control: Mutex<()>,
}

impl Drop for Workplace {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.bench.scratch);
    }
}

impl Workplace {
    /// Finds or makes everything that these scenarios need.
    pub(in crate::commands) fn open(
        how: &How,
        scenarios: &[&Scenario],
        steps: &Steps,
        cancel: &Cancel,
    ) -> Result<Self, Failure> {
        let file = places::machine_file(how.machine.as_deref())?;
        if file.machine.image.os == archibald_machine::Os::NixOs {
            return Err(Failure::new(Exit::Environment, "the lab boots the Debian image only")
                .with_remedy("Write os = \"debian\" in the machine file that --machine names."));
        }
        let qemu = Qemu::find(places::qemu_path())
            .map_err(|error| Failure::new(Exit::Environment, &error).with_remedy(error.remedy()))?;
        let image = build::image(&file, false, false, steps, cancel)?;
        let lab = places::share()?.join("guest/lab");
        let stock = if scenarios.iter().any(|s| s.machine.kernel == KernelKind::Stock) {
            let recipe = Recipe::debian([], file.machine.image.mirror.clone())
                .map_err(|error| Failure::new(Exit::Use, error))?;
            let beside = image.manifest().kernel.clone().unwrap_or_default();
            let cache = build::cache()?;
            let kernel = cache.kernel("linux-image-amd64", &recipe, &beside, steps, cancel);
            Some(kernel.map_err(build::build_failure)?)
        } else {
            None
        };
        let guest = places::share()?.join("guest");
        let mut files = guest_tree(&guest.join("root")).context("guest files")?;
        files.extend(guest_tree(&lab.join("root")).context("the lab's files")?);
        for program in places::guest_programs()? {
            let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.push(GuestFile::program(program, format!("/usr/bin/{name}")));
        }
        let read = |name: &str| {
            let path = lab.join(name);
            fs::read_to_string(&path).context(path.display())
        };
        let directories = places::directories();
        let scratch = own_folder(&directories.runtime)?;
        let host = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Self {
            bench: Bench {
                image,
                stock,
                machine: file.machine,
                qemu,
                tools: build::tools(),
                init: read("initrd/init")?.into_bytes(),
                modules: package_list(&read("initrd/modules")?),
                files,
                programs: lab.join("programs"),
                cache: places::cache().join("lab"),
                scratch,
                patience: how.timeout.map(Duration::from_secs),
            },
            runs: directories.state.join("lab/runs"),
            jobs: how.jobs.unwrap_or(host).max(1),
            control: Mutex::new(()),
        })
    }

    /// Every seed of a prepared scenario, as many at once as there are jobs; kept in its folder.
    pub(in crate::commands) fn runs(
        &self,
        file: &ScenarioFile,
        prepared: &Prepared,
        control: Option<&archibald_lab::bench::Control>,
        steps: &Steps,
        cancel: &Cancel,
    ) -> Result<Vec<Finished>, Failure> {
        self.try_runs(file, prepared, control, steps, cancel).map_err(failure)
    }

    /// The same with the lab's own error, for a verb that takes some of them for an answer.
    pub(in crate::commands) fn try_runs(
        &self,
        file: &ScenarioFile,
        prepared: &Prepared,
        control: Option<&archibald_lab::bench::Control>,
        steps: &Steps,
        cancel: &Cancel,
    ) -> Result<Vec<Finished>, LabError> {
        let seeds = &prepared.scenario.time.seeds;
        let plural = if seeds.len() == 1 { "" } else { "s" };
        steps.step(&format!("lab: {} run{plural} in virtual time", seeds.len()));
        let one = |seed: &u64| -> Result<Finished, LabError> {
            let dir = self.bench.scratch.join(format!("{seed}-{:p}", prepared));
            let evidence = self.bench.run(prepared, *seed, false, &dir, cancel)?;
            let origin =
                Origin { path: &file.scenario.name, text: &file.text, variation: &file.variation };
            self.bench.keep(&evidence, origin, control, &dir, &self.runs)
        };
        in_parallel(self.jobs, seeds, one).into_iter().collect()
    }

    pub(in crate::commands) fn prepare(
        &self,
        scenario: &Scenario,
        steps: &Steps,
        cancel: &Cancel,
    ) -> Result<Prepared, Failure> {
        self.bench.prepare(scenario, &Drawn(steps), cancel).map_err(failure)
    }
}

/// A new folder. A process number alone does not tell processes apart where nodes of a farm are containers
/// that share the directory.
fn own_folder(runtime: &Path) -> Result<PathBuf, Failure> {
    fs::create_dir_all(runtime).context(runtime.display())?;
    let mut number = 0;
    loop {
        let more = if number == 0 { String::new() } else { format!("-{number}") };
        let folder = runtime.join(format!("lab-{}{more}", std::process::id()));
        match fs::create_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
            made => return made.context(folder.display()).map(|()| folder),
        }
    }
}

/// Does `work` for every item on `jobs` threads; results in the items' order.
pub(in crate::commands) fn in_parallel<T: Sync, R: Send>(
    jobs: usize,
    items: &[T],
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let mut results: Vec<(usize, R)> = std::thread::scope(|scope| {
        let worker = || {
            let mut done = Vec::new();
            loop {
                let index = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let Some(item) = items.get(index) else { return done };
                done.push((index, work(item)));
            }
        };
        let workers: Vec<_> = (0..jobs.min(items.len())).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .flat_map(|worker| match worker.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .collect()
    });
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// The lab's errors as this program's failures.
pub(in crate::commands) fn failure(error: LabError) -> Failure {
    if matches!(error, LabError::Cancelled) {
        return Failure::interrupted();
    }
    let exit = if error.is_the_scenarios() { Exit::Use } else { Exit::Environment };
    let remedy = error.remedy();
    let failure = Failure::new(exit, &error);
    match remedy {
        Some(remedy) => failure.with_remedy(remedy),
        None => failure,
    }
}
