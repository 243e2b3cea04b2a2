//! The Linux that is measured: this one, or a machine's. How a script gets there and what it leaves.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use archibald_latency::{Conditions, Histogram, NamedHistogram, Source};
use archibald_machine::units::CpuSet;
use archibald_vm::argv::Accelerator;

use crate::commands::build;
use crate::commands::exec::Remote;
use crate::failure::{Context as _, Exit, Failure};

/// How much longer than twice its length a measurement may take: servers start and settle, under
/// emulation and load for minutes.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long a script may take to end what it started, when it is called off.
const PATIENCE_AT_END: Duration = Duration::from_secs(60);

/// The Linux that is measured.
pub(crate) struct Place {
    pub(crate) remote: Option<Remote>,
    pub(crate) source: Source,
    pub(crate) cpus: CpuSet,
    pub(crate) isolated: CpuSet,
    pub(crate) hypervisor: Option<String>,
    pub(crate) qemu: Option<String>,
    pub(crate) image: Option<String>,
    pub(crate) processor: Option<String>,
}

impl Place {
    /// The Linux that this command runs on.
    pub(crate) fn here() -> Result<Self, Failure> {
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

    /// A machine that runs.
    pub(crate) fn machine(remote: Remote) -> Result<Self, Failure> {
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

    /// What really went wrong, where the machine's console says that its kernel has died.
    pub(super) fn or_died(&self, failure: Failure) -> Failure {
        let Some(remote) = &self.remote else { return failure };
        let console = std::fs::read(remote.instance.files().console).unwrap_or_default();
        let console = String::from_utf8_lossy(&console);
        let Some(panic) = panic_in(&console) else { return failure };
        let name = remote.instance.name();
        Failure::new(Exit::Failed, format!("the kernel of \"{name}\" has died: {panic}")).with_remedy(format!(
            "`archibald logs {name}` has its last words; `archibald stop {name}` and `up` start it again."
        ))
    }

    /// For people.
    pub(crate) fn name(&self) -> &str {
        self.remote.as_ref().map_or("this Linux", |remote| remote.instance.name())
    }

    /// Whether audio runs on this CPU: on an isolated one, where there are any.
    pub(crate) fn is_audio(&self, cpu: u32) -> bool {
        self.isolated.is_empty() || self.isolated.contains(cpu)
    }

    /// What of a run's conditions is known of the place itself.
    pub(crate) fn conditions(&self) -> Conditions {
        let hypervisor = self.hypervisor.clone().map(|name| ("hypervisor".to_owned(), name));
        Conditions {
            qemu: self.qemu.clone(),
            image: self.image.clone(),
            host: self.processor.clone(),
            other: hypervisor.into_iter().collect(),
            ..Conditions::default()
        }
    }

    /// A distribution of this name from what each CPU gave: of the audio CPUs, and beside it of the
    /// others; each CPU apart where several were taken together.
    pub(crate) fn distributions(
        &self,
        name: &str,
        what: &str,
        each: &[(u32, Histogram)],
    ) -> Vec<NamedHistogram> {
        let (audio, others): (Vec<_>, Vec<_>) =
            each.iter().partition(|(cpu, _)| self.is_audio(*cpu));
        let audio_title = match self.isolated.is_empty() {
            true => format!("{what}, CPU {}", self.cpus),
            false => format!("{what}, isolated CPU {}", self.isolated),
        };
        let groups = [
            (name.to_owned(), audio_title, audio),
            (format!("{name}-housekeeping"), format!("{what}, the other CPUs"), others),
        ];
        let mut all = Vec::new();
        for (name, title, each) in groups {
            let mut histogram = Histogram::new();
            each.iter().for_each(|(_, own)| histogram.merge(own));
            if each.is_empty() {
                continue;
            }
            all.push(NamedHistogram { name: name.clone(), title, histogram });
            if each.len() > 1 {
                all.extend(each.iter().map(|(cpu, own)| NamedHistogram {
                    name: format!("{name}/cpu{cpu}"),
                    title: format!("CPU {cpu}"),
                    histogram: own.clone(),
                }));
            }
        }
        all
    }

    /// Runs a script of a POSIX shell there to its end, and hands each line that it complains with to
    /// `told`. The script gets a standard input that ends when nobody waits for it any more: called off
    /// or killed, this program leaves it to end itself. A measurement of this length that takes much
    /// longer has brought the measured Linux to a standstill, and is waited for no more.
    pub(crate) fn run(
        &self,
        script: &str,
        length: Duration,
        told: &mut dyn FnMut(&str),
    ) -> Result<Output, Failure> {
        let flag = Arc::new(AtomicBool::new(false));
        build::called_off_by(&flag)?;
        let command = ["sh", "-c", script].map(String::from);
        let mut command = match &self.remote {
            Some(remote) => remote.command(&["-T"], &command),
            None => {
                let mut local = Command::new("sh");
                local.args(["-c", script]);
                local
            }
        };
        // In a process group of its own: Ctrl-C is for this program, which lets the script end itself.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("the measurement")?;
        let patience = length.saturating_mul(2).saturating_add(PATIENCE);
        wait(&mut child, &flag, patience, told).inspect_err(|_| end(&mut child))
    }
}

/// Lines of the shell that end a script where one of these programs is not there, in the words that
/// [`not_installed`] reads.
pub(crate) fn needs(tools: &[&str]) -> String {
    format!(
        "for tool in {}; do
                command -v $tool >/dev/null || {{ echo \"missing: $tool\" >&2; exit 127; }}
            done",
        tools.join(" ")
    )
}

/// The program that a script found missing, by what it complained of.
pub(crate) fn not_installed(said: &str) -> Option<Failure> {
    said.lines().find_map(|line| line.strip_prefix("missing: ")).map(absent)
}

/// A program that is not there, and the package that has it.
pub(crate) fn absent(tool: &str) -> Failure {
    let package = match tool {
        "cyclictest" => "rt-tests",
        "taskset" => "util-linux",
        "jackd" => "jackd2",
        "jack_lsp" => "jack-example-tools",
        "pacat" => "pulseaudio-utils",
        tool => tool,
    };
    Failure::new(Exit::Environment, format!("{tool} is not installed"))
        .with_remedy(format!("As root: apt-get install {package}"))
}

/// Ends a script by the end of its input, and the way to it when it does not come.
fn end(child: &mut Child) {
    drop(child.stdin.take());
    let begun = Instant::now();
    while matches!(child.try_wait(), Ok(None)) && begun.elapsed() < PATIENCE_AT_END {
        std::thread::sleep(Duration::from_millis(50));
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// Reads both of the child's outputs to their ends.
fn wait(
    child: &mut Child,
    flag: &AtomicBool,
    patience: Duration,
    told: &mut dyn FnMut(&str),
) -> Result<Output, Failure> {
    let begun = Instant::now();
    let (Some(mut stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(lost());
    };
    let result = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stdout.read_to_end(&mut bytes).map(|_| bytes)
    });
    let (sender, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let mut complaints = Vec::new();
    loop {
        match lines.recv_timeout(Duration::from_millis(100)) {
            Ok(line) => {
                told(&line);
                complaints.extend_from_slice(line.as_bytes());
                complaints.push(b'\n');
            }
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
        }
        if flag.load(Ordering::Relaxed) {
            return Err(Failure::interrupted());
        }
        if begun.elapsed() >= patience {
            return Err(stuck());
        }
    }
    let stdout = result.join().map_err(|_| lost())?.context("the measurement")?;
    drop(child.stdin.take());
    let status = child.wait().context("the measurement")?;
    Ok(Output { status, stdout, stderr: complaints })
}

fn stuck() -> Failure {
    Failure::new(Exit::Failed, "the measurement does not come back: what is measured has stopped")
        .with_remedy(
            "A real-time thread that never sleeps takes a CPU from the kernel itself. If `archibald exec -- true` does not answer either: `archibald restart`.",
        )
}

fn lost() -> Failure {
    Failure::new(Exit::Environment, "what the measurement says was lost")
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

/// The kernel's own words at its end: `[   94.22] Kernel panic - not syncing: Fatal exception in interrupt`.
fn panic_in(console: &str) -> Option<&str> {
    let line = console.lines().find(|line| line.contains("Kernel panic - not syncing"))?;
    line.split_once("] ").map(|(_, words)| words.trim())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_dead_kernel_is_known_by_its_last_words() {
        let console = "login: [   94.2171] Oops: int3: 0000 [#1] PREEMPT_RT SMP NOPTI\n\
            [   94.229546] Kernel panic - not syncing: Fatal exception in interrupt\r\n\
            [   94.231799] Kernel Offset: disabled\n";
        let words = Some("Kernel panic - not syncing: Fatal exception in interrupt");
        assert_eq!(super::panic_in(console), words);
        assert_eq!(super::panic_in("login: "), None);
    }
}
