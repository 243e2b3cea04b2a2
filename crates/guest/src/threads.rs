//! Threads as the kernel runs them: policy, priority and CPUs from `/proc`, not from anybody's config.

use archibald_machine::units::CpuSet;

use crate::Root;

/// SCHED_FIFO in sched(7).
const FIFO: u32 = 1;
/// PF_KTHREAD of the kernel's linux/sched.h, in the flags of proc_pid_stat(5).
const KERNEL_THREAD: u64 = 0x0020_0000;

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

/// A thread with everything that decides when it runs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Scheduled {
    /// Its process.
    pub process: u32,
    /// Its own number.
    pub id: u32,
    /// The process's name.
    pub program: String,
    /// Its own name.
    pub name: String,
    /// Owner of the process.
    pub uid: u32,
    /// Whether it is one of the kernel's.
    pub kernel: bool,
    /// By its name in sched(7) without `SCHED_`.
    pub policy: &'static str,
    /// Real-time priority, 1 to 99; 0 under a policy that has none.
    pub priority: u8,
    /// CPUs that it may run on.
    pub cpus: CpuSet,
}

impl Scheduled {
    /// Whether it goes before every ordinary thread.
    #[must_use]
    pub fn is_real_time(&self) -> bool {
        self.priority > 0
    }
}

/// Every thread, the foremost first.
#[must_use]
pub fn all(root: &Root) -> Vec<Scheduled> {
    let mut threads = Vec::new();
    for process in numbers(root, "/proc") {
        let folder = format!("/proc/{process}");
        let (Some(program), Some(uid)) =
            (root.line(&format!("{folder}/comm")), owner(root, &folder))
        else {
            continue;
        };
        for id in numbers(root, &format!("{folder}/task")) {
            let folder = format!("{folder}/task/{id}");
            threads.extend(read_scheduled(root, &folder, process, id, &program, uid));
        }
    }
    threads.sort_by_key(|thread| {
        let Scheduled { priority, process, id, .. } = thread;
        (std::cmp::Reverse(*priority), *process, *id)
    });
    threads
}

fn read_scheduled(
    root: &Root,
    folder: &str,
    process: u32,
    id: u32,
    program: &str,
    uid: u32,
) -> Option<Scheduled> {
    let stat = root.read(&format!("{folder}/stat"))?;
    let (_, fields) = stat.rsplit_once(')')?;
    let field = |number: usize| fields.split_whitespace().nth(number - 3)?.parse::<u64>().ok();
    Some(Scheduled {
        process,
        id,
        program: program.to_owned(),
        name: root.line(&format!("{folder}/comm"))?,
        uid,
        kernel: field(9)? & KERNEL_THREAD != 0,
        policy: match field(41)? {
            0 => "OTHER",
            1 => "FIFO",
            2 => "RR",
            3 => "BATCH",
            5 => "IDLE",
            6 => "DEADLINE",
            _ => "unknown",
        },
        priority: u8::try_from(field(40)?).ok()?,
        cpus: status_line(root, folder, "Cpus_allowed_list:")?.parse().ok()?,
    })
}

/// The threads of all processes called `name` that belong to `uid`.
#[must_use]
pub fn threads_of(root: &Root, name: &str, uid: u32) -> Vec<Thread> {
    let mut threads = Vec::new();
    for process in numbers(root, "/proc") {
        let folder = format!("/proc/{process}");
        let is_called = root.line(&format!("{folder}/comm")).as_deref() == Some(name);
        if !is_called || owner(root, &folder) != Some(uid) {
            continue;
        }
        for thread in numbers(root, &format!("{folder}/task")) {
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

/// The directory's entries that are numbers: processes, threads.
fn numbers(root: &Root, path: &str) -> Vec<u32> {
    root.names(path).iter().filter_map(|name| name.parse().ok()).collect()
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
