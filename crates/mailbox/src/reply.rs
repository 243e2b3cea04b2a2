//! What the guest answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What happened in the guest. Times are nanoseconds of its CLOCK_MONOTONIC, which counts
/// instructions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reply {
    /// Why it did not come to its end; absent: it did.
    pub problem: Option<Problem>,
    /// The running kernel's release and build, as `uname -rv` prints it.
    pub kernel: String,
    /// What was counted; absent for a build.
    pub window: Option<Window>,
}

impl Reply {
    /// Its name in the parcel.
    pub const FILE: &'static str = "reply.json";
    /// The audio server's output.
    pub const SERVER_LOG: &'static str = "server.log";
    /// The program's output, or the build's.
    pub const PROGRAM_LOG: &'static str = "program.log";
    /// The load's output.
    pub const LOAD_LOG: &'static str = "load.log";
    /// The probe's document.
    pub const PROBE: &'static str = "probe.json";
    /// /proc/schedstat at the end, for comparing two runs.
    pub const SCHEDSTAT: &'static str = "schedstat";
    /// The folder that a build has worked in.
    pub const FOLDER: &'static str = "program";
    /// The folder of what tracing recorded.
    pub const TRACE: &'static str = "trace";
}

/// Where it stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Problem {
    /// During what.
    pub stage: Stage,
    /// What went wrong, for a person.
    pub message: String,
}

/// The steps of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Stage {
    /// The request, accounts and settings: the lab's own affair.
    Setup,
    /// The audio server did not start: the lab's own affair, or settings that no server takes.
    Server,
    /// The program's build failed.
    Build,
    /// The program did not connect, or ended.
    Program,
    /// The load did not start.
    Load,
    /// Counting failed.
    Window,
}

/// What was counted between two moments.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// When counting began.
    pub begin_ns: u64,
    /// When it ended.
    pub end_ns: u64,
    /// The processor's time stamp counter at these two moments. QEMU counts its own virtual
    /// nanoseconds there.
    pub stamps: (u64, u64),
    /// Where the program's files lie in its memory: of each, the path below its folder, and the
    /// address of its first byte.
    pub mapped: BTreeMap<String, u64>,
    /// The part of the server's log that was written meanwhile: first byte and first byte after.
    pub server_log: (u64, u64),
    /// The server's own counters of errors, by what they count: how much they grew.
    pub counters: BTreeMap<String, u64>,
    /// The program's threads.
    pub program: Vec<ThreadUse>,
    /// The server's threads.
    pub server: Vec<ThreadUse>,
    /// Ports in the graph at the end, as JACK names them.
    pub ports: Vec<String>,
}

/// What a thread used of the processor within the window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThreadUse {
    /// Process.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
    /// Its name.
    pub name: String,
    /// Scheduling policy: SCHED_OTHER, SCHED_FIFO, SCHED_RR and so on.
    pub policy: String,
    /// Real-time priority, 0 without.
    pub priority: u8,
    /// Time on the processor.
    pub runtime_ns: u64,
    /// Time runnable, but waiting for the processor.
    pub waited_ns: u64,
    /// How often it was put on the processor.
    pub slices: u64,
}

impl ThreadUse {
    /// Whether it has a real-time policy of fixed priority.
    #[must_use]
    pub fn is_real_time(&self) -> bool {
        ["SCHED_FIFO", "SCHED_RR"].contains(&&*self.policy)
    }
}
