//! Who runs the audio program, and what they may take.

use archibald_machine::units::Bytes;

use super::{BOTH, QUICKSCAN, RTCQS, Row};
use crate::Root;
use crate::facts::Facts;

/// The priority that rtcqs wants a group's limits to give.
const GROUP_PRIORITY: u64 = 75;

/// The priority that both tools try to take.
const PRIORITY: u64 = 80;

const LIMITS: &str = "/proc/self/limits";

pub(super) fn rows(root: &Root, facts: &Facts) -> Vec<Row> {
    let session = &facts.session;
    let limit = session.rt_priority.as_ref().map_or(0, |fact| fact.value);
    let memory = session.locked_memory.as_ref().map(|fact| fact.value);
    let memory_words = match memory {
        Some(None) => "unlimited".to_owned(),
        Some(Some(Bytes(bytes))) => bytes.to_string(),
        None => "unknown".to_owned(),
    };
    let groups = session.groups.join(" ");
    let named_audio = root
        .text("/etc/group")
        .unwrap_or_default()
        .lines()
        .filter(|l| l.starts_with("audio:"))
        .count();
    vec![
        Row::new("root", "Not run as root", BOTH, "/proc/self/status").judge(
            if session.is_root() { "root" } else { "a user" },
            !session.is_root(),
            "Run it as the user who runs the audio programs.",
        ),
        Row::new("audio_group", "Limits of a group", RTCQS, LIMITS).judge(
            format!("rtprio {limit}, memlock {memory_words}"),
            limit >= GROUP_PRIORITY && memory == Some(None),
            "sudo usermod -aG audio $USER, with limits for that group in /etc/security/limits.d",
        ),
        Row::new("audio_member", "In the group audio", QUICKSCAN, "/etc/group").judge(
            if groups.is_empty() { "no group".to_owned() } else { groups.clone() },
            groups.contains("audio"),
            "sudo usermod -aG audio $USER",
        ),
        Row::new("audio_groups", "One group named audio", QUICKSCAN, "/etc/group").judge(
            named_audio.to_string(),
            named_audio == 1,
            "Let /etc/group have the group audio once.",
        ),
        Row::new("rt_prio", "SCHED_FIFO 80", BOTH, LIMITS).judge(
            if session.any_priority {
                "any (CAP_SYS_NICE)".into()
            } else {
                format!("up to {limit}")
            },
            session.any_priority || limit >= PRIORITY,
            "Give the user rtprio 95 in /etc/security/limits.d, then log in again.",
        ),
    ]
}
