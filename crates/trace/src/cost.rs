//! Where the time of an episode went: every moment of its path is running (in the program's own code
//! or in a system call), ready but without a CPU, or asleep for something other than the next period.
//! What the same thread spends in its usual turns is subtracted, so that only the excess counts.

use std::collections::BTreeMap;

use crate::episode::Episode;
use crate::event::Tid;
use crate::graph::{Graph, Member, Turn, median};
use crate::syscall;
use crate::timeline::{Doing, Fault, Span, State, Thread, Timeline, Woken};

/// A page fault that lasts up to so many times what the short ones take is all fault: the processor's
/// caches, and an emulated one's translations, vary that much. What it lasts longer is the program's.
const VARIES: u64 = 4;
/// System calls that change what memory the process has: their time is the price of memory.
const MEMORY_CALLS: &[&str] = &["mmap", "munmap", "brk", "mremap", "madvise", "mprotect", "mlock"];

/// Time of one sort on the path.
#[derive(Debug, Clone, PartialEq)]
pub struct Cost {
    /// Whose: an audio thread's, or that of the holder of a lock of the kernel's that it waited for.
    pub tid: Tid,
    /// What it was spent on.
    pub kind: Kind,
    /// How much more than in a usual turn, in ns.
    pub ns: u64,
    /// The longest stretch of it.
    pub longest: Span,
}

/// What time was spent on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Running in its own code.
    Own,
    /// Taking page faults, or asking for memory.
    Memory {
        /// Faults beyond the usual.
        faults: u64,
        /// The system call that asked, if any.
        call: Option<String>,
    },
    /// In a system call, asleep or at work.
    Call {
        /// The call.
        number: i64,
        /// Its first argument: the descriptor, for most.
        argument: u64,
    },
    /// Asleep in a futex until another thread let it go.
    Lock {
        /// Address of the futex.
        address: u64,
        /// Who woke it.
        holder: Tid,
    },
    /// Asleep outside a system call: for a page, or one of the kernel's locks.
    Page,
    /// Ready, while others had the CPU.
    Processor,
    /// Not woken by the timer when it was due.
    Timer,
}

impl Kind {
    /// Whether it is the price of memory.
    #[must_use]
    pub fn is_memory(&self) -> bool {
        matches!(self, Self::Memory { .. } | Self::Page)
    }
}

/// The costs of an episode, the largest first.
#[must_use]
pub fn of(episode: &Episode, graph: &Graph, timeline: &Timeline, usual: &Usual) -> Vec<Cost> {
    let mut sums = Sums::default();
    if episode.timer_late_ns > 0 {
        let from = episode.span.from;
        let span = Span { from, to: from + episode.timer_late_ns };
        sums.add(graph.driver.tid, Kind::Timer, span);
    }
    for leg in &episode.path {
        let (Some(thread), Some(member)) = (timeline.threads.get(&leg.tid), graph.member(leg.tid))
        else {
            continue;
        };
        sums.take(thread, member, timeline, leg.span);
    }
    let mut costs = sums.costs(usual);
    costs.sort_by_key(|cost| std::cmp::Reverse(cost.ns));
    costs
}

/// What a thread spends in a usual turn: the medians over all its turns.
#[derive(Debug, Clone, Default)]
pub struct Usual {
    by_thread: BTreeMap<Tid, BTreeMap<Kind, u64>>,
    /// Time of a page fault for each page in ns, by thread.
    page_ns: BTreeMap<Tid, u64>,
}

impl Usual {
    /// Measures it over the whole recording.
    #[must_use]
    pub fn measure(graph: &Graph, timeline: &Timeline) -> Self {
        let mut usual = Self::default();
        for member in graph.members() {
            let Some(thread) = timeline.threads.get(&member.tid) else { continue };
            let mut turns: BTreeMap<Kind, Vec<u64>> = BTreeMap::new();
            for Turn { span, .. } in &member.turns {
                let mut sums = Sums::default();
                sums.take(thread, member, timeline, *span);
                for ((_, kind), sum) in
                    sums.list.into_iter().filter(|((tid, _), _)| *tid == member.tid)
                {
                    turns.entry(kind).or_default().push(sum.ns);
                }
            }
            // What most turns do not have at all is not usual.
            let count = member.turns.len();
            let medians = turns
                .into_iter()
                .filter(|(_, times)| times.len() * 2 > count)
                .filter_map(|(kind, times)| Some((kind, median(times.into_iter())?)))
                .collect();
            usual.by_thread.insert(member.tid, medians);
            usual.page_ns.insert(member.tid, page_ns(thread));
        }
        usual
    }

    /// The same without anything that a turn may take.
    #[must_use]
    pub fn nothing(&self) -> Self {
        Self { by_thread: BTreeMap::new(), page_ns: self.page_ns.clone() }
    }

    /// Own running time of a usual turn in ns.
    #[must_use]
    pub fn own_ns(&self, tid: Tid) -> u64 {
        self.of(tid, &Kind::Own)
    }

    fn of(&self, tid: Tid, kind: &Kind) -> u64 {
        self.by_thread.get(&tid).and_then(|kinds| kinds.get(kind)).copied().unwrap_or(0)
    }
}

/// What a page fault of this thread takes for each page. Only a fault's beginning is recorded; until the
/// thread's next event lies its work and what the program did then, so the short ones come near it.
fn page_ns(thread: &Thread) -> u64 {
    let mut each: Vec<u64> = thread
        .faults
        .iter()
        .filter(|fault| fault.until_next > 0)
        .map(|fault| fault.until_next / fault.pages.max(1))
        .collect();
    each.sort_unstable();
    each.get(each.len() / 10).copied().unwrap_or(0).min(100_000)
}

#[derive(Debug, Clone, Copy)]
struct Sum {
    ns: u64,
    longest: Span,
}

#[derive(Debug, Default)]
struct Sums {
    list: BTreeMap<(Tid, Kind), Sum>,
    faults: BTreeMap<Tid, Vec<Fault>>,
}

impl Sums {
    fn add(&mut self, tid: Tid, kind: Kind, span: Span) {
        let sum = self.list.entry((tid, kind)).or_insert(Sum { ns: 0, longest: span });
        sum.ns += span.length();
        if span.length() > sum.longest.length() {
            sum.longest = span;
        }
    }

    /// Adds what `member` did in `span`.
    fn take(&mut self, thread: &Thread, member: &Member, timeline: &Timeline, span: Span) {
        self.faults.entry(member.tid).or_default().extend(thread.faults_in(span));
        for state in timeline.states_in(member.tid, span) {
            match &state.doing {
                Doing::Ready => self.add(member.tid, Kind::Processor, state.span),
                Doing::Running => self.take_running(thread, member.tid, state.span),
                Doing::Asleep { .. } if member.is_rest(thread, &state) => {}
                Doing::Asleep { woken: Some(how), for_lock: true, .. } if !how.in_interrupt => {
                    self.take_lock(thread, member.tid, timeline, &state, *how);
                }
                Doing::Asleep { woken, .. } => {
                    self.add(member.tid, asleep(thread, &state, *woken), state.span);
                }
            }
        }
    }

    /// Divides the wait for one of the kernel's locks: while its holder, who lets it go in the end, had no
    /// processor, that was what everybody waited for.
    fn take_lock(
        &mut self,
        thread: &Thread,
        tid: Tid,
        timeline: &Timeline,
        wait: &State,
        how: Woken,
    ) {
        let kind = asleep(thread, wait, Some(how));
        let mut from = wait.span.from;
        for held in timeline.states_in(how.by, wait.span) {
            if held.doing == Doing::Ready {
                self.add(tid, kind.clone(), Span { from, to: held.span.from });
                self.add(how.by, Kind::Processor, held.span);
                from = held.span.to;
            }
        }
        self.add(tid, kind, Span { from, to: wait.span.to });
    }

    /// Divides running time between the program's own code and the system calls in it.
    fn take_running(&mut self, thread: &Thread, tid: Tid, span: Span) {
        let mut own = span.from;
        let first = thread.calls.partition_point(|call| call.span.to <= span.from);
        for call in thread.calls.get(first..).unwrap_or_default() {
            if call.span.from >= span.to {
                break;
            }
            let inside = call.span.within(span);
            if inside.from > own {
                self.add(tid, Kind::Own, Span { from: own, to: inside.from });
            }
            self.add(tid, in_call(call.number, call.arguments[0]), inside);
            own = own.max(inside.to);
        }
        if span.to > own {
            self.add(tid, Kind::Own, Span { from: own, to: span.to });
        }
    }

    fn costs(self, usual: &Usual) -> Vec<Cost> {
        let mut costs = Vec::new();
        for ((tid, kind), sum) in self.list {
            let ns = sum.ns.saturating_sub(usual.of(tid, &kind));
            let cost = |kind, ns| Cost { tid, kind, ns, longest: sum.longest };
            if kind == Kind::Own {
                // Faults happen in the midst of the program's own code.
                let faults = self.faults.get(&tid).map(Vec::as_slice).unwrap_or_default();
                let each = usual.page_ns.get(&tid).copied().unwrap_or(0);
                let most = |fault: &Fault| each.saturating_mul(VARIES * fault.pages.max(1));
                let taken = faults.iter().map(|fault| fault.until_next.min(most(fault))).sum();
                let taken = ns.min(taken);
                if !faults.is_empty() {
                    let faults = faults.len() as u64;
                    costs.push(cost(Kind::Memory { faults, call: None }, taken));
                }
                costs.push(cost(kind, ns - taken));
            } else {
                costs.push(cost(kind, ns));
            }
        }
        costs.retain(|cost| cost.ns > 0);
        costs
    }
}

fn in_call(number: i64, argument: u64) -> Kind {
    let name = syscall::name(number);
    if MEMORY_CALLS.contains(&name.as_str()) {
        Kind::Memory { faults: 0, call: Some(name) }
    } else {
        Kind::Call { number, argument }
    }
}

/// What a sleep that is not rest was for.
fn asleep(thread: &Thread, state: &State, woken: Option<Woken>) -> Kind {
    let Some(call) = thread.call_at(state.span.from) else { return Kind::Page };
    match woken {
        Some(Woken { by, in_interrupt: false }) if syscall::name(call.number) == "futex" => {
            Kind::Lock { address: call.arguments[0], holder: by }
        }
        _ => in_call(call.number, call.arguments[0]),
    }
}
