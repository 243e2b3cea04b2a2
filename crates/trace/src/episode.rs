//! Episodes: periods in a row that were not done in time, from the first one's beginning until the
//! late thread was done, and the path through the graph that the time went along.

use crate::event::Tid;
use crate::graph::{Graph, Member, Turn};
use crate::timeline::{Span, Timeline};

/// A stretch of the way from the timer to the late thread's end: what this thread did was what
/// everybody waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leg {
    /// Who.
    pub tid: Tid,
    /// From its waking to its waking the next one, or to its end.
    pub span: Span,
}

/// Late periods in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Episode {
    /// From the first late period's beginning until the late thread was done.
    pub span: Span,
    /// Periods that were not done in time.
    pub late_periods: usize,
    /// Who was not done.
    pub late: Tid,
    /// How late the timer woke the driver at the beginning, in ns.
    pub timer_late_ns: u64,
    /// From the timer to the late thread's end.
    pub path: Vec<Leg>,
}

/// Finds all episodes.
#[must_use]
pub fn find(graph: &Graph, timeline: &Timeline) -> Vec<Episode> {
    let mut episodes: Vec<Episode> = Vec::new();
    let end = timeline.whole.map_or(0, |whole| whole.to);
    // A period that the recording does not show to its end is not judged.
    let complete = graph.cycles.iter().filter(|begun| **begun + 2 * graph.period_ns <= end).count();
    let cycles: Vec<Cycle> =
        graph.cycles.iter().map(|begun| Cycle::of(graph, timeline, *begun)).collect();
    // Whether everything since the last episode has been behind: a driver that makes up for lost periods takes many
    // of them to do so where a period has little time left over, and none of them has a cause of its own.
    let mut is_behind = false;
    for (number, cycle) in cycles.iter().enumerate().take(complete) {
        is_behind &= graph.is_much(cycle.late_ns);
        let next = cycles.get(number + 1);
        let Some((member, turn)) = late_member(graph, timeline, cycle, next) else { continue };
        let was_behind = std::mem::replace(&mut is_behind, true);
        let end = turn.span.to;
        if let Some(last) = episodes.last_mut() {
            // One cause delays several periods: those that begin before the late thread is done, and
            // the one right after.
            if was_behind || cycle.begun <= last.span.to + graph.period_ns {
                last.span.to = last.span.to.max(end);
                last.late_periods += 1;
                continue;
            }
        }
        episodes.push(Episode {
            span: Span { from: cycle.begun.saturating_sub(cycle.timer_late_ns), to: end },
            late_periods: 1,
            late: member.tid,
            timer_late_ns: cycle.timer_late_ns,
            path: path(graph, member, turn, cycle.begun),
        });
    }
    episodes
}

/// A period's beginning: the driver's waking.
struct Cycle {
    begun: u64,
    /// How much later than the driver had wanted to, whoever was to blame.
    late_ns: u64,
    /// The same where its timer was to blame. A driver that has been late itself sets its next timer for a moment
    /// past, which is no fault of the timer's: it comes when the rest is done.
    timer_late_ns: u64,
}

impl Cycle {
    fn of(graph: &Graph, timeline: &Timeline, begun: u64) -> Self {
        let timers = timeline.threads.get(&graph.driver.tid).map(|driver| driver.timers.as_slice());
        let timers = timers.unwrap_or_default();
        let next = timers.partition_point(|(at, _)| *at <= begun);
        let last = next.checked_sub(1).and_then(|index| timers.get(index));
        // One that was set by another clock than the trace's says nothing.
        let last = last.filter(|(_, due)| begun.abs_diff(*due) < 1_000_000_000);
        let late_ns = last.map_or(0, |(_, due)| begun.saturating_sub(*due));
        let in_time = last.is_some_and(|(set, due)| set < due);
        Self { begun, late_ns, timer_late_ns: if in_time { late_ns } else { 0 } }
    }
}

/// Who was not done with the period that `cycle` began when the next one began.
fn late_member<'g>(
    graph: &'g Graph,
    timeline: &Timeline,
    cycle: &Cycle,
    next: Option<&Cycle>,
) -> Option<(&'g Member, Turn)> {
    let begun = cycle.begun;
    let due = begun + graph.period_ns;
    if let Some(turn) = graph.driver.turn_at(due).filter(|turn| turn.span.from <= begun) {
        return Some((&graph.driver, *turn));
    }
    // The server looks at its clients when it runs, not when it is woken.
    let looked = match next {
        // A real-time kernel has PipeWire's timers in a thread below all audio threads: who is not done keeps the
        // driver from being woken, and was late for all that.
        Some(next) if graph.is_much(next.timer_late_ns) => {
            next.begun.saturating_sub(next.timer_late_ns)
        }
        Some(next) => first_run(timeline, graph.driver.tid, next.begun).unwrap_or(due),
        None => due,
    };
    let unfinished = graph
        .clients
        .iter()
        .filter_map(|client| Some((client, *client.turn_at(looked.saturating_sub(1))?)))
        .filter(|(_, turn)| {
            turn.span.from < looked && turn.span.from + graph.period_ns / 8 < looked
        })
        .min_by_key(|(_, turn)| turn.span.from);
    if unfinished.is_some() {
        return unfinished;
    }
    // A timer that came much too late is an episode of its own.
    let turn = graph.driver.turn_at(begun)?;
    graph.is_much(cycle.timer_late_ns).then_some((&graph.driver, *turn))
}

fn first_run(timeline: &Timeline, tid: Tid, from: u64) -> Option<u64> {
    let next = timeline.states_in(tid, Span { from, to: from + 1_000_000_000 });
    next.iter()
        .find(|state| matches!(state.doing, crate::timeline::Doing::Running))
        .map(|state| state.span.from)
}

/// The way from the driver's waking to the end of `turn`, in the order of time.
fn path(graph: &Graph, late: &Member, turn: Turn, begun: u64) -> Vec<Leg> {
    let mut legs = vec![Leg { tid: late.tid, span: turn.span }];
    let mut first = turn;
    while let Some(member) = first.woken_by.and_then(|tid| graph.member(tid)) {
        let reached = first.span.from;
        let Some(turn) = member.turn_at(reached).or_else(|| member.turn_at(reached - 1)) else {
            break;
        };
        if turn.span.from >= reached || legs.len() > 64 {
            break;
        }
        legs.push(Leg { tid: member.tid, span: Span { from: turn.span.from, to: reached } });
        first = *turn;
        if first.span.from <= begun {
            break;
        }
    }
    legs.reverse();
    legs
}
