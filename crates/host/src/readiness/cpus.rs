//! Processors: enough of them, awake, fast, and shared with nobody.

use std::collections::BTreeSet;

use archibald_machine::units::CpuSet;

use super::{Finding, Mode, Wanted};
use crate::Evidence;
use crate::facts::{Cpu, Cpus, Facts};

/// Fewer cores leave too little for either side.
const CORES: usize = 4;

/// CPUs that the host keeps for interrupts, QEMU's own threads and everything else.
const LEFT: usize = 2;

/// A sleep from which waking up takes longer than this is seen in a period of 667 us.
const EXIT_US: u64 = 20;

pub(super) fn findings(facts: &Facts, wanted: &Wanted) -> Vec<Finding> {
    let cpus = &facts.cpus;
    let mut findings = vec![architecture(cpus), cores(cpus, wanted)];
    findings.extend(neighbours(cpus, wanted));
    findings.extend(nodes(facts, wanted));
    findings.push(governor(cpus, wanted));
    findings.push(sleep(cpus, wanted));
    findings
}

fn architecture(cpus: &Cpus) -> Finding {
    let found =
        format!("{}, {}", cpus.architecture.value, cpus.model.as_deref().unwrap_or("unnamed"));
    let finding =
        Finding::new("architecture", "processor", found).seen([cpus.architecture.evidence()]);
    match cpus.architecture.value.as_str() {
        "x86_64" => finding,
        "aarch64" => {
            finding.stop(&[Mode::Kvm], "no VFIO path here, use a native RT kernel; emulation works")
        }
        _ => finding.stop(&[Mode::Kvm], "The machine is an x86_64 one; it is emulated here."),
    }
}

fn cores(cpus: &Cpus, wanted: &Wanted) -> Finding {
    let (cores, all) = (cpus.cores(), cpus.all());
    let found = format!("{cores} cores, {} CPUs", all.len());
    let finding = Finding::new("cores", "cores", found)
        .seen(cpus.online.as_ref().map(|fact| fact.evidence()));
    if cores < CORES {
        let remedy = format!(
            "Dedicated cores need {CORES}, {LEFT} of them for the host; without them the CPUs are shared."
        );
        return finding.stop(&[Mode::DedicatedCores], remedy);
    }
    let absent = wanted.cpus.without(&all);
    if !absent.is_empty() {
        let remedy = format!("This host has no CPU {absent}; realtime.host-cpus may name {all}.");
        return finding.stop(&[Mode::DedicatedCores], remedy);
    }
    if all.without(&wanted.cpus).len() < LEFT {
        let remedy = format!("Leave {LEFT} CPUs to the host in realtime.host-cpus.");
        return finding.stop(&[Mode::DedicatedCores], remedy);
    }
    match suggested_cpus(cpus, wanted.vcpus, None) {
        Some(cpus) if wanted.cpus.is_empty() => {
            finding.note(format!("For cores of its own: realtime.host-cpus = \"{cpus}\"."))
        }
        _ => finding,
    }
}

/// CPUs that a machine of so many vCPUs could have for itself: the last cores, one CPU each, on one
/// NUMA node (on `node` where that is given), never the core of CPU 0.
#[must_use]
pub fn suggested_cpus(cpus: &Cpus, vcpus: u32, node: Option<u32>) -> Option<CpuSet> {
    let count = usize::try_from(vcpus).ok()?;
    let all: Vec<CpuSet> = match cpus.nodes.is_empty() {
        true => vec![cpus.all()],
        false => {
            let asked = |number| node.is_none_or(|node| node == number);
            cpus.nodes.iter().filter(|n| asked(n.number)).map(|n| n.cpus.clone()).collect()
        }
    };
    let fits = |members: &CpuSet| {
        let free: Vec<&Cpu> = cpus
            .each
            .iter()
            .filter(|cpu| members.contains(cpu.number) && !cpu.core.contains(0))
            .filter(|cpu| cpu.core.iter().next() == Some(cpu.number))
            .collect();
        let first = free.len().checked_sub(count)?;
        Some(free.get(first..)?.iter().map(|cpu| cpu.number).collect::<CpuSet>())
    };
    let taken = all.iter().rev().find_map(fits)?;
    // Whole cores stay with the host.
    (cpus.cores().checked_sub(count)? >= LEFT).then_some(taken)
}

/// Two CPUs of one core share its units: what the host does on one delays the other.
fn neighbours(cpus: &Cpus, wanted: &Wanted) -> Option<Finding> {
    let smt = cpus.smt.as_ref()?;
    let finding = |found: &str| Finding::new("smt", "SMT", found).seen([smt.evidence()]);
    if !smt.value {
        return Some(finding("off: each CPU is a core"));
    }
    let shared: CpuSet = cpus
        .each
        .iter()
        .filter(|cpu| wanted.cpus.contains(cpu.number))
        .flat_map(|cpu| cpu.core.iter())
        .filter(|cpu| !wanted.cpus.contains(*cpu))
        .collect();
    let off = "echo off | sudo tee /sys/devices/system/cpu/smt/control (until the next boot; \
               for good: in the firmware, or the kernel argument nosmt)";
    Some(if wanted.cpus.is_empty() {
        finding("on: two CPUs share a core").note(format!("For the lowest latency: {off}"))
    } else if shared.is_empty() {
        finding("on, and the dedicated CPUs are whole cores")
    } else {
        let found = format!("on: CPUs {shared} of the host share cores with the dedicated ones");
        finding(&found).warn(off)
    })
}

/// Memory of another node is slower to reach.
fn nodes(facts: &Facts, wanted: &Wanted) -> Option<Finding> {
    let nodes = &facts.cpus.nodes;
    if nodes.len() < 2 {
        return None;
    }
    let list: Vec<String> =
        nodes.iter().map(|node| format!("node {}: CPUs {}", node.number, node.cpus)).collect();
    let finding = Finding::new("numa", "NUMA", list.join("; ")).seen(nodes.iter().map(|node| {
        let file = format!("/sys/devices/system/node/node{}/cpulist", node.number);
        Evidence::new(file, node.cpus.to_string())
    }));
    let node_of = |cpu| nodes.iter().find(|node| node.cpus.contains(cpu)).map(|node| node.number);
    let used: BTreeSet<u32> = wanted.cpus.iter().filter_map(node_of).collect();
    let devices: BTreeSet<u32> =
        wanted.pci.iter().filter_map(|at| facts.device(*at)?.node).collect();
    let better = |node| {
        let cpus = suggested_cpus(&facts.cpus, wanted.vcpus, Some(node));
        cpus.map_or_else(String::new, |cpus| format!(" Such as realtime.host-cpus = \"{cpus}\"."))
    };
    if used.len() > 1 {
        return Some(finding.warn("The dedicated CPUs lie on several nodes; take them from one."));
    }
    match (devices.first(), used.first()) {
        (Some(of), Some(on)) if devices != used => Some(finding.warn(format!(
            "The device hangs on node {of} and the dedicated CPUs are on node {on}; take CPUs of node {of}.{}",
            better(*of)
        ))),
        _ => Some(finding),
    }
}

fn governor(cpus: &Cpus, wanted: &Wanted) -> Finding {
    let governed = cpus.each.iter().filter_map(|cpu| Some((cpu, cpu.governor.as_ref()?)));
    let slow: Vec<_> = governed.clone().filter(|(_, fact)| fact.value != "performance").collect();
    let finding = |found: String| Finding::new("governor", "clock of the CPUs", found);
    let remedy = "cpupower frequency-set -g performance, or `archibald host apply`";
    match slow.first() {
        None if governed.count() == 0 => {
            let file = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor";
            finding("not this system's to set".into()).seen([Evidence::absent(file)])
        }
        None => finding("performance on every CPU".into()),
        Some((_, first)) => {
            let count = slow.len();
            let finding =
                finding(format!("{} on {count} CPUs", first.value)).seen([first.evidence()]);
            let matters = slow.iter().any(|(cpu, _)| wanted.cpus.contains(cpu.number));
            if matters { finding.warn(remedy) } else { finding.note(remedy) }
        }
    }
}

fn sleep(cpus: &Cpus, wanted: &Wanted) -> Finding {
    let states = |cpu: &&Cpu| wanted.cpus.is_empty() || wanted.cpus.contains(cpu.number);
    let deepest = cpus
        .each
        .iter()
        .filter(states)
        .flat_map(|cpu| &cpu.c_states)
        .filter(|state| !state.disabled)
        .max_by_key(|state| state.exit_us.value);
    let Some(state) = deepest else {
        let file = "/sys/devices/system/cpu/cpu0/cpuidle/state0";
        return Finding::new("c-states", "sleep of the CPUs", "not this system's to set")
            .seen([Evidence::absent(file)]);
    };
    let found = format!("deepest is {}: {} us to wake up", state.name, state.exit_us.value);
    let finding =
        Finding::new("c-states", "sleep of the CPUs", found).seen([state.exit_us.evidence()]);
    let remedy = "`archibald host apply` keeps the dedicated CPUs out of it";
    match state.exit_us.value > EXIT_US {
        true if wanted.cpus.is_empty() => finding.note(remedy),
        true => finding.warn(remedy),
        false => finding,
    }
}
