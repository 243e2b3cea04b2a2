//! `archibald measure wakeup`: how late the timer wakes a real-time thread, by cyclictest or by the
//! kernel's own tracers.

use std::collections::BTreeMap;
use std::process::Output;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use archibald_latency::cyclictest::Cyclictest;
use archibald_latency::rtla::{self, Kind};
use archibald_latency::{
    Conditions, Cost, Histogram, NamedHistogram, RUN_SCHEMA, Report, Run, Target, Window,
};

use super::live;
use super::load::{self, Load, Local, Where};
use super::place::{self, Place};
use super::store::Keep;
use super::tell;
use crate::commands::exec::Remote;
use crate::failure::{Context as _, Exit, Failure};
use crate::terminal::Steps;

/// A histogram ends here, in microseconds; later ones are counted at the maximum.
const HISTOGRAM_US: u32 = 20_000;
/// Above the audio graph (88) and below the kernel's own threads.
const PRIORITY: u8 = 95;
/// Left out before every measurement: the first wake-ups after a rest are late anywhere.
const WARMUP: Duration = Duration::from_secs(1);
/// Of each second osnoise's busy threads leave this to everybody else, in microseconds: at their priority
/// nobody else would run at all.
const REST_US: u32 = 200_000;

/// How late the timer wakes a real-time thread, on every CPU.
#[derive(Debug, clap::Args)]
pub(crate) struct Wakeup {
    /// The machine; the machine file's when left out.
    #[arg(conflicts_with = "here")]
    name: Option<String>,
    /// Measure the Linux that this command runs on.
    #[arg(long)]
    here: bool,
    /// How long: 10s, 5m, 1h.
    #[arg(long = "for", default_value = "10s", value_parser = duration)]
    length: Duration,
    /// By which tool.
    #[arg(long, value_enum, default_value = "cyclictest")]
    with: Tool,
    /// What keeps it busy meanwhile, e.g. --load cpu,disk,fork.
    #[arg(long, value_enum, value_delimiter = ',')]
    load: Vec<Load>,
    /// Which machine is kept busy.
    #[arg(long, value_enum, default_value = "guest", requires = "load")]
    on: Where,
    /// Microseconds that the worst wake-up may take.
    #[arg(long, value_name = "US", default_value_t = 50)]
    target: u64,
    /// Show each second how it goes; cyclictest alone tells.
    #[arg(long)]
    live: bool,
    #[command(flatten)]
    keep: Keep,
    /// For programs.
    #[arg(long)]
    json: bool,
}

/// What measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Tool {
    /// A thread that sleeps and looks at the clock, as an audio program would.
    Cyclictest,
    /// The kernel's timerlat tracer: interrupt, thread and return to user space apart.
    RtlaTimerlat,
    /// The kernel's osnoise tracer: what takes the CPU from a thread that never sleeps. Not judged.
    RtlaOsnoise,
}

impl Tool {
    /// Its program.
    const fn program(self) -> &'static str {
        match self {
            Self::Cyclictest => "cyclictest",
            Self::RtlaTimerlat | Self::RtlaOsnoise => "rtla",
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Cyclictest => "cyclictest",
            Self::RtlaTimerlat => "rtla timerlat",
            Self::RtlaOsnoise => "rtla osnoise",
        }
    }
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let expected = || format!("\"{text}\" is no length such as 10s, 5m or 1h");
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(expected)?;
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| expected())?;
    let seconds = match unit {
        "s" => number,
        "m" => number * 60,
        "h" => number * 3600,
        _ => return Err(expected()),
    };
    match seconds {
        1..=864_000 => Ok(Duration::from_secs(seconds)),
        _ => Err("a length from 1s to 240h".to_owned()),
    }
}

/// What a tool found.
struct Found {
    program: String,
    version: String,
    kernel: String,
    histograms: Vec<NamedHistogram>,
    beyond: u64,
}

impl Wakeup {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        if self.live && self.with != Tool::Cyclictest {
            let message = format!("{} tells nothing before its end", self.with.title());
            return Err(Failure::new(Exit::Use, message)
                .with_remedy("Leave --live away, or measure with cyclictest."));
        }
        let place = match self.here {
            true => Place::here()?,
            false => Place::machine(Remote::of(self.name.as_deref(), None)?)?,
        };
        let store = self.keep.open(place.remote.as_ref())?;
        let steps = Steps::new(self.json || self.live);
        steps.step(&format!("{} for {} s", self.with.title(), self.length.as_secs()));
        let on_host = !self.here && matches!(self.on, Where::Host | Where::Both);
        let below = match on_host && !self.load.is_empty() {
            true => Some(Local::start(&self.load)?),
            false => None,
        };
        let mut live = self.live.then(|| self.live_view(&place));
        let mut told = |line: &str| {
            if let Some(live) = &mut live {
                live.told(line);
            }
        };
        let output = place.run(&self.script(&place), self.length, &mut told)?;
        drop(below);
        steps.finish();
        drop(steps);
        let text = String::from_utf8_lossy(&output.stdout);
        let found = match self.with {
            Tool::Cyclictest => by_cyclictest(&place, &text),
            Tool::RtlaTimerlat | Tool::RtlaOsnoise => {
                by_rtla(&place, &text, self.meter(&place, self.length, ""))
            }
        };
        let found = found.map_err(|error| self.no_result(&output, &error))?;
        let run = self.to_run(&place, found);
        run.check().context("the run")?;
        let mut target = Target::wakeup(Some(self.target * 1000));
        if self.with == Tool::RtlaOsnoise {
            // How long a CPU may be taken away is nobody's limit: it is what wake-ups are late by.
            target.limits.clear();
        }
        let report = Report::new("wake-up", vec![run.clone()], target);
        tell(&report, &run, self.json, store.as_ref())
    }

    fn live_view(&self, place: &Place) -> live::Wakeup {
        live::Wakeup::new(
            format!("wake-up by cyclictest, {} ({})", place.name(), place.source.word()),
            &place.cpus,
            |cpu| place.is_audio(cpu),
            self.target,
            place.source.is_judged(),
            self.length,
        )
    }

    /// What the measured machine's shell does: warm up, measure under load, give the result. Everything
    /// that it starts ends with it, and it ends with its standard input: then nobody waits for it.
    fn script(&self, place: &Place) -> String {
        let here = self.here || matches!(self.on, Where::Guest | Where::Both);
        let load = match here && !self.load.is_empty() {
            // Of its own accord it ends a little after the measurement, should nobody be left to end it.
            true => format!(
                "stress-ng {} --timeout {} >/dev/null 2>&1 & load=$!",
                load::words(&self.load).join(" "),
                self.length.as_secs() + 30
            ),
            false => "load=".to_owned(),
        };
        let mut tools = vec![self.with.program()];
        tools.extend((self.with == Tool::Cyclictest).then_some("taskset"));
        tools.extend((load != "load=").then_some("stress-ng"));
        let warm_up = self.meter(place, WARMUP, "");
        let (measure, head) = match self.with {
            Tool::Cyclictest => {
                let more = format!("--histogram={HISTOGRAM_US} --histfile=/dev/null --json=result");
                (self.meter(place, self.length, &more) + " >&2", "")
            }
            Tool::RtlaTimerlat | Tool::RtlaOsnoise => {
                let more = format!("--bucket-size 1 --entries {HISTOGRAM_US}");
                (
                    self.meter(place, self.length, &more) + " >result",
                    "uname -rv; rtla --version 2>&1 | head -n 1;",
                )
            }
        };
        let look = match self.live {
            true => {
                "( while sleep 1; do kill -USR1 $meter || exit; done ) >/dev/null 2>&1 & look=$!"
            }
            false => "look=",
        };
        format!(
            "export LC_ALL=C
            {needs}
            load= meter= look= watch= place=$(mktemp -d) && cd \"$place\" || exit 1
            leave() {{
                status=$?
                trap - EXIT
                # rtla clears up after itself when it is interrupted, and is another user's here.
                {{ kill $load $look $watch; {root}kill -INT $meter; wait $load $meter; }} 2>/dev/null
                rm -rf \"$place\"
                exit $status
            }}
            trap leave EXIT
            trap 'exit 143' HUP INT TERM
            exec 3<&0
            ( read -r line <&3; kill $$ ) 2>/dev/null & watch=$!
            {load}
            {warm_up} >/dev/null & meter=$!
            wait $meter || exit
            {measure} & meter=$!
            {look}
            wait $meter || exit
            meter=
            {head} cat result",
            needs = place::needs(&tools),
            root = if self.with == Tool::Cyclictest { "" } else { root(place) },
        )
    }

    /// The tool's command line.
    fn meter(&self, place: &Place, length: Duration, more: &str) -> String {
        let cpus = &place.cpus;
        let (seconds, threads) = (length.as_secs(), cpus.len());
        let root = root(place);
        let run = 1_000_000 - REST_US;
        match self.with {
            Tool::Cyclictest => format!(
                "taskset -c {cpus} cyclictest --mlockall --quiet --affinity={cpus} --threads={threads} \
                 --priority={PRIORITY} --interval=1000 --distance=0 --duration={seconds} {more}"
            ),
            Tool::RtlaTimerlat => format!(
                "{root}rtla timerlat hist --cpus {cpus} --priority f:{PRIORITY} --period 1000 \
                 --duration {seconds}s {more}"
            ),
            Tool::RtlaOsnoise => format!(
                "{root}rtla osnoise hist --cpus {cpus} --priority f:{PRIORITY} --period 1000000 \
                 --runtime {run} --duration {seconds}s {more}"
            ),
        }
    }

    fn to_run(&self, place: &Place, found: Found) -> Run {
        let mut other = place.conditions().other;
        other.insert(self.with.program().to_owned(), found.version);
        if found.beyond > 0 {
            let words = format!("{} samples, counted at the maximum", found.beyond);
            other.insert(format!("beyond {HISTOGRAM_US} us"), words);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let name = if self.with == Tool::RtlaOsnoise { "noise" } else { "wakeup" };
        Run {
            schema: RUN_SCHEMA.to_owned(),
            id: format!("{name}-{}", now.as_millis()),
            source: place.source,
            conditions: Conditions {
                program: Some(found.program),
                kernel: Some(found.kernel),
                load: Some(load::told(&self.load, self.on, self.here)),
                other,
                ..place.conditions()
            },
            window: Window {
                start_ns: 0,
                end_ns: u64::try_from(self.length.as_nanos()).unwrap_or(u64::MAX),
                warmup_ns: u64::try_from(WARMUP.as_nanos()).unwrap_or(u64::MAX),
            },
            // A period is a graph's; here each wake-up is a sample of its own.
            periods: 0,
            xruns: Vec::new(),
            counters: BTreeMap::new(),
            histograms: found.histograms,
            round_trip: None,
            dsp_load: None,
            cost: Cost::default(),
        }
    }

    fn no_result(&self, output: &Output, error: &str) -> Failure {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim();
        if let Some(failure) = place::not_installed(said) {
            return failure;
        }
        if output.status.success() {
            return Failure::new(Exit::Environment, error);
        }
        let last = said.lines().last().unwrap_or("it said nothing");
        let tool = self.with.title();
        Failure::new(Exit::Environment, format!("{tool} ended with {}: {last}", output.status))
            .with_remedy(match self.with {
                Tool::Cyclictest => format!(
                    "It wants SCHED_FIFO {PRIORITY} and locked memory: run this as root, or raise rtprio and memlock (`archibald scan` shows both)."
                ),
                Tool::RtlaTimerlat | Tool::RtlaOsnoise => {
                    "It wants root and a kernel with the osnoise and timerlat tracers (CONFIG_OSNOISE_TRACER, CONFIG_TIMERLAT_TRACER).".to_owned()
                }
            })
    }
}

/// rtla wants to be root; in the machine its user may.
const fn root(place: &Place) -> &'static str {
    if place.remote.is_some() { "sudo -n " } else { "" }
}

fn by_cyclictest(place: &Place, text: &str) -> Result<Found, String> {
    let result = Cyclictest::from_json(text).map_err(|error| error.to_string())?;
    let each: Vec<(u32, Histogram)> =
        result.threads.iter().map(|thread| (thread.cpu, thread.latency.clone())).collect();
    Ok(Found {
        histograms: place.distributions("wakeup", "wake-up of a timer's thread", &each),
        beyond: result.threads.iter().map(|thread| thread.beyond).sum(),
        program: result.command,
        version: result.version,
        kernel: result.kernel,
    })
}

/// The kernel, rtla's version, and its histogram.
fn by_rtla(place: &Place, text: &str, program: String) -> Result<Found, String> {
    let (kernel, rest) = text.split_once('\n').unwrap_or((text, ""));
    let (version, table) = rest.split_once('\n').unwrap_or((rest, ""));
    let columns = rtla::read(table).map_err(|error| error.to_string())?;
    let kinds = [
        (Kind::Thread, "wakeup", "wake-up of a timer's thread"),
        (Kind::Interrupt, "wakeup-irq", "handling of the timer's interrupt"),
        (Kind::User, "wakeup-user", "wake-up up to the return to user space"),
        (Kind::Noise, "noise", "the CPU taken from a busy thread"),
    ];
    let mut histograms = Vec::new();
    for (kind, name, what) in kinds {
        let each: Vec<(u32, Histogram)> = columns
            .iter()
            .filter(|column| column.kind == kind)
            .map(|column| (column.cpu, column.histogram.clone()))
            .collect();
        histograms.extend(place.distributions(name, what, &each));
    }
    Ok(Found {
        program: program.trim_end().to_owned(),
        version: version.split_whitespace().last().unwrap_or(version).to_owned(),
        kernel: kernel.to_owned(),
        beyond: columns.iter().map(|column| column.beyond).sum(),
        histograms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_a_unit() {
        assert_eq!(duration("10s").unwrap().as_secs(), 10);
        assert_eq!(duration("5m").unwrap().as_secs(), 300);
        for wrong in ["10", "s", "0s", "1d", "-1s", "99999h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
