//! An episode in words: the sentence of cause, and the evidence.

use std::collections::BTreeMap;

use crate::cause::{Code, Context};
use crate::cost::{Cost, Kind};
use crate::episode::Episode;
use crate::event::Tid;
use crate::symbol::{self, Symbols};
use crate::syscall;
use crate::timeline::{Doing, Span};

/// Costs below this are not worth a line of evidence, in ns.
const NEGLIGIBLE_NS: u64 = 5_000;
/// Lines of evidence for the parts of the time.
const PARTS: usize = 5;

/// Puts what the trace shows into words.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Words<'t> {
    /// The trace.
    pub(crate) context: Context<'t>,
    /// Symbols of the program.
    pub(crate) symbols: &'t [Symbols],
    /// Whether most periods were in time, so that there is a usual one to compare with.
    pub(crate) has_usual: bool,
}

impl Words<'_> {
    /// The cause in one sentence.
    pub(crate) fn sentence(&self, episode: &Episode, cost: &Cost, code: Code) -> String {
        let who = self.name(cost.tid);
        let time = duration(cost.ns);
        match &cost.kind {
            Kind::Own => format!(
                "{who} computed {time}{}; a period has {}.",
                if self.has_usual { " longer than usual" } else { ", as in most periods" },
                duration(self.context.graph.period_ns)
            ),
            Kind::Timer => format!("The timer woke {who} {time} too late."),
            Kind::Lock { address, holder } => format!(
                "{who} waited {time} for {} until {} let go of it.",
                self.lock(cost.tid, *address),
                self.thread(*holder, cost.longest)
            ),
            Kind::Call { number, argument } => {
                format!("{who} was in {} for {time}.", self.call(cost.tid, *number, *argument))
            }
            Kind::Memory { .. } | Kind::Page if code == Code::MemoryPressure => format!(
                "{who} spent {time} on getting back pages that the kernel had taken away for want of memory."
            ),
            Kind::Memory { call: Some(call), .. } => {
                format!("{who} asked the kernel for memory: {call} took {time}.")
            }
            Kind::Memory { faults, call: None } => {
                format!(
                    "{who} touched memory that was not there yet: {faults} page faults took about {time}."
                )
            }
            Kind::Page => format!("{who} waited {time} in the kernel for a page."),
            Kind::Processor => self.processor(episode, cost, code),
        }
    }

    fn processor(&self, episode: &Episode, cost: &Cost, code: Code) -> String {
        let (who, time) = (self.name(cost.tid), duration(cost.ns));
        let ran = self.context.timeline.who_ran(self.context.cpu(cost), cost.longest);
        let other = ran
            .first()
            .map_or_else(|| "others".to_owned(), |(tid, _, _)| self.thread(*tid, cost.longest));
        match code {
            Code::NoPriority => format!(
                "{who} is no real-time thread and waited {time} for the processor, which {other} had."
            ),
            Code::Throttled => format!(
                "The kernel held {} back for {time} and let {other} run.",
                self.thread(cost.tid, episode.span)
            ),
            Code::LateInterrupt => {
                format!("Interrupt handlers kept the processor from {who} for {time}.")
            }
            _ => {
                let own = self.context.priority(cost.tid, episode.span).unwrap_or(0);
                let below = ran.first().is_some_and(|(_, prio, _)| *prio > own);
                let why = if below {
                    ", inside the kernel, which this kernel does not interrupt"
                } else {
                    ""
                };
                format!("{other} had the processor{why}, and {who} waited {time} for it.")
            }
        }
    }

    /// What the trace shows of the episode, line by line.
    pub(crate) fn evidence(&self, episode: &Episode, costs: &[Cost]) -> Vec<String> {
        let mut lines = vec![self.way(episode)];
        for cost in costs.iter().filter(|cost| cost.ns >= NEGLIGIBLE_NS).take(PARTS) {
            let than = if self.has_usual { "more than usual" } else { "of it" };
            lines.push(format!("{} {than}: {}", duration(cost.ns), self.part(cost)));
            lines.extend(self.details(episode, cost));
        }
        lines
    }

    /// Along whom the time went.
    fn way(&self, episode: &Episode) -> String {
        let legs: Vec<String> = episode
            .path
            .iter()
            .map(|leg| {
                format!("{} {}", self.thread(leg.tid, leg.span), duration(leg.span.length()))
            })
            .collect();
        format!("timer -> {}", legs.join(" -> "))
    }

    fn part(&self, cost: &Cost) -> String {
        let who = self.name(cost.tid);
        match &cost.kind {
            Kind::Own => format!("{who} computing"),
            Kind::Timer => "before the timer woke the driver".to_owned(),
            Kind::Lock { address, .. } => {
                format!("{who} waiting for {}", self.lock(cost.tid, *address))
            }
            Kind::Call { number, argument } => {
                format!("{who} in {}", self.call(cost.tid, *number, *argument))
            }
            Kind::Memory { call: Some(call), .. } => format!("{who} in {call}"),
            Kind::Memory { faults, call: None } => format!("{who} in {faults} page faults"),
            Kind::Page => format!("{who} asleep in the kernel for a page"),
            Kind::Processor if self.context.graph.member(cost.tid).is_none() => format!(
                "{who} ready, without a processor, while it held a lock of the kernel's that the graph waited for"
            ),
            Kind::Processor => format!("{who} ready, without a processor"),
        }
    }

    fn details(&self, episode: &Episode, cost: &Cost) -> Vec<String> {
        let mut lines = Vec::new();
        match &cost.kind {
            Kind::Processor => lines.extend(self.who_ran(self.context.cpu(cost), cost.longest)),
            Kind::Lock { holder, .. } => lines.extend(self.holder(*holder, cost.longest)),
            Kind::Memory { call: None, .. } | Kind::Page => {
                lines.extend(self.faults(episode, cost.tid));
            }
            Kind::Call { .. } => lines.extend(self.awakening(cost)),
            _ => {}
        }
        lines.extend(self.stack(cost));
        lines.into_iter().map(|line| format!("  {line}")).collect()
    }

    fn who_ran(&self, cpu: u32, span: Span) -> Vec<String> {
        let ran = self.context.timeline.who_ran(cpu, span);
        let mut lines: Vec<String> = ran
            .iter()
            .take(3)
            .map(|(tid, _, time)| {
                format!("CPU {cpu} had {} for {}", self.thread(*tid, span), duration(*time))
            })
            .collect();
        if ran.len() > 3 {
            lines.push(format!("and {} more threads", ran.len() - 3));
        }
        lines
    }

    /// What the holder of a lock did while the audio thread waited.
    fn holder(&self, holder: Tid, span: Span) -> Vec<String> {
        let (mut ran, mut ready, mut slept) = (0, 0, 0);
        let mut longest: Option<(u32, Span)> = None;
        for state in self.context.timeline.states_in(holder, span) {
            let time = state.span.length();
            match state.doing {
                Doing::Running => ran += time,
                Doing::Asleep { .. } => slept += time,
                Doing::Ready => {
                    ready += time;
                    if longest.is_none_or(|(_, known)| known.length() < time) {
                        longest = Some((state.cpu, state.span));
                    }
                }
            }
        }
        let mut lines = vec![format!(
            "meanwhile {} ran {}, waited {} for the processor, slept {}",
            self.thread(holder, span),
            duration(ran),
            duration(ready),
            duration(slept)
        )];
        lines.extend(longest.into_iter().flat_map(|(cpu, span)| self.who_ran(cpu, span)));
        lines
    }

    /// Who ended a sleep in a system call.
    fn awakening(&self, cost: &Cost) -> Option<String> {
        let states = self.context.timeline.states_in(cost.tid, cost.longest);
        states.into_iter().find_map(|state| match state.doing {
            Doing::Asleep { woken: Some(how), .. } if how.in_interrupt => {
                Some("it slept until a timer or an interrupt".to_owned())
            }
            Doing::Asleep { woken: Some(how), .. } => {
                Some(format!("it slept until {} woke it", self.thread(how.by, cost.longest)))
            }
            _ => None,
        })
    }

    fn faults(&self, episode: &Episode, tid: Tid) -> Vec<String> {
        let mut lines = Vec::new();
        let Some(process) = self.context.process(tid) else { return lines };
        let thread = self.context.timeline.threads.get(&tid);
        let faults = thread.map(|thread| thread.faults_in(episode.span)).unwrap_or_default();
        if let Some(first) = faults.first() {
            let name = |address| symbol::describe(process, self.symbols, address);
            let mut by: BTreeMap<u64, usize> = BTreeMap::new();
            for fault in faults {
                *by.entry(fault.instruction).or_default() += 1;
            }
            let most = by.into_iter().max_by_key(|(_, count)| *count).map_or(0, |(by, _)| by);
            lines.push(format!(
                "{} page faults for {} new pages, the first at {:#x} ({}), most of them from {}",
                faults.len(),
                faults.iter().map(|fault| fault.pages).sum::<u64>(),
                first.address,
                name(first.address),
                name(most)
            ));
        }
        let major: u64 = process.threads.iter().map(|thread| thread.major_faults).sum();
        lines.push(format!(
            "its process has {} KiB locked and {} KiB swapped out; {major} of its faults needed input",
            process.locked_kib, process.swapped_kib
        ));
        let pressure: Vec<String> = ["pswpout", "pswpin", "pgscan_kswapd", "pgscan_direct"]
            .into_iter()
            .filter_map(|name| {
                Some(format!("{name} {}", self.context.trace.manifest.memory.get(name)?))
            })
            .collect();
        if !pressure.is_empty() {
            lines.push(format!("pages moved in the whole recording: {}", pressure.join(", ")));
        }
        lines
    }

    /// Where in the kernel the longest stretch of a cost was slept.
    fn stack(&self, cost: &Cost) -> Option<String> {
        let states = self.context.timeline.states_in(cost.tid, cost.longest);
        let stack = states.into_iter().find_map(|state| match state.doing {
            Doing::Asleep { stack, .. } if !stack.is_empty() => Some(stack),
            _ => None,
        })?;
        let known = &self.context.trace.manifest.symbols;
        let names: Vec<String> = stack
            .iter()
            .map(|address| known.get(address).cloned().unwrap_or_else(|| format!("{address:#x}")))
            .filter(|name| !is_of_the_recording(name))
            .take(8)
            .collect();
        Some(format!("asleep in {}", names.join(" < ")))
    }

    fn call(&self, tid: Tid, number: i64, argument: u64) -> String {
        let name = syscall::name(number);
        let process = self.context.process(tid);
        let file = process
            .filter(|_| takes_descriptor(&name))
            .and_then(|process| process.files.get(&u32::try_from(argument).ok()?));
        match file {
            Some(file) => format!("{name} of {file}"),
            None => name,
        }
    }

    fn lock(&self, tid: Tid, address: u64) -> String {
        match self.context.process(tid) {
            Some(process) => {
                format!("the lock at {}", symbol::describe(process, self.symbols, address))
            }
            None => format!("the lock at {address:#x}"),
        }
    }

    /// The name alone, with the role where it is needed to know whose it is.
    fn name(&self, tid: Tid) -> String {
        let name = self.context.trace.name(tid);
        if tid == self.context.graph.driver.tid { format!("{name} (the driver)") } else { name }
    }

    /// Name, policy and priority.
    fn thread(&self, tid: Tid, span: Span) -> String {
        let name = self.context.trace.name(tid);
        if tid == 0 {
            return name;
        }
        match self.context.priority(tid, span) {
            Some(prio) if prio < 0 => format!("{name} (kernel, above all)"),
            Some(prio) if prio < 100 => format!("{name} ({} {})", self.policy(tid), 99 - prio),
            Some(120) | None => format!("{name} (ordinary)"),
            Some(prio) => format!("{name} (ordinary, nice {})", prio - 120),
        }
    }

    fn policy(&self, tid: Tid) -> &'static str {
        let processes = &self.context.trace.manifest.processes;
        let thread = processes
            .iter()
            .flat_map(|process| &process.threads)
            .find(|thread| Tid::try_from(thread.tid) == Ok(tid));
        match thread.map(|thread| thread.policy.as_str()) {
            Some("SCHED_FIFO") => "SCHED_FIFO",
            Some("SCHED_RR") => "SCHED_RR",
            // An ordinary thread of the graph with a real-time priority has inherited it.
            Some(_) => "inherited",
            None => "real-time",
        }
    }
}

/// Functions that only put the thread to sleep or write that down.
fn is_of_the_recording(name: &str) -> bool {
    ["trace_event_raw_event_", "__traceiter_", "__schedule", "event_triggers_call"]
        .iter()
        .any(|start| name.starts_with(start))
        || name == "schedule"
}

/// Whether a call's first argument is a file's descriptor.
fn takes_descriptor(name: &str) -> bool {
    ["read", "write", "pread64", "pwrite64", "readv", "writev", "fsync", "fdatasync", "ftruncate"]
        .contains(&name)
        || ["sendto", "sendmsg", "recvfrom", "recvmsg", "ioctl", "lseek", "epoll_wait"]
            .contains(&name)
}

/// A length of time as people read it.
#[must_use]
pub fn duration(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{} us", ns / 1_000),
        _ => format!("{}.{:02} ms", ns / 1_000_000, ns % 1_000_000 / 10_000),
    }
}
