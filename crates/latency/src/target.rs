//! What is asked of a run. Targets are fixed before the run; a target found after looking at the
//! figures proves nothing.

use serde::{Deserialize, Serialize};

use crate::bound::Confidence;

/// One thing that must hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Limit {
    /// At most this many xruns in each run, whatever their number of periods. For virtual time,
    /// where a run repeats exactly.
    XrunCount {
        /// Largest count that holds.
        at_most: u64,
    },
    /// The share of scheduled periods with an xrun stays below this.
    XrunShare {
        /// The share that is already too much: 0.001.
        below: f64,
    },
    /// No sample of a distribution above this, from enough samples that the share of periods above
    /// it is bounded by `tail`.
    Worst {
        /// Which distribution: [`crate::NamedHistogram::name`].
        histogram: String,
        /// Largest value that holds, in nanoseconds.
        at_most_ns: u64,
        /// The share beyond that the sample must be able to exclude: 0.001 takes 2,995 samples.
        tail: f64,
    },
}

/// Limits and how sure one wants to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// All must hold.
    pub limits: Vec<Limit>,
    /// Of every bound.
    pub confidence: Confidence,
}

/// Worst wake-up of a thread by a timer, in nanoseconds.
const WAKEUP_NS: u64 = 50_000;
/// Worst way of a sound through the graph and back, in nanoseconds.
const AUDIO_NS: u64 = 1_000_000;
/// Share of periods with an xrun.
const XRUN_SHARE: f64 = 0.001;

impl Target {
    /// Xruns in under 0.1 % of the periods.
    pub fn audio() -> Self {
        Self {
            limits: vec![Limit::XrunShare { below: XRUN_SHARE }],
            confidence: Confidence::default(),
        }
    }

    /// What is asked of the meters that a run has: the worst wake-up at most 50 us, the worst round
    /// trip of audio at most 1 ms, xruns in under 0.1 % of the periods, in virtual time none at all, as
    /// the lab asks. Limits on a distribution that the run does not have are left out.
    pub fn for_run(run: &crate::Run) -> Self {
        let mut target = match run.source {
            crate::Source::VirtualTime => Self::xruns(0),
            _ => Self::audio(),
        };
        // Where no meter looked for xruns there is nothing to ask about them.
        if run.counters.is_empty() {
            target.limits.clear();
        }
        for (name, at_most_ns) in [("wakeup", WAKEUP_NS), ("round-trip", AUDIO_NS)] {
            if run.histogram(name).is_some() {
                let histogram = name.to_owned();
                target.limits.push(Limit::Worst { histogram, at_most_ns, tail: XRUN_SHARE });
            }
        }
        target
    }

    /// The worst wake-up of a thread by a timer at most `at_most_ns`, 50 us unless told.
    pub fn wakeup(at_most_ns: Option<u64>) -> Self {
        let limit = Limit::Worst {
            histogram: "wakeup".to_owned(),
            at_most_ns: at_most_ns.unwrap_or(WAKEUP_NS),
            tail: XRUN_SHARE,
        };
        Self { limits: vec![limit], confidence: Confidence::default() }
    }

    /// A lab's: at most this many xruns in each run.
    pub fn xruns(at_most: u64) -> Self {
        Self { limits: vec![Limit::XrunCount { at_most }], confidence: Confidence::default() }
    }
}

impl Limit {
    /// For people: `xruns < 0.1 % of periods`.
    pub fn title(&self) -> String {
        match self {
            Self::XrunCount { at_most: 0 } => "no xruns".to_owned(),
            Self::XrunCount { at_most: 1 } => "at most 1 xrun in a run".to_owned(),
            Self::XrunCount { at_most } => format!("at most {at_most} xruns in a run"),
            Self::XrunShare { below } => {
                format!("xruns < {} of periods", crate::words::percent(*below))
            }
            Self::Worst { histogram, at_most_ns, .. } => {
                format!("worst {histogram} <= {}", crate::words::micros(*at_most_ns))
            }
        }
    }
}
