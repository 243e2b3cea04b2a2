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

/// A jump of the frame clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Start of the callback that saw it.
    pub at_ns: u64,
    /// Frames that no callback was called for; negative if the clock went back.
    pub frames: i64,
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

    /// The xruns inside the window, by xrun callback and by frame clock, in order of time.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn xruns_in(&self, window: &Window) -> Vec<Xrun> {
        let period = |at_ns: u64| {
            let period_ns = f64::from(self.quantum) * 1e9 / f64::from(self.rate);
            let passed = (at_ns - window.start_ns) as f64;
            (self.rate > 0 && self.quantum > 0).then(|| (passed / period_ns) as u64)
        };
        let xrun = |at_ns, source, delayed_ns| Xrun {
            at_ns,
            period: period(at_ns),
            source,
            client: None,
            delayed_ns,
        };
        let calls = self.xruns.iter().filter(|call| window.has(call.at_ns)).map(|call| {
            let delayed = (call.delayed_us > 0.0).then_some((call.delayed_us * 1000.0) as u64);
            xrun(call.at_ns, Meter::JackCallback, delayed)
        });
        let gaps = self.gaps.iter().filter(|gap| window.has(gap.at_ns));
        let gaps = gaps.map(|gap| xrun(gap.at_ns, Meter::FrameClock, None));
        let mut xruns: Vec<Xrun> = calls.chain(gaps).collect();
        xruns.sort_by_key(|xrun| (xrun.at_ns, xrun.source));
        xruns
    }

    /// The load inside the window.
    pub fn load_in(&self, window: &Window) -> Option<DspLoad> {
        let inside = self.dsp_load.iter().filter(|sample| window.has(sample.at_ns));
        DspLoad::of(inside.copied().collect())
    }
}
