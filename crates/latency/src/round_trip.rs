//! What `archibald-probe loop` prints: what became of a signal on its way through a loop, as one JSON
//! document, and what of it goes into a run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::probe::Watch;
use crate::{Histogram, Meter, NamedHistogram, ReadError, Window, Xrun};

/// The name of this form.
pub const LOOP_SCHEMA: &str = "archibald.loop/1";

/// The name of a line of [`Progress`].
pub const PROGRESS_SCHEMA: &str = "archibald.progress/1";

/// How it goes, a line a second by `archibald-probe loop --progress`. Counts are as far as they are known
/// by then: a jump of the signal that is not yet confirmed is not among them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// [`PROGRESS_SCHEMA`].
    pub schema: String,
    /// Since the start of what counts.
    pub elapsed_ns: u64,
    /// Frames in a period.
    pub quantum: u32,
    /// Sample rate in hertz.
    pub rate: u32,
    /// Frames from sending to hearing: least, newest, most; absent as long as nothing was heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frames: Option<[f64; 3]>,
    /// What was left of the period after the callback's work, at least: since the line before, and since
    /// the start. Absent where the server does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_ns: Option<[u64; 2]>,
    /// Xruns by meter; of the signal, its breaks.
    pub counters: BTreeMap<Meter, u64>,
}

impl Progress {
    /// Reads a line; nothing of any other.
    pub fn from_line(line: &str) -> Option<Self> {
        let progress: Self = serde_json::from_str(line).ok()?;
        (progress.schema == PROGRESS_SCHEMA).then_some(progress)
    }
}

/// The document. Times are `CLOCK_MONOTONIC` of the machine that the probe ran in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Loop {
    /// [`LOOP_SCHEMA`].
    pub schema: String,
    /// The ports that the signal went to and came from.
    pub ports: (String, String),
    /// What was looked at; before it the loop was closed and the signal ran.
    pub window: Window,
    /// What the client saw of the graph, before the window too.
    pub watch: Watch,
    /// From the start of the period to the callback, in the window.
    pub late: Histogram,
    /// From the end of the callback's work to the end of the period.
    pub left: Histogram,
    /// By how much the time between two callbacks differs from a period, either way.
    pub jitter: Histogram,
    /// The coded sequence, where it was the signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<SequenceSeen>,
    /// The tones, where they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<PhaseSeen>,
}

/// What came back of the coded sequence.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SequenceSeen {
    /// Frames that came in.
    pub frames: u64,
    /// Of these, the ones whose number is known.
    pub known: u64,
    /// `[frames from sending to hearing, how many took so long]`.
    pub round_trip: Vec<(u64, u64)>,
    /// Where frames were missing, came twice, or were others; in order of time.
    pub breaks: Vec<Break>,
    /// Breaks beyond those listed.
    pub unlisted: u64,
    /// Frames that were not looked at, because the ring was full.
    pub overlooked: u64,
}

/// Where the frames that came were not those that were to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Break {
    /// Start of the period in which it was heard.
    pub at_ns: u64,
    /// The frame that did not come in its turn, counted from the first that was sent.
    pub frame: u64,
    /// So many frames were none of the sequence's: silence, or another sound.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub foreign: u64,
    /// So many frames were dropped, or, negative, came once more.
    #[serde(default, skip_serializing_if = "is_none")]
    pub jump: i64,
    /// The jump may be off by whole blocks of 4,096 frames.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unsure: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
const fn is_zero(n: &u64) -> bool {
    *n == 0
}

#[allow(clippy::trivially_copy_pass_by_ref)]
const fn is_none(n: &i64) -> bool {
    *n == 0
}

/// What a signal sent around a loop told, as a run keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RoundTrip {
    /// The ports that the signal went to and came from.
    pub ports: (String, String),
    /// How it was found.
    pub method: Method,
    /// Frames from sending to hearing: what most frames took, or the middle of all stretches.
    pub frames: f64,
    /// Least and most.
    pub range: (f64, f64),
    /// Frames whose way is known, or stretches of the signal.
    pub samples: u64,
    /// The same way by jack_iodelay, in frames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jack_iodelay: Option<f64>,
    /// Where frames were missing, came twice, or were others; in order of time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub breaks: Vec<Break>,
    /// Breaks beyond those listed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unlisted: u64,
}

/// How a round trip was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// By a sequence in which every frame tells its number: exact to the frame, digital ways only.
    Sequence,
    /// By the phases of tones: to a fraction of a frame, on any way that passes them.
    Phase,
}

impl RoundTrip {
    /// Whether jack_iodelay finds the same within a frame; nothing where it was not asked.
    pub fn agrees(&self) -> Option<bool> {
        self.jack_iodelay.map(|theirs| (theirs - self.frames).abs() <= 1.0)
    }
}

/// What came back of the tones.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct PhaseSeen {
    /// Stretches of the signal that were looked at.
    pub stretches: u64,
    /// Of these, the ones in which the tones were heard.
    pub heard: u64,
    /// Frames from sending to hearing: least, middle, most; absent where nothing was heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frames: Option<[f64; 3]>,
}

impl PhaseSeen {
    /// Of the delays of the stretches that were heard.
    pub fn of(stretches: u64, mut delays: Vec<f64>) -> Self {
        delays.sort_by(f64::total_cmp);
        let frames = match (delays.first(), delays.get(delays.len() / 2), delays.last()) {
            (Some(least), Some(middle), Some(most)) => Some([*least, *middle, *most]),
            _ => None,
        };
        Self { stretches, heard: delays.len() as u64, frames }
    }
}

impl Break {
    /// For people: `3 dropped`.
    pub fn words(&self) -> String {
        use crate::words::grouped;
        let mut said = Vec::new();
        if self.foreign > 0 {
            said.push(format!("{} not the signal's", grouped(self.foreign)));
        }
        match self.jump {
            0 => {}
            jump if jump > 0 => said.push(format!("{} dropped", grouped(jump.unsigned_abs()))),
            jump => said.push(format!("{} repeated", grouped(jump.unsigned_abs()))),
        }
        if self.unsure {
            said.push("not confirmed".to_owned());
        }
        said.join(", ")
    }

    /// How many periods it spoiled at least.
    fn periods(&self, quantum: u32) -> u64 {
        let frames = self.foreign.max(self.jump.unsigned_abs()).max(1);
        frames.div_ceil(u64::from(quantum.max(1)))
    }
}

impl Loop {
    /// Reads the document.
    ///
    /// # Errors
    /// [`ReadError`]: not of this form, or another schema.
    pub fn from_json(text: &str) -> Result<Self, ReadError> {
        let seen: Self = serde_json::from_str(text)?;
        if seen.schema != LOOP_SCHEMA {
            return Err(ReadError::Schema { found: seen.schema });
        }
        Ok(seen)
    }

    /// Whether anything of the signal came back.
    pub fn is_heard(&self) -> bool {
        let known = self.sequence.as_ref().is_some_and(|seen| seen.known > 0);
        known || self.phase.is_some_and(|seen| seen.heard > 0)
    }

    /// Periods that were scheduled in the window, by the clock.
    pub fn periods(&self) -> u64 {
        let frames = u128::from(self.window.length_ns()) * u128::from(self.watch.rate);
        let quantum = u128::from(self.watch.quantum.max(1)) * 1_000_000_000;
        u64::try_from(frames / quantum).unwrap_or(u64::MAX)
    }

    /// What the meters listed in the window, in order of time, the sequence among them.
    pub fn xruns(&self) -> Vec<Xrun> {
        let mut xruns = self.watch.xruns_in(&self.window);
        let period_ns = match self.watch.rate {
            0 => return xruns,
            rate => u64::from(self.watch.quantum) * 1_000_000_000 / u64::from(rate),
        };
        for found in self.sequence.iter().flat_map(|seen| &seen.breaks) {
            let times = (0..found.periods(self.watch.quantum)).map(|i| found.at_ns + i * period_ns);
            xruns.extend(times.filter(|at_ns| self.window.has(*at_ns)).map(|at_ns| Xrun {
                at_ns,
                period: (at_ns - self.window.start_ns).checked_div(period_ns),
                source: Meter::Sequence,
                client: None,
                delayed_ns: None,
            }));
        }
        xruns.sort_by_key(|xrun| (xrun.at_ns, xrun.source));
        xruns
    }

    /// Count by meter, with 0 for those that looked and saw nothing.
    pub fn counters(&self) -> BTreeMap<Meter, u64> {
        let looked = [Meter::JackCallback, Meter::FrameClock, Meter::CallbackPause];
        let mut counters: BTreeMap<Meter, u64> = looked.map(|meter| (meter, 0)).into();
        if let Some(seen) = &self.sequence {
            counters.insert(Meter::Sequence, seen.unlisted);
        }
        for xrun in self.xruns() {
            *counters.entry(xrun.source).or_default() += 1;
        }
        counters
    }

    /// The distributions: the round trip where it was measured frame by frame, and the callback's.
    pub fn histograms(&self) -> Vec<NamedHistogram> {
        let mut all = Vec::new();
        let mut add = |name: &str, title: &str, histogram: &Histogram| {
            if histogram.count() > 0 {
                let (name, title) = (name.to_owned(), title.to_owned());
                all.push(NamedHistogram { name, title, histogram: histogram.clone() });
            }
        };
        add("round-trip", "round trip of a frame, by the coded sequence", &self.round_trip());
        add("callback", "start of the probe's callback after the period's start", &self.late);
        add("margin", "what was left of the period after the probe's callback", &self.left);
        add("jitter", "time between two callbacks, beside the period's length", &self.jitter);
        all
    }

    fn round_trip(&self) -> Histogram {
        let mut histogram = Histogram::new();
        for (frames, count) in self.sequence.iter().flat_map(|seen| &seen.round_trip) {
            let ns = u128::from(*frames) * 1_000_000_000 / u128::from(self.watch.rate.max(1));
            histogram.record_many(u64::try_from(ns).unwrap_or(u64::MAX), *count);
        }
        histogram
    }

    /// What the signal told; absent where nothing came back.
    #[allow(clippy::cast_precision_loss)]
    pub fn result(&self) -> Option<RoundTrip> {
        let ports = self.ports.clone();
        if let Some(seen) = &self.sequence {
            let most = seen.round_trip.iter().max_by_key(|(_, count)| *count)?;
            let ends = (seen.round_trip.first()?.0 as f64, seen.round_trip.last()?.0 as f64);
            return Some(RoundTrip {
                ports,
                method: Method::Sequence,
                frames: most.0 as f64,
                range: ends,
                samples: seen.known,
                jack_iodelay: None,
                breaks: seen.breaks.clone(),
                unlisted: seen.unlisted,
            });
        }
        let seen = self.phase?;
        let [least, middle, most] = seen.frames?;
        Some(RoundTrip {
            ports,
            method: Method::Phase,
            frames: middle,
            range: (least, most),
            samples: seen.heard,
            jack_iodelay: None,
            breaks: Vec::new(),
            unlisted: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen() -> Loop {
        let text = r#"{"schema":"archibald.loop/1","ports":["probe:in","probe:out"],
            "window":{"start_ns":1000000000,"end_ns":3000000000,"warmup_ns":500000000},
            "watch":{"schema":"archibald.probe/1","name":"probe","rate":48000,"quantum":32,
                "opened_ns":1000,"closed_ns":3000000000,"periods":3200,
                "xruns":[{"at_ns":900000000,"delayed_us":1},{"at_ns":1500000000,"delayed_us":9}],
                "gaps":[],"stalls":[],"dsp_load":[],"clients":[],"ports":[],"graph":[],
                "callback_us":{"unit":"us","bins":[]},"server_lost":false,"dropped":0},
            "late":{"unit":"us","bins":[[3,3000]],"min_ns":3000,"max_ns":3000,"sum_ns":9000000},
            "left":{"unit":"us","bins":[]},"jitter":{"unit":"us","bins":[]},
            "sequence":{"frames":96000,"known":96000,"round_trip":[[32,95000],[35,1000]],
                "breaks":[{"at_ns":1600000000,"frame":76800,"jump":3},
                          {"at_ns":1700000000,"frame":80000,"foreign":33,"jump":-33},
                          {"at_ns":2999999999,"frame":90000,"jump":-9000,"unsure":true}],
                "unlisted":2,"overlooked":0}}"#;
        Loop::from_json(text).unwrap()
    }

    #[test]
    fn each_meter_counts_for_itself() {
        let seen = seen();
        let counters: Vec<_> = seen.counters().into_iter().collect();
        let (call, sequence) = (Meter::JackCallback, Meter::Sequence);
        // Three dropped frames are one period, 33 two, and of the last only what lies in the window.
        let expected =
            [(call, 1), (Meter::FrameClock, 0), (Meter::CallbackPause, 0), (sequence, 4 + 2)];
        assert_eq!(counters, expected);
        let times: Vec<_> = seen.xruns().iter().map(|xrun| (xrun.source, xrun.at_ns)).collect();
        assert_eq!(times.len(), 5);
        assert_eq!(times[..2], [(call, 1_500_000_000), (sequence, 1_600_000_000)]);
        assert_eq!(seen.periods(), 3000);
    }

    #[test]
    fn the_round_trip_is_told_in_frames_and_in_time() {
        let seen = seen();
        let result = seen.result().unwrap();
        assert_eq!((result.frames, result.range, result.breaks.len()), (32.0, (32.0, 35.0), 3));
        let checked = |theirs| RoundTrip { jack_iodelay: Some(theirs), ..result.clone() }.agrees();
        assert_eq!(
            (result.agrees(), checked(32.9), checked(33.1)),
            (None, Some(true), Some(false))
        );
        let histograms = seen.histograms();
        let names: Vec<_> = histograms.iter().map(|named| named.name.as_str()).collect();
        assert_eq!(names, ["round-trip", "callback"]);
        assert_eq!(histograms[0].histogram.min_ns(), Some(666_666));
        assert_eq!(histograms[0].histogram.max_ns(), Some(729_166));
        let phase = PhaseSeen::of(4, vec![3.0, 1.0, 2.0]);
        assert_eq!((phase.heard, phase.frames), (3, Some([1.0, 2.0, 3.0])));
        let analogue = Loop { sequence: None, phase: Some(phase), ..seen };
        assert!(analogue.is_heard() && analogue.result().is_some_and(|told| told.frames == 2.0));
        assert!(!analogue.counters().contains_key(&Meter::Sequence));
    }

    #[test]
    fn breaks_have_words() {
        let words: Vec<_> = seen().sequence.unwrap().breaks.iter().map(Break::words).collect();
        let expected =
            ["3 dropped", "33 not the signal's, 33 repeated", "9,000 repeated, not confirmed"];
        assert_eq!(words, expected);
    }

    #[test]
    fn another_schema_is_refused() {
        let text = serde_json::to_string(&seen()).unwrap().replace("loop/1", "loop/2");
        assert!(Loop::from_json(&text).is_err());
    }
}
