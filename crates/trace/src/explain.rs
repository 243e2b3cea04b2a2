//! The explanation of a run: an entry for each episode, with its cause in one sentence, the remedy in
//! another, and the evidence.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::capture::Role;
use crate::cause::{Code, Context};
use crate::cost::{self, Usual};
use crate::episode::{self, Episode};
use crate::event::Tid;
use crate::graph::Graph;
use crate::read::Trace;
use crate::sentence::Words;
use crate::symbol::Symbols;
use crate::timeline::Timeline;

/// The version of the document.
pub const SCHEMA: &str = "archibald.explain/1";

/// What happened and why.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Explanation {
    /// [`SCHEMA`].
    pub schema: String,
    /// Which clock counted: `virtual time`, `emulation`, `KVM`, `bare metal`.
    pub source: String,
    /// First and last moment of the trace, in ns of CLOCK_MONOTONIC.
    pub trace: (u64, u64),
    /// Events that were read.
    pub events: usize,
    /// Events that the rings could not keep.
    pub lost: u64,
    /// Length of a period in ns, as the driver kept it.
    pub period_ns: u64,
    /// Periods in the trace.
    pub periods: usize,
    /// Driver and clients.
    pub graph: Vec<Player>,
    /// Episodes in the order of time.
    pub episodes: Vec<Explained>,
    /// How many episodes each cause has.
    pub causes: BTreeMap<Code, usize>,
    /// Reported xruns, as times, that lie in no episode of the trace.
    pub unexplained: Vec<u64>,
}

/// A thread of the graph.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Player {
    /// Its name.
    pub name: String,
    /// Its number.
    pub tid: Tid,
    /// What its process is.
    pub role: Role,
    /// Real-time priority; absent for an ordinary thread.
    pub priority: Option<i32>,
    /// Own running time of a usual period in ns.
    pub usual_ns: u64,
}

/// One episode.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Explained {
    /// From the first late period's beginning, in ns of CLOCK_MONOTONIC.
    pub from_ns: u64,
    /// Until the late thread was done.
    pub to_ns: u64,
    /// Periods that were not done in time.
    pub late_periods: usize,
    /// Times of the reported xruns in it.
    pub xruns: Vec<u64>,
    /// Who was not done.
    pub late: String,
    /// The cause.
    pub cause: Code,
    /// The cause in a sentence.
    pub sentence: String,
    /// What to do about it.
    pub remedy: String,
    /// What the trace shows, the largest part of the time first.
    pub evidence: Vec<String>,
}

/// What is known of the run beside its trace. Times are ns of CLOCK_MONOTONIC.
#[derive(Debug, Clone, Copy)]
pub struct Reported<'r> {
    /// Which clock counted: `virtual time`, `emulation`, `KVM`, `bare metal`.
    pub source: &'r str,
    /// When counting began and ended; late periods outside do not matter. Absent: all of the trace.
    pub window: Option<(u64, u64)>,
    /// When xruns were reported.
    pub xruns: &'r [u64],
    /// Length of a period in ns that the server was told. Absent: what the trace shows.
    pub period_ns: Option<u64>,
}

/// Explains a trace; `symbols` are those of the program.
///
/// The result has no episodes and no graph when the trace shows no audio graph; every xrun is then
/// unexplained.
#[must_use]
pub fn explain(trace: &Trace, reported: &Reported<'_>, symbols: &[Symbols]) -> Explanation {
    let timeline = Timeline::new(&trace.entries);
    let whole = timeline.whole.map_or((0, 0), |span| (span.from, span.to));
    let mut explanation = Explanation {
        schema: SCHEMA.to_owned(),
        source: reported.source.to_owned(),
        trace: whole,
        events: trace.entries.len(),
        lost: trace.manifest.lost(),
        period_ns: 0,
        periods: 0,
        graph: Vec::new(),
        episodes: Vec::new(),
        causes: BTreeMap::new(),
        unexplained: reported.xruns.to_vec(),
    };
    let Some(graph) = Graph::find(trace, &timeline, reported.period_ns) else { return explanation };
    let found = episode::find(&graph, &timeline);
    let late: usize = found.iter().map(|episode| episode.late_periods).sum();
    let measured = Usual::measure(&graph, &timeline);
    // What is late as a rule is not excused by being usual.
    let has_usual = late * 2 <= graph.cycles.len();
    let usual = if has_usual { measured.clone() } else { measured.nothing() };
    let context = Context { trace, timeline: &timeline, graph: &graph };
    let words = Words { context, symbols, has_usual };
    explanation.period_ns = graph.period_ns;
    explanation.periods = graph.cycles.len();
    explanation.graph = players(&context, &measured);
    let (first, last) = reported.window.unwrap_or((0, u64::MAX));
    let counts = |found: &Episode| {
        // Late is a period only when the next one begins.
        first <= found.span.to && found.span.from.saturating_add(graph.period_ns) < last
    };
    for found in found.into_iter().filter(counts) {
        explanation.episodes.push(one(&context, &words, &usual, &found));
    }
    sort_xruns(&mut explanation, reported.xruns);
    for episode in &explanation.episodes {
        *explanation.causes.entry(episode.cause).or_default() += 1;
    }
    explanation
}

fn players(context: &Context<'_>, usual: &Usual) -> Vec<Player> {
    context
        .graph
        .members()
        .map(|member| Player {
            name: context.trace.name(member.tid),
            tid: member.tid,
            role: member.role,
            priority: context
                .timeline
                .whole
                .and_then(|whole| context.priority(member.tid, whole))
                .filter(|prio| *prio < 100)
                .map(|prio| 99 - prio),
            usual_ns: usual.own_ns(member.tid),
        })
        .collect()
}

fn one(context: &Context<'_>, words: &Words<'_>, usual: &Usual, found: &Episode) -> Explained {
    let costs = cost::of(found, context.graph, context.timeline, usual);
    let (code, sentence) = match context.main(found, &costs) {
        Some((code, cost)) => (code, words.sentence(found, cost, code)),
        None => (Code::Unknown, "The trace shows nothing unusual in this period.".to_owned()),
    };
    Explained {
        from_ns: found.span.from,
        to_ns: found.span.to,
        late_periods: found.late_periods,
        xruns: Vec::new(),
        late: context.trace.name(found.late),
        cause: code,
        sentence,
        remedy: code.remedy().to_owned(),
        evidence: words.evidence(found, &costs),
    }
}

/// How long the news of an xrun may take: an ordinary thread of the client brings it, when the load
/// lets it.
const NEWS_NS: u64 = 250_000_000;

/// Puts every reported xrun into its episode: the last one before the news came.
fn sort_xruns(explanation: &mut Explanation, xruns: &[u64]) {
    let mut unexplained = Vec::new();
    for at in xruns {
        let episodes = &mut explanation.episodes;
        let next = episodes.partition_point(|episode| episode.from_ns <= *at);
        let own = next.checked_sub(1).and_then(|index| episodes.get_mut(index));
        match own.filter(|episode| *at <= episode.to_ns + NEWS_NS) {
            Some(episode) => episode.xruns.push(*at),
            None => unexplained.push(*at),
        }
    }
    explanation.unexplained = unexplained;
}
