//! What threads used of the processor: the scheduler's own books, /proc/PID/task/TID/schedstat.

use std::collections::BTreeMap;
use std::time::Duration;

use archibald_mailbox::ThreadUse;

use crate::Root;

/// Names of sched(7)'s policies, by number.
const POLICIES: [&str; 7] =
    ["SCHED_OTHER", "SCHED_FIFO", "SCHED_RR", "SCHED_BATCH", "(4)", "SCHED_IDLE", "SCHED_DEADLINE"];

/// Every thread of the processes in one of these groups, with its books so far.
pub(super) fn threads(root: &Root, groups: &[u32]) -> Vec<ThreadUse> {
    let mut threads = Vec::new();
    for pid in processes(root, groups) {
        for tid in numbers(root, &format!("/proc/{pid}/task")) {
            threads.extend(thread(root, pid, tid));
        }
    }
    threads
}

/// The processes in one of these groups.
fn processes(root: &Root, groups: &[u32]) -> Vec<u32> {
    let mut pids = numbers(root, "/proc");
    pids.retain(|pid| {
        let stat = root.read(&format!("/proc/{pid}/stat"));
        let group: Option<u32> = stat.and_then(|stat| field(&stat, 5));
        group.is_some_and(|group| groups.contains(&group))
    });
    pids
}

fn numbers(root: &Root, path: &str) -> Vec<u32> {
    let mut numbers: Vec<u32> =
        root.names(path).iter().filter_map(|name| name.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

/// Where files below `folder` lie in the memory of the processes in one of these groups: path in the
/// folder, and the address that the file's first byte has or would have.
pub(super) fn mapped(root: &Root, groups: &[u32], folder: &str) -> BTreeMap<String, u64> {
    let mut mapped = BTreeMap::new();
    for pid in processes(root, groups) {
        // proc_pid_maps(5): range, rights, offset, device, inode, path.
        for line in root.read(&format!("/proc/{pid}/maps")).unwrap_or_default().lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [range, _, offset, _, _, path] = words[..] else { continue };
            let number = |text: &str| u64::from_str_radix(text, 16).ok();
            let first = range.split('-').next().and_then(number).zip(number(offset));
            let inside = path.strip_prefix(folder).and_then(|path| path.strip_prefix('/'));
            if let (Some(path), Some((first, offset))) = (inside, first) {
                mapped.entry(path.to_owned()).or_insert(first.saturating_sub(offset));
            }
        }
    }
    mapped
}

/// What was used between two looks. A thread that ended in between is left out; one that was born
/// counts from its birth.
pub(super) fn between(before: &[ThreadUse], after: Vec<ThreadUse>) -> Vec<ThreadUse> {
    after
        .into_iter()
        .map(|mut thread| {
            if let Some(old) = before.iter().find(|old| old.tid == thread.tid) {
                thread.runtime_ns = thread.runtime_ns.saturating_sub(old.runtime_ns);
                thread.waited_ns = thread.waited_ns.saturating_sub(old.waited_ns);
                thread.slices = thread.slices.saturating_sub(old.slices);
            }
            thread
        })
        .collect()
}

/// Whether real-time threads had nearly the whole processor between two looks that lie so far apart. The
/// kernel keeps a twentieth for ordinary ones.
pub(super) fn fills(passed: Duration, before: &[ThreadUse], after: &[ThreadUse]) -> bool {
    let used: u64 = between(before, after.to_vec())
        .iter()
        .filter(|thread| thread.is_real_time())
        .map(|thread| thread.runtime_ns)
        .sum();
    u128::from(used) * 100 >= passed.as_nanos() * 80
}

fn thread(root: &Root, pid: u32, tid: u32) -> Option<ThreadUse> {
    let folder = format!("/proc/{pid}/task/{tid}");
    let stat = root.read(&format!("{folder}/stat"))?;
    let name = stat.split_once('(')?.1.rsplit_once(')')?.0.to_owned();
    let books = root.line(&format!("{folder}/schedstat"))?;
    let mut books = books.split(' ').map(|number| number.parse().unwrap_or(0));
    let policy: usize = field(&stat, 41)?;
    Some(ThreadUse {
        pid,
        tid,
        name,
        policy: POLICIES.get(policy).copied().unwrap_or("unknown").to_owned(),
        priority: field(&stat, 40)?,
        runtime_ns: books.next()?,
        waited_ns: books.next()?,
        slices: books.next()?,
    })
}

/// A field of proc_pid_stat(5), counted from 1 as there. The name in field 2 may hold blanks.
fn field<T: std::str::FromStr>(stat: &str, number: usize) -> Option<T> {
    let rest = stat.rsplit_once(')')?.1;
    rest.split_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(pid: u32, name: &str, group: u32, priority: u8, policy: u8) -> String {
        let mut fields: Vec<String> = (1..=52).map(|number| number.to_string()).collect();
        fields[0] = pid.to_string();
        fields[1] = format!("({name})");
        fields[2] = "S".to_owned();
        fields[4] = group.to_string();
        fields[39] = priority.to_string();
        fields[40] = policy.to_string();
        fields.join(" ")
    }

    #[test]
    fn the_threads_of_a_group_and_what_they_used() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let put = |path: &str, text: &str| root.write(path, text.as_bytes(), 0o644).unwrap();
        put("/proc/7/stat", &stat(7, "cli ent)", 7, 0, 0));
        put("/proc/7/task/7/stat", &stat(7, "cli ent)", 7, 0, 0));
        put("/proc/7/task/7/schedstat", "100 5 2\n");
        put("/proc/7/task/8/stat", &stat(8, "audio", 7, 83, 1));
        put("/proc/7/task/8/schedstat", "1000 20 30\n");
        put("/proc/9/stat", &stat(9, "other", 9, 0, 0));
        put("/proc/9/task/9/stat", &stat(9, "other", 9, 0, 0));
        put("/proc/9/task/9/schedstat", "1 1 1\n");
        let before = threads(&root, &[7]);
        assert_eq!(before.len(), 2);
        assert_eq!(
            (before[0].name.as_str(), before[0].policy.as_str()),
            ("cli ent)", "SCHED_OTHER")
        );
        assert_eq!((before[1].priority, before[1].policy.as_str()), (83, "SCHED_FIFO"));
        put("/proc/7/task/8/schedstat", "1500 25 40\n");
        let used = between(&before, threads(&root, &[7]));
        assert_eq!((used[1].runtime_ns, used[1].waited_ns, used[1].slices), (500, 5, 10));
        assert_eq!(used[0].slices, 0);
        // 500 ns of the real-time thread.
        let after = threads(&root, &[7]);
        assert!(fills(Duration::from_nanos(600), &before, &after));
        assert!(!fills(Duration::from_nanos(700), &before, &after));
    }
}
