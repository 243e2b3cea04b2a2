//! One experiment of a sweep as a task: what it found, and how the findings of all seeds make a point.

use std::fs;
use std::path::Path;

use archibald_farm::FarmError;
use archibald_farm::job::{Experiment, Fault, Task, Work, Worker};
use archibald_image::Cancel;
use archibald_lab::bench::ControlKind;
use archibald_lab::scenario::{Mips, Variation};
use archibald_lab::sweep::{Outcome, Point};
use archibald_latency::{Run, Target, judge};
use archibald_machine::units::Frames;
use serde::{Deserialize, Serialize};

use super::fault;
use crate::commands::lab::bench::{How, ScenarioFile, Workplace, failure};
use crate::commands::lab::progress::Drawn;
use crate::failure::{Context as _, Exit, Failure};
use crate::terminal::Steps;

/// A finding's file in its result.
const FOUND: &str = "experiment.json";
const SCHEMA: &str = "archibald.farm-experiment/1";

/// What one experiment found.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub(super) enum Found {
    /// It ran.
    Ran {
        /// How it came out.
        run: Box<Run>,
    },
    /// The idle control had xruns.
    Server {
        /// So many.
        xruns: u64,
    },
    /// The program did not play.
    Silent {
        /// Why.
        reason: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Kept {
    schema: String,
    #[serde(flatten)]
    found: Found,
}

/// A workbench on this host, and a scenario that is changed for each experiment.
pub(super) struct Laboratory {
    pub(super) place: Workplace,
    file: ScenarioFile,
}

impl Laboratory {
    /// For the experiments of one scenario.
    pub(super) fn open(
        how: &How,
        file: &ScenarioFile,
        steps: &Steps,
        cancel: &Cancel,
    ) -> Result<Self, Failure> {
        let place = Workplace::open(how, &[&file.scenario], steps, cancel)?;
        Ok(Self { place, file: file.clone() })
    }

    /// For one experiment, on a node.
    pub(super) fn for_one(asked: &Experiment, cancel: &Cancel) -> Result<Self, Failure> {
        let file = ScenarioFile::read(&asked.scenario)?;
        let how = How {
            machine: Some(asked.machine.clone()),
            jobs: Some(1),
            timeout: asked.timeout,
            quiet: false,
        };
        Self::open(&how, &file, &Steps::new(false), cancel)
    }

    fn find(&self, asked: &Experiment, cancel: &Cancel) -> Result<Found, Failure> {
        let quiet = Steps::new(true);
        let mips = Mips::new(asked.mips).ok_or_else(|| {
            Failure::new(Exit::Use, format!("no processor has {} MIPS here", asked.mips))
        })?;
        let quantum = Frames(asked.quantum);
        let variation =
            Variation { mips: Some(mips), quantum: Some(quantum), ..Variation::default() };
        let mut file = self.file.varied(variation);
        file.scenario.time.seeds = vec![asked.seed];
        let prepared = self.place.prepare(&file.scenario, &quiet, cancel)?;
        let alone = self.place.control.lock();
        let control =
            self.place.bench.control(&prepared, ControlKind::Idle, &Drawn(&quiet), cancel);
        drop(alone);
        let control = match control {
            Err(error) if error.is_the_servers() => {
                return Ok(Found::Silent { reason: error.to_string() });
            }
            control => control.map_err(failure)?,
        };
        if !control.passed(ControlKind::Idle) {
            return Ok(Found::Server { xruns: control.xruns });
        }
        let dir =
            self.place.bench.scratch.join(format!("farm-{}-{:p}", asked.seed, &raw const prepared));
        let ran = self.place.bench.run(&prepared, asked.seed, false, &dir, cancel);
        let _ = fs::remove_dir_all(&dir);
        match ran {
            Ok(evidence) => Ok(Found::Ran { run: Box::new(evidence.without_cost()) }),
            Err(error) if error.is_the_scenarios() => {
                Ok(Found::Silent { reason: error.to_string() })
            }
            Err(error) => Err(failure(error)),
        }
    }
}

impl Worker for Laboratory {
    fn work(&self, task: &Task, dir: &Path, cancel: &Cancel) -> Result<(), Option<Fault>> {
        let Work::Experiment(asked) = &task.work else {
            return Err(fault(Failure::new(Exit::Use, "no experiment")));
        };
        let found = self.find(asked, cancel).map_err(fault)?;
        let kept = Kept { schema: SCHEMA.to_owned(), found };
        let path = dir.join(FOUND);
        let text = serde_json::to_vec_pretty(&kept).unwrap_or_default();
        fs::write(&path, text).context(path.display()).map_err(fault)
    }
}

/// Reads a result.
pub(super) fn read(result: &Path) -> Result<Found, FarmError> {
    let path = result.join(FOUND);
    let damaged = |what: String| {
        let _ = fs::remove_dir_all(result);
        FarmError::Damaged { path: path.clone(), what }
    };
    let text = fs::read(&path).map_err(|error| damaged(error.to_string()))?;
    let kept: Kept = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
    match kept.schema.as_str() {
        SCHEMA => Ok(kept.found),
        other => Err(damaged(format!("it is a {other}, not a {SCHEMA}"))),
    }
}

/// A point of what its seeds found, in their order: as a sweep on one machine has it.
pub(super) fn point(file: &ScenarioFile, found: &[Found]) -> Point {
    let scenario = &file.scenario;
    let (quantum, mips) = (scenario.audio.quantum.0, scenario.time.mips.number());
    let mut runs = Vec::new();
    let mut silent = None;
    for found in found {
        match found {
            Found::Ran { run } => runs.push(run.as_ref().clone()),
            Found::Server { xruns } => {
                return Point { quantum, mips, outcome: Outcome::Server { xruns: *xruns } };
            }
            Found::Silent { reason } => {
                silent.get_or_insert_with(|| Outcome::Silent { reason: reason.clone() });
            }
        }
    }
    let outcome = silent.unwrap_or_else(|| {
        let judgement = judge(&runs, &Target::xruns(scenario.xruns));
        let (xruns, periods) = (judgement.xruns, judgement.periods);
        Outcome::Judged { verdict: judgement.verdict, xruns, periods }
    });
    Point { quantum, mips, outcome }
}

/// Nodes with another QEMU or image give runs that are none of the same sample.
pub(super) fn agree(found: &[Found]) -> Result<(), FarmError> {
    let run = |found: &Found| match found {
        Found::Ran { run } => Some((run.conditions.qemu.clone(), run.conditions.image.clone())),
        Found::Server { .. } | Found::Silent { .. } => None,
    };
    let mut runs = found.iter().filter_map(run);
    let Some(first) = runs.next() else { return Ok(()) };
    let Some(other) = runs.find(|other| *other != first) else { return Ok(()) };
    let known = |(qemu, image): (Option<String>, Option<String>)| {
        format!("{} with image {}", qemu.unwrap_or_default(), image.unwrap_or_default())
    };
    Err(FarmError::Disagree { what: format!("{}, and {}", known(first), known(other)) })
}

#[cfg(test)]
mod tests {
    use archibald_lab::Scenario;
    use archibald_latency::Verdict;

    use super::*;

    fn file() -> ScenarioFile {
        let text = "[program]\nbuiltin = \"jack-client\"\n".to_owned();
        let scenario = Scenario::parse("a.lab.toml", &text, Path::new("/")).unwrap();
        ScenarioFile { path: "a.lab.toml".into(), text, scenario, variation: Variation::default() }
    }

    fn ran(seed: u64, xruns: u64, qemu: &str) -> Found {
        let text = format!(
            r#"{{"outcome":"ran","run":{{"schema":"archibald.run/1","id":"a-s{seed}","source":"virtual time",
            "conditions":{{"server":"jack","rate":48000,"quantum":32,"seed":{seed},"qemu":"{qemu}","image":"i"}},
            "window":{{"start_ns":0,"end_ns":1000000000}},"periods":1500,"counters":{{"jackd-log":{xruns}}}}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn seeds_make_a_point_as_on_one_machine() {
        let silent = || Found::Silent { reason: "no port".to_owned() };
        let outcome = |found: &[Found]| point(&file(), found).outcome;
        let judged = |verdict, xruns| Outcome::Judged { verdict, xruns, periods: 3000 };
        assert_eq!(outcome(&[ran(1, 0, "q"), ran(2, 0, "q")]), judged(Verdict::Held, 0));
        assert_eq!(outcome(&[ran(1, 0, "q"), ran(2, 7, "q")]), judged(Verdict::Broken, 7));
        let found = [ran(1, 0, "q"), silent(), Found::Silent { reason: "another".to_owned() }];
        assert_eq!(outcome(&found), Outcome::Silent { reason: "no port".to_owned() });
        let found = [silent(), Found::Server { xruns: 3 }];
        assert_eq!(outcome(&found), Outcome::Server { xruns: 3 });
    }

    #[test]
    fn nodes_that_differ_are_named() {
        assert!(agree(&[ran(1, 0, "q"), ran(2, 0, "q")]).is_ok());
        let error = agree(&[ran(1, 0, "QEMU 7"), ran(2, 0, "QEMU 10")]).unwrap_err().to_string();
        assert!(error.contains("QEMU 7") && error.contains("QEMU 10"), "{error}");
    }
}
