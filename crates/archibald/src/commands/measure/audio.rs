//! `archibald measure audio`: how long a frame takes around a loop and what is lost on the way, by our
//! client of the graph (archibald-probe), beside jack_iodelay and the server's own counts.

use std::collections::BTreeMap;
use std::process::Output;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use archibald_latency::round_trip::{Loop, Progress};
use archibald_latency::{
    Conditions, Cost, Limit, Meter, RUN_SCHEMA, Report, RoundTrip, Run, Target, pw_top,
};

use super::explain::{self, Explained};
use super::load::{self, Load, Local, Where};
use super::place::{self, Place};
use super::store::Keep;
use super::{live, runs, tell, wakeup};
use crate::commands::exec::{Remote, quote};
use crate::failure::{Context as _, Exit, Failure};
use crate::{places, terminal};

/// Left out: the loop is closed, servers wake their drivers, and pw-top looks for the first time.
const WARMUP: Duration = Duration::from_secs(4);
/// The same where the kernel is traced, from when the rings record; the time before shows what they cost.
const WARMUP_TRACED: Duration = Duration::from_secs(1);
/// So often jack_iodelay is listened to; it speaks twice a second.
const IODELAY: u64 = 8;
/// The probe's program, and its name in the graph.
const PROBE: &str = "archibald-probe";
/// JACK2's own libjack, whichever the linker's cache names first.
const JACK2: &str = "/usr/lib/x86_64-linux-gnu";

/// How long a frame takes around a loop of the audio graph, and what is lost on the way.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Without --through the way is the shortest that the graph has: the probe's output to its own input, on PipeWire through a second client.\n\
                  Ports for --through are those that jack_lsp lists in the machine."
)]
pub(crate) struct Audio {
    /// The machine; the machine file's when left out.
    #[arg(conflicts_with = "here")]
    name: Option<String>,
    /// Measure the Linux that this command runs on.
    #[arg(long)]
    here: bool,
    /// How long: 10s, 5m, 1h.
    #[arg(long = "for", default_value = "10s", value_parser = wakeup::duration)]
    length: Duration,
    /// The way: the port that the signal goes into and the one that it comes out of.
    #[arg(long, value_name = "INTO,OUT-OF", value_delimiter = ',', num_args = 1)]
    through: Vec<String>,
    /// Tones instead of the coded sequence: for a cable between a sound card's sockets.
    #[arg(long)]
    analogue: bool,
    /// Start a jackd on its dummy driver and measure that, whatever else runs.
    #[arg(long)]
    own_jackd: bool,
    /// Frames in a period of that jackd; the machine's when left out.
    #[arg(long, value_name = "FRAMES", requires = "own_jackd", value_parser = clap::value_parser!(u32).range(8..=8192))]
    quantum: Option<u32>,
    /// A command of the shell that runs in the graph meanwhile, started in the home folder.
    #[arg(long, value_name = "COMMAND")]
    with: Option<String>,
    /// What keeps it busy meanwhile, e.g. --load cpu,disk,fork.
    #[arg(long, value_enum, value_delimiter = ',')]
    load: Vec<Load>,
    /// Which machine is kept busy.
    #[arg(long, value_enum, default_value = "guest", requires = "load")]
    on: Where,
    /// Trace the kernel, and say why the first xruns came.
    #[arg(long)]
    explain: bool,
    /// Microseconds that the slowest frame may take.
    #[arg(long, value_name = "US", default_value_t = 1000)]
    target: u64,
    /// Show each second how it goes.
    #[arg(long)]
    live: bool,
    #[command(flatten)]
    keep: Keep,
    /// For programs.
    #[arg(long)]
    json: bool,
    #[arg(skip)]
    beside: Beside,
}

/// What runs beside the probe.
#[derive(Debug, Clone, Default)]
pub(super) struct Beside {
    /// Lines of the shell that start it, before the probe. What they leave in `$beside` is ended with
    /// the measurement.
    pub(super) start: String,
    /// Programs that it needs.
    pub(super) tools: Vec<&'static str>,
    /// Files that it leaves, printed with the rest.
    pub(super) files: Vec<&'static str>,
}

/// What a measurement gave.
pub(super) struct Measured {
    pub(super) run: Run,
    pub(super) told: Told,
    seen: Loop,
    trip: RoundTrip,
}

impl Audio {
    /// As from the command line, with everything at its default.
    pub(super) fn of(name: Option<String>, length: Duration, beside: Beside) -> Self {
        Self {
            name,
            here: false,
            length,
            through: Vec::new(),
            analogue: false,
            own_jackd: false,
            quantum: None,
            with: None,
            load: Vec::new(),
            on: Where::Guest,
            explain: false,
            target: 1000,
            live: false,
            keep: Keep::default(),
            json: false,
            beside,
        }
    }

    pub(crate) fn run(self) -> Result<u8, Failure> {
        if !matches!(self.through.len(), 0 | 2) {
            return Err(Failure::new(Exit::Use, "--through takes two ports").with_remedy(
                "Say --through INTO,OUT-OF; `archibald exec -- jack_lsp` lists them.",
            ));
        }
        let place = match self.here {
            true => Place::here()?,
            false => Place::machine(Remote::of(self.name.as_deref(), None)?)?,
        };
        let store = self.keep.open(place.remote.as_ref())?;
        let steps = terminal::Steps::new(self.json || self.live);
        steps.step(&format!("audio loop for {} s", self.length.as_secs()));
        let mut live = self
            .live
            .then(|| live::Audio::new(place.name(), place.source, self.target, self.length));
        let measured = self.measure(&place, &mut |line| {
            if let Some(live) = &mut live {
                live.told(line);
            }
        });
        let measured = measured.map_err(|failure| place.or_died(failure))?;
        steps.finish();
        drop(steps);
        let Measured { run, told, seen, trip } = measured;
        let mut report = Report::new("audio", vec![run.clone()], self.target(&run));
        if self.explain && !run.xruns.is_empty() {
            let folder = runs()?.join(format!("{}-trace", run.id));
            let explained = Explained::read(told.part("capture"), &folder, &run)?;
            report.findings = explained.findings(&run);
            match self.json {
                true => terminal::complain(&explained.json(&seen).to_string()),
                false => terminal::say(&explained.text(&seen)),
            }
        } else if self.explain && !self.json {
            terminal::say("No xrun came, so that there is none to explain.\n");
        }
        let status = tell(&report, &run, self.json, store.as_ref())?;
        if trip.agrees() == Some(false) {
            // Two methods on one way: one of them is wrong, and so may the verdict be, where there is one.
            terminal::complain("jack_iodelay and the probe differ by more than a frame");
            let judged = run.source.is_judged();
            return Ok(if judged { status.max(Exit::Failed as u8) } else { status });
        }
        Ok(status)
    }

    /// Measures, and makes a run of it; what is said meanwhile goes to `told`.
    pub(super) fn measure(
        &self,
        place: &Place,
        told: &mut dyn FnMut(&str),
    ) -> Result<Measured, Failure> {
        let probe = match self.here {
            true => places::probe()?.display().to_string(),
            false => PROBE.to_owned(),
        };
        let on_host = !self.here && matches!(self.on, Where::Host | Where::Both);
        let below = match on_host && !self.load.is_empty() {
            true => Some(Local::start(&self.load)?),
            false => None,
        };
        let output = place.run(&self.script(place, &probe)?, self.length, told)?;
        drop(below);
        let told = Told::of(&String::from_utf8_lossy(&output.stdout));
        let seen =
            Loop::from_json(told.part("loop")).map_err(|error| no_result(&output, &error))?;
        let Some(mut trip) = seen.result() else { return Err(self.nothing_heard(&seen)) };
        trip.jack_iodelay = iodelay(told.part("iodelay"));
        let run = self.to_run(place, &told, &seen, &trip);
        run.check().context("the run")?;
        Ok(Measured { run, told, seen, trip })
    }

    /// What the measured machine's shell does. What it starts ends with it, and it ends with its standard
    /// input: then nobody waits for it.
    fn script(&self, place: &Place, probe: &str) -> Result<String, Failure> {
        let mut tools = vec![probe];
        tools.extend(&self.beside.tools);
        let own = match self.own_jackd {
            true => {
                tools.extend(["jackd", "jack_lsp"]);
                own_jackd(place, self.quantum)
            }
            false => String::new(),
        };
        let here = self.here || matches!(self.on, Where::Guest | Where::Both);
        let load = match here && !self.load.is_empty() {
            // Of its own accord it ends a little after the measurement, should nobody be left to end it.
            true => {
                tools.push("stress-ng");
                let limit = (self.warmup() + self.length).as_secs() + 90;
                let words = load::words(&self.load).join(" ");
                format!("stress-ng {words} --timeout {limit} >/dev/null 2>&1 & load=$!")
            }
            false => String::new(),
        };
        let with = self.with.as_ref().map_or(String::new(), |command| {
            // In a group of its own, which ends as a whole.
            format!(
                "( cd && exec setsid $pin sh -c {} ) </dev/null >program 2>&1 & with=-$!; beside=\"$beside $with\"; sleep 1",
                quote(command)
            )
        });
        let way: Vec<String> = self.through.iter().map(|port| quote(port)).collect();
        let (into, out_of) = match &way[..] {
            [into, out_of] => (into.as_str(), out_of.as_str()),
            _ => ("", ""),
        };
        let analogue = if self.analogue { "--analogue" } else { "" };
        let progress = if self.live { "--progress" } else { "" };
        let (trace, trace_end, trace_print) = match self.explain {
            true => (explain::start(place)?, explain::end(place), explain::PRINT),
            false => (String::new(), String::new(), ""),
        };
        let (fifo, news) = match self.explain {
            true => ("mkfifo news", "--news news --ready ready"),
            false => ("", ""),
        };
        // PipeWire gives a client that is linked to itself silence: there the shortest loop leads through a
        // second client, which hands on what it gets.
        Ok(format!(
            "export LC_ALL=C
            {needs}
            load= server= probe= other= watch= tracer= beside= with= still= place=$(mktemp -d) && cd \"$place\" || exit 1
            # A process that should end may take so many seconds; then it is killed.
            settle() {{
                tries=0
                while [ -d /proc/$1 ] && [ $tries -lt $(($2 * 5)) ]; do tries=$((tries + 1)); sleep 0.2; done
                if [ -d /proc/$1 ]; then kill -KILL $1; false; else wait $1; fi 2>/dev/null
            }}
            leave() {{
                status=$?
                trap - EXIT
                {{ kill -s TERM -- $probe $other $load $watch $beside
                   [ -z \"$still\" ] || kill -s CONT -- $still
                   [ -z \"$server\" ] || {{ sleep 0.3; kill $server; }}
                   for one in $probe $other $load $beside $server; do settle ${{one#-}} 10; done
                   # What a program has started may be deaf to all else.
                   for one in $beside; do [ \"$one\" = ${{one#-}} ] || kill -s KILL -- $one; done
                   # After all who meet its tracepoints.
                   [ -z \"$tracer\" ] || {{ echo end 1<>news; settle $tracer 60; }}; }} 2>/dev/null
                # What the recorder wrote is root's.
                ${{root-}} rm -rf \"$place\"
                exit $status
            }}
            trap leave EXIT
            trap 'exit 143' HUP INT TERM
            exec 3<&0
            ( read -r line <&3; kill $$ ) 2>/dev/null & watch=$!
            as= pin= kind=jack into={into} out_of={out_of}
            {own}
            if [ -z \"$server\" ] && pw-cli info 0 >/dev/null 2>&1; then
                kind=pipewire
                ! command -v pw-jack >/dev/null || as=pw-jack
            fi
            if [ $kind = pipewire ] && [ -z \"$into\" ]; then
                into=archibald-relay:in out_of=archibald-relay:out
                $as {probe} relay </dev/null >/dev/null 2>&1 & beside=$!
            fi
            {load}
            {beside}
            {with}
            {fifo}
            set --
            [ -z \"$into\" ] || set -- --through \"$into,$out_of\"
            # The thread that takes the results must not starve when the audio CPU has too much to do.
            [ -z \"$pin\" ] || set -- \"$@\" --aside {cpus}
            $as $pin {probe} loop --seconds {seconds} --warmup {warmup} --linger 60 {news} {progress} {analogue} \"$@\" \
                </dev/null >loop & probe=$!
            : >before; : >after; : >iodelay
            [ $kind = jack ] || {{ sleep 1; pw-top -b -n 2 >before 2>/dev/null; }}
            {trace}
            tries=0
            until [ -s loop ] || [ ! -d /proc/$probe ] || [ $tries -ge {patience} ]; do
                tries=$((tries + 1)); sleep 0.2
            done
            [ -s loop ] || {{
                [ ! -d /proc/$probe ] || echo 'the audio CPU has no time left for anything: the probe does not end' >&2
                settle $probe 0; status=$?; probe=; exit $status; }}
            [ $kind = jack ] || pw-top -b -n 2 >after 2>/dev/null
            {trace_end}
            kill $probe 2>/dev/null; settle $probe 20; probe=
            if command -v jack_iodelay >/dev/null && command -v jack_connect >/dev/null; then
                $as stdbuf -oL jack_iodelay >iodelay 2>/dev/null & other=$!
                tries=0
                until timeout 10 $as jack_connect jack_delay:out \"${{into:-jack_delay:in}}\" >/dev/null 2>&1 || [ $tries -ge 50 ]; do
                    tries=$((tries + 1)); sleep 0.1
                done
                [ -z \"$out_of\" ] || timeout 10 $as jack_connect \"$out_of\" jack_delay:in >/dev/null 2>&1
                # By count: on a slow machine its clock is slow too, and its first words come before it has settled.
                tries=0
                until [ \"$(grep -c 'total roundtrip' iodelay)\" -ge {iodelay} ] || [ $tries -ge 150 ]; do
                    tries=$((tries + 1)); sleep 0.2
                done
                kill $other 2>/dev/null; settle $other 10; other=
            fi
            for part in {files}; do
                tries=0
                until [ -s $part ] || [ $tries -ge 300 ]; do tries=$((tries + 1)); sleep 0.2; done
            done
            echo \"@@ kernel\"; uname -rv
            echo \"@@ server\"; echo $kind
            for part in before after iodelay loop {files}; do echo \"@@ $part\"; cat $part; done
            {trace_print}",
            needs = place::needs(&tools),
            cpus = place.cpus,
            beside = self.beside.start,
            files = self.beside.files.join(" "),
            seconds = self.length.as_secs(),
            warmup = self.warmup().as_millis(),
            // In steps of a fifth of a second, beyond what it was told.
            patience = self.length.as_secs().saturating_mul(5).saturating_add(300),
            iodelay = IODELAY,
        ))
    }

    const fn warmup(&self) -> Duration {
        if self.explain { WARMUP_TRACED } else { WARMUP }
    }

    fn target(&self, run: &Run) -> Target {
        let mut target = Target::audio();
        // Tones tell a delay in each stretch, too few for a statement about single frames.
        if run.histogram("round-trip").is_some() {
            target.limits.push(Limit::Worst {
                histogram: "round-trip".to_owned(),
                at_most_ns: self.target.saturating_mul(1000),
                tail: 0.001,
            });
        }
        target
    }

    fn nothing_heard(&self, seen: &Loop) -> Failure {
        let (into, out_of) = (&seen.ports.0, &seen.ports.1);
        let message = match self.through.is_empty() {
            true => "the server did not lead the probe's output to its input".to_owned(),
            false => format!("nothing of the signal that went into {into} came out of {out_of}"),
        };
        let remedy = match self.analogue {
            true => "See that the cable is there and the levels are up: `alsamixer`.",
            false => {
                "See what is connected: `archibald exec -- jack_lsp -c`. A way that resamples, mixes or has a cable in it needs --analogue."
            }
        };
        Failure::new(Exit::Failed, message).with_remedy(remedy)
    }

    fn to_run(&self, place: &Place, told: &Told, seen: &Loop, trip: &RoundTrip) -> Run {
        let mut counters = seen.counters();
        if let Some(errors) = pw_top::between(told.part("before"), told.part("after")) {
            counters.insert(Meter::PwTop, errors);
        }
        let mut other = place.conditions().other;
        other.insert("way".to_owned(), format!("into {}, out of {}", trip.ports.0, trip.ports.1));
        other.extend(self.with.clone().map(|command| ("with".to_owned(), command)));
        let driver = match self.own_jackd {
            true => Some("dummy"),
            false => pw_top::driver_of(told.part("after"), PROBE),
        };
        other.extend(driver.map(|driver| ("driver".to_owned(), driver.to_owned())));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Run {
            schema: RUN_SCHEMA.to_owned(),
            id: format!("audio-{}", now.as_millis()),
            source: place.source,
            conditions: Conditions {
                server: told.part("server").trim().to_owned(),
                rate: seen.watch.rate,
                quantum: seen.watch.quantum,
                program: Some("archibald-probe loop".to_owned()),
                kernel: Some(told.part("kernel").trim().to_owned()),
                load: Some(load::told(&self.load, self.on, self.here)),
                other,
                ..place.conditions()
            },
            window: seen.window,
            periods: seen.periods(),
            xruns: seen.xruns(),
            counters,
            histograms: seen.histograms(),
            round_trip: Some(trip.clone()),
            dsp_load: seen.watch.load_in(&seen.window),
            cost: Cost::default(),
        }
    }
}

/// A jackd of our own with the machine's period, known by a name of its own.
fn own_jackd(place: &Place, asked: Option<u32>) -> String {
    let (rate, quantum, priority) = match &place.remote {
        Some(remote) => {
            let (audio, realtime) = (&remote.machine.audio, &remote.machine.realtime);
            (audio.rate.0, audio.quantum.0, realtime.audio_priority.get())
        }
        // A host's own user may have less than the machine's.
        None => (48_000, 32, 70),
    };
    let quantum = asked.unwrap_or(quantum);
    // Where the machine has CPUs for audio, its own server runs there by the session's settings.
    let pin = match place.isolated.is_empty() {
        true => String::new(),
        false => format!("pin='taskset -c {}'", place.isolated),
    };
    format!(
        "export JACK_DEFAULT_SERVER=archibald-$$ JACK_NO_AUDIO_RESERVATION=1 JACK_NO_START_SERVER=1
            export LD_LIBRARY_PATH={JACK2}
            {pin}
            $pin jackd --realtime --realtime-priority {priority} -d dummy -r {rate} -p {quantum} \
                >jackd 2>jackd.errors </dev/null & server=$!
            tries=0
            until timeout 10 jack_lsp >/dev/null 2>&1; do
                tries=$((tries + 1))
                kill -0 $server 2>/dev/null && [ $tries -lt 100 ] || {{
                    reason=$(head -n 1 jackd.errors)
                    echo \"jackd did not start: ${{reason:-it said nothing}}\" >&2; exit 1; }}
                sleep 0.1
            done"
    )
}

/// What the script printed, part by part.
pub(crate) struct Told(BTreeMap<String, String>);

impl Told {
    pub(crate) fn of(text: &str) -> Self {
        let mut parts: BTreeMap<String, String> = BTreeMap::new();
        let mut name = "";
        for line in text.lines() {
            if let Some(next) = line.strip_prefix("@@ ") {
                name = next;
                continue;
            }
            let part = parts.entry(name.to_owned()).or_default();
            part.push_str(line);
            part.push('\n');
        }
        Self(parts)
    }

    pub(crate) fn part(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }
}

/// The middle of what jack_iodelay said, in frames: `  32.000 frames      0.667 ms total roundtrip
/// latency`.
fn iodelay(text: &str) -> Option<f64> {
    let frames = |line: &str| -> Option<f64> {
        let (before, _) = line.split_once(" frames")?;
        before.split_whitespace().last()?.parse().ok()
    };
    let mut told: Vec<f64> =
        text.lines().filter(|line| line.contains("total roundtrip")).filter_map(frames).collect();
    // What it says first it says before it has settled.
    told.drain(..told.len() / 3);
    told.sort_by(f64::total_cmp);
    told.get(told.len() / 2).copied()
}

fn no_result(output: &Output, error: &dyn std::fmt::Display) -> Failure {
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim();
    if let Some(failure) = place::not_installed(said) {
        return failure;
    }
    if output.status.success() {
        return Failure::new(Exit::Environment, error);
    }
    let mut words = said.lines().filter(|line| Progress::from_line(line).is_none());
    let last = words.next_back().unwrap_or("it said nothing");
    let last = last.strip_prefix("archibald-probe: ").unwrap_or(last);
    // JACK2's registry has eight places, and one that was killed keeps its own (JackShmMem, jack_shm.c).
    let remedy = match last.contains("Too many servers already active") {
        true => {
            "JACK keeps the names of eight servers, those of killed ones too: with no jackd running, \
             remove /dev/shm/jack-shm-registry."
        }
        false => "`archibald check` says whether the graph runs; --own-jackd needs none.",
    };
    Failure::new(Exit::Environment, format!("the audio loop was not measured: {last}"))
        .with_remedy(remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_jack_iodelay_s_words_counts() {
        let text = "\
new capture latency: [0, 0]
Signal below threshold...
    32.000 frames      0.667 ms total roundtrip latency
\textra loopback latency: 4294967264 frames
    31.998 frames      0.667 ms total roundtrip latency
    32.000 frames      0.667 ms total roundtrip latency
";
        assert_eq!(iodelay(text), Some(32.0));
        assert_eq!(iodelay("Signal below threshold...\n"), None);
    }

    #[test]
    fn parts_are_told_apart() {
        let told = Told::of("noise\n@@ kernel\n6.12\n@@ loop\n{}\n@@ empty\n");
        assert_eq!((told.part("kernel"), told.part("loop")), ("6.12\n", "{}\n"));
        assert_eq!((told.part("empty"), told.part("none")), ("", ""));
    }
}
