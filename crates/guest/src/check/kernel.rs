//! The kernel and its knobs: sets that tuned's realtime profiles, musnix's test and rtcqs agree on.

use std::thread;
use std::time::{Duration, Instant};

use super::{Group, Machine, Row};
use crate::run::Invocation;

/// A kernel file whose value is known.
struct Knob {
    id: &'static str,
    title: &'static str,
    path: &'static str,
    /// Whether a kernel that does not have the file is good as well.
    optional: bool,
    expected: &'static str,
    good: fn(&str) -> bool,
    remedy: &'static str,
}

const SYSCTL: &str = "sudo systemctl restart systemd-sysctl; see /etc/sysctl.d/50-archibald.conf";

const KNOBS: [Knob; 8] = [
    Knob {
        id: "kernel.preempt-rt",
        title: "Real-time kernel (uname -v)",
        path: "/proc/sys/kernel/version",
        optional: false,
        expected: "PREEMPT_RT",
        good: |text| text.contains("PREEMPT_RT"),
        remedy: "the image must hold linux-image-rt-amd64 and boot it: `archibald image build`",
    },
    Knob {
        id: "kernel.realtime",
        title: "/sys/kernel/realtime",
        path: "/sys/kernel/realtime",
        optional: false,
        expected: "1",
        good: |text| text == "1",
        remedy: "another kernel than the image's is running: `archibald restart`",
    },
    Knob {
        id: "kernel.swappiness",
        title: "Swappiness",
        path: "/proc/sys/vm/swappiness",
        optional: false,
        expected: "10 or less",
        good: |text| text.parse::<u32>().is_ok_and(|value| value <= 10),
        remedy: SYSCTL,
    },
    Knob {
        id: "kernel.thp",
        title: "Transparent huge pages",
        path: "/sys/kernel/mm/transparent_hugepage/enabled",
        optional: true,
        expected: "[never]",
        good: |text| text.contains("[never]"),
        remedy: "the launcher gives transparent_hugepage=never: `archibald restart`",
    },
    Knob {
        id: "kernel.ksm",
        title: "Merging of equal pages (KSM)",
        path: "/sys/kernel/mm/ksm/run",
        optional: true,
        expected: "0",
        good: |text| text == "0",
        remedy: "echo 0 | sudo tee /sys/kernel/mm/ksm/run, and stop what turned it on",
    },
    Knob {
        id: "kernel.numa-balancing",
        title: "NUMA balancing",
        path: "/proc/sys/kernel/numa_balancing",
        optional: true,
        expected: "0",
        good: |text| text == "0",
        remedy: SYSCTL,
    },
    Knob {
        id: "kernel.nmi-watchdog",
        title: "NMI watchdog",
        path: "/proc/sys/kernel/nmi_watchdog",
        optional: true,
        expected: "0",
        good: |text| text == "0",
        remedy: SYSCTL,
    },
    Knob {
        id: "kernel.swap",
        title: "Swap areas",
        path: "/proc/swaps",
        optional: true,
        expected: "none",
        good: |text| text.lines().count() <= 1,
        remedy: "sudo swapoff -a: memory of an audio program must not go to the disk",
    },
];

pub(super) fn rows(machine: Machine<'_>) -> Vec<Row> {
    let mut rows: Vec<Row> = KNOBS.iter().map(|knob| look(machine, knob)).collect();
    rows.push(high_resolution(machine.root.read("/proc/timer_list")));
    rows.push(clock_source(machine));
    rows
}

fn look(machine: Machine<'_>, knob: &Knob) -> Row {
    let row = Row::new(Group::Kernel, knob.id, knob.title, knob.expected);
    let row = match machine.root.line(knob.path) {
        Some(text) if (knob.good)(&text) => row.judge(shown(knob, &text), true),
        Some(text) => row.failed(shown(knob, &text)),
        None => row.judge("not in this kernel", knob.optional),
    };
    row.remedy(knob.remedy)
}

/// What of a file's text a person wants to see.
fn shown(knob: &Knob, text: &str) -> String {
    match knob.id {
        "kernel.swap" if text.lines().count() <= 1 => "none".to_owned(),
        "kernel.swap" => format!("{} in use", text.lines().count() - 1),
        _ => text.to_owned(),
    }
}

fn high_resolution(timer_list: Option<String>) -> Row {
    let row = Row::new(Group::Kernel, "kernel.hrtimers", "High-resolution timers", "active");
    let text = timer_list.unwrap_or_default();
    let states: Vec<&str> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix(".hres_active"))
        .map(|state| state.trim_matches([' ', ':']))
        .collect();
    let good = !states.is_empty() && states.iter().all(|state| *state == "1");
    row.judge(if good { "active" } else { "not active" }, good).remedy(
        "the clock source is too coarse: see the row below; `highres=off` must not be given",
    )
}

fn clock_source(machine: Machine<'_>) -> Row {
    let path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let found = machine.root.line(path).unwrap_or_default();
    // Others are read through the hypervisor, microseconds each time.
    let good = ["tsc", "kvm-clock"].contains(&found.as_str());
    Row::new(Group::Kernel, "kernel.clocksource", "Clock source", "tsc or kvm-clock")
        .judge(found, good)
        .only_if(machine.settings.judged)
        .remedy("the host's own TSC must be stable: see current_clocksource on the host")
}

/// Interrupt threads have their priorities. Waits for the unit if it is still at work.
pub(super) fn rtirq(machine: Machine<'_>) -> Row {
    const LIMIT: Duration = Duration::from_secs(40);
    let begun = Instant::now();
    let state = loop {
        let ask = Invocation::new(&["systemctl", "show", "-P", "ActiveState", "rtirq.service"]);
        let state = machine.programs.run(&ask).stdout.trim().to_owned();
        let at_work = state == "activating" || state == "inactive";
        if !at_work || begun.elapsed() > LIMIT {
            break state;
        }
        thread::sleep(Duration::from_millis(500));
    };
    Row::new(Group::Kernel, "kernel.rtirq", "Interrupt priorities (rtirq)", "active")
        .equal(Some(state))
        .remedy("journalctl -u rtirq; sudo systemctl restart rtirq")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Made, failed};
    use super::*;
    use crate::run::tests::{Canned, says};

    const GOOD: [(&str, &str); 7] = [
        ("/proc/sys/kernel/version", "#1 SMP PREEMPT_RT Debian 6.12.117-1 (2026-11-12)\n"),
        ("/sys/kernel/realtime", "1\n"),
        ("/proc/sys/vm/swappiness", "10\n"),
        ("/sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n"),
        ("/proc/swaps", "Filename Type Size Used Priority\n"),
        ("/proc/timer_list", "  .hres_active    : 1\n  .hres_active    : 1\n"),
        ("/sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n"),
    ];

    #[test]
    fn a_tuned_real_time_kernel_passes() {
        let mut made = Made::new(&GOOD, Canned(vec![]));
        made.settings.judged = true;
        assert_eq!(failed(&rows(made.machine())), Vec::<&str>::new());
    }

    #[test]
    fn each_wrong_value_fails_its_own_row() {
        for (path, text, id) in [
            ("/proc/sys/kernel/version", "#1 SMP PREEMPT_DYNAMIC Debian", "kernel.preempt-rt"),
            ("/sys/kernel/realtime", "0", "kernel.realtime"),
            ("/proc/sys/vm/swappiness", "60", "kernel.swappiness"),
            ("/sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never", "kernel.thp"),
            ("/sys/kernel/mm/ksm/run", "1", "kernel.ksm"),
            ("/proc/sys/kernel/numa_balancing", "1", "kernel.numa-balancing"),
            ("/proc/sys/kernel/nmi_watchdog", "1", "kernel.nmi-watchdog"),
            ("/proc/swaps", "Filename\n/dev/vdb partition\n", "kernel.swap"),
            ("/proc/timer_list", ".hres_active : 1\n.hres_active : 0\n", "kernel.hrtimers"),
            (
                "/sys/devices/system/clocksource/clocksource0/current_clocksource",
                "hpet",
                "kernel.clocksource",
            ),
        ] {
            let mut made = Made::new(&GOOD, Canned(vec![]));
            made.settings.judged = true;
            made.root.write(path, text.as_bytes(), 0o644).unwrap();
            assert_eq!(failed(&rows(made.machine())), [id]);
        }
    }

    #[test]
    fn rtirq_must_have_run() {
        let made = Made::new(&[], Canned(vec![("rtirq.service", says("active\n"))]));
        assert_eq!(failed(&[rtirq(made.machine())]), Vec::<&str>::new());
        let made = Made::new(&[], Canned(vec![("rtirq.service", says("failed\n"))]));
        assert_eq!(failed(&[rtirq(made.machine())]), ["kernel.rtirq"]);
    }
}
