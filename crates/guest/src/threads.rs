//! Threads as the kernel runs them: policy, priority and CPUs from `/proc`, not from anybody's config.

use archibald_machine::units::CpuSet;

use crate::Root;

/// SCHED_FIFO in sched(7).
const FIFO: u32 = 1;

/// One thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thread {
    /// Process that it belongs to.
    pub process: u32,
    /// Its own name.
    pub name: String,
    /// SCHED_FIFO priority; `None` under any other policy.
    pub fifo: Option<u8>,
    /// CPUs that it may run on.
    pub cpus: CpuSet,
}

/// The threads of all processes called `name` that belong to `uid`.
#[must_use]
pub fn threads_of(root: &Root, name: &str, uid: u32) -> Vec<Thread> {
    let numbers = |path: &str| -> Vec<u32> {
        root.names(path).iter().filter_map(|name| name.parse().ok()).collect()
    };
    let mut threads = Vec::new();
    for process in numbers("/proc") {
        let folder = format!("/proc/{process}");
        let is_called = root.line(&format!("{folder}/comm")).as_deref() == Some(name);
        if !is_called || owner(root, &folder) != Some(uid) {
            continue;
        }
        for thread in numbers(&format!("{folder}/task")) {
            threads.extend(read_thread(root, &format!("{folder}/task/{thread}"), process));
        }
    }
    threads
}

/// Locked memory of a process in KiB.
#[must_use]
pub fn locked_kib(root: &Root, process: u32) -> Option<u64> {
    let line = status_line(root, &format!("/proc/{process}"), "VmLck:")?;
    line.split_whitespace().next()?.parse().ok()
}

fn owner(root: &Root, folder: &str) -> Option<u32> {
    status_line(root, folder, "Uid:")?.split_whitespace().next()?.parse().ok()
}

fn status_line(root: &Root, folder: &str, key: &str) -> Option<String> {
    let status = root.read(&format!("{folder}/status"))?;
    status.lines().find_map(|line| line.strip_prefix(key)).map(|rest| rest.trim().to_owned())
}

fn read_thread(root: &Root, folder: &str, process: u32) -> Option<Thread> {
    let stat = root.read(&format!("{folder}/stat"))?;
    // The name may hold blanks and brackets; after its last bracket come fields 3 and on of
    // proc_pid_stat(5), of which 40 is the real-time priority and 41 the policy.
    let (_, fields) = stat.rsplit_once(')')?;
    let field = |number: usize| fields.split_whitespace().nth(number - 3)?.parse::<u32>().ok();
    let (priority, policy) = (field(40)?, field(41)?);
    Some(Thread {
        process,
        name: root.line(&format!("{folder}/comm"))?,
        fifo: if policy == FIFO { u8::try_from(priority).ok() } else { None },
        cpus: status_line(root, folder, "Cpus_allowed_list:")?.parse().ok()?,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Writes a process with one thread beside its main one.
    pub(crate) fn make(root: &Root, process: u32, name: &str, thread: &str, fifo: Option<u8>) {
        let main = format!("/proc/{process}");
        let status = "Uid:\t1000\t1000\nVmLck:\t   24944 kB\nCpus_allowed_list:\t1\n";
        for (folder, comm, priority) in [
            (main.clone(), name, None),
            (format!("{main}/task/{process}"), name, None),
            (format!("{main}/task/{}", process + 1), thread, fifo),
        ] {
            let policy = u8::from(priority.is_some());
            let zeros = "0 ".repeat(36);
            let stat = format!("1 (a ) b) S {zeros}{} {policy} 0\n", priority.unwrap_or(0));
            for (file, text) in [("comm", comm), ("stat", &stat), ("status", status)] {
                root.write(&format!("{folder}/{file}"), text.as_bytes(), 0o644).unwrap();
            }
        }
    }

    #[test]
    fn a_thread_is_read_as_the_kernel_runs_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        make(&root, 500, "pipewire", "data-loop.0", Some(88));
        let threads = threads_of(&root, "pipewire", 1000);
        assert_eq!(threads.len(), 2);
        assert_eq!((threads[0].fifo, threads[1].fifo), (None, Some(88)));
        assert_eq!(threads[1].cpus.to_string(), "1");
        assert_eq!(locked_kib(&root, 500), Some(24944));
        assert!(threads_of(&root, "pipewire", 1001).is_empty());
        assert!(threads_of(&root, "jackd", 1000).is_empty());
    }
}
