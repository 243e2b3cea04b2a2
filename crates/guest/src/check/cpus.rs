//! Which CPU does what: isolated ones have audio alone.

use std::fmt;

use archibald_machine::units::CpuSet;

use super::{Group, Machine, Row};

const BOOT_AGAIN: &str = "the launcher gives this to the kernel at boot: `archibald restart`; \
                          a CPU that does not exist is ignored silently";

pub(super) fn rows(machine: Machine<'_>) -> Vec<Row> {
    let asked = &machine.settings.isolated;
    let set_in = |path: &str| machine.root.line(path).unwrap_or_default();
    vec![
        cpus("cpus.isolated", "Isolated CPUs", asked, &set_in("/sys/devices/system/cpu/isolated")),
        cpus(
            "cpus.nohz-full",
            "CPUs without tick",
            asked,
            &set_in("/sys/devices/system/cpu/nohz_full"),
        ),
        cpus("cpus.rcu", "CPUs without RCU callbacks", asked, rcu_nocbs(&set_in("/proc/cmdline"))),
        irq_default(machine),
        irq_fired(machine),
    ]
}

fn cpus(id: &str, title: &str, asked: &CpuSet, found: &str) -> Row {
    // The kernel writes "(null)" for a set that was never made.
    let found: Option<CpuSet> = match found {
        "(null)" => Some(CpuSet::default()),
        text => text.parse().ok(),
    };
    let good = found.as_ref() == Some(asked);
    let shown = found.map_or_else(|| "unreadable".to_owned(), |cpus| named(&cpus));
    Row::new(Group::Cpus, id, title, named(asked)).judge(shown, good).remedy(BOOT_AGAIN)
}

fn named(cpus: &CpuSet) -> String {
    if cpus.is_empty() { "none".to_owned() } else { cpus.to_string() }
}

fn rcu_nocbs(command_line: &str) -> &str {
    let mut words = command_line.split_whitespace();
    words.find_map(|word| word.strip_prefix("rcu_nocbs=")).unwrap_or("")
}

/// Where the kernel puts interrupts that say nothing themselves.
fn irq_default(machine: Machine<'_>) -> Row {
    let asked = match machine.settings.isolated.is_empty() {
        true => return none_isolated("cpus.irq-default", "CPUs for interrupts"),
        false => &machine.settings.housekeeping,
    };
    let mask = machine.root.line("/proc/irq/default_smp_affinity").unwrap_or_default();
    let found = cpus_of_mask(&mask);
    let good = found.as_ref() == Some(asked);
    Row::new(Group::Cpus, "cpus.irq-default", "CPUs for interrupts", named(asked))
        .judge(found.map_or(mask, |cpus| named(&cpus)), good)
        .remedy(BOOT_AGAIN)
}

fn none_isolated(id: &str, title: &str) -> Row {
    Row::new(Group::Cpus, id, title, "any").judge("no CPU is isolated", true)
}

/// `ff,00000003`: 32 bits a word, the highest first.
fn cpus_of_mask(mask: &str) -> Option<CpuSet> {
    let mut cpus = Vec::new();
    for (position, word) in mask.split(',').rev().enumerate() {
        let word = u32::from_str_radix(word.trim(), 16).ok()?;
        let first = u32::try_from(position).ok()? * 32;
        cpus.extend((0..32).filter(|bit| word >> bit & 1 == 1).map(|bit| first + bit));
    }
    Some(cpus.into_iter().collect())
}

/// Whether a device that could have interrupted another CPU interrupted an isolated one. What may go
/// nowhere else was put there: a disk's queue for that CPU, which speaks only to who uses the disk from
/// there, or a sound card that somebody pinned.
fn irq_fired(machine: Machine<'_>) -> Row {
    let title = "Device interrupts on isolated CPUs";
    if machine.settings.isolated.is_empty() {
        return none_isolated("cpus.irq", title);
    }
    let text = machine.root.read("/proc/interrupts").unwrap_or_default();
    let row = Row::new(Group::Cpus, "cpus.irq", title, "none");
    let isolated = &machine.settings.isolated;
    let Some(fired) = fired_on(&text, isolated) else {
        return row
            .failed("/proc/interrupts cannot be read")
            .remedy("check that this runs as root");
    };
    let belongs = |number: &str| {
        let path = format!("/proc/irq/{number}/smp_affinity_list");
        let allowed: Option<CpuSet> = machine.root.line(&path).and_then(|text| text.parse().ok());
        allowed.is_some_and(|cpus| !cpus.is_empty() && cpus.without(isolated).is_empty())
    };
    let (placed, strays): (Vec<_>, Vec<_>) =
        fired.into_iter().partition(|irq| belongs(&irq.number));
    let named =
        |irqs: &[Fired]| irqs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let row = match (placed.as_slice(), strays.as_slice()) {
        ([], []) => row.judge("none", true),
        (placed, []) => row.judge(format!("only placed there: {}", named(placed)), true),
        (_, strays) => row.failed(named(strays)),
    };
    row.remedy("echo HOUSEKEEPING-CPUS | sudo tee /proc/irq/NUMBER/smp_affinity_list")
}

/// An interrupt that was seen.
struct Fired {
    number: String,
    name: String,
    count: u64,
}

impl fmt::Display for Fired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.number, self.name, self.count)
    }
}

/// Numbered interrupts with a count in the column of one of `cpus`.
fn fired_on(interrupts: &str, cpus: &CpuSet) -> Option<Vec<Fired>> {
    let mut lines = interrupts.lines();
    let columns: Vec<bool> = lines
        .next()?
        .split_whitespace()
        .map(|name| name.strip_prefix("CPU").and_then(|n| n.parse().ok()))
        .map(|cpu| cpu.is_some_and(|cpu| cpus.contains(cpu)))
        .collect();
    let mut fired = Vec::new();
    for line in lines {
        let mut words = line.split_whitespace();
        let number = words.next().and_then(|word| word.strip_suffix(':'));
        let Some(number) = number.filter(|word| word.parse::<u32>().is_ok()) else { continue };
        let counts: Vec<u64> =
            words.by_ref().take(columns.len()).filter_map(|word| word.parse().ok()).collect();
        let count: u64 =
            counts.iter().zip(&columns).filter(|(_, ours)| **ours).map(|(count, _)| count).sum();
        if count > 0 {
            let name = words.last().unwrap_or("").to_owned();
            fired.push(Fired { number: number.to_owned(), name, count });
        }
    }
    Some(fired)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Made, failed};
    use super::*;
    use crate::run::tests::Canned;

    const INTERRUPTS: &str = "           CPU0       CPU1
  0:        203          0   IO-APIC   2-edge      timer
 28:         10          0  PCI-MSIX-0000:00:04.0   2-edge      virtio3-req.1
LOC:      45329        436   Local timer interrupts
";
    const GOOD: [(&str, &str); 5] = [
        ("/sys/devices/system/cpu/isolated", "1\n"),
        ("/sys/devices/system/cpu/nohz_full", "1\n"),
        ("/proc/cmdline", "root=/dev/vda rcu_nocbs=1 threadirqs\n"),
        ("/proc/irq/default_smp_affinity", "1\n"),
        ("/proc/interrupts", INTERRUPTS),
    ];

    #[test]
    fn isolation_as_asked_passes() {
        let made = Made::new(&GOOD, Canned(vec![]));
        assert_eq!(failed(&rows(made.machine())), Vec::<&str>::new());
    }

    #[test]
    fn each_wrong_set_fails_its_own_row() {
        for (path, text, id) in [
            ("/sys/devices/system/cpu/isolated", "", "cpus.isolated"),
            ("/sys/devices/system/cpu/nohz_full", "(null)", "cpus.nohz-full"),
            ("/proc/cmdline", "root=/dev/vda", "cpus.rcu"),
            ("/proc/irq/default_smp_affinity", "3", "cpus.irq-default"),
            (
                "/proc/interrupts",
                "  CPU0 CPU1\n 28: 10 4 PCI-MSIX 2-edge virtio3-req.1\n",
                "cpus.irq",
            ),
        ] {
            let made = Made::new(&GOOD, Canned(vec![]));
            made.root.write(path, text.as_bytes(), 0o644).unwrap();
            let rows = rows(made.machine());
            assert_eq!(failed(&rows), [id]);
            if id == "cpus.irq" {
                assert!(rows.iter().any(|row| row.found == "28 virtio3-req.1 (4)"));
            }
        }
    }

    #[test]
    fn a_queue_that_belongs_to_an_isolated_cpu_may_fire_there() {
        // A kernel thread of that CPU wrote to the disk once.
        let made = Made::new(&GOOD, Canned(vec![]));
        let text = INTERRUPTS.replace("10          0  PCI", "10          1  PCI");
        made.root.write("/proc/interrupts", text.as_bytes(), 0o644).unwrap();
        made.root.write("/proc/irq/28/smp_affinity_list", b"1\n", 0o644).unwrap();
        assert!(irq_fired(made.machine()).found.ends_with("28 virtio3-req.1 (1)"));
        assert_eq!(failed(&rows(made.machine())), Vec::<&str>::new());
        made.root.write("/proc/irq/28/smp_affinity_list", b"0-1\n", 0o644).unwrap();
        assert_eq!(failed(&rows(made.machine())), ["cpus.irq"]);
    }

    #[test]
    fn a_machine_that_isolates_nothing_has_nothing_to_fail() {
        let mut made = Made::new(&GOOD, Canned(vec![]));
        made.settings.isolated = CpuSet::default();
        for (path, text) in [
            ("/sys/devices/system/cpu/isolated", ""),
            ("/sys/devices/system/cpu/nohz_full", "(null)"),
            ("/proc/cmdline", ""),
        ] {
            made.root.write(path, text.as_bytes(), 0o644).unwrap();
        }
        assert_eq!(failed(&rows(made.machine())), Vec::<&str>::new());
    }

    #[test]
    fn masks_of_many_cpus_are_read() {
        assert_eq!(cpus_of_mask("1,80000001").unwrap().to_string(), "0,31-32");
        assert_eq!(cpus_of_mask("x"), None);
    }
}
