//! The cause of an episode: what its largest cost means.

use serde::{Deserialize, Serialize};

use crate::capture::Process;
use crate::cost::{Cost, Kind};
use crate::episode::Episode;
use crate::event::Tid;
use crate::graph::Graph;
use crate::read::Trace;
use crate::timeline::{Doing, Span, Timeline};

/// Why a period was not done in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The audio thread waited for a lock that another thread held.
    LockHeld,
    /// Memory had to be made or mapped while the audio thread ran.
    PageFault,
    /// A system call kept the audio thread.
    BlockingCall,
    /// The audio thread computed longer than a period has time for.
    OwnWork,
    /// Another thread had the processor.
    Preempted,
    /// The audio thread is not a real-time thread.
    NoPriority,
    /// The timer's interrupt came late.
    LateInterrupt,
    /// The kernel held back real-time threads in favour of ordinary ones.
    Throttled,
    /// Memory was short, and the audio thread's pages had been taken away.
    MemoryPressure,
    /// The trace does not tell.
    Unknown,
}

impl Code {
    /// As it stands in scenarios and reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LockHeld => "lock-held",
            Self::PageFault => "page-fault",
            Self::BlockingCall => "blocking-call",
            Self::OwnWork => "own-work",
            Self::Preempted => "preempted",
            Self::NoPriority => "no-priority",
            Self::LateInterrupt => "late-interrupt",
            Self::Throttled => "throttled",
            Self::MemoryPressure => "memory-pressure",
            Self::Unknown => "unknown",
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::LockHeld => {
                "Give the mutex priority inheritance (pthread_mutexattr_setprotocol), use trylock, or pass the data through a lock-free ring."
            }
            Self::PageFault => {
                "Allocate and touch all memory before the callback runs, lock it with mlockall, and do not allocate or free in the callback."
            }
            Self::BlockingCall => {
                "Leave the call to a thread of its own and hand it the data through a lock-free ring."
            }
            Self::OwnWork => {
                "Spread the work over several periods, move it to another thread, or take a larger quantum."
            }
            Self::Preempted => {
                "Give that thread a lower priority than the audio threads have, or another processor."
            }
            Self::NoPriority => {
                "Let the audio thread be a real-time thread: the user needs an rtprio limit (ulimit -r, /etc/security/limits.d), and the program must not refuse it."
            }
            Self::LateInterrupt => {
                "Look for what keeps interrupts off: a kernel without PREEMPT_RT, a driver, or the host of a virtual machine."
            }
            Self::Throttled => {
                "Real-time threads took all of the processor for most of a second: find the one that does not sleep, or set kernel.sched_rt_runtime_us to -1."
            }
            Self::MemoryPressure => {
                "Lock the program's memory (mlockall; the user needs a memlock limit, ulimit -l), or give the machine more of it."
            }
            Self::Unknown => {
                "Record it again with a longer trace, or look at the trace with trace-cmd."
            }
        }
    }
}

/// What is needed to judge a cost.
#[derive(Debug, Clone, Copy)]
pub struct Context<'t> {
    /// The capture.
    pub trace: &'t Trace,
    /// Its histories.
    pub timeline: &'t Timeline,
    /// Its graph.
    pub graph: &'t Graph,
}

impl Context<'_> {
    /// What `cost`, the largest of `episode`, means.
    #[must_use]
    pub fn code(&self, episode: &Episode, cost: &Cost) -> Code {
        match &cost.kind {
            Kind::Own => Code::OwnWork,
            Kind::Lock { .. } => Code::LockHeld,
            Kind::Call { .. } => Code::BlockingCall,
            Kind::Timer => Code::LateInterrupt,
            Kind::Memory { .. } | Kind::Page => {
                if self.is_pressed(episode, cost.tid) {
                    Code::MemoryPressure
                } else {
                    Code::PageFault
                }
            }
            Kind::Processor => self.processor_code(episode, cost),
        }
    }

    /// The cause that took the most of `costs`, which have the largest first, and its largest part. A
    /// thread's page faults, and its calls that make and return memory, are one price.
    #[must_use]
    pub fn main<'c>(&self, episode: &Episode, costs: &'c [Cost]) -> Option<(Code, &'c Cost)> {
        let memory = |tid: Tid| -> u64 {
            let own = costs.iter().filter(|cost| cost.tid == tid && cost.kind.is_memory());
            own.map(|cost| cost.ns).sum()
        };
        let whole = |cost: &Cost| if cost.kind.is_memory() { memory(cost.tid) } else { cost.ns };
        // Of equal ones the last is taken, and the largest part comes first.
        let main = costs.iter().rev().max_by_key(|cost| whole(cost))?;
        Some((self.code(episode, main), main))
    }

    /// Whether pages of this thread's process were taken away for want of memory.
    fn is_pressed(&self, episode: &Episode, tid: Tid) -> bool {
        let reclaims = self.timeline.threads.get(&tid).is_some_and(|thread| {
            thread.reclaims.iter().any(|span| span.within(episode.span).length() > 0)
        });
        let input = self.process(tid).is_some_and(|process| {
            let own = process.threads.iter().find(|thread| Tid::try_from(thread.tid) == Ok(tid));
            process.swapped_kib > 0 || own.is_some_and(|thread| thread.major_faults > 0)
        });
        reclaims || input
    }

    fn processor_code(&self, episode: &Episode, cost: &Cost) -> Code {
        let own = self.priority(cost.tid, episode.span);
        if own.is_some_and(|own| own >= 100) {
            return Code::NoPriority;
        }
        let handlers: u64 = self
            .timeline
            .interrupts
            .iter()
            .map(|(span, _, _)| span.within(cost.longest).length())
            .sum();
        if handlers > cost.longest.length() / 2 {
            return Code::LateInterrupt;
        }
        let others = self.timeline.who_ran(self.cpu(cost), cost.longest);
        match (others.first(), own) {
            // An ordinary thread that gets the processor from a real-time one that still wants it.
            (Some((_, other, _)), Some(own)) if *other > own && self.had_it_before(cost) => {
                Code::Throttled
            }
            (Some(_), _) => Code::Preempted,
            (None, _) => Code::Unknown,
        }
    }

    /// Whether the thread ran right before it had to wait.
    fn had_it_before(&self, cost: &Cost) -> bool {
        let from = cost.longest.from;
        let before = Span { from: from.saturating_sub(1), to: from };
        self.timeline
            .states_in(cost.tid, before)
            .last()
            .is_some_and(|state| state.doing == Doing::Running)
    }

    /// CPU that the thread waited for in the longest stretch of `cost`.
    #[must_use]
    pub fn cpu(&self, cost: &Cost) -> u32 {
        // The one it got in the end; where it waited is not recorded otherwise.
        let after = Span { from: cost.longest.to, to: cost.longest.to + 1 };
        let states = self.timeline.states_in(cost.tid, after);
        states.first().map_or(0, |state| state.cpu)
    }

    /// The kernel's priority of a thread in `span`, or near it.
    #[must_use]
    pub fn priority(&self, tid: Tid, span: Span) -> Option<i32> {
        let slices = &self.timeline.slices;
        let first = slices.partition_point(|slice| slice.span.to <= span.from);
        let near = slices.get(first..).unwrap_or_default().iter().find(|slice| slice.tid == tid);
        near.map(|slice| slice.prio)
    }

    /// The process of the graph that a thread belongs to.
    #[must_use]
    pub fn process(&self, tid: Tid) -> Option<&Process> {
        let pid = self.graph.member(tid).map(|member| member.pid);
        self.trace.manifest.processes.iter().find(|process| {
            Some(process.pid) == pid
                || process.threads.iter().any(|thread| Tid::try_from(thread.tid) == Ok(tid))
        })
    }
}
