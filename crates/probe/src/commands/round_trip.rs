//! `archibald-probe loop`: sends a signal, hears it again, and prints what became of it on the way as
//! one JSON document ([`Loop`]).

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use archibald_latency::round_trip::{
    Break, LOOP_SCHEMA, Loop, PROGRESS_SCHEMA, PhaseSeen, Progress, SequenceSeen,
};
use archibald_latency::{Histogram, Meter, Window};

use super::cpus::Cpus;
use super::end::End;
use super::log::Log;
use super::{Outcome, print};
use crate::ProbeError;
use crate::callback::{Period, now_ns, rings};
use crate::jack::{Client, Library};
use crate::round_trip::{Block, Signal, ends};
use crate::{phase, sequence};

/// Between two lines of progress.
const SECOND_NS: u64 = 1_000_000_000;
/// How long the ports of the way may take to appear.
const PATIENCE_NS: u64 = 10_000_000_000;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The client's name; the server may change it if it is taken
    #[arg(long, default_value = "archibald-probe")]
    name: String,
    /// The way: the port that the signal goes to and the one that it comes from; without it the
    /// probe's own output leads to its own input
    #[arg(long, value_name = "INTO,OUT-OF", value_delimiter = ',', num_args = 1)]
    through: Vec<String>,
    /// Tones instead of the coded sequence: for ways that are not digital
    #[arg(long)]
    analogue: bool,
    /// How long; without it until SIGTERM or the end of standard input
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
    /// After the result stay in the graph so much longer, at most until SIGTERM, so that others can ask
    /// about the client
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    linger: u64,
    /// Write a line into this file (a FIFO, say) at the first xrun that counts, whoever saw it
    #[arg(long, value_name = "FILE")]
    news: Option<PathBuf>,
    /// Print each second to standard error how it goes, as a line of JSON
    #[arg(long)]
    progress: bool,
    /// The warm-up begins when this file is there
    #[arg(long, value_name = "FILE")]
    ready: Option<PathBuf>,
    /// CPUs for the thread that takes the results, such as 0-1,3, once the graph's thread is there: that
    /// one stays where the probe was started
    #[arg(long, value_name = "CPUS")]
    aside: Option<Cpus>,
    /// How long the signal runs before anything counts
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 1000)]
    warmup: u64,
}

impl Arguments {
    pub(super) fn run(&self, out: &mut dyn Write) -> Result<Outcome, ProbeError> {
        let way = match &self.through[..] {
            [] => None,
            [into, out_of] => Some((into.clone(), out_of.clone())),
            _ => {
                return Err(ProbeError::Words("--through takes two ports: INTO,OUT-OF".to_owned()));
            }
        };
        let end = End::new()?;
        let mut news = self.news.as_deref().map(News::open).transpose()?;
        let library = Library::open()?;
        let (watcher, xruns, mut seen) = rings();
        let signal = if self.analogue { Signal::tones() } else { Signal::Sequence };
        let (work, mut heard) = ends(signal);
        let client = Client::open(library, &self.name)?;
        // Best effort: an ordinary user may lock little, and then a page fault may show as lateness.
        let _ = rustix::mm::mlockall(rustix::mm::MlockAllFlags::CURRENT);
        let client = client.activate(watcher, xruns, Box::new(work))?;
        if let Some(cpus) = &self.aside {
            cpus.take()?;
        }
        let mut log = Log::new(&client);
        let own = (format!("{}:in", client.name()), format!("{}:out", client.name()));
        // Into what, out of what.
        let way = way.unwrap_or_else(|| own.clone());
        connect(&client, &end, (&own.1, &way.0))?;
        connect(&client, &end, (&way.1, &own.0))?;

        let mut window = self.ready.is_none().then(|| self.window());
        let mut ear = if self.analogue { Ear::phase() } else { Ear::sequence() };
        let mut times = Times::default();
        let mut lines = 0;
        let mut called_off;
        let (start_ns, until_ns) = loop {
            if window.is_none() && self.ready.as_ref().is_some_and(|path| path.exists()) {
                window = Some(self.window());
            }
            let (start_ns, until_ns) = window.unwrap_or((u64::MAX, u64::MAX));
            log.take_each(&client, &mut seen, |period| {
                times.note(period, client.rate(), start_ns, until_ns);
            });
            heard.take(|block, samples| {
                ear.hear(block, samples, client.rate(), start_ns, until_ns);
            });
            log.load(&client);
            if news.as_ref().is_some_and(|_| log.has_xrun(start_ns) || ear.has_break(start_ns)) {
                // Once: whoever waits for it has stopped looking.
                if let Some(news) = news.take() {
                    news.tell()?;
                }
            }
            let elapsed_ns = now_ns().saturating_sub(start_ns);
            if self.progress && elapsed_ns / SECOND_NS > lines {
                // One that was missed is missing: the next tells of it too.
                lines = elapsed_ns / SECOND_NS;
                let window = Window { start_ns, end_ns: until_ns, warmup_ns: 0 };
                let progress = progress(elapsed_ns, &log, &window, &mut times, &ear);
                print(&mut std::io::stderr(), &progress)?;
            }
            called_off = end.has_come()?;
            if client.is_lost() || called_off || now_ns() >= until_ns {
                break window.unwrap_or((now_ns(), now_ns()));
            }
            end.wait(log.next_load_ns.min(until_ns))?;
        };
        let leave_ns = until_ns.saturating_add(self.linger.saturating_mul(1_000_000_000));
        let lost = client.is_lost();
        let watch = log.finish(lost);
        let end_ns = watch.closed_ns.min(until_ns).max(start_ns);
        let window = Window { start_ns, end_ns, warmup_ns: self.warmup.saturating_mul(1_000_000) };
        let (mut sequence, phase) = ear.result();
        if let Some(seen) = &mut sequence {
            seen.breaks.retain(|found| window.has(found.at_ns));
        }
        let result = Loop {
            schema: LOOP_SCHEMA.to_owned(),
            ports: way,
            window,
            watch,
            late: times.late,
            left: times.left,
            jitter: times.jitter,
            sequence,
            phase,
        };
        print(out, &result)?;
        while !called_off && !client.is_lost() && now_ns() < leave_ns && !end.has_come()? {
            end.wait(leave_ns.min(now_ns() + PATIENCE_NS))?;
        }
        client.close();
        Ok(match () {
            () if lost => Outcome::ServerLost,
            () if !result.is_heard() => Outcome::NothingHeard,
            () => Outcome::Good,
        })
    }
}

impl Arguments {
    /// Start and end of what counts, if the warm-up begins now.
    fn window(&self) -> (u64, u64) {
        let start_ns = now_ns().saturating_add(self.warmup.saturating_mul(1_000_000));
        let end = |seconds: u64| start_ns.saturating_add(seconds.saturating_mul(1_000_000_000));
        (start_ns, self.seconds.map_or(u64::MAX, end))
    }
}

/// Who waits for the first xrun.
struct News(File);

impl News {
    fn open(path: &Path) -> Result<Self, ProbeError> {
        // For reading too: a FIFO opens without waiting for its other end then.
        let file = OpenOptions::new().read(true).append(true).open(path);
        file.map(Self).map_err(|source| ProbeError::System { what: "open the news", source })
    }

    fn tell(mut self) -> Result<(), ProbeError> {
        writeln!(self.0, "xrun by {}", now_ns())
            .map_err(|source| ProbeError::System { what: "write the news", source })
    }
}

/// How it goes, from what the callback has left behind.
fn progress(elapsed_ns: u64, log: &Log, window: &Window, times: &mut Times, ear: &Ear) -> Progress {
    let watch = log.so_far();
    let meters = [Meter::JackCallback, Meter::FrameClock, Meter::CallbackPause];
    let mut counters: BTreeMap<Meter, u64> = meters.map(|meter| (meter, 0)).into();
    counters.extend(ear.breaks_since(window.start_ns).map(|count| (Meter::Sequence, count)));
    for xrun in watch.xruns_in(window) {
        *counters.entry(xrun.source).or_default() += 1;
    }
    let newest = times.least_left_ns.take();
    Progress {
        schema: PROGRESS_SCHEMA.to_owned(),
        elapsed_ns,
        quantum: watch.quantum,
        rate: watch.rate,
        frames: ear.frames(),
        left_ns: newest.zip(times.left.min_ns()).map(|(newest, least)| [newest, least]),
        counters,
    }
}

/// Connects two ports, of which one may not be there yet.
fn connect(client: &Client, end: &End, ports: (&str, &str)) -> Result<(), ProbeError> {
    let deadline = now_ns() + PATIENCE_NS;
    loop {
        match client.connect(ports.0, ports.1) {
            Err(ProbeError::NoConnection { .. })
                if now_ns() < deadline && !client.is_lost() && !end.has_come()? =>
            {
                end.wait(now_ns() + 100_000_000)?;
            }
            result => return result,
        }
    }
}

/// The callbacks' times in the window.
#[derive(Debug, Default)]
struct Times {
    late: Histogram,
    left: Histogram,
    jitter: Histogram,
    before: Option<(u64, u32)>,
    /// Of `left`, since the last line of progress.
    least_left_ns: Option<u64>,
}

impl Times {
    fn note(&mut self, period: &Period, rate: u32, start_ns: u64, until_ns: u64) {
        let before = self.before.replace((period.at_ns, period.frames));
        if !(start_ns..until_ns).contains(&period.at_ns) {
            return;
        }
        if let Some(late) = period.late_us {
            self.late.record(late.saturating_mul(1000));
        }
        if let Some(left) = period.left_us {
            let left_ns = left.saturating_mul(1000);
            self.left.record(left_ns);
            self.least_left_ns =
                Some(self.least_left_ns.map_or(left_ns, |least| least.min(left_ns)));
        }
        if let Some((before_ns, frames)) = before {
            let length = nanoseconds(u64::from(frames), rate);
            self.jitter.record(period.at_ns.saturating_sub(before_ns).abs_diff(length));
        }
    }
}

/// How long so many frames take.
fn nanoseconds(frames: u64, rate: u32) -> u64 {
    frames.saturating_mul(1_000_000_000).checked_div(rate.into()).unwrap_or(0)
}

/// What listens to the signal.
enum Ear {
    Sequence {
        reader: sequence::Reader,
        /// When each break that the reader listed was heard.
        times: Vec<u64>,
        next: u64,
        trips: BTreeMap<u64, u64>,
        newest: Option<u64>,
        seen: SequenceSeen,
        /// Start of the last period.
        last_ns: u64,
    },
    Phase {
        reader: phase::Reader,
        samples: Vec<f32>,
        first: u64,
        stretches: u64,
        delays: Vec<f64>,
    },
}

impl Ear {
    fn sequence() -> Self {
        Self::Sequence {
            reader: sequence::Reader::new(),
            times: Vec::new(),
            next: 0,
            trips: BTreeMap::new(),
            newest: None,
            seen: SequenceSeen::default(),
            last_ns: 0,
        }
    }

    fn phase() -> Self {
        Self::Phase {
            reader: phase::Reader::new(),
            samples: Vec::with_capacity(phase::PERIOD),
            first: 0,
            stretches: 0,
            delays: Vec::new(),
        }
    }

    fn hear(&mut self, block: &Block, heard: &[f32], rate: u32, from_ns: u64, until_ns: u64) {
        let counts = (from_ns..until_ns).contains(&block.at_ns);
        match self {
            Self::Sequence { reader, times, next, trips, newest, seen, last_ns } => {
                *last_ns = block.at_ns;
                if block.number > *next && counts {
                    seen.overlooked += block.number - *next;
                }
                *next = block.number + heard.len() as u64;
                for (number, sample) in (block.number..).zip(heard) {
                    let told = reader.read(*sample);
                    while let Some(found) = reader.breaks().get(times.len()) {
                        // What is noted after a silence began with it.
                        times.push(block.at_ns.saturating_sub(nanoseconds(found.foreign, rate)));
                    }
                    if !counts {
                        continue;
                    }
                    seen.frames += 1;
                    if let Some(trip) = told.and_then(|told| number.checked_sub(told)) {
                        seen.known += 1;
                        *trips.entry(trip).or_default() += 1;
                        *newest = Some(trip);
                    }
                }
            }
            Self::Phase { reader, samples, first, stretches, delays } if counts => {
                if *first + samples.len() as u64 != block.number {
                    samples.clear();
                }
                for (number, sample) in (block.number..).zip(heard) {
                    if samples.is_empty() {
                        *first = number;
                    }
                    samples.push(*sample);
                    if samples.len() == phase::PERIOD {
                        *stretches += 1;
                        delays.extend(reader.delay(*first, samples));
                        samples.clear();
                        *first = number + 1;
                    }
                }
            }
            Self::Phase { .. } => {}
        }
    }

    /// Whether a break was heard since then.
    fn has_break(&self, since_ns: u64) -> bool {
        match self {
            Self::Sequence { times, .. } => times.last().is_some_and(|at_ns| *at_ns >= since_ns),
            Self::Phase { .. } => false,
        }
    }

    /// How many breaks were heard since then; a signal that does not tell its frames apart has none.
    fn breaks_since(&self, since_ns: u64) -> Option<u64> {
        match self {
            Self::Sequence { times, .. } => {
                Some(times.iter().filter(|at_ns| **at_ns >= since_ns).count() as u64)
            }
            Self::Phase { .. } => None,
        }
    }

    /// The delay so far: least, newest, most.
    #[allow(clippy::cast_precision_loss)]
    fn frames(&self) -> Option<[f64; 3]> {
        match self {
            Self::Sequence { trips, newest, .. } => {
                let (least, most) = (trips.first_key_value()?.0, trips.last_key_value()?.0);
                Some([*least as f64, (*newest)? as f64, *most as f64])
            }
            Self::Phase { delays, .. } => {
                let least = delays.iter().copied().min_by(f64::total_cmp)?;
                let most = delays.iter().copied().max_by(f64::total_cmp)?;
                Some([least, *delays.last()?, most])
            }
        }
    }

    fn result(self) -> (Option<SequenceSeen>, Option<PhaseSeen>) {
        match self {
            Self::Sequence { reader, mut times, trips, mut seen, last_ns, .. } => {
                let (breaks, unlisted) = reader.finish();
                // One that the end alone has brought to light has the last moment.
                times.resize(breaks.len(), last_ns);
                seen.unlisted = unlisted;
                seen.round_trip = trips.into_iter().collect();
                seen.breaks = breaks
                    .iter()
                    .zip(times)
                    .map(|(found, at_ns)| Break {
                        at_ns,
                        frame: found.number,
                        foreign: found.foreign,
                        jump: found.jump,
                        unsure: found.unsure,
                    })
                    .collect();
                (Some(seen), None)
            }
            Self::Phase { stretches, delays, .. } => (None, Some(PhaseSeen::of(stretches, delays))),
        }
    }
}
