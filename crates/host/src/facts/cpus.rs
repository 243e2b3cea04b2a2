//! Processors: which are there, who shares a core with whom, how they sleep and how fast they run.

use archibald_machine::units::CpuSet;

use crate::{Fact, Root};

const SYSTEM: &str = "/sys/devices/system/cpu";

/// The processors.
#[derive(Debug, Clone, PartialEq)]
pub struct Cpus {
    /// `x86_64`, `aarch64`.
    pub architecture: Fact<String>,
    /// Its name, as the processor tells it.
    pub model: Option<String>,
    /// The logical CPUs in use.
    pub online: Option<Fact<CpuSet>>,
    /// Each CPU in use.
    pub each: Vec<Cpu>,
    /// Whether two CPUs share a core; absent where the processor cannot.
    pub smt: Option<Fact<bool>>,
    /// CPUs that the scheduler leaves alone (`isolcpus=`).
    pub isolated: Option<Fact<CpuSet>>,
    /// CPUs of isolated partitions (cgroup version 2).
    pub partitioned: Option<Fact<CpuSet>>,
    /// CPUs without a tick (`nohz_full=`).
    pub nohz_full: Option<Fact<CpuSet>>,
    /// NUMA nodes.
    pub nodes: Vec<Node>,
    /// What the kernel reads the time from.
    pub clocksource: Option<Fact<String>>,
    /// Whether a page may be 1 GiB large.
    pub gigabyte_pages: bool,
}

/// One logical CPU.
#[derive(Debug, Clone, PartialEq)]
pub struct Cpu {
    /// Its number.
    pub number: u32,
    /// All CPUs of the same core, itself included.
    pub core: CpuSet,
    /// What decides its clock; absent where nothing does.
    pub governor: Option<Fact<String>>,
    /// How it can sleep.
    pub c_states: Vec<CState>,
}

/// A way to sleep.
#[derive(Debug, Clone, PartialEq)]
pub struct CState {
    /// `POLL`, `C1`, `C6`.
    pub name: String,
    /// How long it takes to wake up from it, in microseconds.
    pub exit_us: Fact<u64>,
    /// Whether it is switched off.
    pub disabled: bool,
}

/// A NUMA node.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Its number.
    pub number: u32,
    /// Its CPUs.
    pub cpus: CpuSet,
}

impl Cpus {
    pub(super) fn read(root: &Root, cpuinfo: &str) -> Self {
        let online = root.fact(&format!("{SYSTEM}/online"), |text| text.parse::<CpuSet>().ok());
        let numbers = online.as_ref().map(|fact| fact.value.clone()).unwrap_or_default();
        let set = |name: &str| {
            // The kernel writes "(null)" for a set that was never made.
            root.fact(&format!("{SYSTEM}/{name}"), |text| {
                if text == "(null)" { Some(CpuSet::default()) } else { text.parse().ok() }
            })
        };
        Self {
            architecture: architecture(root, cpuinfo),
            model: field(cpuinfo, "model name").map(str::to_owned),
            each: numbers.iter().map(|number| Cpu::read(root, number)).collect(),
            online,
            smt: root.fact(&format!("{SYSTEM}/smt/active"), |text| Some(text == "1")).filter(
                |_| root.text(&format!("{SYSTEM}/smt/control")) != Some("notsupported".into()),
            ),
            isolated: set("isolated"),
            partitioned: partitioned(root),
            nohz_full: set("nohz_full"),
            nodes: nodes(root),
            clocksource: root
                .line("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            gigabyte_pages: flags(cpuinfo).any(|flag| flag == "pdpe1gb"),
        }
    }

    /// The CPUs in use.
    #[must_use]
    pub fn all(&self) -> CpuSet {
        self.each.iter().map(|cpu| cpu.number).collect()
    }

    /// Cores: CPUs that share one count once.
    #[must_use]
    pub fn cores(&self) -> usize {
        let first = |cpu: &&Cpu| cpu.core.iter().next().is_none_or(|first| first == cpu.number);
        self.each.iter().filter(first).count()
    }

    /// Whether this is a processor that the machine can be virtualized on.
    #[must_use]
    pub fn is_x86_64(&self) -> bool {
        self.architecture.value == "x86_64"
    }
}

impl Cpu {
    fn read(root: &Root, number: u32) -> Self {
        let at = format!("{SYSTEM}/cpu{number}");
        let core = root
            .text(&format!("{at}/topology/thread_siblings_list"))
            .and_then(|text| text.parse().ok())
            .unwrap_or_else(|| [number].into_iter().collect());
        let state = |name: String| {
            let at = format!("{at}/cpuidle/{name}");
            Some(CState {
                exit_us: root.fact(&format!("{at}/latency"), |text| text.parse().ok())?,
                disabled: root.text(&format!("{at}/disable")).is_some_and(|text| text != "0"),
                name: root.text(&format!("{at}/name"))?,
            })
        };
        Self {
            number,
            core,
            governor: root.line(&format!("{at}/cpufreq/scaling_governor")),
            c_states: root
                .names(&format!("{at}/cpuidle"))
                .into_iter()
                .filter(|name| name.starts_with("state"))
                .filter_map(state)
                .collect(),
        }
    }
}

/// The value of a line `name : value` of /proc/cpuinfo.
pub(super) fn field<'a>(cpuinfo: &'a str, name: &str) -> Option<&'a str> {
    cpuinfo.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

/// What the first processor can do.
pub(super) fn flags(cpuinfo: &str) -> impl Iterator<Item = &str> {
    field(cpuinfo, "flags").unwrap_or_default().split_whitespace()
}

fn architecture(root: &Root, cpuinfo: &str) -> Fact<String> {
    // Since Linux 6.1; older kernels tell it only in what else stands in cpuinfo.
    root.line("/proc/sys/kernel/arch").unwrap_or_else(|| {
        let (key, value) = match () {
            () if field(cpuinfo, "CPU implementer").is_some() => ("CPU implementer", "aarch64"),
            () if flags(cpuinfo).any(|flag| flag == "lm") => ("flags: lm", "x86_64"),
            () => ("neither lm nor CPU implementer", "unknown"),
        };
        Fact { value: value.into(), file: "/proc/cpuinfo".into(), text: key.into() }
    })
}

/// Linux 6.7 and later tell of all partitions in one file; before, this project's own is looked at.
fn partitioned(root: &Root) -> Option<Fact<CpuSet>> {
    let cpus = |path: &str| {
        root.fact(path, |text| text.parse::<CpuSet>().ok()).filter(|fact| !fact.value.is_empty())
    };
    let own = "/sys/fs/cgroup/archibald";
    cpus("/sys/fs/cgroup/cpuset.cpus.isolated").or_else(|| {
        // "isolated invalid (reason)" is none.
        let is_valid =
            root.text(&format!("{own}/cpuset.cpus.partition")).as_deref() == Some("isolated");
        cpus(&format!("{own}/cpuset.cpus")).filter(|_| is_valid)
    })
}

fn nodes(root: &Root) -> Vec<Node> {
    let at = "/sys/devices/system/node";
    let node = |name: String| {
        Some(Node {
            number: name.strip_prefix("node")?.parse().ok()?,
            cpus: root.text(&format!("{at}/{name}/cpulist"))?.parse().ok()?,
        })
    };
    root.names(at).into_iter().filter_map(node).collect()
}
