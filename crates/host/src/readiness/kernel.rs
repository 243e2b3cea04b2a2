//! The host's kernel and services: what they do on CPUs that should be left alone.

use archibald_machine::units::CpuSet;

use super::{Finding, Mode, Wanted};
use crate::Evidence;
use crate::facts::{Facts, KernelKind};

pub(super) fn findings(facts: &Facts, wanted: &Wanted) -> Vec<Finding> {
    let mut findings = vec![kind(facts, wanted)];
    findings.extend(isolation(facts, wanted));
    findings.extend(irqbalance(facts, wanted));
    findings.extend(clock(facts));
    findings.extend(hardware_latency(facts, wanted));
    findings
}

fn kind(facts: &Facts, wanted: &Wanted) -> Finding {
    let Some(fact) = &facts.kernel.kind else {
        return Finding::new("kernel", "kernel", "unknown")
            .seen([Evidence::absent("/proc/sys/kernel/version")])
            .warn("Mount /proc.");
    };
    let release = facts.kernel.release.as_ref().map_or("", |fact| fact.value.as_str());
    let finding = Finding::new("kernel", "kernel", format!("{release} {}", fact.value.word()))
        .seen([fact.evidence()]);
    let remedy = "On a kernel that is not a real-time one nobody promises a worst case; what is \
                  measured holds for the load it was measured under. Debian: apt-get install linux-image-rt-amd64";
    match (fact.value, wanted.cpus.is_empty()) {
        (KernelKind::RealTime, _) => finding,
        (_, true) => finding.note(remedy),
        (_, false) => finding.warn(remedy),
    }
}

/// What was asked for is in force, or not yet.
fn isolation(facts: &Facts, wanted: &Wanted) -> Option<Finding> {
    if wanted.cpus.is_empty() {
        return None;
    }
    // By the kernel's arguments, or by a partition until the next boot.
    let sources = [facts.cpus.isolated.as_ref(), facts.cpus.partitioned.as_ref()];
    let set: CpuSet = sources.into_iter().flatten().flat_map(|fact| fact.value.iter()).collect();
    let lacking = wanted.cpus.without(&set);
    let found = match (set.is_empty(), lacking.is_empty()) {
        (true, _) => "no CPU is".to_owned(),
        (false, true) => format!("CPUs {set}"),
        (false, false) => format!("CPUs {set}, but not {lacking}"),
    };
    let finding = Finding::new("isolated", "CPUs kept free of other work", found)
        .seen(sources.into_iter().flatten().map(|fact| fact.evidence()));
    Some(match lacking.is_empty() {
        true => finding,
        // A CPU that does not exist is ignored silently, so this is read back after every boot.
        false => finding.warn(
            "`archibald host apply` does it by the kernel's arguments, with --live at once and until the next boot.",
        ),
    })
}

fn irqbalance(facts: &Facts, wanted: &Wanted) -> Option<Finding> {
    let seen = facts.system.irqbalance.clone()?;
    let finding = Finding::new("irqbalance", "irqbalance", "runs").seen([seen]);
    let remedy =
        "It moves interrupts onto every CPU; `archibald host apply` bans the dedicated ones.";
    Some(if wanted.cpus.is_empty() { finding.note(remedy) } else { finding.warn(remedy) })
}

fn clock(facts: &Facts) -> Option<Finding> {
    let fact = facts.cpus.clocksource.as_ref()?;
    let finding = Finding::new("clocksource", "clock source", &fact.value).seen([fact.evidence()]);
    Some(match fact.value.as_str() {
        "tsc" => finding,
        // Without a stable TSC the guest has none either, and reads its time through exits.
        _ => finding.warn("The TSC is not trusted here; `dmesg | grep -i tsc` says why."),
    })
}

fn hardware_latency(facts: &Facts, wanted: &Wanted) -> Option<Finding> {
    if wanted.cpus.is_empty() || !wanted.modes().contains(&Mode::DedicatedCores) {
        return None;
    }
    let Some(tracer) = facts.kernel.hwlat.as_ref().filter(|fact| fact.value) else {
        return Some(
            Finding::new("hardware-latency", "hardware latency", "cannot be looked at")
                .seen([Evidence::new("/sys/kernel/tracing/available_tracers", "no hwlat")])
                .note("As root, with a kernel that has CONFIG_HWLAT_TRACER."),
        );
    };
    Some(
        Finding::new("hardware-latency", "hardware latency", "not measured here")
            .seen([tracer.evidence()])
            .note("sudo hwlatdetect --duration=60 shows what the firmware takes (SMIs); no setting of the system helps against those."),
    )
}
