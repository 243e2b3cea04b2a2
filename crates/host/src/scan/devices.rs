//! File systems, interrupts, sleep, and what runs beside.

use super::{BOTH, QUICKSCAN, RTCQS, Row};
use crate::Root;
use crate::facts::Facts;

pub(super) fn rows(root: &Root, facts: &Facts) -> Vec<Row> {
    let mounts = mounts(root);
    vec![
        filesystems(&mounts),
        slow_filesystems(&mounts),
        access_times(facts),
        interrupts(root),
        background(root),
        power(root),
    ]
}

struct Mount {
    device: String,
    point: String,
    kind: String,
}

const MOUNTS: &str = "/proc/mounts";

fn mounts(root: &Root) -> Vec<Mount> {
    let text = root.text(MOUNTS).unwrap_or_default();
    let mount = |line: &str| {
        let mut words = line.split(' ').map(str::to_owned);
        Some(Mount { device: words.next()?, point: words.next()?, kind: words.next()? })
    };
    text.lines().filter_map(mount).collect()
}

/// rtcqs looks at the kinds of file systems, and wants no audio on /boot.
fn filesystems(mounts: &[Mount]) -> Row {
    let kind = |mount: &Mount| mount.kind.split('.').next().unwrap_or_default().to_owned();
    let boot = |mount: &Mount| mount.point == "/boot";
    let is_good = |mount: &&Mount| {
        ["ext4", "xfs", "zfs", "btrfs"].contains(&kind(mount).as_str()) && !boot(mount)
    };
    let is_bad = |mount: &&Mount| {
        let slow = ["fuse", "reiserfs", "nfs", "cifs"].contains(&kind(mount).as_str());
        // What a session mounts below /run is its own affair.
        let top = mount.point.split('/').nth(1).unwrap_or_default();
        (slow || boot(mount)) && top != "run"
    };
    let points = |mounts: Vec<&Mount>| {
        mounts.iter().map(|mount| mount.point.as_str()).collect::<Vec<_>>().join(", ")
    };
    let good: Vec<&Mount> = mounts.iter().filter(is_good).collect();
    let bad: Vec<&Mount> = mounts.iter().filter(is_bad).collect();
    let row = Row::new("filesystems", "File systems", RTCQS, MOUNTS);
    match (good.is_empty(), bad.is_empty()) {
        (_, false) => row.judge(points(bad), false, "Keep audio files off these."),
        (false, true) => row.judge(points(good), true, ""),
        (true, true) => row,
    }
}

/// quickscan looks at disks only.
fn slow_filesystems(mounts: &[Mount]) -> Row {
    let bad: Vec<&str> = mounts
        .iter()
        .filter(|mount| mount.device.starts_with("/dev") && !mount.point.starts_with("/media"))
        .filter(|mount| ["fuseblk", "reiserfs"].contains(&mount.kind.as_str()))
        .map(|mount| mount.point.as_str())
        .collect();
    let found = if bad.is_empty() { "none is slow".to_owned() } else { bad.join(", ") };
    Row::new("slow_filesystems", "File systems of disks", QUICKSCAN, MOUNTS).judge(
        found,
        bad.is_empty(),
        "Keep audio files off these.",
    )
}

/// Since 2.6.30 the time of access is written once a day, which is good enough for quickscan.
fn access_times(facts: &Facts) -> Row {
    let row = Row::new("noatime", "Times of access", QUICKSCAN, "/proc/sys/kernel/osrelease");
    let Some(release) = &facts.kernel.release else { return row };
    let mut numbers = release.value.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version =
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    row.judge(
        format!("kernel {}", release.value),
        version >= (2, 6, 30),
        "Mount with the option noatime.",
    )
}

/// A sound card or USB controller that shares its interrupt waits for the others' handlers.
fn interrupts(root: &Root) -> Row {
    let at = "/sys/kernel/irq";
    let row = Row::new("irqs", "Interrupts of sound and USB", BOTH, at);
    let watched = ["audiodsp", "snd_", "ehci_hcd", "uhci_hcd", "xhci_hcd", ",hci_hcd"];
    let mut shared = Vec::new();
    let mut alone = 0;
    for number in root.names(at) {
        let actions = root.text(&format!("{at}/{number}/actions")).unwrap_or_default();
        let actions = actions.lines().next().unwrap_or_default();
        if !watched.iter().any(|word| actions.contains(word)) {
            continue;
        }
        match actions.contains(',') {
            true => shared.push(format!("{number} ({actions})")),
            false => alone += 1,
        }
    }
    match (shared.is_empty(), alone) {
        (true, 0) => row,
        (true, alone) => row.judge(format!("{alone}, none shared"), true, ""),
        (false, _) => row.judge(shared.join("; "), false, "Another slot gives another interrupt."),
    }
}

/// Programs of old desktops that change clocks behind one's back.
fn background(root: &Root) -> Row {
    let names = root.names("/proc");
    let pids = names.iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    let running: Vec<String> = pids
        .filter_map(|pid| root.text(&format!("/proc/{pid}/comm")))
        .filter(|name| ["powersaved", "kpowersave"].contains(&name.as_str()))
        .collect();
    let found = if running.is_empty() { "none".to_owned() } else { running.join(", ") };
    Row::new("background", "Programs that save power", QUICKSCAN, "/proc/PID/comm").judge(
        found,
        running.is_empty(),
        "Stop them.",
    )
}

fn power(root: &Root) -> Row {
    let file = "/dev/cpu_dma_latency";
    let may = rustix::fs::access(root.path(file), rustix::fs::Access::WRITE_OK).is_ok();
    Row::new("power_management", "Sleep can be held off", RTCQS, file).judge(
        if may { "writable" } else { "not writable" },
        may,
        "A udev rule: KERNEL==\"cpu_dma_latency\", GROUP=\"audio\", MODE=\"0660\"",
    )
}
