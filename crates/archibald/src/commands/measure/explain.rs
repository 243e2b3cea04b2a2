//! `measure audio --explain`: the kernel's trace beside a measurement, in rings that stand still a moment
//! after the first xrun, and what they tell. What the trace itself costs is told with it.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use archibald_latency::round_trip::Loop;
use archibald_latency::{Finding, Run, Source};
use archibald_trace::{Explanation, Reported, Trace};

use super::place::Place;
use crate::failure::{Context as _, Exit, Failure};
use crate::places;

/// How much longer the rings record after the news of an xrun: until the period is over for everybody.
const AFTER_MS: u32 = 300;
/// MiB of a CPU's ring: seconds of an audio graph under load, and small enough to be sent.
const RING_MIB: u32 = 8;

/// Has the audio graph stand still while tracepoints are switched in an emulated machine, when the measurement
/// is not under way, and has the recorder switch them at no other time. QEMU before 8.1 may go on running what a
/// processor had just begun to translate when another one replaced it, and the kernel dies of the breakpoint by
/// which it replaces its own code ("Oops: int3"). The recorder runs on the other CPUs, so that an audio CPU on
/// which nothing runs meets none of it.
struct Still {
    stand: &'static str,
    go_on: &'static str,
    hold: &'static str,
}

impl Still {
    const fn at(place: &Place) -> Self {
        match place.source {
            Source::Emulation => Self {
                stand: "still=\"$with $probe $graph\"; kill -s STOP -- $still",
                go_on: "kill -s CONT -- $still 2>/dev/null; still=",
                hold: "--hold",
            },
            _ => Self { stand: "", go_on: "", hold: "" },
        }
    }
}

/// Starts the recorder in the machine's shell, after the probe; `$probe` and `$server` are known there.
pub(super) fn start(place: &Place) -> Result<String, Failure> {
    let guest = match place.remote {
        Some(_) => "archibald-guest".to_owned(),
        None => {
            let [guest, _, _] = places::guest_programs()?;
            guest.display().to_string()
        }
    };
    let Still { stand, go_on, hold } = Still::at(place);
    Ok(format!(
        "sleep 3
            [ -d /proc/$probe ] || {{ wait $probe; status=$?; probe=; exit $status; }}
            # A FIFO opens for reading when somebody has it open for writing: the probe, unless it has ended.
            exec 4<>news
            root=; [ \"$(id -u)\" = 0 ] || root='sudo -n'
            graph=$server
            [ -n \"$graph\" ] || graph=$(pgrep -u \"$(id -u)\" -x \"$kind\" | head -n 1)
            [ -n \"$graph\" ] || graph=$(pgrep -x jackd | head -n 1)
            [ $kind = jack ] && client=libjack || client='libjack|libpipewire-0'
            programs=
            for maps in $(grep -El \"$client\" /proc/[0-9]*/maps 2>/dev/null); do
                one=${{maps#/proc/}}; one=${{one%/maps}}
                [ \"$one\" = \"$graph\" ] || [ \"$one\" = \"$probe\" ] || programs=\"$programs --program $one\"
            done
            {stand}
            $root {guest} trace \"$place/capture\" --until-news {AFTER_MS} {hold} --ring {RING_MIB} \
                --server \"$graph\" --probe $probe $programs <news >tracing 2>trouble 4>&- & tracer=$!
            tries=0
            until [ -s tracing ] || [ ! -d /proc/$tracer ] || [ $tries -ge 600 ]; do tries=$((tries + 1)); sleep 0.1; done
            [ -s tracing ] || {{ echo 'the kernel was not traced' >&2; tail -n 1 trouble >&2; exit 1; }}
            {go_on}
            : >ready"
    ))
}

/// Ends it, when the probe is still there.
pub(super) fn end(place: &Place) -> String {
    let Still { stand, go_on, .. } = Still::at(place);
    format!("{stand}\n echo end 1<>news; settle $tracer 120; tracer=\n {go_on}")
}
/// Prints what it recorded.
pub(super) const PRINT: &str = "echo '@@ capture'; $root tar -czf - capture | base64";

/// What a trace told of a run.
pub(super) struct Explained {
    explanation: Explanation,
    begun_ns: u64,
    ended_ns: u64,
}

impl Explained {
    /// Unpacks what the script printed into `folder`, and reads it.
    pub(super) fn read(text: &str, folder: &Path, run: &Run) -> Result<Self, Failure> {
        unpack(text, folder).context("the trace")?;
        let unreadable = |error: archibald_trace::TraceError| {
            Failure::new(Exit::Environment, format!("the trace cannot be read: {error}"))
        };
        let trace = Trace::read(&folder.join("capture")).map_err(unreadable)?;
        let (begun_ns, ended_ns) = (trace.manifest.begun_ns, trace.manifest.ended_ns);
        let mut xruns: Vec<u64> = run.xruns.iter().map(|xrun| xrun.at_ns).collect();
        xruns.retain(|at_ns| (begun_ns..ended_ns).contains(at_ns));
        xruns.dedup();
        let reported = Reported {
            source: run.source.word(),
            window: Some((run.window.start_ns.max(begun_ns), run.window.end_ns.min(ended_ns))),
            xruns: &xruns,
            period_ns: run.conditions.period_ns().map(|ns| ns as u64),
        };
        let explanation = archibald_trace::explain(&trace, &reported, &[]);
        let path = folder.join("explain.json");
        let text = serde_json::to_vec_pretty(&explanation).context("the explanation")?;
        std::fs::write(&path, text).context(path.display())?;
        Ok(Self { explanation, begun_ns, ended_ns })
    }

    /// What the report shows of it.
    pub(super) fn findings(&self, run: &Run) -> Vec<Finding> {
        let finding = |episode: &archibald_trace::Explained| Finding {
            run: run.id.clone(),
            at_ns: episode.from_ns,
            cause: episode.cause.as_str().to_owned(),
            sentence: episode.sentence.clone(),
            remedy: episode.remedy.clone(),
            evidence: episode.evidence.clone(),
        };
        self.explanation.episodes.iter().map(finding).collect()
    }

    /// For people: the causes with their evidence, then what the trace cost.
    pub(super) fn text(&self, seen: &Loop) -> String {
        let mut text = archibald_trace::text(&self.explanation);
        text.push_str(&format!("\n{}\n", self.cost(seen)));
        text
    }

    /// For programs.
    pub(super) fn json(&self, seen: &Loop) -> serde_json::Value {
        let [without, with] = self.loads(seen);
        serde_json::json!({
            "explanation": self.explanation,
            "events-a-second": self.rate(),
            "dsp-load-without-trace": without,
            "dsp-load-with-trace": with,
        })
    }

    fn cost(&self, seen: &Loop) -> String {
        let events =
            self.rate().map_or("an unknown number of".to_owned(), |rate| format!("{rate:.0}"));
        let load = match self.loads(seen) {
            [Some(without), Some(with)] => {
                format!("the server's load was {without:.1} % before it and {with:.1} % with it")
            }
            _ => "the server told no load to compare".to_owned(),
        };
        format!("The trace took {events} events a second; {load}.")
    }

    #[allow(clippy::cast_precision_loss)]
    fn rate(&self) -> Option<f64> {
        let (from, to) = self.explanation.trace;
        let length = to.saturating_sub(from) as f64 / 1e9;
        (length > 0.0).then(|| self.explanation.events as f64 / length)
    }

    /// The server's mean load before the trace and while it ran.
    #[allow(clippy::cast_precision_loss)]
    fn loads(&self, seen: &Loop) -> [Option<f64>; 2] {
        let mean = |counts: &dyn Fn(u64) -> bool| {
            let own: Vec<f64> = seen
                .watch
                .dsp_load
                .iter()
                .filter(|sample| counts(sample.at_ns))
                .map(|sample| sample.percent)
                .collect();
            (!own.is_empty()).then(|| own.iter().sum::<f64>() / own.len() as f64)
        };
        // The first second is the server's own waking up.
        let settled = seen.watch.opened_ns.saturating_add(1_000_000_000);
        [
            mean(&|at_ns| settled <= at_ns && at_ns < self.begun_ns),
            mean(&|at_ns| self.begun_ns <= at_ns && at_ns < self.ended_ns),
        ]
    }
}

fn unpack(text: &str, folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut child = Command::new("sh")
        .args(["-c", "base64 -d | tar -xzf - -C \"$1\"", "sh"])
        .arg(folder)
        .stdin(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(text.as_bytes())?;
    }
    match child.wait()?.success() {
        true => Ok(()),
        false => Err(std::io::Error::other("what came from the machine cannot be unpacked")),
    }
}
