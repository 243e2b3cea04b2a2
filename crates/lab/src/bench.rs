//! The workbench: an image, an emulator and places for files, from which every scenario gets its
//! machine, its built program and its runs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use archibald_image::{Cancel, GuestFile, Image, Kernel, Key, Tools};
use archibald_latency::{Judgement, Target, judge};
use archibald_machine::units::CpuSet;
use archibald_machine::{Machine, Settings, SettingsUser};
use archibald_mailbox::{Measure, Request, Task};
use archibald_vm::qemu::Qemu;
use serde::{Deserialize, Serialize};

use crate::LabError;
use crate::error::During;
use crate::evidence::{self, Circumstances, Evidence};
use crate::experiment::{self, Patience};
use crate::machine::{Hardware, kernel_arguments};
use crate::program::{Builder, Folder};
use crate::replay::Clocks;
use crate::scenario::{KernelKind, Load, Profile, Scenario, Source, Variation};
use crate::snapshot::{Progress, Recipe, Snapshot};

/// What all scenarios have in common on one host.
#[derive(Debug)]
pub struct Bench {
    /// The image with the root file system.
    pub image: Image,
    /// The distribution's usual kernel; present when a scenario asks for it.
    pub stock: Option<Kernel>,
    /// The machine file: users and real-time settings.
    pub machine: Machine,
    /// The emulator, by its path.
    pub qemu: Qemu,
    /// Programs of the host.
    pub tools: Tools,
    /// The initrd's `/init`.
    pub init: Vec<u8>,
    /// Its kernel modules.
    pub modules: Vec<String>,
    /// Files laid over the image's root.
    pub files: Vec<GuestFile>,
    /// The project's own programs, a folder each.
    pub programs: PathBuf,
    /// Where snapshots, builds and controls are kept.
    pub cache: PathBuf,
    /// Where experiments have their files while they run.
    pub scratch: PathBuf,
    /// How long an experiment may take; what suits it when absent.
    pub patience: Option<Duration>,
}

/// A scenario with everything that a run of it needs.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The scenario.
    pub scenario: Scenario,
    /// The machine.
    pub snapshot: Snapshot,
    /// The program's folder, built.
    pub folder: Folder,
}

/// What a control showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// Xruns by the meter that saw most.
    pub xruns: u64,
    /// Periods that were scheduled.
    pub periods: u64,
}

/// Which control.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ControlKind {
    /// The server alone on an idle machine: not one xrun, or the lab is not to be trusted.
    Idle,
    /// The server without real-time priority under the full load: xruns, or the lab sees none.
    Fault,
}

impl Control {
    /// Whether it showed what it must.
    #[must_use]
    pub fn passed(&self, kind: ControlKind) -> bool {
        match kind {
            ControlKind::Idle => self.xruns == 0 && self.periods > 0,
            ControlKind::Fault => self.xruns > 0,
        }
    }
}

/// A finished run in its folder.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The run and what goes with it.
    pub evidence: Evidence,
    /// Its folder.
    pub dir: PathBuf,
}

/// What a run is a run of.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The scenario file's path.
    pub path: &'a str,
    /// Its text.
    pub text: &'a str,
    /// What was changed.
    pub variation: &'a Variation,
}

/// What is written beside a run: what it cost, which differs from time to time, and what the run's
/// own form has no place for.
#[derive(Debug, Serialize)]
struct Beside<'a> {
    schema: &'static str,
    scenario: &'a str,
    variation: &'a Variation,
    cost: archibald_latency::Cost,
    late_clients: &'a BTreeMap<String, u64>,
    counters: &'a BTreeMap<String, u64>,
    program: &'a [archibald_mailbox::ThreadUse],
    clocks: Clocks,
    mapped: &'a BTreeMap<String, u64>,
    schedstat: &'a str,
    idle_control: Option<&'a Control>,
}

/// What goes on, for the caller to draw.
pub trait Watcher: Progress {
    /// The program is built inside the machine.
    fn building(&self, command: &str);
    /// A control runs.
    fn control(&self, kind: ControlKind);
}

impl Bench {
    /// Machine and program of a scenario: out of the cache, or made now.
    ///
    /// # Errors
    /// [`LabError`]: no such machine on this host, or a build that fails.
    pub fn prepare(
        &self,
        scenario: &Scenario,
        watcher: &dyn Watcher,
        cancel: &Cancel,
    ) -> Result<Prepared, LabError> {
        let snapshot = self.snapshot(scenario, watcher, cancel)?;
        let source = match &scenario.program.source {
            Source::Folder(folder) => folder.clone(),
            Source::Builtin(name) => self.programs.join(name),
        };
        let mut folder = Folder::read(&source)?;
        if let Some(command) = &scenario.program.build {
            let settings = self.settings(scenario);
            let builder = Builder {
                snapshot: &snapshot,
                settings: &settings,
                cache: &self.cache,
                scratch: &self.scratch,
            };
            let patience = Patience(self.patience.unwrap_or(Duration::from_secs(1800)));
            let building = || watcher.building(command);
            folder = builder.build(&folder, command, building, patience, cancel)?;
        }
        Ok(Prepared { scenario: scenario.clone(), snapshot, folder })
    }

    fn snapshot(
        &self,
        scenario: &Scenario,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Snapshot, LabError> {
        let machine = self.one_processor();
        let kernel = match scenario.machine.kernel {
            KernelKind::Rt => None,
            KernelKind::Stock => Some(self.stock.as_ref().ok_or_else(|| {
                LabError::Unsuitable("the stock kernel was not fetched".to_owned())
            })?),
        };
        // The same for every scenario on this machine; each tells its own after the snapshot.
        let settings = Settings::new(&machine, users(&machine), String::new(), false);
        Recipe {
            image: &self.image,
            kernel,
            hardware: Hardware {
                mips: scenario.time.mips,
                memory: scenario.machine.memory,
                kernel_arguments: kernel_arguments(&machine, scenario.machine.tuning),
            },
            qemu: &self.qemu,
            init: self.init.clone(),
            modules: self.modules.clone(),
            files: self.files.clone(),
            settings: &settings,
        }
        .snapshot(&self.cache, &self.tools, progress, cancel)
    }

    /// The machine file's machine with the lab's one processor, which cannot be isolated.
    fn one_processor(&self) -> Machine {
        let mut machine = self.machine.clone();
        machine.vcpus = 1;
        machine.realtime.isolated = CpuSet::default();
        machine.realtime.host_cpus = CpuSet::default();
        machine.streamdb.enable = false;
        machine.network.forward.clear();
        machine
    }

    fn settings(&self, scenario: &Scenario) -> Settings {
        let mut machine = self.one_processor();
        machine.audio.server = scenario.audio.server;
        machine.audio.rate = scenario.audio.rate;
        machine.audio.quantum = scenario.audio.quantum;
        Settings::new(&machine, users(&machine), String::new(), false)
    }

    /// What the guest is asked for a run of a scenario.
    #[must_use]
    pub fn request(&self, scenario: &Scenario, seed: u64, trace: bool) -> Request {
        let nanoseconds = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Request {
            settings: self.settings(scenario),
            tuned: scenario.machine.tuning == crate::scenario::Tuning::Machine,
            seed,
            task: Task::Measure(Measure {
                program: Some(scenario.program.run.clone()),
                load: scenario.load.command(),
                realtime: true,
                ready: scenario.program.ready.clone(),
                patience_ns: nanoseconds(scenario.program.connect),
                warmup_ns: nanoseconds(scenario.time.warmup),
                window_ns: nanoseconds(scenario.time.duration),
                trace,
            }),
        }
    }

    /// One run in `dir`, which is emptied first.
    ///
    /// # Errors
    /// [`LabError`]: also when the program did not play, because a verdict would be about nothing.
    pub fn run(
        &self,
        prepared: &Prepared,
        seed: u64,
        trace: bool,
        dir: &Path,
        cancel: &Cancel,
    ) -> Result<Evidence, LabError> {
        let request = self.request(&prepared.scenario, seed, trace);
        let evidence = self.evidence(prepared, &request, &prepared.scenario, dir, cancel)?;
        match evidence.idle(&prepared.scenario) {
            None => Ok(evidence),
            Some(message) => {
                let problem = archibald_mailbox::Problem {
                    stage: archibald_mailbox::Stage::Program,
                    message,
                };
                let log = fs::read(dir.join(archibald_mailbox::Reply::PROGRAM_LOG));
                let log =
                    crate::error::last_lines(&String::from_utf8_lossy(&log.unwrap_or_default()));
                Err(LabError::Scenario { problem, log })
            }
        }
    }

    fn evidence(
        &self,
        prepared: &Prepared,
        request: &Request,
        scenario: &Scenario,
        dir: &Path,
        cancel: &Cancel,
    ) -> Result<Evidence, LabError> {
        let _ = fs::remove_dir_all(dir);
        let length = scenario.program.connect + scenario.time.warmup + scenario.time.duration;
        let patience = self.patience.map_or_else(|| Patience::for_virtual(length), Patience);
        let done =
            experiment::run(&prepared.snapshot, request, &prepared.folder, dir, patience, cancel)?;
        done.whole(dir)?;
        let circumstances = Circumstances {
            qemu: prepared.snapshot.qemu().to_owned(),
            image: self.image.id().to_owned(),
            snapshot: prepared.snapshot.key().to_owned(),
            seed: request.seed,
        };
        evidence::read(&run_id(prepared, request), scenario, &circumstances, &done, dir)
    }

    /// The name that a run of this scenario with this seed has.
    #[must_use]
    pub fn run_name(&self, prepared: &Prepared, seed: u64) -> String {
        run_id(prepared, &self.request(&prepared.scenario, seed, false))
    }

    /// A control on the scenario's machine with its server: out of the cache, or run now.
    ///
    /// # Errors
    /// [`LabError`] when it cannot be run; what it shows is its value.
    pub fn control(
        &self,
        prepared: &Prepared,
        kind: ControlKind,
        watcher: &dyn Watcher,
        cancel: &Cancel,
    ) -> Result<Control, LabError> {
        let mut scenario = prepared.scenario.clone();
        scenario.load = Load::Profile(match kind {
            ControlKind::Idle => Profile::Idle,
            ControlKind::Fault => Profile::Mixed,
        });
        scenario.time.duration = Duration::from_secs(2);
        scenario.time.warmup = Duration::from_secs(1);
        let mut request = self.request(&scenario, 1, false);
        if let Task::Measure(measure) = &mut request.task {
            measure.program = None;
            measure.ready = None;
            measure.realtime = kind == ControlKind::Idle;
        }
        let name = run_id(&Prepared { folder: Folder::default(), ..prepared.clone() }, &request);
        let dir = self.cache.join("controls");
        fs::create_dir_all(&dir).during("create", &dir)?;
        let path = dir.join(format!("{name}.json"));
        let kept = fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
        if let Some(control) = kept {
            return Ok(control);
        }
        watcher.control(kind);
        let scratch = self.scratch.join(format!("control-{name}"));
        let evidence = self.evidence(prepared, &request, &scenario, &scratch, cancel)?;
        let xruns = evidence.run.worst_meter().map_or(0, |(_, count)| count);
        let control = Control { xruns, periods: evidence.run.periods };
        let beside = dir.join(format!("{name}.{}", std::process::id()));
        fs::write(&beside, serde_json::to_vec(&control).unwrap_or_default())
            .during("write", &beside)?;
        fs::rename(&beside, &path).during("write", &path)?;
        Ok(control)
    }

    /// Keeps a run in `runs`: its files, the run itself, and what it is a run of.
    ///
    /// # Errors
    /// What the system said.
    pub fn keep(
        &self,
        evidence: &Evidence,
        origin: Origin<'_>,
        control: Option<&Control>,
        from: &Path,
        runs: &Path,
    ) -> Result<Finished, LabError> {
        let write = |name: &str, text: &[u8]| {
            let path = from.join(name);
            fs::write(&path, text).during("write", &path)
        };
        let text = evidence.without_cost().to_json();
        write("run.json", text.map_err(|error| LabError::Reply(error.to_string()))?.as_bytes())?;
        write("scenario.toml", origin.text.as_bytes())?;
        let beside = Beside {
            schema: "archibald.experiment/1",
            scenario: origin.path,
            variation: origin.variation,
            cost: evidence.run.cost,
            late_clients: &evidence.late_clients,
            counters: &evidence.counters,
            program: &evidence.program,
            clocks: evidence.clocks,
            mapped: &evidence.mapped,
            schedstat: &evidence.schedstat,
            idle_control: control,
        };
        write("experiment.json", &serde_json::to_vec_pretty(&beside).unwrap_or_default())?;
        fs::create_dir_all(runs).during("create", runs)?;
        let dir = runs.join(&evidence.run.id);
        let old = runs.join(format!(".{}.{}", evidence.run.id, std::process::id()));
        let _ = fs::rename(&dir, &old);
        fs::rename(from, &dir).during("rename", from)?;
        let _ = fs::remove_dir_all(&old);
        Ok(Finished { evidence: evidence.clone(), dir })
    }
}

/// Holds the runs of a scenario against its limits.
#[must_use]
pub fn verdict(scenario: &Scenario, runs: &[Finished]) -> Judgement {
    let runs: Vec<_> = runs.iter().map(|finished| finished.evidence.run.clone()).collect();
    judge(&runs, &Target::xruns(scenario.xruns))
}

/// Accounts without passwords: nobody logs in.
fn users(machine: &Machine) -> Vec<SettingsUser> {
    let user = |user: &archibald_machine::User| SettingsUser {
        name: user.name.clone(),
        password_hash: None,
        groups: user.groups.clone(),
        authorized_keys: Vec::new(),
    };
    machine.users.iter().map(user).collect()
}

/// A run's name: the scenario's, the seed, and everything that decides how it comes out. The same
/// run has the same name.
fn run_id(prepared: &Prepared, request: &Request) -> String {
    let mut key = Key::new("lab run");
    key.add(prepared.snapshot.key()).add(prepared.folder.key());
    key.add(serde_json::to_vec(request).unwrap_or_default());
    let stem = Path::new(&prepared.scenario.name).file_name().unwrap_or_default().to_string_lossy();
    let stem = stem.trim_end_matches(".toml").trim_end_matches(".lab");
    let folder = Path::new(&prepared.scenario.name).parent().and_then(Path::file_name);
    let stem = match folder.filter(|_| stem == "lab") {
        Some(folder) => folder.to_string_lossy().into_owned(),
        None => stem.to_owned(),
    };
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '-' };
    let stem: String = stem.chars().map(plain).collect();
    let name = key.name();
    format!("{stem}-s{}-{}", request.seed, name.get(..8).unwrap_or(&name))
}
