//! From what the guest sent back to a run that statistics, verdicts and reports can be made of.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use archibald_latency::probe::Watch;
use archibald_latency::{Conditions, Cost, Meter, NamedHistogram, RUN_SCHEMA, Run, Source, Window};
use archibald_machine::AudioServer;
use archibald_mailbox::Reply;
pub use archibald_mailbox::ThreadUse;

use crate::LabError;
use crate::error::During;
use crate::experiment::Done;
use crate::replay::Clocks;
use crate::scenario::{Mips, Scenario};

/// A run, and what of it stands in no run.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// The run.
    pub run: Run,
    /// Clients that jackd called late in the window, and how often.
    pub late_clients: BTreeMap<String, u64>,
    /// What the server counted of its nodes.
    pub counters: BTreeMap<String, u64>,
    /// The program's threads.
    pub program: Vec<ThreadUse>,
    /// The window's two moments on both clocks.
    pub clocks: Clocks,
    /// Where the program's files lay in its memory.
    pub mapped: BTreeMap<String, u64>,
    /// SHA-256 of the kernel's books of every task switch, for comparing two runs.
    pub schedstat: String,
}

/// What a run is taken under beside the scenario.
#[derive(Debug, Clone)]
pub struct Circumstances {
    /// QEMU's version.
    pub qemu: String,
    /// The image's name.
    pub image: String,
    /// The snapshot's name.
    pub snapshot: String,
    /// The seed.
    pub seed: u64,
}

/// Reads what lies in `dir` after an experiment.
///
/// # Errors
/// When a file is missing or cannot be read.
pub fn read(
    id: &str,
    scenario: &Scenario,
    circumstances: &Circumstances,
    done: &Done,
    dir: &Path,
) -> Result<Evidence, LabError> {
    let counted = done.reply.window.as_ref();
    let counted = counted.ok_or_else(|| LabError::Reply("it has no window".to_owned()))?;
    let window = Window {
        start_ns: counted.begin_ns,
        end_ns: counted.end_ns,
        warmup_ns: u64::try_from(scenario.time.warmup.as_nanos()).unwrap_or(u64::MAX),
    };
    let path = dir.join(Reply::PROBE);
    let text = fs::read_to_string(&path).during("read", &path)?;
    // One line; the library may have said something beside it when its server was gone.
    let document = text.lines().find(|line| line.starts_with('{')).unwrap_or_default();
    let watch = Watch::from_json(document).map_err(|error| {
        let log = fs::read_to_string(dir.join("probe.log")).unwrap_or_default();
        LabError::Reply(format!("the probe: {error} {}", log.trim()))
    })?;
    let log = dir.join(Reply::SERVER_LOG);
    let log = fs::read(&log).during("read", &log)?;
    let (first, last) = counted.server_log;
    let part = log.get(usize::try_from(first).unwrap_or(0)..usize::try_from(last).unwrap_or(0));
    let said = Said::of(&String::from_utf8_lossy(part.unwrap_or_default()));

    let xruns = watch.xruns_in(&window);
    let seen = |meter: Meter| xruns.iter().filter(|xrun| xrun.source == meter).count() as u64;
    let mut counters: BTreeMap<Meter, u64> =
        [Meter::JackCallback, Meter::FrameClock, Meter::CallbackPause]
            .map(|meter| (meter, seen(meter)))
            .into();
    match scenario.audio.server {
        AudioServer::Jack => counters.insert(Meter::JackdLog, said.total()),
        AudioServer::PipeWire => counters.insert(Meter::PwTop, counted.counters.values().sum()),
    };
    let mut other = BTreeMap::new();
    other.insert("snapshot".to_owned(), circumstances.snapshot.clone());
    other.insert("processor".to_owned(), crate::machine::CPU.to_owned());
    let run = Run {
        schema: RUN_SCHEMA.to_owned(),
        id: id.to_owned(),
        source: Source::VirtualTime,
        conditions: Conditions {
            server: scenario.audio.server.word().to_owned(),
            rate: scenario.audio.rate.0,
            quantum: scenario.audio.quantum.0,
            program: Some(scenario.program.run.clone()),
            kernel: Some(done.reply.kernel.clone()),
            tuning: Some(scenario.machine.tuning.word().to_owned()),
            load: Some(scenario.load.title()),
            mips: Some(scenario.time.mips.number()),
            seed: Some(circumstances.seed),
            qemu: Some(circumstances.qemu.clone()),
            image: Some(circumstances.image.clone()),
            host: None,
            other,
        },
        window,
        periods: periods(&window, scenario),
        xruns,
        counters,
        histograms: vec![NamedHistogram {
            name: "callback".to_owned(),
            title: "start of the probe's callback after the period's start".to_owned(),
            histogram: watch.callback_us.clone(),
        }],
        round_trip: None,
        dsp_load: watch.load_in(&window),
        cost: Cost { cpu_s: done.cpu_s, wall_s: Some(done.wall_s), instructions: None },
    };
    run.check().map_err(|error| LabError::Reply(error.to_string()))?;
    let path = dir.join(Reply::SCHEDSTAT);
    let schedstat = fs::read(&path).during("read", &path)?;
    Ok(Evidence {
        run,
        late_clients: said.late,
        counters: counted.counters.clone(),
        program: counted.program.clone(),
        clocks: Clocks {
            begin: (counted.begin_ns, counted.stamps.0),
            end: (counted.end_ns, counted.stamps.1),
        },
        mapped: counted.mapped.clone(),
        schedstat: sha256(&schedstat),
    })
}

impl Evidence {
    /// The run as it is compared with another: without what it cost this host.
    #[must_use]
    pub fn without_cost(&self) -> Run {
        Run { cost: Cost::default(), ..self.run.clone() }
    }

    /// The program's audio thread and its share of the processor in percent. It is of those that were
    /// put on the processor about as often as any: a program may have a thread beside it that does
    /// little in every period, as scsynth has; so the one of them that computes most.
    #[must_use]
    pub fn audio_thread(&self) -> Option<(&ThreadUse, f64)> {
        let most = self.program.iter().map(|thread| thread.slices).max()?;
        let regular = self.program.iter().filter(|thread| thread.slices >= most.div_ceil(2));
        let thread = regular.max_by_key(|thread| (thread.runtime_ns, thread.slices))?;
        let share = thread.runtime_ns as f64 * 100.0 / self.run.window.length_ns().max(1) as f64;
        Some((thread, share))
    }

    /// Why the program cannot be said to have played; `None`: it has.
    #[must_use]
    pub fn idle(&self, scenario: &Scenario) -> Option<String> {
        let Some((thread, share)) = self.audio_thread() else {
            return Some("the program has no thread any more".to_owned());
        };
        // Under an overload most periods are lost; a thread that sleeps for good wakes in none, and one
        // that has the processor all the time need not be put on it.
        if thread.slices < self.run.periods / 10 && share < 50.0 {
            return Some(format!(
                "no thread of the program takes part in the graph: the busiest, \"{}\", ran {} times in {} periods",
                thread.name, thread.slices, self.run.periods
            ));
        }
        // A slower processor takes longer for the same work.
        let slower = f64::from(Mips::DEFAULT.number()) / f64::from(scenario.time.mips.number());
        let least = (scenario.program.min_load * slower).min(50.0);
        (share < least).then(|| {
            format!(
                "the program hardly computes: its audio thread \"{}\" takes {share:.2} % of the processor, less than {least:.2} % (program.min-load = {} at 500 MIPS)",
                thread.name, scenario.program.min_load
            )
        })
    }
}

/// Periods that were scheduled: the window's length over a period's, whatever became of them.
fn periods(window: &Window, scenario: &Scenario) -> u64 {
    let frames = u128::from(window.length_ns()) * u128::from(scenario.audio.rate.0) / 1_000_000_000;
    u64::try_from(frames / u128::from(scenario.audio.quantum.0.max(1))).unwrap_or(u64::MAX)
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What jackd said of late periods.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    late: BTreeMap<String, u64>,
    driver: u64,
}

impl Said {
    /// Lines of JACK2 1.9: `JackEngine::XRun: client = NAME was not finished, state = STATE` for a
    /// client (common/JackEngine.cpp), `JackAudioDriver::ProcessGraphAsyncMaster: Process error` for
    /// the cycle (common/JackAudioDriver.cpp) and the timer drivers' `XRun = N usec`
    /// (common/JackTimedDriver.cpp).
    fn of(text: &str) -> Self {
        let mut said = Self::default();
        for line in text.lines() {
            if let Some((_, rest)) = line.split_once("JackEngine::XRun: client = ") {
                let name = rest.split(" was not finished").next().unwrap_or(rest);
                *said.late.entry(name.to_owned()).or_insert(0) += 1;
            } else if line.contains("XRun = ") {
                said.driver += 1;
            }
        }
        said
    }

    fn total(&self) -> u64 {
        self.late.values().sum::<u64>() + self.driver
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_clients_are_told_by_name_and_the_driver_apart() {
        let said = Said::of(
            "JackEngine::XRun: client = my client was not finished, state = Running\n\
             JackAudioDriver::ProcessGraphAsyncMaster: Process error\n\
             JackEngine::XRun: client = my client was not finished, state = Triggered\n\
             JackTimedDriver::Process XRun = 1200 usec\n",
        );
        assert_eq!(said.late, BTreeMap::from([("my client".to_owned(), 2)]));
        assert_eq!(said.total(), 3);
    }
}
