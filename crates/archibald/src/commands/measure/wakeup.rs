//! `archibald measure wakeup`: how late the timer wakes a real-time thread, by cyclictest.

use std::collections::BTreeMap;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use archibald_latency::cyclictest::Cyclictest;
use archibald_latency::{
    Conditions, Cost, NamedHistogram, RUN_SCHEMA, Report, Run, Source, Target, Window,
};
use archibald_machine::units::CpuSet;
use archibald_vm::argv::Accelerator;

use super::load::{self, Load, Local, Where};
use super::tell;
use crate::commands::exec::Remote;
use crate::failure::{Context as _, Exit, Failure};
use crate::terminal::Steps;

/// cyclictest's histogram ends here, in microseconds; later ones are counted at the maximum.
const HISTOGRAM_US: u32 = 20_000;
/// Above the audio graph (88) and below the kernel's own threads.
const PRIORITY: u8 = 95;
/// Left out before every measurement: the first wake-ups after a rest are late anywhere.
const WARMUP: Duration = Duration::from_secs(1);

/// How late the timer wakes a real-time thread, on every CPU, by cyclictest.
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
    /// What keeps it busy meanwhile, e.g. --load cpu,disk,fork.
    #[arg(long, value_enum, value_delimiter = ',')]
    load: Vec<Load>,
    /// Which machine is kept busy.
    #[arg(long, value_enum, default_value = "guest", requires = "load")]
    on: Where,
    /// Microseconds that the worst wake-up may take.
    #[arg(long, value_name = "US", default_value_t = 50)]
    target: u64,
    /// For programs.
    #[arg(long)]
    json: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
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

impl Wakeup {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        let place = match self.here {
            true => Place::here()?,
            false => Place::machine(Remote::of(self.name.as_deref(), None)?)?,
        };
        let steps = Steps::new(self.json);
        steps.step(&format!("cyclictest for {} s", self.length.as_secs()));
        let on_host = !self.here && matches!(self.on, Where::Host | Where::Both);
        let below = match on_host && !self.load.is_empty() {
            true => Some(Local::start(&self.load)?),
            false => None,
        };
        let output = place.run(&self.script(&place))?;
        drop(below);
        steps.finish();
        drop(steps);
        let text = String::from_utf8_lossy(&output.stdout);
        let result =
            Cyclictest::from_json(&text).map_err(|error| place.no_result(&output, &error))?;
        let run = self.to_run(&place, &result);
        run.check().context("the run")?;
        let target = Target::wakeup(Some(self.target * 1000));
        tell(&Report::new("wake-up", vec![run.clone()], target), &run, self.json)
    }

    /// What the measured machine's shell does: warm up, measure under load, give the result.
    fn script(&self, place: &Place) -> String {
        let cpus = &place.cpus;
        let cyclictest = |seconds: u64, more: &str| {
            format!(
                "taskset -c {cpus} cyclictest --mlockall --quiet --affinity={cpus} --threads={} \
                 --priority={PRIORITY} --interval=1000 --distance=0 --duration={seconds} {more}",
                cpus.len()
            )
        };
        let here = self.here || matches!(self.on, Where::Guest | Where::Both);
        let load = match here && !self.load.is_empty() {
            // Of its own accord it ends a little after the measurement, should nobody be left to end it.
            true => format!(
                "stress-ng {} --timeout {} >/dev/null 2>&1 & load=$!; ",
                load::words(&self.load).join(" "),
                self.length.as_secs() + 30
            ),
            false => "load=; ".to_owned(),
        };
        let warm_up = cyclictest(WARMUP.as_secs(), ">/dev/null");
        let measure = cyclictest(
            self.length.as_secs(),
            &format!("--histogram={HISTOGRAM_US} --histfile=/dev/null --json=$result >&2"),
        );
        format!(
            "export LC_ALL=C; for tool in cyclictest taskset {stress}; do command -v $tool >/dev/null || \
             {{ echo \"missing: $tool\" >&2; exit 127; }}; done; result=$(mktemp) || exit 1; \
             {load}trap 'rm -f $result; [ -z \"$load\" ] || {{ kill $load; wait $load; }} 2>/dev/null' EXIT; \
             {warm_up} && {measure} && cat $result",
            stress = if load == "load=; " { "" } else { "stress-ng" },
        )
    }

    fn to_run(&self, place: &Place, result: &Cyclictest) -> Run {
        let is_audio = |cpu: u32| place.isolated.is_empty() || place.isolated.contains(cpu);
        let mut histograms = vec![NamedHistogram {
            name: "wakeup".to_owned(),
            title: match place.isolated.is_empty() {
                true => format!("wake-up of a timer's thread, CPU {}", place.cpus),
                false => format!("wake-up of a timer's thread, isolated CPU {}", place.isolated),
            },
            histogram: result.on(is_audio),
        }];
        let others = result.on(|cpu| !is_audio(cpu));
        if others.count() > 0 {
            histograms.push(NamedHistogram {
                name: "wakeup-housekeeping".to_owned(),
                title: "wake-up of a timer's thread, the other CPUs".to_owned(),
                histogram: others,
            });
        }
        let mut other: BTreeMap<String, String> = BTreeMap::new();
        other.insert("cyclictest".to_owned(), result.version.clone());
        let beyond: u64 = result.threads.iter().map(|thread| thread.beyond).sum();
        if beyond > 0 {
            let words = format!("{beyond} samples, counted at the maximum");
            other.insert(format!("beyond {HISTOGRAM_US} us"), words);
        }
        other.extend(place.hypervisor.clone().map(|name| ("hypervisor".to_owned(), name)));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Run {
            schema: RUN_SCHEMA.to_owned(),
            id: format!("wakeup-{}", now.as_millis()),
            source: place.source,
            conditions: Conditions {
                program: Some(result.command.clone()),
                kernel: Some(result.kernel.clone()),
                load: Some(self.load_words()),
                qemu: place.qemu.clone(),
                image: place.image.clone(),
                host: place.processor.clone(),
                other,
                ..Conditions::default()
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
            histograms,
            dsp_load: None,
            cost: Cost::default(),
        }
    }

    fn load_words(&self) -> String {
        if self.load.is_empty() {
            return "none".to_owned();
        }
        let on = match (self.here, self.on) {
            (true, _) => "here",
            (false, Where::Guest) => "in the machine",
            (false, Where::Host) => "on the host",
            (false, Where::Both) => "in the machine and on the host",
        };
        format!("stress-ng {} {on}", load::words(&self.load).join(" "))
    }
}

/// The Linux that is measured.
struct Place {
    remote: Option<Remote>,
    source: Source,
    cpus: CpuSet,
    isolated: CpuSet,
    hypervisor: Option<String>,
    qemu: Option<String>,
    image: Option<String>,
    processor: Option<String>,
}

impl Place {
    fn here() -> Result<Self, Failure> {
        let hypervisor = virtualization();
        let source = match hypervisor.as_deref() {
            None => Source::BareMetal,
            // systemd-detect-virt(1): QEMU without KVM is "qemu".
            Some("kvm") => Source::Kvm,
            Some("qemu") => Source::Emulation,
            Some(name) => {
                return Err(Failure::new(
                    Exit::Environment,
                    format!("this Linux runs under \"{name}\", whose figures this program does not know how to judge"),
                )
                .with_remedy("Measure on bare metal, under KVM or in QEMU."));
            }
        };
        let line = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpus =
            line("/sys/devices/system/cpu/online").trim().parse().context("the list of CPUs")?;
        let isolated = line("/sys/devices/system/cpu/isolated").trim().parse().unwrap_or_default();
        let processor = processor(&line("/proc/cpuinfo"));
        Ok(Self {
            remote: None,
            source,
            cpus,
            isolated,
            hypervisor,
            qemu: None,
            image: None,
            processor,
        })
    }

    fn machine(remote: Remote) -> Result<Self, Failure> {
        let record = remote.instance.record()?;
        let emulated = record.as_ref().is_none_or(|record| record.accelerator == Accelerator::Tcg);
        let machine = &remote.machine;
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Ok(Self {
            source: if emulated { Source::Emulation } else { Source::Kvm },
            cpus: (0..machine.vcpus).collect(),
            isolated: machine.realtime.isolated.clone(),
            hypervisor: None,
            qemu: record.as_ref().map(|record| record.qemu.clone()),
            image: record.map(|record| record.image),
            processor: processor(&cpuinfo),
            remote: Some(remote),
        })
    }

    fn run(&self, script: &str) -> Result<Output, Failure> {
        let command = ["sh", "-c", script].map(String::from);
        let mut command = match &self.remote {
            Some(remote) => remote.command(&["-T"], &command),
            None => {
                let mut local = Command::new("sh");
                local.args(["-c", script]);
                local
            }
        };
        command.stdin(Stdio::null()).output().context("cyclictest")
    }

    fn no_result(&self, output: &Output, error: &dyn std::fmt::Display) -> Failure {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim();
        if let Some(tool) = said.strip_prefix("missing: ") {
            let package = if tool == "cyclictest" { "rt-tests" } else { tool };
            let package = if tool == "taskset" { "util-linux" } else { package };
            return Failure::new(Exit::Environment, format!("{tool} is not installed"))
                .with_remedy(format!("As root: apt-get install {package}"));
        }
        if output.status.success() {
            return Failure::new(Exit::Environment, error);
        }
        let last = said.lines().last().unwrap_or("it said nothing");
        Failure::new(Exit::Environment, format!("cyclictest ended with {}: {last}", output.status))
            .with_remedy(format!(
                "It wants SCHED_FIFO {PRIORITY} and locked memory: run this as root, or raise rtprio and memlock (`archibald scan` shows both)."
            ))
    }
}

/// What this Linux runs under, by systemd-detect-virt's names; `None`: nothing.
fn virtualization() -> Option<String> {
    let output = Command::new("systemd-detect-virt").arg("--vm").output().ok();
    let name = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    match name.as_deref() {
        Some("none") => None,
        Some(name) if !name.is_empty() => Some(name.to_owned()),
        // Without systemd the processor itself says whether there is a hypervisor, not which.
        _ => std::fs::read_to_string("/proc/cpuinfo")
            .is_ok_and(|text| text.split_whitespace().any(|word| word == "hypervisor"))
            .then(|| "unknown".to_owned()),
    }
}

fn processor(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
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
