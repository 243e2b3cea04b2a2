//! Recording what the kernel does while the audio graph runs: two tracefs instances of our own, so
//! that nobody else's tracing is touched. `sched` sees every thread, because anyone can hold the
//! processor; `calls` sees the system calls and page faults of the graph's own threads alone, which is
//! what makes it cheap. Nothing is read while it records; the raw pages are copied afterwards.

mod addresses;
mod instance;
mod processes;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use archibald_trace::capture::{FORMATS, Manifest, Process, RAW, Role, SCHEMA};

use self::instance::Instance;
use crate::{GuestError, Root};

/// Who had the processor, who woke whom, and what interrupted.
const SCHEDULING: &[&str] = &[
    "sched/sched_switch",
    "sched/sched_waking",
    "sched/sched_wakeup_new",
    "sched/sched_pi_setprio",
    "sched/sched_process_fork",
    "irq/irq_handler_entry",
    "irq/irq_handler_exit",
    "irq/softirq_entry",
    "irq/softirq_exit",
    "timer/hrtimer_expire_entry",
    "timer/hrtimer_expire_exit",
    "vmscan/mm_vmscan_direct_reclaim_begin",
    "vmscan/mm_vmscan_direct_reclaim_end",
    "vmscan/mm_vmscan_kswapd_wake",
    "vmscan/mm_vmscan_kswapd_sleep",
];

/// What the graph's own threads asked of the kernel.
const CALLS: &[&str] = &[
    "raw_syscalls/sys_enter",
    "raw_syscalls/sys_exit",
    "exceptions/page_fault_user",
    "exceptions/page_fault_kernel",
    "kmem/mm_page_alloc",
    "timer/hrtimer_start",
    "lock/contention_begin",
    "lock/contention_end",
];

/// What is recorded only with [`Options::stacks`]: the kernel's stack where a graph's thread sleeps.
const STACKS: &[&str] = &["ftrace/kernel_stack"];

/// How to record.
#[derive(Debug, Clone)]
pub struct Options {
    /// Ring of the scheduling events, in KiB on each CPU; the oldest events fall out of a full one.
    pub sched_kib: u32,
    /// Ring of the graph's own calls, in KiB on each CPU.
    pub calls_kib: u32,
    /// Record the kernel's stack where a thread of the graph sleeps without being interruptible: in
    /// input and output, and waiting for memory.
    pub stacks: bool,
}

impl Default for Options {
    fn default() -> Self {
        // Under a full mixed load about 3 MiB a second of scheduling at 500 MIPS.
        Self { sched_kib: 48 << 10, calls_kib: 24 << 10, stacks: true }
    }
}

/// Rings that are ready, recording or not.
#[derive(Debug)]
pub struct Recorder {
    root: Root,
    sched: Instance,
    calls: Instance,
    stacks: bool,
    begun: Option<Begun>,
    ended_ns: Option<u64>,
}

#[derive(Debug)]
struct Begun {
    at_ns: u64,
    graph: Vec<(Role, u32)>,
    memory: BTreeMap<String, u64>,
    faults: BTreeMap<u32, (u64, u64)>,
}

impl Recorder {
    /// Makes the rings; records nothing yet.
    ///
    /// # Errors
    /// When tracefs is not there, or the memory for the rings.
    pub fn prepare(root: &Root, options: &Options) -> Result<Self, GuestError> {
        let sched = Instance::make(root, "archibald-sched", options.sched_kib)?;
        let calls = Instance::make(root, "archibald-calls", options.calls_kib)?;
        Ok(Self {
            root: root.clone(),
            sched,
            calls,
            stacks: options.stacks,
            begun: None,
            ended_ns: None,
        })
    }

    /// Starts to record; `graph` are the processes of the audio graph. Their children count as
    /// theirs, now and later.
    ///
    /// # Errors
    /// When the kernel has no such event, or takes no more processes.
    pub fn begin(&mut self, graph: &[(Role, u32)]) -> Result<(), GuestError> {
        let graph = processes::with_children(&self.root, graph);
        let threads: Vec<u32> =
            graph.iter().flat_map(|(_, pid)| processes::threads(&self.root, *pid)).collect();
        self.sched.choose(SCHEDULING)?;
        self.calls.choose(CALLS)?;
        self.calls.only(&threads)?;
        if self.stacks {
            self.sched.stacks_of(&threads)?;
        }
        self.begun = Some(Begun {
            at_ns: now_ns(),
            memory: processes::memory_counters(&self.root),
            faults: threads
                .iter()
                .filter_map(|tid| Some((*tid, processes::faults(&self.root, *tid)?)))
                .collect(),
            graph,
        });
        self.sched.switch(true)?;
        self.calls.switch(true)
    }

    /// Stops recording; what was recorded stays in the rings.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn pause(&mut self) -> Result<(), GuestError> {
        self.calls.switch(false)?;
        self.sched.switch(false)?;
        self.ended_ns.get_or_insert_with(now_ns);
        Ok(())
    }

    /// Stops, and writes the capture into `folder`, which is made. The processes must still be there:
    /// what they have mapped and open is written down with it.
    ///
    /// # Errors
    /// When nothing was begun, or a file cannot be written.
    pub fn end(mut self, folder: &Path) -> Result<Manifest, GuestError> {
        self.pause()?;
        let ended_ns = self.ended_ns.unwrap_or_default();
        let begun = self.begun.as_ref().ok_or_else(|| GuestError::Program {
            program: "tracing".to_owned(),
            reason: "it was ended before it was begun".to_owned(),
        })?;
        for name in [RAW, FORMATS] {
            let path = folder.join(name);
            fs::create_dir_all(&path).map_err(GuestError::file("make", path))?;
        }
        // Threads that began meanwhile have all their faults in the recording.
        let describe = |(role, pid): &(Role, u32)| -> Option<Process> {
            processes::describe(&self.root, *role, *pid, &begun.faults)
        };
        let graph = processes::with_children(&self.root, &begun.graph);
        let processes = graph.iter().filter_map(describe).collect();
        let mut rings = self.sched.copy(folder, "sched")?;
        rings.extend(self.calls.copy(folder, "calls")?);
        let stacks = if self.stacks { STACKS } else { &[] };
        for event in SCHEDULING.iter().chain(CALLS).chain(stacks) {
            self.sched.copy_format(folder, event)?;
        }
        let mut memory = processes::memory_counters(&self.root);
        memory.retain(|name, count| {
            *count = count.saturating_sub(begun.memory.get(name).copied().unwrap_or(0));
            *count > 0
        });
        let symbols = addresses::names(&self.root, folder, &rings, self.sched.page_bytes());
        let manifest = Manifest {
            schema: SCHEMA.to_owned(),
            kernel: self.root.line("/proc/sys/kernel/osrelease").unwrap_or_default(),
            clock: instance::CLOCK.to_owned(),
            page_bytes: self.sched.page_bytes(),
            begun_ns: begun.at_ns,
            ended_ns,
            rings,
            processes,
            memory,
            symbols,
        };
        manifest.write(folder).map_err(|error| GuestError::Program {
            program: "tracing".to_owned(),
            reason: error.to_string(),
        })?;
        Ok(manifest)
    }
}

/// CLOCK_MONOTONIC in ns.
fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}
