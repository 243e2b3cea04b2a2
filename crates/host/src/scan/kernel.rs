//! The kernel: how it was built, how it was started, how it treats memory and clocks.

use super::{BOTH, QUICKSCAN, RTCQS, Row};
use crate::Root;
use crate::facts::{Facts, Kernel};

/// Both tools want swapping to start no earlier than this.
const SWAPPINESS: u32 = 10;

/// Files that a session manager of a large project watches.
const WATCHES: u64 = 524_288;

const CMDLINE: &str = "/proc/cmdline";

pub(super) fn rows(root: &Root, facts: &Facts) -> Vec<Row> {
    let kernel = &facts.kernel;
    let mut rows = governor(facts);
    rows.push(smt(root));
    rows.extend(built(root, kernel));
    rows.extend(preemption(kernel));
    rows.push(Row::new("mitigations", "Protections of the processor off", RTCQS, CMDLINE).judge(
        if kernel.has_argument("mitigations=off") { "off" } else { "on" },
        kernel.has_argument("mitigations=off"),
        "mitigations=off opens the host to Spectre and its kin; this project leaves them on.",
    ));
    rows.push(swappiness(root));
    rows.push(watches(root));
    rows
}

fn governor(facts: &Facts) -> Vec<Row> {
    let file = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor";
    let remedy = "cpupower frequency-set -g performance";
    let each = &facts.cpus.each;
    let words: Vec<&str> = each
        .iter()
        .filter_map(|cpu| cpu.governor.as_ref())
        .map(|governor| governor.value.as_str())
        .collect();
    let slow = words.iter().filter(|word| **word != "performance").count();
    let found = match words.first() {
        None => "not set by this system".to_owned(),
        Some(_) if slow == 0 => "performance".to_owned(),
        Some(_) => format!("{slow} of {} not performance", words.len()),
    };
    // A CPU without a governor is good for rtcqs and not for quickscan.
    vec![
        Row::new("governor", "CPU frequency", RTCQS, file).judge(found.clone(), slow == 0, remedy),
        Row::new("governor_set", "CPU frequency set", QUICKSCAN, file).judge(
            found,
            slow == 0 && words.len() == each.len(),
            remedy,
        ),
    ]
}

fn smt(root: &Root) -> Row {
    let file = "/sys/devices/system/cpu/smt/active";
    let row = Row::new("smt", "SMT off", RTCQS, file);
    match root.text(file) {
        None => row,
        Some(text) => row.judge(
            if text == "0" { "off" } else { "on" },
            text == "0",
            "echo off | sudo tee /sys/devices/system/cpu/smt/control",
        ),
    }
}

fn built(root: &Root, kernel: &Kernel) -> Vec<Row> {
    let file = kernel.config.as_ref().map_or("/proc/config.gz", |fact| fact.file.as_str());
    let has = |line: &str| kernel.built_with(&format!("CONFIG_{line}"));
    let any = |lines: &[&str]| {
        kernel.config.as_ref().map(|_| lines.iter().any(|line| has(line) == Some(true)))
    };
    let row = |id: &str, title: &str, tools, found: Option<bool>| {
        let row = Row::new(id, title, tools, file);
        match found {
            // The tools stop at this point.
            None => row,
            Some(good) => row.judge(
                if good { "built in" } else { "not built in" },
                good,
                "Take another kernel.",
            ),
        }
    };
    let known = kernel.config.is_some();
    let nohz_file = root.exists("/sys/devices/system/cpu/nohz_full");
    let tickless = ["NO_HZ=y", "NO_HZ_IDLE=y", "NO_HZ_COMMON=y", "NO_HZ_FULL=y"];
    vec![
        Row::new("kernel_config", "Kernel's configuration known", RTCQS, file).judge(
            if known { file } else { "not found" },
            known,
            "Install the kernel's package whole: it has /boot/config-VERSION.",
        ),
        row("high_res_timers", "High-resolution timers", BOTH, has("HIGH_RES_TIMERS=y")),
        row(
            "hz_1000",
            "Timer of 1000 Hz or better",
            QUICKSCAN,
            any(&["HZ=1000", "HIGH_RES_TIMERS=y"]),
        ),
        row("tickless", "Tickless", RTCQS, any(&tickless).map(|found| found || nohz_file)),
        row("tickless_idle", "Tickless when idle", QUICKSCAN, any(&["NO_HZ=y", "NO_HZ_IDLE=y"])),
    ]
}

fn preemption(kernel: &Kernel) -> Vec<Row> {
    let file = kernel.config.as_ref().map_or(CMDLINE, |fact| fact.file.as_str());
    let row = |id: &str, title: &str, tools, good: Option<(bool, &str)>| {
        let row = Row::new(id, title, tools, file);
        match good {
            None => row,
            Some((good, found)) => {
                row.judge(found, good, "Boot a PREEMPT_RT kernel, or with the argument threadirqs.")
            }
        }
    };
    let threaded = kernel.has_argument("threadirqs");
    let real_time = ["CONFIG_PREEMPT_RT=y", "CONFIG_PREEMPT_RT_FULL=y"]
        .iter()
        .any(|line| kernel.built_with(line) == Some(true));
    let full = kernel.has_argument("preempt=full");
    let found = match (threaded, real_time, full) {
        (true, ..) => "threadirqs",
        (_, true, _) => "PREEMPT_RT",
        (.., true) => "preempt=full",
        _ => "neither PREEMPT_RT nor threadirqs",
    };
    let known = kernel.config.is_some();
    let verdict = |good| known.then_some((good, found));
    vec![
        row("preempt_rt", "Real-time kernel", RTCQS, verdict(threaded || real_time || full)),
        row(
            "preempt_rt_or_threads",
            "PREEMPT_RT or threadirqs",
            QUICKSCAN,
            verdict(threaded || real_time),
        ),
    ]
}

fn swappiness(root: &Root) -> Row {
    let file = "/proc/sys/vm/swappiness";
    let row = Row::new("swappiness", "Swappiness", BOTH, file);
    let swaps = root.text("/proc/swaps").unwrap_or_default();
    if swaps.lines().count() < 2 {
        return row.judge("no swap", true, "");
    }
    let value: Option<u32> = root.text(file).and_then(|text| text.parse().ok());
    match value {
        None => row,
        Some(value) => row.judge(
            value.to_string(),
            value <= SWAPPINESS,
            "vm.swappiness=10 in a file of /etc/sysctl.d, then sudo sysctl --system",
        ),
    }
}

fn watches(root: &Root) -> Row {
    let file = "/proc/sys/fs/inotify/max_user_watches";
    let row = Row::new("watches", "Watched files", QUICKSCAN, file);
    match root.text(file).and_then(|text| text.parse::<u64>().ok()) {
        None => row,
        Some(value) => row.judge(
            value.to_string(),
            value >= WATCHES,
            "fs.inotify.max_user_watches=524288 in a file of /etc/sysctl.d",
        ),
    }
}
