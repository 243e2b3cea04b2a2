//! Why a run had xruns: the same experiment again with the kernel's trace, which is then read. The
//! verdict is the untraced run's; how far the traced one agrees with it is told.

use std::fs;
use std::path::Path;

use archibald_image::Cancel;
use archibald_latency::{Run, Xrun};
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// Xruns of the run that was judged.
    pub untraced: usize,
    /// Xruns of the run that was traced.
    pub traced: usize,
    /// Of the first ones, those that the traced run has within a period of the same moment.
    pub same: usize,
}

impl Comparison {
    /// Holds the xruns of two runs against each other.
    #[must_use]
    pub fn of(untraced: &Run, traced: &Run) -> Self {
        let period_ns = untraced.conditions.period_ns().unwrap_or(0.0);
        let times = |run: &Run| -> Vec<u64> { xrun_times(&run.xruns) };
        let (before, after) = (times(untraced), times(traced));
        let same = |at: &&u64| after.iter().any(|other| at.abs_diff(*other) as f64 <= period_ns);
        Self {
            untraced: before.len(),
            traced: after.len(),
            same: before.iter().filter(same).count(),
        }
    }

    /// In a sentence.
    #[must_use]
    pub fn words(&self) -> String {
        let Self { untraced, traced, same } = *self;
        if untraced == traced && same == untraced {
            return format!("all {untraced} xruns of the run are in its traced repetition too");
        }
        format!(
            "the run had {untraced} xruns, its traced repetition {traced}, {same} of them within a period of the same moment: recording takes time too"
        )
    }
}

/// When something was late: several meters see one and the same xrun.
fn xrun_times(xruns: &[Xrun]) -> Vec<u64> {
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
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| LabError::Reply(error.to_string()))?;
        fs::write(&path, text).during("write", &path)
    }

    /// The cause of most episodes, by its code; `None` when there is none.
    #[must_use]
    pub fn main_cause(&self) -> Option<&'static str> {
        let causes = &self.explanation.causes;
        causes.iter().max_by_key(|(_, count)| **count).map(|(code, _)| code.as_str())
    }
}
