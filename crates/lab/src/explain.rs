//! Why a run had xruns: the same experiment again with the kernel's trace, which is then read. The
//! verdict is the untraced run's; how far the traced one agrees with it is told.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use archibald_image::Cancel;
use archibald_latency::{Meter, Run, Xrun};
use archibald_mailbox::{Reply, ThreadUse};
use archibald_trace::cause::Code;
use archibald_trace::symbol::Symbols;
use archibald_trace::{Explanation, Reported, Trace};
use serde::Serialize;

use crate::LabError;
use crate::bench::{Bench, Prepared};
use crate::error::During;

/// Name of the explanation in a run's folder.
pub const FILE: &str = "explain.json";

/// An explanation, and what it is worth.
#[derive(Debug, Clone, Serialize)]
pub struct Explained {
    /// The explanation of the traced run.
    #[serde(flatten)]
    pub explanation: Explanation,
    /// The run that was asked about.
    pub run: String,
    /// Whether the trace changed it; absent: it was explained without one.
    pub comparison: Option<Comparison>,
}

/// From this share of the processor on, in percent, a real-time thread leaves nothing to anybody. The
/// kernel keeps a twentieth for ordinary threads, and the server above takes its part.
const OVERLOAD: f64 = 80.0;

/// The xruns of the same run with and without the trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// By meter: what it counted in the run that was judged, and in the traced one.
    pub xruns: BTreeMap<Meter, (u64, u64)>,
}

impl Comparison {
    /// Holds the xruns of two runs against each other.
    #[must_use]
    pub fn of(untraced: &Run, traced: &Run) -> Self {
        let mut xruns: BTreeMap<Meter, (u64, u64)> = BTreeMap::new();
        for (meter, count) in &untraced.counters {
            xruns.entry(*meter).or_default().0 = *count;
        }
        for (meter, count) in &traced.counters {
            xruns.entry(*meter).or_default().1 = *count;
        }
        Self { xruns }
    }

    /// Whether the trace changed no count.
    #[must_use]
    pub fn is_same(&self) -> bool {
        self.xruns.values().all(|(untraced, traced)| untraced == traced)
    }

    /// In a sentence.
    #[must_use]
    pub fn words(&self) -> String {
        let counts: Vec<String> = self
            .xruns
            .iter()
            .map(|(meter, (untraced, traced))| match untraced == traced {
                true => format!("{} {untraced}", meter.title()),
                false => format!("{} {untraced} without and {traced} with it", meter.title()),
            })
            .collect();
        let verdict = match self.is_same() {
            true => "The trace changed no count of xruns",
            false => "Recording takes time too: the trace changed counts of xruns",
        };
        format!("{verdict}: {}.", counts.join(", "))
    }
}

/// When something was late: several meters see one and the same xrun.
#[must_use]
pub fn xrun_times(xruns: &[Xrun]) -> Vec<u64> {
    let mut times: Vec<u64> = xruns.iter().map(|xrun| xrun.at_ns).collect();
    times.sort_unstable();
    times.dedup();
    times
}

/// Repeats `run` with a trace in `dir`, which is emptied first, and explains it; `program` are its threads
/// and what they used. A run in which one of them left nothing to the others is explained by that.
///
/// # Errors
/// [`LabError`]: the repetition failed, or its trace cannot be read.
pub fn explain(
    bench: &Bench,
    prepared: &Prepared,
    run: &Run,
    program: &[ThreadUse],
    dir: &Path,
    cancel: &Cancel,
) -> Result<Explained, LabError> {
    if let Some(explanation) = overload(run, prepared.scenario.audio.period_ns(), program) {
        return Ok(Explained { explanation, run: run.id.clone(), comparison: None });
    }
    let seed = run.conditions.seed.unwrap_or(0);
    let traced = bench.run(prepared, seed, true, dir, cancel)?.run;
    let unreadable = |error: archibald_trace::TraceError| LabError::Reply(error.to_string());
    let trace = Trace::read(&dir.join(Reply::TRACE)).map_err(unreadable)?;
    let symbols: Vec<Symbols> = prepared
        .folder
        .files
        .iter()
        .filter_map(|file| Symbols::read(&file.path.to_string_lossy(), &file.content))
        .collect();
    let xruns = xrun_times(&traced.xruns);
    let reported = Reported {
        source: traced.source.word(),
        window: Some((traced.window.start_ns, traced.window.end_ns)),
        xruns: &xruns,
        period_ns: Some(prepared.scenario.audio.period_ns()),
    };
    let explanation = archibald_trace::explain(&trace, &reported, &symbols);
    let comparison = Some(Comparison::of(run, &traced));
    Ok(Explained { explanation, run: run.id.clone(), comparison })
}

/// The explanation of a run in which one thread of the program had the processor all the time. It needs
/// no trace, and the kernel could not begin one: its own threads, which that takes, do not run either.
fn overload(run: &Run, period_ns: u64, program: &[ThreadUse]) -> Option<Explanation> {
    let length = run.window.length_ns().max(1);
    let share = |thread: &ThreadUse| thread.runtime_ns as f64 * 100.0 / length as f64;
    let hog = program
        .iter()
        .filter(|thread| thread.is_real_time())
        .max_by_key(|thread| thread.runtime_ns)?;
    if share(hog) < OVERLOAD {
        return None;
    }
    let policy = hog.policy.trim_start_matches("SCHED_");
    let xruns = xrun_times(&run.xruns);
    let evidence = program.iter().filter(|thread| share(thread) >= 0.1).map(|thread| {
        let (name, slices) = (&thread.name, thread.slices);
        format!("{name} ({}): {:.1} % in {slices} stretches", thread.policy, share(thread))
    });
    let episode = archibald_trace::Explained {
        from_ns: run.window.start_ns,
        to_ns: run.window.end_ns,
        late_periods: usize::try_from(run.periods).unwrap_or(usize::MAX),
        xruns,
        late: hog.name.clone(),
        cause: Code::OwnWork,
        sentence: format!(
            "{} ({policy} {}) had {:.0} % of the processor: what it computes fits into no period of {} us.",
            hog.name,
            hog.priority,
            share(hog),
            period_ns / 1000
        ),
        remedy: Code::OwnWork.remedy().to_owned(),
        evidence: evidence.collect(),
    };
    Some(Explanation {
        schema: archibald_trace::SCHEMA.to_owned(),
        source: run.source.word().to_owned(),
        trace: (run.window.start_ns, run.window.end_ns),
        events: 0,
        lost: 0,
        period_ns,
        periods: usize::try_from(run.periods).unwrap_or(usize::MAX),
        graph: Vec::new(),
        episodes: vec![episode],
        causes: BTreeMap::from([(Code::OwnWork, 1)]),
        unexplained: Vec::new(),
    })
}

impl Explained {
    /// Writes the explanation into a run's folder.
    ///
    /// # Errors
    /// What the system said.
    pub fn keep(&self, run: &Path) -> Result<(), LabError> {
        let path = run.join(FILE);
        let text =
            serde_json::to_vec_pretty(self).map_err(|error| LabError::Reply(error.to_string()))?;
        fs::write(&path, text).during("write", &path)
    }

    /// The cause of most episodes, by its code; `None` when there is none.
    #[must_use]
    pub fn main_cause(&self) -> Option<&'static str> {
        let causes = &self.explanation.causes;
        causes.iter().max_by_key(|(_, count)| **count).map(|(code, _)| code.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_that_changes_the_count_is_told() {
        let count = |untraced, traced| Comparison {
            xruns: BTreeMap::from([
                (Meter::JackCallback, (9, 9)),
                (Meter::JackdLog, (untraced, traced)),
            ]),
        };
        assert!(count(18, 18).is_same());
        let words = count(18, 19).words();
        assert!(words.contains("18 without and 19 with it"), "{words}");
        assert!(words.starts_with("Recording takes time too"), "{words}");
    }
}
