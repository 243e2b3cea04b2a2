//! Why a run had xruns: the same experiment again with the kernel's trace, which is then read. The
//! verdict is the untraced run's; how far the traced one agrees with it is told.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use archibald_image::Cancel;
use archibald_latency::{Meter, Run, Xrun};
use archibald_mailbox::Reply;
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
    /// Whether the trace changed it.
    pub comparison: Comparison,
}

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

/// Repeats `run` with a trace in `dir`, which is emptied first, and explains it.
///
/// # Errors
/// [`LabError`]: the repetition failed, or its trace cannot be read.
pub fn explain(
    bench: &Bench,
    prepared: &Prepared,
    run: &Run,
    dir: &Path,
    cancel: &Cancel,
) -> Result<Explained, LabError> {
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
    };
    let explanation = archibald_trace::explain(&trace, &reported, &symbols);
    Ok(Explained { explanation, run: run.id.clone(), comparison: Comparison::of(run, &traced) })
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
