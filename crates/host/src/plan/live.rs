//! The way by the running kernel's own files: a control group that has the dedicated CPUs for itself,
//! interrupts and work queues elsewhere, no deep sleep. Gone with the next boot.

use archibald_machine::units::{Bytes, CpuSet};

use super::boot::{mask, sysctl_path, sysctl_values, sysfs_values};
use super::{Activation, Change, Effect, Host, Knob, LeftOut, Plan, Target};
use crate::facts::memory_chosen;

const PAGES: &str = "vm.nr_hugepages";

const CGROUPS: &str = "/sys/fs/cgroup";

pub(super) fn plan(host: &Host<'_>, plan: &mut Plan) {
    if host.wanted.cpus.is_empty() {
        plan.left_out.push(LeftOut::new(
            "devices",
            "`archibald up` hands them over when the machine starts and takes them back",
        ));
        return;
    }
    partition(host, plan);
    interrupts(host, plan);
    for (path, value, why) in sysfs_values(host) {
        plan.changes.extend(knob(host, &path, &value, why));
    }
    let thp = "/sys/kernel/mm/transparent_hugepage/enabled";
    plan.changes.extend(knob(
        host,
        thp,
        "never",
        "pages are not put together behind the guest's back",
    ));
    let pages = sysctl_path(PAGES);
    for (name, value, why) in sysctl_values(host).into_iter().filter(|(name, ..)| *name != PAGES) {
        plan.changes.extend(knob(host, &sysctl_path(name), &value, why));
    }
    plan.changes.extend(huge_pages(host, &pages));
    let halt = "/sys/module/kvm/parameters/halt_poll_ns";
    plan.changes.extend(knob(host, halt, "0", "a vCPU that halts gives its CPU back at once"));
    if host.facts.system.irqbalance.is_some() {
        let command =
            |verb: &str| ["systemctl", verb, "irqbalance.service"].map(str::to_owned).to_vec();
        plan.activations.push(Activation {
            run: command("stop"),
            undo: command("start"),
            why: "irqbalance would move the interrupts back".to_owned(),
        });
    }
    plan.left_out.push(LeftOut::new(
        "nohz_full, managed interrupts",
        "only the kernel's arguments do that: `archibald host plan` without --live",
    ));
}

/// A file of the kernel that is there takes a value.
fn knob(host: &Host<'_>, path: &str, value: &str, why: &str) -> Option<Change> {
    let before = host.original_line(path)?;
    // "always [madvise] never" takes back the word in brackets alone.
    let before = memory_chosen(&before).unwrap_or(before);
    if before == value {
        return None;
    }
    let knob = Knob {
        write: value.to_owned(),
        undo: Some(before),
        reads: value.to_owned(),
        may_fail: false,
    };
    Some(change(path, Target::Kernel(knob), why))
}

fn change(path: &str, target: Target, why: &str) -> Change {
    Change { path: path.to_owned(), target, why: why.to_owned(), effect: Effect::Live }
}

/// An isolated partition (Documentation/admin-guide/cgroup-v2.rst, cpuset): the kernel takes its CPUs
/// away from every other group and balances no load onto them.
fn partition(host: &Host<'_>, plan: &mut Plan) {
    let control = format!("{CGROUPS}/cgroup.subtree_control");
    let controllers = host.original_line(&format!("{CGROUPS}/cgroup.controllers"));
    let has_cpuset = controllers.is_some_and(|text| text.split(' ').any(|word| word == "cpuset"));
    if !host.facts.system.cgroup2 || !has_cpuset {
        plan.left_out.push(LeftOut::new(
            "an isolated partition",
            "it needs cgroup version 2 alone at /sys/fs/cgroup, with the controller cpuset (systemd.unified_cgroup_hierarchy=1)",
        ));
        return;
    }
    let given = host.original_line(&control).unwrap_or_default();
    if !given.split(' ').any(|word| word == "cpuset") {
        let knob = Knob {
            write: "+cpuset".to_owned(),
            undo: Some("-cpuset".to_owned()),
            reads: "cpuset".to_owned(),
            // Somebody else may need it by the time that it is taken back.
            may_fail: false,
        };
        plan.changes.push(change(
            &control,
            Target::Kernel(knob),
            "groups may have CPUs of their own",
        ));
    }
    let group = format!("{CGROUPS}/archibald");
    plan.changes.push(change(&group, Target::Directory, "the machine's own control group"));
    let set = |name: &str, value: String, why: &str| {
        let knob = Knob { reads: value.clone(), write: value, undo: None, may_fail: false };
        change(&format!("{group}/{name}"), Target::Kernel(knob), why)
    };
    plan.changes.push(set("cpuset.cpus", host.wanted.cpus.to_string(), "its CPUs"));
    plan.changes.push(set(
        "cpuset.cpus.partition",
        "isolated".to_owned(),
        "nobody else is put there, and no load is balanced onto them",
    ));
}

fn interrupts(host: &Host<'_>, plan: &mut Plan) {
    let dedicated = &host.wanted.cpus;
    let housekeeping = host.housekeeping();
    let why = "new interrupts go to the host's CPUs";
    plan.changes.extend(knob(host, "/proc/irq/default_smp_affinity", &mask(&housekeeping), why));
    for number in &host.facts.system.interrupts {
        let path = format!("/proc/irq/{number}/smp_affinity_list");
        let Some(before) = host.original_line(&path) else { continue };
        let Ok(cpus) = before.parse::<CpuSet>() else { continue };
        let outside = cpus.without(dedicated);
        if outside == cpus {
            continue;
        }
        // One that fires on dedicated CPUs alone was put there, by a driver for its queue of that CPU.
        let to = if outside.is_empty() { housekeeping.clone() } else { outside };
        let knob = Knob {
            write: to.to_string(),
            undo: Some(before),
            reads: to.to_string(),
            may_fail: true,
        };
        plan.changes.push(change(&path, Target::Kernel(knob), "it goes to the host's CPUs"));
    }
}

/// Pages of 1 GiB are hardly to be had once memory is in use. Of 2 MiB the kernel finds as many as it
/// can, which may be fewer.
fn huge_pages(host: &Host<'_>, path: &str) -> Option<Change> {
    if !host.fits_memory() {
        return None;
    }
    let before: u64 = host.original_line(path)?.parse().ok()?;
    let count = before + host.wanted.memory.0.div_ceil(2 * Bytes::MIB);
    let mut change =
        knob(host, path, &count.to_string(), "memory for the guest, in pages of 2 MiB")?;
    if let Target::Kernel(knob) = &mut change.target {
        knob.may_fail = true;
    }
    Some(change)
}
