//! Where threads may run and at which priority, by the kernel's word and util-linux' reading of it.
// Each test file uses some of it; a failed call here is a failed test.
#![allow(dead_code, clippy::unwrap_used)]

use std::process::Command;

use archibald_machine::units::CpuSet;

/// The host CPU that the machine has for itself, for its isolated vCPU.
pub(crate) fn own_cpu() -> Option<u32> {
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
    let online: CpuSet = online.trim().parse().unwrap();
    online.iter().skip(1).last()
}

/// Policy and priority of a thread, as util-linux has them from the kernel.
pub(crate) fn kernels_word(tid: u64) -> (String, i64) {
    let output = Command::new("chrt").args(["-p", &tid.to_string()]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let after = |words: &str| {
        let line = text.lines().find_map(|line| line.split_once(words)).unwrap();
        line.1.trim_start_matches(": ").trim().to_owned()
    };
    let policy = after("scheduling policy");
    let policy = policy.trim_end_matches("|SCHED_RESET_ON_FORK").trim_start_matches("SCHED_");
    (policy.to_owned(), after("scheduling priority").parse().unwrap())
}

pub(crate) fn may_have_priorities() -> bool {
    Command::new("chrt").args(["-f", "1", "true"]).status().unwrap().success()
}
