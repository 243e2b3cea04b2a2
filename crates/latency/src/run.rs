//! The run: one recorded stretch of an audio machine's life, as one versioned JSON document.
//! Meters fill it in; statistics, verdict and reports only read it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{Histogram, RoundTrip};

/// The name of this form. Readers take any document with this name; keys may be added under it.
pub const RUN_SCHEMA: &str = "archibald.run/1";

/// Where a figure comes from, and so what it may be taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Source {
    /// A guest whose clock counts instructions: exact and repeatable, no prediction of hardware.
    #[serde(rename = "virtual time")]
    VirtualTime,
    /// A guest emulated on the host's clock: shows that things run, never how fast.
    #[serde(rename = "emulation")]
    Emulation,
    /// A guest on hardware virtualisation.
    #[serde(rename = "KVM")]
    Kvm,
    /// No machine between the kernel and the hardware.
    #[serde(rename = "bare metal")]
    BareMetal,
}

impl Source {
    /// The word that stands beside every figure.
    pub const fn word(self) -> &'static str {
        match self {
            Self::VirtualTime => "virtual time",
            Self::Emulation => "emulation",
            Self::Kvm => "KVM",
            Self::BareMetal => "bare metal",
        }
    }

    /// Whether figures from here may be held against a target at all.
    pub const fn is_judged(self) -> bool {
        !matches!(self, Self::Emulation)
    }

    /// What figures from here do not show; belongs into every report.
    pub const fn caveat(self) -> &'static str {
        match self {
            Self::VirtualTime => {
                "Virtual time: the clock counts instructions, so that a run repeats exactly. It does \
                 not model caches, memory bandwidth, the cost of single instructions, branch \
                 prediction, SMIs, frequency scaling, SMT, contention between cores, device and USB \
                 latency, or the host's scheduling. It finds faults of programs and configuration; \
                 its microseconds predict no hardware."
            }
            Self::Emulation => {
                "Emulated: not judged. The processor was emulated on the host's clock, so that every \
                 delay may be the emulator's."
            }
            Self::Kvm => {
                "KVM: the figures hold for this host, its kernel and its firmware as they were, with \
                 whatever else ran there."
            }
            Self::BareMetal => {
                "Bare metal: the figures hold for this machine, its kernel and its firmware as they \
                 were."
            }
        }
    }
}

/// Who saw an xrun. Meters see the same event in different places, or not at all; their counts are
/// kept apart and never added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Meter {
    /// The probe's JACK xrun callback.
    JackCallback,
    /// A line in jackd's own log, which names the late client.
    JackdLog,
    /// Frames that the server's clock skipped between two callbacks of the probe.
    FrameClock,
    /// Pauses of two periods or more between two callbacks of the probe.
    CallbackPause,
    /// The ERR column of pw-top.
    PwTop,
    /// PipeWire's profiler.
    PipewireProfiler,
    /// A coded sequence sent through the graph and back.
    Sequence,
}

impl Meter {
    /// For people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::JackCallback => "JACK xrun callback",
            Self::JackdLog => "jackd's log",
            Self::FrameClock => "frame clock",
            Self::CallbackPause => "callback pause",
            Self::PwTop => "pw-top ERR",
            Self::PipewireProfiler => "PipeWire profiler",
            Self::Sequence => "coded sequence",
        }
    }
}

/// Under which conditions a run was taken: what must be the same for two runs to be comparable.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Conditions {
    /// The audio server: `jack` or `pipewire`; empty where no graph was measured.
    pub server: String,
    /// Sample rate in hertz.
    pub rate: u32,
    /// Frames in a period.
    pub quantum: u32,
    /// What was run, as a command line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// The kernel's version and kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Whether the machine's real-time settings were in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuning: Option<String>,
    /// What else kept the processor busy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<String>,
    /// Speed of the virtual processor, in millions of instructions a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mips: Option<u32>,
    /// What phases and loads were derived from. Two runs in virtual time that differ in nothing
    /// else are two samples; two that do not differ even in this are one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// QEMU's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qemu: Option<String>,
    /// The image's name in the cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The processor and firmware of the host or the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Whatever else is part of the conditions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub other: BTreeMap<String, String>,
}

impl Conditions {
    /// Length of a period in nanoseconds; absent for a rate of 0.
    pub fn period_ns(&self) -> Option<f64> {
        (self.rate > 0).then(|| f64::from(self.quantum) * 1e9 / f64::from(self.rate))
    }

    /// Every condition that is known, by name, in the order of a report.
    pub fn rows(&self) -> Vec<(String, String)> {
        let mut rows = Vec::new();
        if !self.server.is_empty() {
            rows.push(("server".to_owned(), self.server.clone()));
            rows.push(("sample rate".to_owned(), format!("{} Hz", self.rate)));
            rows.push(("quantum".to_owned(), format!("{} frames", self.quantum)));
        }
        let mips = self.mips.map(|mips| format!("{mips} MIPS"));
        let seed = self.seed.map(|seed| seed.to_string());
        let known = [
            ("program", &self.program),
            ("kernel", &self.kernel),
            ("tuning", &self.tuning),
            ("load", &self.load),
            ("virtual processor", &mips),
            ("seed", &seed),
            ("QEMU", &self.qemu),
            ("image", &self.image),
            ("host", &self.host),
        ];
        for (name, value) in known {
            rows.extend(value.clone().map(|value| (name.to_owned(), value)));
        }
        rows.extend(self.other.iter().map(|(name, value)| (name.clone(), value.clone())));
        rows
    }
}

/// The judged stretch; the warm-up lies before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Window {
    /// Start on the run's monotonic clock, in nanoseconds.
    pub start_ns: u64,
    /// End on the same clock.
    pub end_ns: u64,
    /// How long the graph ran before the start, in nanoseconds. Fixed before the run.
    #[serde(default)]
    pub warmup_ns: u64,
}

impl Window {
    /// Length in nanoseconds; 0 for an end before the start.
    pub const fn length_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.start_ns)
    }

    /// Length in seconds.
    #[allow(clippy::cast_precision_loss)]
    pub fn seconds(&self) -> f64 {
        self.length_ns() as f64 / 1e9
    }

    /// Whether this moment lies inside.
    pub const fn has(&self, at_ns: u64) -> bool {
        self.start_ns <= at_ns && at_ns < self.end_ns
    }
}

/// One period that was not served in time, as one meter saw it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Xrun {
    /// When, on the clock of [`Window`].
    pub at_ns: u64,
    /// Which period of the window, counted from 0, if the meter knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<u64>,
    /// Who saw it.
    pub source: Meter,
    /// The client that was late, if the meter names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// By how much, if the meter says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delayed_ns: Option<u64>,
}

/// A distribution with its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NamedHistogram {
    /// Stays the same over versions: `callback`, `wakeup`, `round-trip`. A part of another
    /// distribution has its name and, after a slash, which part: `wakeup/cpu1`.
    pub name: String,
    /// What was timed, for people.
    pub title: String,
    /// The samples.
    pub histogram: Histogram,
}

impl NamedHistogram {
    /// The name of the distribution that this one is a part of.
    pub fn part_of(&self) -> Option<&str> {
        self.name.split_once('/').map(|(whole, _)| whole)
    }
}

/// The server's own estimate of how much of a period is used, in percent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DspLoad {
    /// Mean over the window.
    pub mean: f64,
    /// Largest value seen.
    pub max: f64,
    /// The values over time, if kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<LoadSample>,
}

/// One reading of the DSP load.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LoadSample {
    /// When.
    pub at_ns: u64,
    /// How much, in percent.
    pub percent: f64,
}

impl DspLoad {
    /// Mean and maximum of these readings; absent without any.
    #[allow(clippy::cast_precision_loss)]
    pub fn of(samples: Vec<LoadSample>) -> Option<Self> {
        if samples.is_empty() {
            return None;
        }
        let mean = samples.iter().map(|s| s.percent).sum::<f64>() / samples.len() as f64;
        let max = samples.iter().map(|s| s.percent).fold(f64::MIN, f64::max);
        Some(Self { mean, max, samples })
    }
}

/// What the run cost the host.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Cost {
    /// Processor seconds, user and system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_s: Option<f64>,
    /// Seconds on the wall clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall_s: Option<f64>,
    /// Guest instructions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<u64>,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Run {
    /// [`RUN_SCHEMA`].
    pub schema: String,
    /// A name that tells runs apart; also the name of the folder it is kept in.
    pub id: String,
    /// Where the figures come from.
    pub source: Source,
    /// Under which conditions.
    pub conditions: Conditions,
    /// The judged stretch.
    pub window: Window,
    /// Periods that were scheduled in the window: the denominator of every rate. Not those that
    /// were served.
    pub periods: u64,
    /// What each meter saw in the window, in order of time.
    #[serde(default)]
    pub xruns: Vec<Xrun>,
    /// Count per meter. A meter that looked and saw nothing stands here with 0; one that did not
    /// look does not stand here. May exceed what is listed in `xruns` where a meter only counts.
    pub counters: BTreeMap<Meter, u64>,
    /// Distributions.
    #[serde(default)]
    pub histograms: Vec<NamedHistogram>,
    /// What a signal sent around a loop told; absent in runs that sent none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip: Option<RoundTrip>,
    /// The server's load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dsp_load: Option<DspLoad>,
    /// What it cost.
    #[serde(default)]
    pub cost: Cost,
}

/// A document that is no run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Not JSON, or not of this form.
    #[error("the run cannot be read: {0}; was the file cut short, or written by something else?")]
    Form(#[from] serde_json::Error),
    /// Another schema.
    #[error(
        "the run's schema is \"{found}\", this program reads \"{RUN_SCHEMA}\"; use the version that wrote it"
    )]
    Schema {
        /// What the document says.
        found: String,
    },
    /// Values that contradict each other.
    #[error("the run contradicts itself: {0}")]
    Contradiction(String),
}

impl Run {
    /// Reads a run and checks that it is whole.
    ///
    /// # Errors
    /// [`ReadError`]: not of this form, another schema, or values that contradict each other.
    pub fn from_json(text: &str) -> Result<Self, ReadError> {
        /// The schema's name is looked at before anything else can be missed.
        #[derive(Deserialize)]
        struct Head {
            schema: String,
        }
        let head: Head = serde_json::from_str(text)?;
        if head.schema != RUN_SCHEMA {
            return Err(ReadError::Schema { found: head.schema });
        }
        let run: Self = serde_json::from_str(text)?;
        run.check()?;
        Ok(run)
    }

    /// The document, indented, with a last newline.
    ///
    /// # Errors
    /// Only for figures that JSON has no words for, such as a load that is not a number.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// Whether the values fit together.
    ///
    /// # Errors
    /// [`ReadError::Contradiction`] with the first that do not.
    pub fn check(&self) -> Result<(), ReadError> {
        let wrong = |what: String| Err(ReadError::Contradiction(what));
        if self.window.end_ns < self.window.start_ns {
            return wrong("the window ends before it starts".to_owned());
        }
        if let Some(xrun) = self.xruns.iter().find(|xrun| !self.window.has(xrun.at_ns)) {
            return wrong(format!("the xrun at {} ns lies outside the window", xrun.at_ns));
        }
        if self.xruns.windows(2).any(|pair| pair[0].at_ns > pair[1].at_ns) {
            return wrong("the xruns are not in order of time".to_owned());
        }
        let breaks = self.round_trip.iter().flat_map(|trip| &trip.breaks);
        if let Some(found) = breaks.clone().find(|found| !self.window.has(found.at_ns)) {
            return wrong(format!("the break at {} ns lies outside the window", found.at_ns));
        }
        for meter in self.meters() {
            let listed = self.listed(meter);
            if self.counters.get(&meter).is_none_or(|counted| *counted < listed) {
                let title = meter.title();
                return wrong(format!("{title} lists {listed} xruns and does not count them"));
            }
        }
        Ok(())
    }

    fn meters(&self) -> BTreeSet<Meter> {
        self.xruns.iter().map(|xrun| xrun.source).collect()
    }

    fn listed(&self, meter: Meter) -> u64 {
        self.xruns.iter().filter(|xrun| xrun.source == meter).count() as u64
    }

    /// The meter that saw most, and how many: it speaks for the run, because meters overlook xruns
    /// rather than make them up. Absent when no meter looked. Of two that saw as many, the
    /// one that lists them.
    pub fn worst_meter(&self) -> Option<(Meter, u64)> {
        self.counters
            .iter()
            .max_by_key(|(meter, count)| (**count, self.listed(**meter)))
            .map(|(meter, count)| (*meter, *count))
    }

    /// The times of what this meter listed.
    pub fn times_of(&self, meter: Meter) -> Vec<u64> {
        let own = self.xruns.iter().filter(|xrun| xrun.source == meter);
        own.map(|xrun| xrun.at_ns).collect()
    }

    /// The distribution of this name.
    pub fn histogram(&self, name: &str) -> Option<&NamedHistogram> {
        self.histograms.iter().find(|named| named.name == name)
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
