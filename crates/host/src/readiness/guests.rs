//! What runs the guest, and the memory it runs in.

use archibald_machine::units::Bytes;

use super::{Finding, KvmTrial, Mode, Wanted};
use crate::Evidence;
use crate::facts::{Access, Facts};

/// A host with 8 GB, less what firmware and kernel keep for themselves.
const MEMORY: Bytes = Bytes(7 * Bytes::GIB + Bytes::GIB / 4);

/// What the host needs beside a guest whose memory is locked.
const HOST_MEMORY: Bytes = Bytes(2 * Bytes::GIB);

pub(super) fn findings(facts: &Facts, wanted: &Wanted, trial: KvmTrial) -> Vec<Finding> {
    let mut findings = vec![extension(facts), kvm(facts, trial)];
    findings.extend(hypervisor(facts));
    findings.push(memory(facts, wanted));
    findings.push(huge_pages(facts, wanted));
    findings
}

fn extension(facts: &Facts) -> Finding {
    let what = "virtualization";
    match &facts.virtualization.extension {
        Some(fact) => Finding::new("extension", what, fact.value.name()).seen([fact.evidence()]),
        None => {
            let remedy = match &facts.virtualization.hypervisor {
                Some(_) => {
                    "Turn nested virtualization on in the hypervisor that this host runs in."
                }
                None if facts.cpus.is_x86_64() => "Turn VT-x or AMD-V (SVM) on in the firmware.",
                None => "A guest of another architecture is always emulated.",
            };
            Finding::new("extension", what, "the processor offers none")
                .seen([Evidence::new("/proc/cpuinfo", "flags: neither vmx nor svm")])
                .stop(&[Mode::Kvm], remedy)
        }
    }
}

fn kvm(facts: &Facts, trial: KvmTrial) -> Finding {
    let device = "/dev/kvm";
    let finding = |found: &str, seen: &str| {
        Finding::new("kvm", "KVM", found).seen([Evidence::new(device, seen)])
    };
    match (&facts.virtualization.kvm, trial) {
        (Access::Absent, _) => finding("no /dev/kvm", "not there").stop(
            &[Mode::Kvm],
            "Load kvm_intel or kvm_amd; where that fails, see virtualization above.",
        ),
        (Access::Refused(error), _) => finding("/dev/kvm does not open", error)
            .stop(&[Mode::Kvm], "sudo usermod -aG kvm $USER, then log in again."),
        (Access::Open, Some(Err(error))) => {
            // Seen in nested machines: the device opens, answers, and runs no guest.
            finding(&format!("a trial guest did not run: {error}"), "opens")
                .stop(&[Mode::Kvm], "The machine runs in emulation; see virtualization above.")
        }
        (Access::Open, Some(Ok(()))) => finding("a trial guest ran", "opens"),
        (Access::Open, None) if facts.virtualization.extension.is_some() => {
            finding("/dev/kvm opens; `archibald up` makes sure by a trial guest", "opens")
        }
        // Already told by the finding above.
        (Access::Open, None) => {
            finding("/dev/kvm opens, which is no proof that a guest runs", "opens")
        }
    }
}

fn hypervisor(facts: &Facts) -> Option<Finding> {
    let fact = facts.virtualization.hypervisor.as_ref()?;
    let finding = Finding::new(
        "hypervisor",
        "hypervisor underneath",
        format!("this host is itself a guest ({})", fact.value),
    )
    .seen([fact.evidence()]);
    Some(finding.warn(
        "Latency seen here is also that of the machine underneath; figures from here judge nothing.",
    ))
}

fn memory(facts: &Facts, wanted: &Wanted) -> Finding {
    let Some(total) = &facts.memory.total else {
        return Finding::new("memory", "memory", "unknown")
            .seen([Evidence::absent("/proc/meminfo")])
            .warn("Mount /proc.");
    };
    let found = format!("{} in all, {} for the guest", total.value, wanted.memory);
    let finding = Finding::new("memory", "memory", found).seen([total.evidence()]);
    let smaller = "Write machine.memory = \"1 GiB\" in the machine file.";
    if total.value < wanted.memory {
        return finding.stop(&[Mode::Emulation], smaller);
    }
    if total.value.0 < wanted.memory.0 + HOST_MEMORY.0 {
        let remedy = format!(
            "The guest's memory is locked there, and the host needs {HOST_MEMORY} beside it. {smaller}"
        );
        return finding.stop(&[Mode::DedicatedCores, Mode::Passthrough], remedy);
    }
    if total.value < MEMORY {
        return finding.warn(format!("8 GB are recommended. {smaller}"));
    }
    match &facts.memory.available {
        Some(free) if free.value < wanted.memory => finding
            .seen([free.evidence()])
            .warn(format!("Only {} are free now; end what takes the rest.", free.value)),
        _ => finding,
    }
}

fn huge_pages(facts: &Facts, wanted: &Wanted) -> Finding {
    let pages = &facts.memory.huge_pages;
    let all: Vec<String> = pages
        .iter()
        .filter(|pages| pages.count.value > 0)
        .map(|pages| format!("{} of {} ({} free)", pages.count.value, pages.size, pages.free))
        .collect();
    let found = if all.is_empty() { "none set aside".to_owned() } else { all.join(", ") };
    let finding = Finding::new("hugepages", "huge pages", found)
        .seen(pages.iter().map(|pages| pages.count.evidence()));
    let enough = pages.iter().any(|pages| pages.free * pages.size.0 >= wanted.memory.0);
    if enough || wanted.cpus.is_empty() {
        return finding;
    }
    finding.note(format!("`archibald host apply` sets {} aside at boot.", wanted.memory))
}
