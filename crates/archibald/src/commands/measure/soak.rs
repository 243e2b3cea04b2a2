//! `archibald measure soak`: all meters at once, for long, while SuperCollider plays and the machine works:
//! what a working day does to it, in ten minutes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use archibald_latency::cyclictest::Cyclictest;
use archibald_latency::{NamedHistogram, Report, Target};

use super::audio::{Audio, Beside, Measured};
use super::load::{self, Load, Where};
use super::place::Place;
use super::store::Keep;
use super::{network, tell, wakeup};
use crate::commands::exec::Remote;
use crate::failure::{Context as _, Failure};
use crate::terminal::Steps;

/// Above the audio graph and below the kernel's own threads, as `measure wakeup` has it.
const PRIORITY: u8 = 95;
const HISTOGRAM_US: u32 = 20_000;

/// All meters at once, while SuperCollider plays and stress-ng works.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Judged are the wake-ups (50 us), the audio's round trip (1 ms) and the share of periods with an xrun (0.1 %), together. cyclictest runs above the audio graph: its threads are part of the load."
)]
pub(crate) struct Soak {
    /// The machine; the machine file's when left out.
    name: Option<String>,
    /// How long: 10s, 5m, 1h.
    #[arg(long = "for", default_value = "10m", value_parser = wakeup::duration)]
    length: Duration,
    /// Voices that SuperCollider plays.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(0..=1000))]
    voices: u32,
    /// What keeps the machine busy besides.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "cpu,memory,disk,network,fork")]
    load: Vec<Load>,
    #[command(flatten)]
    keep: Keep,
    /// For programs.
    #[arg(long)]
    json: bool,
}

impl Soak {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        let remote = Remote::of(self.name.as_deref(), None)?;
        let place = Place::machine(Remote::of(self.name.as_deref(), None)?)?;
        let store = self.keep.open(Some(&remote))?;
        let quantum = remote.machine.audio.quantum.0;
        let audio = Audio::of(self.name.clone(), self.length, self.beside(&place, quantum));
        let steps = Steps::new(self.json);
        steps.step(&format!("all meters for {} s", self.length.as_secs()));
        // The messages need no more of the host than a thread that sleeps.
        let (measured, network) = std::thread::scope(|scope| {
            let network = scope.spawn(|| network::both(&remote, self.length / 2, &mut |_| ()));
            (audio.measure(&place, &mut |_| ()), network.join())
        });
        steps.finish();
        drop(steps);
        let Measured { mut run, told, .. } = measured?;
        if let Ok(network) = network {
            let (histograms, other) = network?;
            run.histograms.extend(histograms);
            run.conditions.other.extend(other);
        }
        let result = Cyclictest::from_json(told.part("cyclictest")).context("cyclictest")?;
        run.histograms.extend(wakeups(&place, &result));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        run.id = format!("soak-{}", now.as_millis());
        run.conditions.load = Some(format!(
            "{} voices of SuperCollider, {}, {}",
            self.voices,
            result.command,
            load::told(&self.load, Where::Guest, false)
        ));
        run.check().context("the run")?;
        let report = Report::new("soak", vec![run.clone()], Target::for_run(&run));
        tell(&report, &run, self.json, store.as_ref())
    }

    fn beside(&self, place: &Place, quantum: u32) -> Beside {
        let cpus = &place.cpus;
        let (threads, seconds) = (cpus.len(), self.length.as_secs());
        let cyclictest = format!(
            "( sleep 4; exec taskset -c {cpus} cyclictest --mlockall --quiet --affinity={cpus} \
                --threads={threads} --priority={PRIORITY} --interval=1000 --distance=0 --duration={seconds} \
                --histogram={HISTOGRAM_US} --histfile=/dev/null --json=cyclictest ) >/dev/null 2>&1 &
            beside=\"$beside $!\""
        );
        let mut tools = vec!["cyclictest", "taskset"];
        let stress = match load::words(&self.load) {
            _ if self.load.is_empty() => String::new(),
            words => {
                tools.push("stress-ng");
                let limit = seconds + 120;
                format!("stress-ng {} --timeout {limit} >/dev/null 2>&1 & load=$!", words.join(" "))
            }
        };
        let play = match self.voices {
            0 => String::new(),
            voices => {
                tools.extend(["sclang", "scsynth"]);
                supercollider(voices, quantum)
            }
        };
        Beside {
            start: format!("{play}\n{stress}\n{cyclictest}"),
            tools,
            files: vec!["cyclictest"],
        }
    }
}

/// So many voices, heard where the graph plays. scsynth's block is the period: with a longer one it would
/// play nothing, and say nothing.
fn supercollider(voices: u32, quantum: u32) -> String {
    format!(
        "cat >soak.scd <<'PATCH'
s.options.blockSize = {quantum};
s.options.numInputBusChannels = 2;
s.options.numOutputBusChannels = 2;
s.waitForBoot {{
    SynthDef(\\soak, {{ |pitch = 220|
        var sound = SinOsc.ar(pitch * [1, 1.003], 0, 0.3) + LFTri.ar(pitch * 0.5, 0, 0.2);
        Out.ar(0, 0.02 * RLPF.ar(sound, 1200 + SinOsc.kr(0.3, 0, 800), 0.4));
    }}).add;
    s.sync;
    {voices}.do {{ |i| Synth(\\soak, [\\pitch, 110 * (1 + (i / 7))]) }};
    s.sync;
    \"the voices play\".postln;
}};
PATCH
            QT_QPA_PLATFORM=offscreen setsid sclang -D soak.scd >sclang.log 2>&1 </dev/null & player=$!
            beside=\"$beside -$player\"
            tries=0
            until grep -q 'the voices play' sclang.log; do
                tries=$((tries + 1))
                kill -0 $player 2>/dev/null && [ $tries -lt 300 ] || {{
                    echo \"SuperCollider does not play: $(tail -n 1 sclang.log)\" >&2; exit 1; }}
                sleep 0.5
            done"
    )
}

/// The audio CPUs and, apart, the others.
fn wakeups(place: &Place, result: &Cyclictest) -> Vec<NamedHistogram> {
    let is_audio = |cpu: u32| place.isolated.is_empty() || place.isolated.contains(cpu);
    let groups = [
        ("wakeup", "wake-up of a timer's thread, audio CPUs", result.on(is_audio)),
        (
            "wakeup-housekeeping",
            "wake-up of a timer's thread, the other CPUs",
            result.on(|cpu| !is_audio(cpu)),
        ),
    ];
    groups
        .into_iter()
        .filter(|(_, _, histogram)| histogram.count() > 0)
        .map(|(name, title, histogram)| NamedHistogram {
            name: name.to_owned(),
            title: title.to_owned(),
            histogram,
        })
        .collect()
}
