//! Latency as evidence: what a run recorded ([`Run`]), what its numbers can carry ([`bound`],
//! [`Histogram`], [`Episodes`]), whether a target was met ([`judge`]), and the reports that people
//! and programs read ([`Report`]).
//!
//! Nothing here measures, reads files, or knows where a figure came from beyond what [`Source`]
//! says. Times are whole nanoseconds of the run's own clock.

pub mod bound;
mod compare;
pub mod cyclictest;
mod episodes;
mod histogram;
pub mod junit;
pub mod probe;
pub mod pw_top;
mod report;
pub mod round_trip;
pub mod rtla;
mod run;
mod target;
mod verdict;
mod words;

pub use compare::{COMPARISON_SCHEMA, Comparison, Row};
pub use episodes::{DEFAULT_GAP_PERIODS, Episode, Episodes};
pub use histogram::{Histogram, HistogramError, QUANTILES, Quantile};
pub use report::{Chart, Control, Finding, REPORT_SCHEMA, Report};
pub use round_trip::{Break, RoundTrip};
pub use run::{
    Conditions, Cost, DspLoad, LoadSample, Meter, NamedHistogram, RUN_SCHEMA, ReadError, Run,
    Source, Window, Xrun,
};
pub use target::{Limit, Target};
pub use verdict::{Criterion, Judgement, More, Outcome, Trials, Verdict, judge};
