//! The verdict: whether a target was met, was not, or cannot be told from so few samples.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::bound::{self, Confidence};
use crate::words::{count, digits, grouped, micros, percent, span};
use crate::{Episodes, Limit, Meter, Run, Source, Target};

/// How the whole came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every limit was kept, by enough samples.
    Held,
    /// At least one was not.
    Broken,
    /// None was broken, and at least one could not be told.
    NotEnoughSamples,
    /// The figures are an emulator's: none is held against a limit.
    NotJudged,
    /// Nothing was asked of them.
    NotAsked,
}

impl Verdict {
    /// For people.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Broken => "broken",
            Self::NotEnoughSamples => "not enough samples",
            Self::NotJudged => "emulated: not judged",
            Self::NotAsked => "no limit was asked",
        }
    }
}

/// How one limit came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Kept.
    Held,
    /// Not kept.
    Broken,
    /// Cannot be told.
    NotEnoughSamples,
    /// Not held against the limit.
    NotJudged,
}

impl Outcome {
    /// For people.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Held => Verdict::Held.word(),
            Self::Broken => Verdict::Broken.word(),
            Self::NotEnoughSamples => Verdict::NotEnoughSamples.word(),
            Self::NotJudged => Verdict::NotJudged.word(),
        }
    }
}

/// How much more it would take to tell, if things go on as they did.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct More {
    /// Samples in all, those already there included.
    pub samples: u64,
    /// Seconds of the run's clock in all; absent when the runs have no length.
    pub seconds: Option<f64>,
}

/// One limit and what was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Criterion {
    /// The limit.
    pub limit: Limit,
    /// The limit in words.
    pub title: String,
    /// What was found, in words, with the number of samples.
    pub found: String,
    /// What the sample can exclude, in words.
    pub bound: Option<String>,
    /// How it came out.
    pub outcome: Outcome,
    /// What it would take; with [`Outcome::NotEnoughSamples`] only, and absent there if no length
    /// would tell.
    pub more: Option<More>,
}

/// Whole runs as trials: each either kept the count of xruns or did not.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trials {
    /// Runs that are samples of their own.
    pub runs: u64,
    /// Runs left out because they repeat another one exactly: same conditions, same seed, virtual
    /// time.
    pub repeated: u64,
    /// Of `runs`, those with more xruns than the limit (more than none without such a limit).
    pub failing: u64,
    /// The share of failing runs that can be excluded, at each confidence: 95 and 99 %.
    pub failing_below: [f64; 2],
}

/// The verdict with everything it rests on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judgement {
    /// The one word.
    pub verdict: Verdict,
    /// Where the figures come from; the first run's.
    pub source: Source,
    /// What they do not show.
    pub caveat: &'static str,
    /// Limit by limit.
    pub criteria: Vec<Criterion>,
    /// Scheduled periods of all samples.
    pub periods: u64,
    /// Seconds of all samples, by the runs' clock.
    pub seconds: f64,
    /// Xruns, by the meter that saw most in each run.
    pub xruns: u64,
    /// Episodes of these xruns; absent when a meter counted more than it gave times for.
    pub episodes: Option<u64>,
    /// The meters that speak for the runs with xruns: in each the one that saw most.
    pub meters: BTreeSet<Meter>,
    /// All meters that looked.
    pub looked: BTreeSet<Meter>,
    /// The share of periods with an xrun that can be excluded, at 95 and 99 %.
    pub share_below: [f64; 2],
    /// Events and trials behind the share: fractions, because an episode is one event and the periods
    /// are divided by its mean length.
    pub effective: (f64, f64),
    /// Xruns an hour as seen; absent without a length.
    pub per_hour: Option<f64>,
    /// Episodes an hour (xruns where episodes are not known) that can be excluded, at 95 and 99 %.
    pub per_hour_below: Option<[f64; 2]>,
    /// Runs as trials.
    pub trials: Trials,
    /// What a reader must know beside.
    pub notes: Vec<String>,
}

const BOTH: [Confidence; 2] = [Confidence::C95, Confidence::C99];

/// The figures of all samples together.
struct Tally<'a> {
    runs: Vec<&'a Run>,
    repeated: u64,
    differing: bool,
    periods: u64,
    seconds: f64,
    xruns: u64,
    episodes: Option<u64>,
    unmetered: bool,
    meters: BTreeSet<Meter>,
    looked: BTreeSet<Meter>,
}

/// Holds these runs against a target. Several runs of one set of conditions (different seeds,
/// different days) are pooled; a run in virtual time that repeats another with the same seed is the
/// same sample and counted once.
///
/// Xruns come in episodes, so that periods are not independent. The bound on their share therefore
/// takes each episode as one event, and the number of periods divided by the mean length of an
/// episode as the number of trials (a design effect; W. G. Cochran, Sampling Techniques, 9.4): with
/// lone xruns this is Clopper-Pearson, with bursts it is wider.
pub fn judge(runs: &[Run], target: &Target) -> Judgement {
    let tally = Tally::of(runs);
    let source = runs.first().map_or(Source::Emulation, |run| run.source);
    let judged = !runs.is_empty() && runs.iter().all(|run| run.source.is_judged());
    let mut criteria: Vec<Criterion> =
        target.limits.iter().map(|limit| tally.criterion(limit, target.confidence)).collect();
    if !judged {
        for criterion in &mut criteria {
            criterion.outcome = Outcome::NotJudged;
            criterion.more = None;
        }
    }
    let any = |outcome| criteria.iter().any(|c| c.outcome == outcome);
    let verdict = match () {
        () if !judged => Verdict::NotJudged,
        () if any(Outcome::Broken) => Verdict::Broken,
        () if criteria.is_empty() => Verdict::NotAsked,
        () if any(Outcome::NotEnoughSamples) => Verdict::NotEnoughSamples,
        () => Verdict::Held,
    };
    let at_most = target.limits.iter().find_map(|limit| match limit {
        Limit::XrunCount { at_most } => Some(*at_most),
        _ => None,
    });
    let hours = tally.seconds / 3600.0;
    let events = number(tally.episodes.unwrap_or(tally.xruns));
    Judgement {
        verdict,
        source,
        caveat: source.caveat(),
        criteria,
        periods: tally.periods,
        seconds: tally.seconds,
        xruns: tally.xruns,
        episodes: tally.episodes,
        share_below: BOTH.map(|confidence| tally.share_below(confidence)),
        effective: tally.effective(),
        per_hour: (hours > 0.0).then(|| number(tally.xruns) / hours),
        per_hour_below: (hours > 0.0)
            .then(|| BOTH.map(|confidence| bound::upper_count(events, confidence) / hours)),
        trials: tally.trials(at_most.unwrap_or(0)),
        notes: tally.notes(runs, target),
        meters: tally.meters,
        looked: tally.looked,
    }
}

impl<'a> Tally<'a> {
    fn of(all: &'a [Run]) -> Self {
        let mut runs: Vec<&Run> = Vec::new();
        let (mut repeated, mut differing) = (0, false);
        for run in all {
            let twin = runs.iter().find(|other| is_same_sample(run, other));
            match twin {
                Some(twin) => {
                    repeated += 1;
                    differing |= (&twin.xruns, &twin.counters) != (&run.xruns, &run.counters);
                }
                None => runs.push(run),
            }
        }
        let mut tally = Self {
            repeated,
            differing,
            periods: 0,
            seconds: 0.0,
            xruns: 0,
            episodes: Some(0),
            unmetered: false,
            meters: BTreeSet::new(),
            looked: BTreeSet::new(),
            runs: Vec::new(),
        };
        for run in &runs {
            tally.add(run);
        }
        tally.runs = runs;
        tally
    }

    fn add(&mut self, run: &Run) {
        self.periods = self.periods.saturating_add(run.periods);
        self.seconds += run.window.seconds();
        let Some((meter, xruns)) = run.worst_meter() else {
            self.unmetered = true;
            return;
        };
        self.looked.extend(run.counters.keys());
        if xruns > 0 {
            self.meters.insert(meter);
        }
        self.xruns = self.xruns.saturating_add(xruns);
        let times = run.times_of(meter);
        let gap = run.conditions.period_ns().map(Episodes::default_gap_ns);
        self.episodes = match (self.episodes, gap) {
            (Some(before), Some(gap)) if times.len() as u64 == xruns => {
                Some(before + Episodes::of(&times, gap).count())
            }
            _ => None,
        };
    }

    /// Events and trials of the binomial bound. Without times the xruns may all be one episode.
    fn effective(&self) -> (f64, f64) {
        let (xruns, periods) = (number(self.xruns), number(self.periods));
        match self.episodes {
            _ if self.xruns == 0 => (0.0, periods),
            Some(episodes) => (number(episodes), periods * number(episodes) / xruns),
            None => (1.0, periods / xruns),
        }
    }

    fn share_below(&self, confidence: Confidence) -> f64 {
        let (k, n) = self.effective();
        bound::upper_share(k, n, confidence)
    }

    fn trials(&self, at_most: u64) -> Trials {
        let metered = || self.runs.iter().filter_map(|run| run.worst_meter());
        let runs = metered().count() as u64;
        let failing = metered().filter(|(_, xruns)| *xruns > at_most).count() as u64;
        let failing_below =
            BOTH.map(|confidence| bound::upper_share(number(failing), number(runs), confidence));
        Trials { runs, repeated: self.repeated, failing, failing_below }
    }

    fn notes(&self, all: &[Run], target: &Target) -> Vec<String> {
        let mut notes = Vec::new();
        let asked = |limit: &Limit| !matches!(limit, Limit::Worst { .. });
        if self.unmetered && target.limits.iter().any(asked) {
            notes
                .push("A run has no meter that looked for xruns; it counts as no evidence.".into());
        }
        if self.repeated > 0 && !self.differing {
            notes.push(format!(
                "{} of the same seed repeated another one and counted once.",
                count(self.repeated, "run")
            ));
        }
        if self.differing {
            notes.push(
                "Runs with the same conditions and seed differ: virtual time did not repeat here, and \
                 no verdict from it should be trusted."
                    .into(),
            );
        }
        if self.episodes.is_none() {
            notes.push(
                "A meter counted more xruns than it gave times for: their episodes are not known, \
                 and the bound on the share takes them for one."
                    .into(),
            );
        }
        if let Some(first) = all.first() {
            let other = all.iter().any(|run| run.source != first.source);
            if other {
                notes.push("The runs come from different sources and should not be pooled.".into());
            }
            let differing = differing(first, all);
            if !differing.is_empty() {
                notes.push(format!(
                    "The runs were taken under different conditions ({}): together they show how often \
                     such a mixture is late, not how often any one of them is.",
                    differing.join(", ")
                ));
            }
        }
        notes
    }

    fn criterion(&self, limit: &Limit, confidence: Confidence) -> Criterion {
        let (found, bound, outcome, more) = match limit {
            Limit::XrunCount { at_most } => self.judge_count(*at_most, confidence),
            Limit::XrunShare { below } => self.judge_share(*below, confidence),
            Limit::Worst { histogram, at_most_ns, tail } => {
                self.judge_worst(histogram, *at_most_ns, *tail, confidence)
            }
        };
        Criterion { limit: limit.clone(), title: limit.title(), found, bound, outcome, more }
    }

    fn judge_count(&self, at_most: u64, confidence: Confidence) -> Found {
        let trials = self.trials(at_most);
        let metered = self.runs.iter().all(|run| run.worst_meter().is_some() && run.periods > 0);
        let outcome = match () {
            () if trials.failing > 0 => Outcome::Broken,
            () if !metered || trials.runs == 0 => Outcome::NotEnoughSamples,
            () => Outcome::Held,
        };
        let xruns = count(self.xruns, "xrun");
        let periods = count(self.periods, "period");
        let found = match trials.runs {
            0 => "no meter looked for xruns".to_owned(),
            1 => format!("{xruns} in {periods}"),
            n => format!("{xruns} in {periods}; {} of {n} runs over the limit", trials.failing),
        };
        let share = bound::upper_share(number(trials.failing), number(trials.runs), confidence);
        let bound = (trials.runs > 1).then(|| {
            format!("at most {} of such runs fail, at {}", percent(share), confidence.word())
        });
        (found, bound, outcome, None)
    }

    fn judge_share(&self, below: f64, confidence: Confidence) -> Found {
        let (k, n) = self.effective();
        let upper = bound::upper_share(k, n, confidence);
        let lower = bound::lower_share(k, n, confidence);
        let outcome = match () {
            () if self.periods == 0 || self.unmetered => Outcome::NotEnoughSamples,
            () if upper < below => Outcome::Held,
            () if lower >= below => Outcome::Broken,
            () => Outcome::NotEnoughSamples,
        };
        let seen = if self.periods == 0 { 0.0 } else { number(self.xruns) / number(self.periods) };
        let found = format!(
            "{} in {} ({}{})",
            count(self.xruns, "xrun"),
            count(self.periods, "period"),
            percent(seen),
            self.episodes
                .filter(|_| self.xruns > 0)
                .map_or(String::new(), |episodes| format!(", in {}", count(episodes, "episode"))),
        );
        let bound = (self.periods > 0).then(|| {
            let word = confidence.word();
            match outcome {
                Outcome::Broken => format!("at least {}, at {word}", percent(lower)),
                _ => format!("at most {}, at {word}", percent(upper)),
            }
        });
        let more = (outcome == Outcome::NotEnoughSamples && !self.unmetered)
            .then(|| self.more_for_share(below, confidence))
            .flatten();
        (found, bound, outcome, more)
    }

    /// How many periods would tell, should xruns go on coming as they did: the count at that length,
    /// in whole episodes, rounded against the wanted answer.
    fn more_for_share(&self, below: f64, confidence: Confidence) -> Option<More> {
        let (k, n) = self.effective();
        let tells = |periods: f64| {
            if n <= 0.0 || k <= 0.0 {
                return bound::upper_share(0.0, periods, confidence) < below;
            }
            let length = number(self.periods) / n;
            let trials = periods / length;
            let expected = trials * k / n;
            bound::upper_share(expected.ceil(), trials, confidence) < below
                || bound::lower_share(expected.floor(), trials, confidence) >= below
        };
        let mut high = self.periods.max(1);
        while !tells(number(high)) {
            high *= 2;
            // A share that lies on the limit is told apart from it by no length.
            if high > 10_000_000_000_000 {
                return None;
            }
        }
        let mut low = self.periods;
        while high - low > 1 {
            let middle = low.midpoint(high);
            if tells(number(middle)) { high = middle } else { low = middle }
        }
        Some(self.more(high, self.periods))
    }

    /// `samples` in all, at the pace at which `so_far` came.
    fn more(&self, samples: u64, so_far: u64) -> More {
        let pace = (so_far > 0 && self.seconds > 0.0).then(|| self.seconds / number(so_far));
        let period = self.runs.first().and_then(|run| run.conditions.period_ns());
        let pace = pace.or(period.map(|ns| ns / 1e9));
        More { samples, seconds: pace.map(|pace| pace * number(samples)) }
    }

    fn judge_worst(&self, name: &str, at_most: u64, tail: f64, confidence: Confidence) -> Found {
        let own = || self.runs.iter().filter_map(|run| run.histogram(name));
        let samples: u64 = own().map(|named| named.histogram.count()).sum();
        let Some(worst) = own().filter_map(|named| named.histogram.max_ns()).max() else {
            return ("no samples".to_owned(), None, Outcome::NotEnoughSamples, None);
        };
        let needed = bound::trials_for(tail, confidence);
        let outcome = match () {
            () if worst > at_most => Outcome::Broken,
            () if needed.is_some_and(|needed| samples >= needed) => Outcome::Held,
            () => Outcome::NotEnoughSamples,
        };
        let found = format!("worst {} of {}", micros(worst), count(samples, "sample"));
        let bound = (outcome != Outcome::Broken).then(|| {
            let share = bound::upper_share(0.0, number(samples), confidence);
            format!("at most {} lie beyond, at {}", percent(share), confidence.word())
        });
        let more = (outcome == Outcome::NotEnoughSamples)
            .then(|| needed.map(|needed| self.more(needed, samples)))
            .flatten();
        (found, bound, outcome, more)
    }
}

/// The names of the conditions that are not those of the first run. Seeds are meant to differ.
fn differing(first: &Run, all: &[Run]) -> Vec<String> {
    let own = first.conditions.rows();
    let mut names: Vec<String> = Vec::new();
    for rows in all.iter().map(|run| run.conditions.rows()) {
        let missing = |a: &[(String, String)], b: &[(String, String)]| -> Vec<String> {
            a.iter().filter(|row| !b.contains(row)).map(|(name, _)| name.clone()).collect()
        };
        for name in missing(&own, &rows).into_iter().chain(missing(&rows, &own)) {
            if name != "seed" && !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

type Found = (String, Option<String>, Outcome, Option<More>);

/// The runs that are samples of their own: without those that repeat an earlier one.
pub(crate) fn samples(runs: &[Run]) -> impl Iterator<Item = &Run> {
    runs.iter().enumerate().filter_map(|(i, run)| {
        let earlier = runs.get(..i).unwrap_or_default();
        (!earlier.iter().any(|other| is_same_sample(run, other))).then_some(run)
    })
}

/// A run in virtual time follows from its conditions: with the same ones it is the same sample.
fn is_same_sample(a: &Run, b: &Run) -> bool {
    a.source == Source::VirtualTime
        && b.source == Source::VirtualTime
        && a.conditions == b.conditions
        && a.window.length_ns() == b.window.length_ns()
        && a.window.warmup_ns == b.window.warmup_ns
}

#[allow(clippy::cast_precision_loss)]
fn number(n: u64) -> f64 {
    n as f64
}

impl More {
    /// For people: `2,995 samples, 2 s`.
    pub fn words(&self) -> String {
        let samples = grouped(self.samples);
        match self.seconds {
            Some(seconds) => format!("{samples} samples in all, {}", span(seconds)),
            None => format!("{samples} samples in all"),
        }
    }
}

impl Judgement {
    /// The rate an hour for people: `none seen; at most 1,100 episodes, at 95 %`.
    pub fn rate_words(&self) -> Option<String> {
        let (seen, [below, _]) = (self.per_hour?, self.per_hour_below?);
        let seen = match self.episodes {
            _ if self.xruns == 0 => "none seen".to_owned(),
            Some(episodes) => format!(
                "{} xruns in {} episodes seen",
                digits(seen, 2),
                digits(seen * number(episodes) / number(self.xruns), 2)
            ),
            None => format!("{} xruns seen", digits(seen, 2)),
        };
        let what = if self.episodes.is_some() { "episodes" } else { "xruns" };
        Some(format!("{seen}; at most {} {what}, at 95 %", digits(below, 2)))
    }
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
pub(crate) mod tests;
