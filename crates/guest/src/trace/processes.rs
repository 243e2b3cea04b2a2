//! The processes of the graph as `/proc` shows them: children, threads, what they have open, mapped
//! and locked. What a trace alone cannot say.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use archibald_trace::capture::{Mapping, Process, Role, Thread, parse_maps};

use crate::Root;

fn numbers(root: &Root, path: &str) -> Vec<u32> {
    root.names(path).iter().filter_map(|name| name.parse().ok()).collect()
}

/// The processes and all that descend from them, each with the role of its ancestor.
pub(super) fn with_children(root: &Root, graph: &[(Role, u32)]) -> Vec<(Role, u32)> {
    let mut all = graph.to_vec();
    let mut seen: BTreeSet<u32> = graph.iter().map(|(_, pid)| *pid).collect();
    let parents: Vec<(u32, u32)> = numbers(root, "/proc")
        .into_iter()
        .filter_map(|pid| Some((pid, parent(root, pid)?)))
        .collect();
    let mut next = 0;
    while let Some((role, pid)) = all.get(next).copied() {
        for (child, _) in parents.iter().filter(|(_, parent)| *parent == pid) {
            if seen.insert(*child) {
                all.push((role, *child));
            }
        }
        next += 1;
    }
    all
}

fn parent(root: &Root, pid: u32) -> Option<u32> {
    status(root, pid, "PPid:")?.parse().ok()
}

/// The first word after `key` in the process's status.
fn status(root: &Root, pid: u32, key: &str) -> Option<String> {
    let text = root.read(&format!("/proc/{pid}/status"))?;
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    rest.split_whitespace().next().map(str::to_owned)
}

/// Thread numbers of a process.
pub(super) fn threads(root: &Root, pid: u32) -> Vec<u32> {
    numbers(root, &format!("/proc/{pid}/task"))
}

/// Minor and major page faults of a thread so far.
pub(super) fn faults(root: &Root, tid: u32) -> Option<(u64, u64)> {
    let stat = stat_fields(root, &format!("/proc/{tid}"))?;
    Some((stat.get(10 - 3)?.parse().ok()?, stat.get(12 - 3)?.parse().ok()?))
}

/// Fields of proc_pid_stat(5) from the third on: the name before them may hold anything.
fn stat_fields(root: &Root, folder: &str) -> Option<Vec<String>> {
    let stat = root.read(&format!("{folder}/stat"))?;
    let (_, fields) = stat.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

/// Counters of the kernel's memory management that tell of pressure.
pub(super) fn memory_counters(root: &Root) -> BTreeMap<String, u64> {
    let wanted = |name: &str| {
        name.starts_with("pswp")
            || name.starts_with("pgscan")
            || name.starts_with("pgsteal")
            || name.starts_with("allocstall")
            || name.starts_with("workingset_refault")
            || name == "pgmajfault"
            || name == "oom_kill"
    };
    root.read("/proc/vmstat")
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(name, _)| wanted(name))
        .filter_map(|(name, count)| Some((name.to_owned(), count.trim().parse().ok()?)))
        .collect()
}

/// The process as it is now; `faults` are what its threads had when recording began.
pub(super) fn describe(
    root: &Root,
    role: Role,
    pid: u32,
    faults_before: &BTreeMap<u32, (u64, u64)>,
) -> Option<Process> {
    let folder = format!("/proc/{pid}");
    let command = root.read(&format!("{folder}/cmdline"))?.replace('\0', " ").trim().to_owned();
    let kib = |key| status(root, pid, key).and_then(|word| word.parse().ok()).unwrap_or(0);
    let threads = threads(root, pid)
        .into_iter()
        .filter_map(|tid| thread(root, &format!("{folder}/task/{tid}"), tid, faults_before))
        .collect();
    let maps: Vec<Mapping> = parse_maps(&root.read(&format!("{folder}/maps")).unwrap_or_default());
    let files = numbers(root, &format!("{folder}/fd"))
        .into_iter()
        .filter_map(|number| {
            let target = fs::read_link(root.path(&format!("{folder}/fd/{number}"))).ok()?;
            Some((number, target.to_string_lossy().into_owned()))
        })
        .collect();
    Some(Process {
        pid,
        role,
        command,
        threads,
        locked_kib: kib("VmLck:"),
        swapped_kib: kib("VmSwap:"),
        files,
        maps,
    })
}

fn thread(
    root: &Root,
    folder: &str,
    tid: u32,
    before: &BTreeMap<u32, (u64, u64)>,
) -> Option<Thread> {
    let fields = stat_fields(root, folder)?;
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let (minor, major) = before.get(&tid).copied().unwrap_or((0, 0));
    Some(Thread {
        tid,
        name: root.line(&format!("{folder}/comm"))?,
        policy: policy(field(41)?),
        priority: u32::try_from(field(40)?).ok()?,
        minor_faults: field(10)?.saturating_sub(minor),
        major_faults: field(12)?.saturating_sub(major),
    })
}

fn policy(number: u64) -> String {
    match number {
        0 => "SCHED_OTHER".to_owned(),
        1 => "SCHED_FIFO".to_owned(),
        2 => "SCHED_RR".to_owned(),
        3 => "SCHED_BATCH".to_owned(),
        5 => "SCHED_IDLE".to_owned(),
        6 => "SCHED_DEADLINE".to_owned(),
        other => format!("policy {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(root: &Root, pid: u32, parent: u32) {
        let folder = format!("/proc/{pid}");
        let stat =
            format!("{pid} (a ) b) S {parent} 1 1 0 -1 0 120 0 7 0 {}88 1 0\n", "0 ".repeat(26));
        let status = format!("PPid:\t{parent}\nVmLck:\t  64 kB\nVmSwap:\t  8 kB\n");
        for (file, text) in [
            ("stat", stat.as_str()),
            ("status", &status),
            ("cmdline", "./client\0-x\0"),
            ("comm", "client\n"),
            ("maps", "1000-2000 r-xp 00000000 00:01 7 /srv/client\n"),
        ] {
            root.write(&format!("{folder}/{file}"), text.as_bytes(), 0o644).unwrap();
            root.write(&format!("{folder}/task/{pid}/{file}"), text.as_bytes(), 0o644).unwrap();
        }
    }

    #[test]
    fn a_process_is_described_with_what_it_did_since_the_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        make(&root, 10, 1);
        make(&root, 11, 10);
        make(&root, 12, 11);
        make(&root, 13, 1);
        let graph = with_children(&root, &[(Role::Program, 10)]);
        assert_eq!(graph, [(Role::Program, 10), (Role::Program, 11), (Role::Program, 12)]);
        let before = BTreeMap::from([(10, (20, 5))]);
        let process = describe(&root, Role::Program, 10, &before).unwrap();
        assert_eq!((process.command.as_str(), process.locked_kib), ("./client -x", 64));
        let thread = process.threads.first().unwrap();
        assert_eq!((thread.minor_faults, thread.major_faults), (100, 2));
        assert_eq!((thread.policy.as_str(), thread.priority), ("SCHED_FIFO", 88));
        assert_eq!(process.maps.len(), 1);
        assert!(describe(&root, Role::Program, 99, &before).is_none());
    }

    #[test]
    fn only_counters_of_pressure_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        root.write("/proc/vmstat", b"nr_free_pages 7\npswpin 3\npgmajfault 2\n", 0o644).unwrap();
        assert_eq!(
            memory_counters(&root).into_iter().collect::<Vec<_>>(),
            [("pgmajfault".to_owned(), 2), ("pswpin".to_owned(), 3)]
        );
    }
}
