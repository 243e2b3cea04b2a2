//! What each thread did when: running, ready and waiting for the processor, or asleep; its system
//! calls and page faults; and who had each CPU. Made once from the events, asked many times.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::{Entry, Event, Tid};

/// A stretch of time, in ns of the trace clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First moment.
    pub from: u64,
    /// Moment behind the last.
    pub to: u64,
}

impl Span {
    /// Its length in ns.
    #[must_use]
    pub fn length(self) -> u64 {
        self.to.saturating_sub(self.from)
    }

    /// What it has in common with `other`.
    #[must_use]
    pub fn within(self, other: Self) -> Self {
        let from = self.from.max(other.from);
        Self { from, to: self.to.min(other.to).max(from) }
    }

    /// Whether `at` lies in it.
    #[must_use]
    pub fn has(self, at: u64) -> bool {
        self.from <= at && at < self.to
    }
}

/// What a thread does for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doing {
    /// Has a CPU.
    Running,
    /// Could run, but another thread has the CPU.
    Ready,
    /// Waits for something.
    Asleep {
        /// Bits of the kernel's task state.
        state: i64,
        /// What ended it; `None` when it lasts beyond the recording.
        woken: Option<Woken>,
        /// Where in the kernel it sleeps, innermost first, where that was recorded.
        stack: Vec<u64>,
        /// Whether it waits for one of the kernel's own locks, whose holder wakes it.
        for_lock: bool,
    },
}

/// How a sleeping thread was woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Woken {
    /// The thread in whose context it happened.
    pub by: Tid,
    /// Whether a timer or interrupt did it, which only used that thread's time.
    pub in_interrupt: bool,
}

/// A thread's doing for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// When.
    pub span: Span,
    /// What.
    pub doing: Doing,
    /// CPU that it ran or waited on.
    pub cpu: u32,
}

/// A system call of a thread of the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// From its entry to its exit.
    pub span: Span,
    /// Its number.
    pub number: i64,
    /// Its arguments.
    pub arguments: [u64; 6],
}

/// A page that was not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// When.
    pub at: u64,
    /// The address that was touched.
    pub address: u64,
    /// The instruction that touched it.
    pub instruction: u64,
    /// Pages that the kernel took from its allocator for it.
    pub pages: u64,
    /// Until the thread's next event: at least as long as the fault took.
    pub until_next: u64,
}

/// A thread's history.
#[derive(Debug, Clone, Default)]
pub struct Thread {
    /// Its doings in the order of time, without a gap from its first event on.
    pub states: Vec<State>,
    /// Its system calls in the order of time.
    pub calls: Vec<Call>,
    /// Its page faults in the order of time.
    pub faults: Vec<Fault>,
    /// Times in which it looked for memory to take from others.
    pub reclaims: Vec<Span>,
    /// When it set timers, and when they were due.
    pub timers: Vec<(u64, u64)>,
    /// When it was woken, and how.
    pub wakings: Vec<(u64, Woken)>,
}

/// Who had a CPU for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    /// When.
    pub span: Span,
    /// The CPU.
    pub cpu: u32,
    /// Who.
    pub tid: Tid,
    /// The kernel's priority: below 100 real-time.
    pub prio: i32,
}

/// All histories.
#[derive(Debug, Default)]
pub struct Timeline {
    /// By thread.
    pub threads: BTreeMap<Tid, Thread>,
    /// Who had the CPUs, in the order of the end.
    pub slices: Vec<Slice>,
    /// Handlers of interrupts and deferred work: when, on which CPU, its name.
    pub interrupts: Vec<(Span, u32, String)>,
    /// First and last event.
    pub whole: Option<Span>,
}

/// What is open while the events are gone through.
#[derive(Default)]
struct Open {
    /// By thread: since when it does what.
    states: BTreeMap<Tid, State>,
    calls: BTreeMap<Tid, Call>,
    faults: BTreeMap<Tid, Fault>,
    reclaims: BTreeMap<Tid, u64>,
    /// Who waits for one of the kernel's locks.
    waiting: BTreeSet<Tid>,
    /// By CPU.
    running: BTreeMap<u32, Slice>,
    /// By CPU and thread: a timer's function of a real-time kernel may be preempted.
    timers: BTreeSet<(u32, Tid)>,
    interrupts: BTreeMap<u32, Vec<(u64, String)>>,
}

impl Timeline {
    /// Goes through the events once.
    #[must_use]
    pub fn new(entries: &[Entry]) -> Self {
        let mut timeline = Self::default();
        let mut open = Open::default();
        for entry in entries {
            timeline.take(&mut open, entry);
        }
        if let (Some(first), Some(last)) = (entries.first(), entries.last()) {
            timeline.whole = Some(Span { from: first.at_ns, to: last.at_ns });
            timeline.close(open, last.at_ns);
        }
        timeline
    }

    fn close(&mut self, open: Open, now: u64) {
        for (tid, mut state) in open.states {
            state.span.to = now;
            self.threads.entry(tid).or_default().states.push(state);
        }
        for (tid, mut call) in open.calls {
            call.span.to = now;
            self.threads.entry(tid).or_default().calls.push(call);
        }
        for (tid, fault) in open.faults {
            self.threads.entry(tid).or_default().faults.push(fault);
        }
        for (_, mut slice) in open.running {
            slice.span.to = now;
            self.slices.push(slice);
        }
    }

    fn take(&mut self, open: &mut Open, entry: &Entry) {
        let (now, cpu) = (entry.at_ns, entry.cpu);
        match &entry.event {
            Event::Switch { prev, prev_prio, prev_state, next, next_prio } => {
                let begun =
                    Slice { span: Span { from: now, to: now }, cpu, tid: *next, prio: *next_prio };
                if let Some(mut slice) = open.running.insert(cpu, begun) {
                    slice.span.to = now;
                    // The priority at its end: inherited ones show.
                    slice.prio = *prev_prio;
                    self.slices.push(slice);
                }
                let doing = if is_ready(*prev_state) {
                    Doing::Ready
                } else {
                    Doing::Asleep {
                        state: *prev_state,
                        woken: None,
                        stack: Vec::new(),
                        for_lock: open.waiting.contains(prev),
                    }
                };
                self.end_fault(open, *prev, now);
                self.change(open, *prev, now, cpu, doing);
                self.change(open, *next, now, cpu, Doing::Running);
            }
            Event::Waking { tid } => {
                let in_interrupt = open.timers.contains(&(cpu, entry.tid))
                    || open.interrupts.get(&cpu).is_some_and(|stack| !stack.is_empty());
                let woken = Woken { by: entry.tid, in_interrupt };
                self.threads.entry(*tid).or_default().wakings.push((now, woken));
                match open.states.get_mut(tid) {
                    // Woken on its way to sleep: it never slept.
                    Some(State { doing: Doing::Running | Doing::Ready, .. }) => {}
                    Some(State { doing: Doing::Asleep { woken: how, .. }, .. }) => {
                        *how = Some(woken);
                        self.change(open, *tid, now, cpu, Doing::Ready);
                    }
                    None => self.change(open, *tid, now, cpu, Doing::Ready),
                }
            }
            Event::Stack { callers } => {
                if let Some(State { doing: Doing::Asleep { stack, .. }, .. }) =
                    open.states.get_mut(&entry.tid)
                {
                    stack.clone_from(callers);
                }
            }
            Event::CallEntry { number, arguments } => {
                self.end_fault(open, entry.tid, now);
                let span = Span { from: now, to: now };
                open.calls.insert(entry.tid, Call { span, number: *number, arguments: *arguments });
            }
            Event::CallExit => {
                if let Some(mut call) = open.calls.remove(&entry.tid) {
                    call.span.to = now;
                    self.threads.entry(entry.tid).or_default().calls.push(call);
                }
            }
            Event::Fault { address, instruction } => {
                self.end_fault(open, entry.tid, now);
                let fault = Fault {
                    at: now,
                    address: *address,
                    instruction: *instruction,
                    pages: 0,
                    until_next: 0,
                };
                open.faults.insert(entry.tid, fault);
            }
            Event::Pages { count } => {
                if let Some(fault) = open.faults.get_mut(&entry.tid) {
                    fault.pages += count;
                }
            }
            Event::ReclaimBegin => {
                open.reclaims.insert(entry.tid, now);
            }
            Event::ReclaimEnd => {
                if let Some(from) = open.reclaims.remove(&entry.tid) {
                    let span = Span { from, to: now };
                    self.threads.entry(entry.tid).or_default().reclaims.push(span);
                }
            }
            Event::LockWait => {
                open.waiting.insert(entry.tid);
            }
            Event::LockGot => {
                open.waiting.remove(&entry.tid);
            }
            Event::TimerSet { due_ns } => {
                self.threads.entry(entry.tid).or_default().timers.push((now, *due_ns));
            }
            Event::TimerEntry => {
                open.timers.insert((cpu, entry.tid));
            }
            Event::TimerExit => {
                open.timers.remove(&(cpu, entry.tid));
            }
            Event::IrqEntry { name } => {
                open.interrupts.entry(cpu).or_default().push((now, name.clone()));
            }
            Event::IrqExit => {
                let begun = open.interrupts.entry(cpu).or_default().pop();
                if let Some((from, name)) = begun {
                    self.interrupts.push((Span { from, to: now }, cpu, name));
                }
            }
            Event::SoftirqEntry { .. }
            | Event::SoftirqExit
            | Event::Inherited { .. }
            | Event::Forked { .. }
            | Event::Kswapd => {}
        }
    }

    /// A fault is over at the latest when the thread's next event comes.
    fn end_fault(&mut self, open: &mut Open, tid: Tid, now: u64) {
        if let Some(mut fault) = open.faults.remove(&tid) {
            fault.until_next = now.saturating_sub(fault.at);
            self.threads.entry(tid).or_default().faults.push(fault);
        }
    }

    /// Ends what `tid` did and begins what it does now.
    fn change(&mut self, open: &mut Open, tid: Tid, now: u64, cpu: u32, doing: Doing) {
        // Every CPU has an idle thread of its own, and all bear the number 0.
        if tid == 0 {
            return;
        }
        let state = State { span: Span { from: now, to: now }, doing, cpu };
        if let Some(mut before) = open.states.insert(tid, state) {
            before.span.to = now;
            self.threads.entry(tid).or_default().states.push(before);
        }
    }

    /// Who had `cpu` in `span`, each with its time in it, the longest first.
    #[must_use]
    pub fn who_ran(&self, cpu: u32, span: Span) -> Vec<(Tid, i32, u64)> {
        let mut sums: BTreeMap<(Tid, i32), u64> = BTreeMap::new();
        let first = self.slices.partition_point(|slice| slice.span.to <= span.from);
        for slice in self.slices.get(first..).unwrap_or_default() {
            // Slices are in the order of their end; on other CPUs they may begin much earlier.
            if slice.cpu == cpu {
                let time = slice.span.within(span).length();
                if time > 0 {
                    *sums.entry((slice.tid, slice.prio)).or_default() += time;
                } else if slice.span.from >= span.to {
                    break;
                }
            }
        }
        let mut list: Vec<_> =
            sums.into_iter().map(|((tid, prio), time)| (tid, prio, time)).collect();
        list.sort_by_key(|(_, _, time)| std::cmp::Reverse(*time));
        list
    }

    /// What `tid` did in `span`, cut to it.
    #[must_use]
    pub fn states_in(&self, tid: Tid, span: Span) -> Vec<State> {
        let states =
            self.threads.get(&tid).map(|thread| thread.states.as_slice()).unwrap_or_default();
        let first = states.partition_point(|state| state.span.to <= span.from);
        states
            .get(first..)
            .unwrap_or_default()
            .iter()
            .take_while(|state| state.span.from < span.to)
            .map(|state| State { span: state.span.within(span), ..state.clone() })
            .collect()
    }
}

impl Thread {
    /// The system call that the thread was in at `at`.
    #[must_use]
    pub fn call_at(&self, at: u64) -> Option<&Call> {
        let next = self.calls.partition_point(|call| call.span.from <= at);
        // An interrupted call may have another one inside it; no more than that.
        self.calls.get(..next)?.iter().rev().take(2).find(|call| call.span.has(at))
    }

    /// Its page faults in `span`.
    #[must_use]
    pub fn faults_in(&self, span: Span) -> &[Fault] {
        let first = self.faults.partition_point(|fault| fault.at < span.from);
        let last = self.faults.partition_point(|fault| fault.at < span.to);
        self.faults.get(first..last).unwrap_or_default()
    }
}

/// Whether a thread that gave up its CPU with this state could still run: state 0, or only the bit
/// that the kernel sets beyond all states (TASK_REPORT_MAX) for a preempted thread.
fn is_ready(state: i64) -> bool {
    state & 0xff == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn switch(at_ns: u64, prev: Tid, prev_state: i64, next: Tid) -> Entry {
        let event = Event::Switch { prev, prev_prio: 120, prev_state, next, next_prio: 11 };
        Entry { at_ns, cpu: 0, tid: prev, event }
    }

    #[test]
    fn a_thread_sleeps_is_woken_waits_and_runs() {
        let timeline = Timeline::new(&[
            switch(100, 7, 1, 9),
            Entry { at_ns: 150, cpu: 0, tid: 9, event: Event::Waking { tid: 7 } },
            switch(180, 9, 256, 7),
            switch(200, 7, 1, 9),
        ]);
        let states = timeline.states_in(7, Span { from: 0, to: 200 });
        let seen: Vec<(u64, &str)> = states
            .iter()
            .map(|state| {
                let what = match state.doing {
                    Doing::Running => "running",
                    Doing::Ready => "ready",
                    Doing::Asleep { woken: Some(Woken { by: 9, in_interrupt: false }), .. } => {
                        "asleep until 9"
                    }
                    Doing::Asleep { .. } => "asleep",
                };
                (state.span.length(), what)
            })
            .collect();
        assert_eq!(seen, [(50, "asleep until 9"), (30, "ready"), (20, "running")]);
        assert_eq!(timeline.who_ran(0, Span { from: 150, to: 190 }), [(9, 120, 30), (7, 120, 10)]);
        // A preempted thread is ready, not asleep.
        let nine = timeline.states_in(9, Span { from: 180, to: 200 });
        assert_eq!(nine.first().map(|state| state.doing.clone()), Some(Doing::Ready));
    }
}
