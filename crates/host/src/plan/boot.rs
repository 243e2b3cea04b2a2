//! The way by files: drop-ins of this project's own name, and the kernel's arguments.

use std::fmt::Write as _;

use archibald_machine::units::{Bytes, CpuSet};

use super::{Effect, Host, LeftOut, Plan, arguments};
use crate::facts::Extension;

/// Highest priority that a member of the group may ask for: a vCPU runs with SCHED_FIFO 1.
const PRIORITY: u8 = 10;

/// The group that may run guests.
const GROUP: &str = "kvm";

/// The longest that a dedicated CPU may take to wake up, in microseconds: tuned's own value, which
/// leaves C1 and forbids all that is deeper.
pub(super) const WAKE_UP_US: u32 = 2;

pub(super) fn plan(host: &Host<'_>, extra: &[String], plan: &mut Plan) {
    let words = arguments::arguments(host, extra, plan);
    arguments::place(host, &words, plan);
    if !host.wanted.cpus.is_empty() {
        sysctls(host, plan);
        knobs(host, plan);
        modules(host, plan);
        irqbalance(host, plan);
        slices(host, plan);
    }
    if !host.devices.is_empty() {
        devices(host, plan);
    }
    if !host.wanted.cpus.is_empty() || !host.devices.is_empty() {
        limits(host, plan);
    }
}

/// Settings of the kernel by name and value, as far as this kernel has them.
pub(super) fn sysctl_values(host: &Host<'_>) -> Vec<(&'static str, String, &'static str)> {
    // tuned: latency-performance, network-latency, realtime.
    let mut values = vec![
        ("vm.swappiness", "10".to_owned(), "memory of the guest goes to the disk last"),
        ("vm.stat_interval", "10".to_owned(), "statistics are gathered less often"),
        ("kernel.numa_balancing", "0".to_owned(), "pages of the guest stay where they are"),
        ("kernel.nmi_watchdog", "0".to_owned(), "no watchdog interrupts the dedicated CPUs"),
        ("kernel.timer_migration", "0".to_owned(), "timers of others stay off the dedicated CPUs"),
    ];
    values.extend(small_pages(host).map(|count| {
        ("vm.nr_hugepages", count.to_string(), "memory for the guest, in pages of 2 MiB")
    }));
    values.retain(|(name, ..)| host.originals.read(&sysctl_path(name)).is_some());
    values
}

/// `/proc/sys/vm/swappiness`.
pub(super) fn sysctl_path(name: &str) -> String {
    format!("/proc/sys/{}", name.replace('.', "/"))
}

/// How many pages of 2 MiB hold the guest, where there are none of 1 GiB or they would not fit.
fn small_pages(host: &Host<'_>) -> Option<u64> {
    let gigabyte = host.facts.cpus.gigabyte_pages && host.wanted.memory.0 % Bytes::GIB == 0;
    (!gigabyte && host.fits_memory()).then(|| host.wanted.memory.0.div_ceil(2 * Bytes::MIB))
}

fn sysctls(host: &Host<'_>, plan: &mut Plan) {
    let mut text = String::new();
    for (name, value, why) in sysctl_values(host) {
        let _ = writeln!(text, "# {why}\n{name} = {value}");
    }
    let path = "/etc/sysctl.d/50-archibald.conf";
    plan.changes.push(host.own_file(path, &text, "settings of the kernel", Effect::Reboot));
}

/// Files of /sys that are set for each dedicated CPU, with value and reason.
pub(super) fn sysfs_values(host: &Host<'_>) -> Vec<(String, String, &'static str)> {
    let mut values = vec![(
        "/sys/kernel/mm/ksm/run".to_owned(),
        "0".to_owned(),
        "equal pages are not merged: a write to one would copy it",
    )];
    for cpu in host.wanted.cpus.iter() {
        let at = format!("/sys/devices/system/cpu/cpu{cpu}");
        values.push((
            format!("{at}/cpufreq/scaling_governor"),
            "performance".to_owned(),
            "the clock stays up",
        ));
        values.push((
            format!("{at}/power/pm_qos_resume_latency_us"),
            WAKE_UP_US.to_string(),
            "no sleep from which waking up takes long",
        ));
    }
    values.push((
        "/sys/devices/virtual/workqueue/cpumask".to_owned(),
        mask(&host.housekeeping()),
        "work that belongs to no CPU stays with the host",
    ));
    values.retain(|(path, ..)| host.originals.read(path).is_some());
    values
}

/// A set of CPUs as the kernel's hexadecimal words of 32 bits, the highest first.
pub(super) fn mask(cpus: &CpuSet) -> String {
    let highest = cpus.iter().last().unwrap_or(0) / 32;
    let word = |number: u32| {
        cpus.iter().filter(|cpu| cpu / 32 == number).fold(0_u32, |bits, cpu| bits | 1 << (cpu % 32))
    };
    let mut text = format!("{:x}", word(highest));
    for number in (0..highest).rev() {
        let _ = write!(text, ",{:08x}", word(number));
    }
    text
}

fn knobs(host: &Host<'_>, plan: &mut Plan) {
    let mut text = String::new();
    let mut last = "";
    for (path, value, why) in sysfs_values(host) {
        if why != last {
            let _ = writeln!(text, "# {why}");
            last = why;
        }
        let _ = writeln!(text, "w {path} - - - - {value}");
    }
    let path = "/etc/tmpfiles.d/50-archibald.conf";
    let why = "files of /sys, written at boot by systemd-tmpfiles";
    plan.changes.push(host.own_file(path, &text, why, Effect::Reboot));
}

fn modules(host: &Host<'_>, plan: &mut Plan) {
    let mut text =
        "# a vCPU that halts gives its CPU back at once\noptions kvm halt_poll_ns=0\n".to_owned();
    if host.facts.virtualization.extension.as_ref().is_some_and(|e| e.value == Extension::Vmx) {
        text.push_str(
            "# each vCPU has its CPU: spinning ones need no help\noptions kvm_intel ple_gap=0\n",
        );
    }
    let path = "/etc/modprobe.d/50-archibald.conf";
    plan.changes.push(host.own_file(path, &text, "settings of KVM", Effect::Reboot));
}

fn irqbalance(host: &Host<'_>, plan: &mut Plan) {
    if host.facts.system.irqbalance.is_none() {
        return;
    }
    let text = format!("[Service]\nEnvironment=IRQBALANCE_BANNED_CPULIST={}\n", host.wanted.cpus);
    let path = "/etc/systemd/system/irqbalance.service.d/50-archibald.conf";
    let why = "irqbalance keeps interrupts off the dedicated CPUs";
    plan.changes.push(host.own_file(path, &text, why, Effect::Reboot));
}

fn slices(host: &Host<'_>, plan: &mut Plan) {
    let text = format!("[Slice]\nAllowedCPUs={}\n", host.housekeeping());
    let path = "/etc/systemd/system/system.slice.d/50-archibald.conf";
    plan.changes.push(host.own_file(
        path,
        &text,
        "services run beside the machine",
        Effect::Reboot,
    ));
    plan.left_out.push(LeftOut::new(
        "AllowedCPUs= of user.slice and machine.slice",
        "the machine itself runs there, and could then not be placed; isolcpus keeps all others off",
    ));
}

fn devices(host: &Host<'_>, plan: &mut Plan) {
    let mut text =
        String::from("# by address: vfio-pci's ids= would take every device of the kind\n");
    for address in &host.devices {
        let _ = writeln!(
            text,
            "ACTION==\"add\", SUBSYSTEM==\"pci\", KERNEL==\"{address}\", ATTR{{driver_override}}=\"vfio-pci\""
        );
    }
    let _ = writeln!(text, "SUBSYSTEM==\"vfio\", GROUP=\"{GROUP}\", MODE=\"0660\"");
    let path = "/etc/udev/rules.d/50-archibald.rules";
    let why = "the devices wait for the machine, and the group may hand them over";
    plan.changes.push(host.own_file(path, &text, why, Effect::Reboot));
    let path = "/etc/modules-load.d/50-archibald.conf";
    plan.changes.push(host.own_file(path, "vfio-pci\n", "VFIO is there", Effect::Reboot));
    plan.notes.push(
        "A driver that is loaded from the initrd takes its device before these rules are read; `archibald doctor` shows who has it."
            .to_owned(),
    );
}

fn limits(host: &Host<'_>, plan: &mut Plan) {
    // Devices reach all of the guest's memory, so all of it is locked, and QEMU's own beside it.
    let kib = (host.wanted.memory.0 + Bytes::GIB) >> 10;
    let text = format!(
        "# the guest's memory and 1 GiB, in KiB\n@{GROUP} - memlock {kib}\n# vCPUs have SCHED_FIFO\n@{GROUP} - rtprio {PRIORITY}\n"
    );
    let path = "/etc/security/limits.d/50-archibald.conf";
    let why = "members of the group kvm may lock the guest's memory and run its CPUs in real time";
    plan.changes.push(host.own_file(path, &text, why, Effect::Login));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_words_of_32_bits() {
        let of = |text: &str| mask(&text.parse().unwrap());
        assert_eq!(
            (of("0-1"), of("0-31"), of("0,32")),
            ("3".into(), "ffffffff".into(), "1,00000001".into())
        );
    }
}
