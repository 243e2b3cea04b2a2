//! What `archibald-probe watch` prints: one client's view of an audio server, as one JSON document.

use serde::{Deserialize, Serialize};

use crate::{DspLoad, Histogram, LoadSample, Meter, Window, Xrun};

/// The name of this form.
pub const PROBE_SCHEMA: &str = "archibald.probe/1";

/// The document. Every time is `CLOCK_MONOTONIC` of the machine that the probe ran in, in
/// nanoseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    /// [`PROBE_SCHEMA`].
    pub schema: String,
    /// The name that the server gave the client.
    pub name: String,
    /// Sample rate in hertz.
    pub rate: u32,
    /// Frames in a period; the last one, if the server changed it.
    pub quantum: u32,
    /// When the client was activated.
    pub opened_ns: u64,
    /// When it was closed, or the server was found gone.
    pub closed_ns: u64,
    /// Callbacks: periods that were served to the probe.
    pub periods: u64,
    /// Calls of the xrun callback.
    pub xruns: Vec<XrunCall>,
    /// Where the server's frame clock skipped between two callbacks.
    pub gaps: Vec<Gap>,
    /// Callbacks that came two periods or more after the one before.
    #[serde(default)]
    pub stalls: Vec<Stall>,
    /// The server's estimate of its load.
    pub dsp_load: Vec<LoadSample>,
    /// Clients that came and went.
    pub clients: Vec<ClientEvent>,
    /// Ports that came and went.
    pub ports: Vec<PortEvent>,
    /// Connections that were made and taken away.
    pub graph: Vec<GraphEvent>,
    /// From the start of the period, by the server's clock, to the start of the probe's callback.
    pub callback_us: Histogram,
    /// The server shut down, or threw the probe out, before the probe was told to end.
    pub server_lost: bool,
    /// Samples that found the ring full, because the part that empties it did not run for long.
    /// Anything but 0 means that `gaps` and `callback_us` are incomplete.
    pub dropped: u64,
}

/// A call of the xrun callback.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct XrunCall {
    /// When the callback was called; it runs without real-time priority, a little after the event.
    pub at_ns: u64,
    /// The server's word on how late it was, in microseconds; 0 if it has none.
    pub delayed_us: f64,
}

/// A jump of the frame clock: of one server's clock where periods were missed, or from one clock to
/// another, as PipeWire's clients see it when another driver takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Start of the callback that saw it.
    pub at_ns: u64,
    /// Frames that no callback was called for; negative if the clock went back.
    pub frames: i64,
}

/// A pause between two callbacks of two periods or more. No callback starts before its period does, so
/// that the later one started when its period was already over: at least one period was missed, whatever
/// the server says. PipeWire's frame clock does not count periods that its driver slept through; this
/// does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stall {
    /// Start of the later callback.
    pub at_ns: u64,
    /// Since the start of the earlier one.
    pub after_ns: u64,
    /// Length of a period then.
    pub period_ns: u64,
}

impl Stall {
    /// The pause from this callback to the next, if it is one. Lengths in whole nanoseconds, the
    /// period rounded up: a pause of exactly two periods by a clock that runs a little fast is none.
    pub fn between(before_ns: u64, at_ns: u64, frames: u32, rate: u32) -> Option<Self> {
        let scaled = u64::from(frames).checked_mul(1_000_000_000)?;
        let period_ns =
            scaled.checked_add(u64::from(rate).saturating_sub(1))?.checked_div(rate.into())?;
        let after_ns = at_ns.saturating_sub(before_ns);
        (period_ns > 0 && after_ns / 2 > period_ns).then_some(Self { at_ns, after_ns, period_ns })
    }

    /// How many periods were missed at least.
    pub const fn missed(&self) -> u64 {
        match self.after_ns.checked_div(self.period_ns) {
            Some(periods) => periods.saturating_sub(1),
            None => 0,
        }
    }
}

/// Whether a thing came or went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Registration {
    /// It came, or was there when the probe opened.
    Registered,
    /// It went.
    Unregistered,
}

/// A client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientEvent {
    /// Its name.
    pub name: String,
    /// What happened.
    pub event: Registration,
    /// When.
    pub at_ns: u64,
}

/// A port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortEvent {
    /// Its name, with its client's: `scsynth:out_1`.
    pub name: String,
    /// What happened.
    pub event: Registration,
    /// When.
    pub at_ns: u64,
}

/// Whether two ports were connected or parted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Connection {
    /// Connected.
    Connected,
    /// Parted.
    Disconnected,
}

/// A connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraphEvent {
    /// The port that gives.
    pub from: String,
    /// The port that takes.
    pub to: String,
    /// What happened.
    pub event: Connection,
    /// When.
    pub at_ns: u64,
}

impl Watch {
    /// Reads the document.
    ///
    /// # Errors
    /// [`crate::ReadError`]: not of this form, or another schema.
    pub fn from_json(text: &str) -> Result<Self, crate::ReadError> {
        let watch: Self = serde_json::from_str(text)?;
        if watch.schema != PROBE_SCHEMA {
            return Err(crate::ReadError::Schema { found: watch.schema });
        }
        Ok(watch)
    }

    /// The xruns inside the window, by xrun callback, by frame clock and by pauses between callbacks, in
    /// order of time.
    ///
    /// An xrun is a period. JACK2 calls once for each client that was late in it and once more for the
    /// driver, so that several calls within a period are one; a gap or a pause is as many as it has
    /// missed periods.
    pub fn xruns_in(&self, window: &Window) -> Vec<Xrun> {
        let Some(period_ns) = self.period_ns() else { return Vec::new() };
        let xrun = |at_ns: u64, source, delayed_ns| Xrun {
            at_ns,
            period: Some((at_ns - window.start_ns) / period_ns),
            source,
            client: None,
            delayed_ns,
        };
        let calls = self.xruns.iter().filter(|call| window.has(call.at_ns));
        let mut xruns: Vec<Xrun> = calls
            .map(|call| xrun(call.at_ns, Meter::JackCallback, nanoseconds(call.delayed_us)))
            .collect();
        xruns.dedup_by_key(|xrun| xrun.period);
        // The missed periods before a callback, the last first.
        let mut missed = |at_ns: u64, periods: u64, source| {
            let times = (0..periods).map_while(|i| at_ns.checked_sub(i.checked_mul(period_ns)?));
            let times = times.take_while(|at_ns| *at_ns >= window.start_ns);
            let times = times.filter(|at_ns| window.has(*at_ns));
            xruns.extend(times.map(|at_ns| xrun(at_ns, source, None)));
        };
        for gap in self.gaps.iter().filter(|gap| !self.is_another_clock(gap)) {
            let periods = gap.frames.unsigned_abs().div_ceil(u64::from(self.quantum));
            missed(gap.at_ns, periods, Meter::FrameClock);
        }
        for stall in &self.stalls {
            missed(stall.at_ns, stall.missed(), Meter::CallbackPause);
        }
        xruns.sort_by_key(|xrun| (xrun.at_ns, xrun.source));
        xruns
    }

    /// Whether the frames after a jump are counted by another clock than those before: it claims more than a
    /// second, and nothing like that had passed. Lost frames pass in their time.
    pub fn is_another_clock(&self, gap: &Gap) -> bool {
        let claimed = gap.frames.unsigned_abs();
        if claimed <= u64::from(self.rate) {
            return false;
        }
        let stall = self.stalls.iter().rev().find(|stall| stall.at_ns == gap.at_ns);
        let paused_ns = u128::from(stall.map_or(0, |stall| stall.after_ns));
        paused_ns * u128::from(self.rate) / 1_000_000_000 < u128::from(claimed / 2)
    }

    /// Whole nanoseconds of a period; absent if the server told neither rate nor quantum.
    fn period_ns(&self) -> Option<u64> {
        let frames = u64::from(self.quantum).saturating_mul(1_000_000_000);
        frames.checked_div(u64::from(self.rate)).filter(|ns| *ns > 0)
    }

    /// The load inside the window.
    pub fn load_in(&self, window: &Window) -> Option<DspLoad> {
        let inside = self.dsp_load.iter().filter(|sample| window.has(sample.at_ns));
        DspLoad::of(inside.copied().collect())
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn nanoseconds(us: f64) -> Option<u64> {
    (us > 0.0).then_some((us * 1000.0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch() -> Watch {
        let text = r#"{"schema":"archibald.probe/1","name":"probe","rate":48000,"quantum":32,
            "opened_ns":1000000,"closed_ns":90000000,"periods":130,
            "xruns":[{"at_ns":20000000,"delayed_us":30.5},{"at_ns":20010000,"delayed_us":30.5},
                     {"at_ns":20700000,"delayed_us":0},{"at_ns":80000000,"delayed_us":1}],
            "gaps":[{"at_ns":30000000,"frames":96},{"at_ns":31000000,"frames":-5}],
            "stalls":[{"at_ns":29000000,"after_ns":2100000,"period_ns":666667}],
            "dsp_load":[{"at_ns":15000000,"percent":10},{"at_ns":20000000,"percent":40},
                        {"at_ns":70000000,"percent":99}],
            "clients":[{"name":"probe","event":"registered","at_ns":1}],
            "ports":[{"name":"probe:in","event":"unregistered","at_ns":1}],
            "graph":[{"from":"a:out","to":"b:in","event":"connected","at_ns":1}],
            "callback_us":{"unit":"us","bins":[[3,130]],"min_ns":3000,"max_ns":3999,"sum_ns":455000},
            "server_lost":false,"dropped":0}"#;
        Watch::from_json(text).unwrap()
    }

    #[test]
    fn an_xrun_is_a_period_however_often_it_is_called() {
        let window = Window { start_ns: 10_000_000, end_ns: 60_000_000, warmup_ns: 0 };
        let xruns = watch().xruns_in(&window);
        let seen: Vec<_> = xruns.iter().map(|x| (x.at_ns, x.source, x.delayed_ns)).collect();
        let (call, clock) = (Meter::JackCallback, Meter::FrameClock);
        let pause = Meter::CallbackPause;
        let expected = [
            (20_000_000, call, Some(30_500)),
            (20_700_000, call, None),
            (28_333_334, pause, None),
            (28_666_668, clock, None),
            (29_000_000, pause, None),
            (29_333_334, clock, None),
            (30_000_000, clock, None),
            (31_000_000, clock, None),
        ];
        assert_eq!(seen, expected);
        assert_eq!(xruns[0].period, Some(15));
    }

    /// Of PipeWire: a sink begins to play, drives the graph from then on, and counts from its own beginning.
    #[test]
    fn another_clock_is_no_missed_period() {
        let mut watch = watch();
        let window = Window { start_ns: 10_000_000, end_ns: 60_000_000, warmup_ns: 0 };
        let clock = |watch: &Watch| {
            let all = watch.xruns_in(&window);
            all.iter().filter(|xrun| xrun.source == Meter::FrameClock).count()
        };
        assert_eq!(clock(&watch), 4);
        watch.gaps.extend([428_418, -428_418].map(|frames| Gap { at_ns: 50_000_000, frames }));
        assert_eq!(clock(&watch), 4);
        // In a machine that stood still for nine seconds the same frames were lost.
        watch.stalls.push(Stall { at_ns: 50_000_000, after_ns: 9_000_000_000, period_ns: 666_667 });
        assert!(clock(&watch) > 4);
    }

    #[test]
    fn a_pause_is_one_from_two_periods_on() {
        let after = |ns: u64| Stall::between(1000, 1000 + ns, 32, 48000);
        assert_eq!((after(666_667), after(1_333_334)), (None, None));
        let stall = after(1_333_336).unwrap();
        assert_eq!((stall.period_ns, stall.missed()), (666_667, 1));
        assert_eq!(after(2_000_001).unwrap().missed(), 2);
        assert_eq!((Stall::between(5, 1, 32, 48000), Stall::between(1, 5, 32, 0)), (None, None));
    }

    #[test]
    fn only_what_lies_in_the_window_counts() {
        let window = Window { start_ns: 29_000_001, end_ns: 30_500_000, warmup_ns: 0 };
        assert_eq!(watch().xruns_in(&window).len(), 2);
        assert_eq!(watch().load_in(&window), None);
        let window = Window { start_ns: 10_000_000, ..window };
        let load = watch().load_in(&window).unwrap();
        assert_eq!((load.mean, load.max), (25.0, 40.0));
    }

    #[test]
    fn another_schema_is_refused() {
        let text = serde_json::to_string(&watch()).unwrap().replace("probe/1", "probe/2");
        assert!(Watch::from_json(&text).is_err());
    }
}
