//! What the one who asks may take.

use archibald_machine::units::Bytes;

use super::{Finding, Mode, Wanted};
use crate::Evidence;
use crate::facts::Facts;

/// QEMU's own needs besides the guest's memory.
const BESIDE: Bytes = Bytes(Bytes::GIB);

pub(super) fn findings(facts: &Facts, wanted: &Wanted) -> Vec<Finding> {
    vec![locked_memory(facts, wanted), priority(facts), groups(facts)]
}

fn locked_memory(facts: &Facts, wanted: &Wanted) -> Finding {
    let limit = facts.session.locked_memory.as_ref();
    let found = match limit.map(|fact| fact.value) {
        None => "unknown".to_owned(),
        Some(None) => "without limit".to_owned(),
        Some(Some(bytes)) => format!("up to {bytes}"),
    };
    let finding =
        Finding::new("memlock", "locked memory", found).seen(limit.map(|fact| fact.evidence()));
    let need = Bytes(wanted.memory.0 + BESIDE.0);
    let enough = limit.is_some_and(|fact| fact.value.is_none_or(|bytes| bytes >= need));
    // Who has CAP_IPC_LOCK is not bound by the limit.
    if enough || facts.session.is_root() {
        return finding;
    }
    finding.stop(
        &[Mode::DedicatedCores, Mode::Passthrough],
        format!("{need} are needed: `archibald host apply`, then log in again."),
    )
}

fn priority(facts: &Facts) -> Finding {
    let limit = facts.session.rt_priority.as_ref();
    let may = facts.session.any_priority;
    let found = match limit {
        _ if may => "any (CAP_SYS_NICE)".to_owned(),
        None => "unknown".to_owned(),
        Some(fact) => format!("up to {}", fact.value),
    };
    let finding =
        Finding::new("rtprio", "real-time priority", found).seen(limit.map(|fact| fact.evidence()));
    if may || limit.is_some_and(|fact| fact.value >= 1) {
        return finding;
    }
    finding.stop(
        &[Mode::DedicatedCores],
        "The vCPUs run with SCHED_FIFO there: `archibald host apply`, then log in again.",
    )
}

fn groups(facts: &Facts) -> Finding {
    let groups = &facts.session.groups;
    let found = if groups.is_empty() { "none".to_owned() } else { groups.join(" ") };
    let finding = Finding::new("groups", "groups", found)
        .seen([Evidence::new("/proc/self/status", "Groups, by /etc/group")]);
    if facts.session.is_root() || facts.session.is_in("kvm") {
        return finding;
    }
    finding
        .note("sudo usermod -aG kvm $USER gives /dev/kvm and the limits of `archibald host apply`.")
}
