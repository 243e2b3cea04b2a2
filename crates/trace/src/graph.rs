//! Who is who in the audio graph, found from who wakes whom: the driver, whom a timer wakes once a
//! period, and the clients' audio threads, which wake each other in the graph's order. What an audio
//! thread does at rest (the wait for its next period) is what the graph wakes it from most often.

use std::collections::{BTreeMap, BTreeSet};

use crate::capture::Role;
use crate::event::{Event, Tid};
use crate::read::Trace;
use crate::timeline::{Doing, Span, State, Thread, Timeline, Woken};

/// The wait for the next period: the system call and its first argument (the futex, the descriptor).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rest {
    number: i64,
    argument: u64,
}

/// From leaving rest to the return to it: a thread's work for one period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// From being woken to resting again.
    pub span: Span,
    /// Who woke it; `None` for a timer or interrupt.
    pub woken_by: Option<Tid>,
}

/// A thread that takes part in every period.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its number.
    pub tid: Tid,
    /// Its process.
    pub pid: u32,
    /// What the process is.
    pub role: Role,
    /// Its wait for the next period.
    pub rest: Rest,
    /// Its turns in the order of time.
    pub turns: Vec<Turn>,
}

/// The graph as the trace shows it.
#[derive(Debug, Clone)]
pub struct Graph {
    /// Who begins each period.
    pub driver: Member,
    /// The audio threads of the clients.
    pub clients: Vec<Member>,
    /// Length of a period in ns: what the server was told, else the median time between two wakings of
    /// the driver, which is shorter in a driver that makes up for lost periods.
    pub period_ns: u64,
    /// When a timer woke the driver.
    pub cycles: Vec<u64>,
}

impl Graph {
    /// Finds the graph; `None` when no thread of the server wakes any other process's thread. `period_ns` is
    /// what the server was told, where that is known.
    #[must_use]
    pub fn find(trace: &Trace, timeline: &Timeline, period_ns: Option<u64>) -> Option<Self> {
        let owners = &owners(trace);
        let is_server = |tid: &Tid| owners.get(tid).is_some_and(|(_, role)| *role == Role::Server);
        let are_apart = |one: Tid, other: Tid| Some(owners.get(&one)?.0 != owners.get(&other)?.0);
        // Who of the graph's processes was woken, by whom of them, and whether by another process.
        let mut woken = Vec::new();
        for tid in owners.keys() {
            let wakings = timeline.threads.get(tid).map(|thread| thread.wakings.as_slice());
            let by_threads =
                wakings.unwrap_or_default().iter().filter(|(_, how)| !how.in_interrupt);
            woken.extend(
                by_threads.filter_map(|(_, how)| Some((*tid, how.by, are_apart(*tid, how.by)?))),
            );
        }
        // How often each woke another process.
        let mut outward = BTreeMap::<Tid, usize>::new();
        for (_, by, _) in woken.iter().filter(|(.., is_other)| *is_other) {
            *outward.entry(*by).or_default() += 1;
        }
        // A server's other threads wake clients too, to tell them of every xrun; none by a timer.
        let (driver, cycles) = outward
            .keys()
            .copied()
            .filter(is_server)
            .filter_map(|tid| {
                let driver = member(timeline, owners, tid, |woken| woken.in_interrupt)?;
                // A PipeWire driver is also woken by its clients, and inside a period by locks.
                let by_timer = driver.turns.iter().filter(|turn| turn.woken_by.is_none());
                let cycles: Vec<u64> = by_timer.map(|turn| turn.span.from).collect();
                Some((driver, cycles))
            })
            .max_by_key(|(_, cycles)| cycles.len())?;
        let lengths = cycles.windows(2).filter_map(|pair| Some(pair.get(1)? - pair.first()?));
        let period_ns = period_ns.or_else(|| median(lengths))?;
        // What a client's thread does in most periods. Others of its process help it, and nobody waits for
        // them, unless they wake the driver or another client in turn: several nodes of one PipeWire client
        // have a thread each.
        let hands_on = |tid: &Tid| outward.get(tid).is_some_and(|count| *count > cycles.len() / 2);
        let mut counts = BTreeMap::<Tid, usize>::new();
        for (tid, by, is_other) in woken {
            let from_graph = by == driver.tid || !is_server(&by);
            if !is_server(&tid) && from_graph && (is_other || hands_on(&tid)) {
                *counts.entry(tid).or_default() += 1;
            }
        }
        let mut counts: Vec<(Tid, usize)> = counts.into_iter().collect();
        counts.sort_by_key(|(tid, count)| (std::cmp::Reverse(*count), *tid));
        // The thread of a process that is woken most, and not just now and then; its others if they hand on.
        let mut processes = BTreeSet::new();
        let clients = counts
            .into_iter()
            .filter(|(_, count)| *count >= cycles.len() / 20)
            .filter_map(|(tid, _)| {
                // One that sleeps in every period wakes by a timer as often as by the graph.
                let by_graph = |woken: Woken| {
                    let is_other = are_apart(tid, woken.by) == Some(true);
                    !woken.in_interrupt && (is_other || hands_on(&tid))
                };
                member(timeline, owners, tid, by_graph)
            })
            .filter(|member| processes.insert(member.pid) || hands_on(&member.tid))
            .collect();
        Some(Self { driver, clients, period_ns, cycles })
    }

    /// Whether so much is lost of a period that it counts: more than a quarter of it.
    pub(crate) const fn is_much(&self, late_ns: u64) -> bool {
        late_ns > self.period_ns / 4
    }

    /// Driver and clients.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        std::iter::once(&self.driver).chain(&self.clients)
    }

    /// The member with this thread.
    #[must_use]
    pub fn member(&self, tid: Tid) -> Option<&Member> {
        self.members().find(|member| member.tid == tid)
    }
}

impl Member {
    /// The turn that was not over at `at`.
    #[must_use]
    pub fn turn_at(&self, at: u64) -> Option<&Turn> {
        let next = self.turns.partition_point(|turn| turn.span.from <= at);
        self.turns.get(next.checked_sub(1)?).filter(|turn| turn.span.has(at))
    }

    /// Whether the thread sleeps there because its work is done.
    #[must_use]
    pub fn is_rest(&self, thread: &Thread, state: &State) -> bool {
        is_rest(thread, state, self.rest)
    }
}

/// The member that `tid` is, whose periods begin with a waking of the kind that `begins` knows.
fn member(
    timeline: &Timeline,
    owners: &BTreeMap<Tid, (u32, Role)>,
    tid: Tid,
    begins: impl Fn(Woken) -> bool,
) -> Option<Member> {
    let (pid, role) = *owners.get(&tid)?;
    let thread = timeline.threads.get(&tid)?;
    let rest = rest_of(thread, begins)?;
    Some(Member { tid, pid, role, rest, turns: turns(thread, rest) })
}

/// Process and role of every thread of the graph, those included that were started meanwhile.
fn owners(trace: &Trace) -> BTreeMap<Tid, (u32, Role)> {
    let mut owners = BTreeMap::new();
    for process in &trace.manifest.processes {
        for thread in &process.threads {
            if let Ok(tid) = Tid::try_from(thread.tid) {
                owners.insert(tid, (process.pid, process.role));
            }
        }
    }
    for entry in &trace.entries {
        if let Event::Forked { child } = entry.event {
            if let Some(owner) = owners.get(&entry.tid).copied() {
                owners.entry(child).or_insert(owner);
            }
        }
    }
    owners
}

/// What the thread sleeps in most often before it is woken in this way.
fn rest_of(thread: &Thread, begins: impl Fn(Woken) -> bool) -> Option<Rest> {
    let mut counts: BTreeMap<Rest, usize> = BTreeMap::new();
    for state in &thread.states {
        let Doing::Asleep { woken: Some(woken), .. } = state.doing else { continue };
        if let Some(call) = thread.call_at(state.span.from).filter(|_| begins(woken)) {
            let rest = Rest { number: call.number, argument: call.arguments[0] };
            *counts.entry(rest).or_default() += 1;
        }
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(rest, _)| rest)
}

fn is_rest(thread: &Thread, state: &State, rest: Rest) -> bool {
    is_patient(state)
        && thread
            .call_at(state.span.from)
            .is_some_and(|call| call.number == rest.number && call.arguments[0] == rest.argument)
}

/// Whether a thread sleeps so that a signal would wake it (TASK_INTERRUPTIBLE is 1): a wait for work. A
/// wait for input or for one of the kernel's locks, which can come in the same system call, is not.
fn is_patient(state: &State) -> bool {
    matches!(state.doing, Doing::Asleep { state, .. } if state & 1 != 0)
}

fn turns(thread: &Thread, rest: Rest) -> Vec<Turn> {
    let mut turns = Vec::new();
    let mut open: Option<Turn> = None;
    for state in &thread.states {
        if !is_rest(thread, state, rest) {
            if let Some(turn) = &mut open {
                turn.span.to = state.span.to;
            }
            continue;
        }
        turns.extend(open.take());
        if let Doing::Asleep { woken: Some(woken), .. } = state.doing {
            let now = state.span.to;
            let woken_by = if woken.in_interrupt { None } else { Some(woken.by) };
            open = Some(Turn { span: Span { from: now, to: now }, woken_by });
        }
    }
    turns.extend(open);
    turns
}

/// The middle value; of an even number of values the lower one of the two.
pub(crate) fn median(values: impl Iterator<Item = u64>) -> Option<u64> {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    values.get(values.len().checked_sub(1)? / 2).copied()
}
