//! What cyclictest measured, by its own JSON (rt-tests, `--json`, file version 1): the figures are
//! its, nothing is measured again.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::Histogram;

/// Nanoseconds in cyclictest's unit.
const NS_PER_US: u64 = 1000;

/// The result of one run of cyclictest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cyclictest {
    /// Its command line.
    pub command: String,
    /// Its version.
    pub version: String,
    /// The kernel, as `uname -rv` gives it.
    pub kernel: String,
    /// Wake-up latencies of each thread, by the CPU that it was bound to.
    pub threads: Vec<Thread>,
}

/// One measuring thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thread {
    /// The CPU.
    pub cpu: u32,
    /// From the timer's time until the thread ran. Bins of a microsecond, exact extremes.
    pub latency: Histogram,
    /// How many samples lay beyond cyclictest's histogram. They are counted at the maximum: later than
    /// they were, never earlier.
    pub beyond: u64,
}

/// What cyclictest says of one of its threads while it runs, asked by SIGUSR1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Which thread, from 0.
    pub thread: usize,
    /// Samples so far.
    pub samples: u64,
    /// The newest, in microseconds.
    pub newest_us: u64,
    /// Their mean, in microseconds.
    pub mean_us: u64,
    /// The largest so far, in microseconds.
    pub worst_us: u64,
}

impl Status {
    /// Reads a line such as `T: 0 ( 1383) P:95 I:1000 C:   2001 Min:      3 Act:    8 Avg:    9 Max:     45`;
    /// any other is none.
    pub fn from_line(line: &str) -> Option<Self> {
        let number = |key: &str| -> Option<u64> {
            let rest = line.split_once(key)?.1.trim_start();
            rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        };
        let thread = line.strip_prefix("T:").and_then(|_| number("T:"))?;
        Some(Self {
            thread: usize::try_from(thread).ok()?,
            samples: number(" C:")?,
            newest_us: number(" Act:")?,
            mean_us: number(" Avg:")?,
            worst_us: number(" Max:")?,
        })
    }
}

/// A document that is no result of cyclictest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CyclictestError {
    /// Not its JSON.
    #[error("cyclictest's result cannot be read: {0}; rt-tests 2.0 and later write it")]
    Form(#[from] serde_json::Error),
    /// A file version that this program does not know.
    #[error("cyclictest's result has file version {0}, this program reads 1")]
    Version(u32),
    /// cyclictest says that it failed, or measured nothing.
    #[error("cyclictest measured nothing: {0}")]
    Empty(String),
}

#[derive(Deserialize)]
struct Document {
    file_version: u32,
    // The colons are cyclictest's.
    #[serde(rename = "cmdline:", alias = "cmdline", default)]
    command: String,
    #[serde(rename = "rt_test_version:", alias = "rt_test_version", default)]
    version: String,
    #[serde(default)]
    return_code: i32,
    sysinfo: SystemInformation,
    thread: BTreeMap<u32, ThreadDocument>,
}

#[derive(Deserialize)]
struct SystemInformation {
    release: String,
    version: String,
}

#[derive(Deserialize)]
struct ThreadDocument {
    #[serde(default)]
    histogram: BTreeMap<u64, u64>,
    cycles: u64,
    max: u64,
    cpu: u32,
}

impl Cyclictest {
    /// Reads cyclictest's result.
    ///
    /// # Errors
    /// [`CyclictestError`]: not of that form, another version, or no samples.
    pub fn from_json(text: &str) -> Result<Self, CyclictestError> {
        let document: Document = serde_json::from_str(text)?;
        if document.file_version != 1 {
            return Err(CyclictestError::Version(document.file_version));
        }
        if document.return_code != 0 {
            let code = document.return_code;
            return Err(CyclictestError::Empty(format!("it ended with status {code}")));
        }
        let threads: Vec<Thread> = document.thread.into_values().map(Thread::of).collect();
        if threads.iter().all(|thread| thread.latency.count() == 0) {
            return Err(CyclictestError::Empty("no thread has a sample".to_owned()));
        }
        let SystemInformation { release, version } = document.sysinfo;
        Ok(Self {
            command: document.command,
            version: document.version,
            kernel: format!("{release} {version}"),
            threads,
        })
    }

    /// The latencies of these CPUs together.
    pub fn on(&self, is_meant: impl Fn(u32) -> bool) -> Histogram {
        let mut all = Histogram::new();
        for thread in self.threads.iter().filter(|thread| is_meant(thread.cpu)) {
            all.merge(&thread.latency);
        }
        all
    }
}

impl Thread {
    fn of(document: ThreadDocument) -> Self {
        let mut latency = Histogram::new();
        for (us, count) in document.histogram {
            latency.record_many(us * NS_PER_US, count);
        }
        let beyond = document.cycles.saturating_sub(latency.count());
        latency.record_many(document.max * NS_PER_US, beyond);
        Self { cpu: document.cpu, latency, beyond }
    }
}

#[cfg(test)]
#[path = "cyclictest_tests.rs"]
mod tests;
