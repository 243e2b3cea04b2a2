//! Where a scenario stops to hold: the smallest period at every speed, the slowest processor at every
//! period, out of the verdicts of a whole grid.

use archibald_latency::Verdict;
use serde::Serialize;

/// What was found at one point of the grid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum Outcome {
    /// A verdict.
    Judged {
        /// Which.
        verdict: Verdict,
        /// Xruns of all runs, by the meter that saw most in each.
        xruns: u64,
        /// Periods that were scheduled.
        periods: u64,
    },
    /// The idle control had xruns: the server alone is too much for this point, and nothing is said of
    /// the program.
    Server {
        /// Xruns of the control.
        xruns: u64,
    },
    /// The program did not play at all here, for this reason.
    Silent {
        /// Why.
        reason: String,
    },
}

impl Outcome {
    /// Whether the scenario's limits were kept.
    #[must_use]
    pub fn held(&self) -> bool {
        matches!(self, Self::Judged { verdict: Verdict::Held, .. })
    }

    /// In a cell of a table.
    #[must_use]
    pub fn word(&self) -> String {
        match self {
            Self::Judged { verdict: Verdict::Held, xruns: 0, .. } => "held".to_owned(),
            Self::Judged { verdict, xruns, .. } => format!("{}: {xruns}", verdict.word()),
            Self::Server { xruns } => format!("server alone: {xruns}"),
            Self::Silent { .. } => "does not play".to_owned(),
        }
    }
}

/// A point with what was found there. A cell with a longer period or a faster processor is the easier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Point {
    /// Frames in one period.
    pub quantum: u32,
    /// Millions of instructions a second.
    pub mips: u32,
    /// What was found.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// The last value along one line of the grid at which it held, all easier ones included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Edge {
    /// What stays the same along the line: the speed of a line of periods, or the period of a line of
    /// speeds.
    pub at: u32,
    /// The hardest value that holds; absent: not even the easiest.
    pub holds: Option<u32>,
    /// The next harder one that was tried, which does not hold; absent: all held.
    pub breaks: Option<u32>,
    /// A harder value than [`Self::breaks`] that held all the same: the edge is not a clean one.
    pub again: Option<u32>,
}

/// The smallest period that holds at each speed, the fastest first.
#[must_use]
pub fn smallest_quantum(points: &[Point]) -> Vec<Edge> {
    edges(points, |point| point.mips, |point| point.quantum)
}

/// The slowest processor that holds at each period, the longest first.
#[must_use]
pub fn slowest_processor(points: &[Point]) -> Vec<Edge> {
    edges(points, |point| point.quantum, |point| point.mips)
}

fn edges(
    points: &[Point],
    line: impl Fn(&Point) -> u32,
    along: impl Fn(&Point) -> u32,
) -> Vec<Edge> {
    let mut lines: Vec<u32> = points.iter().map(&line).collect();
    lines.sort_unstable_by(|a, b| b.cmp(a));
    lines.dedup();
    let edge = |at: u32| {
        let mut row: Vec<(u32, bool)> = points
            .iter()
            .filter(|point| line(point) == at)
            .map(|point| (along(point), point.outcome.held()))
            .collect();
        row.sort_unstable_by(|a, b| b.cmp(a));
        let broken = row.iter().position(|(_, held)| !held);
        let holding = row.get(..broken.unwrap_or(row.len())).unwrap_or_default();
        let rest = row.get(broken.unwrap_or(row.len())..).unwrap_or_default();
        Edge {
            at,
            holds: holding.last().map(|(value, _)| *value),
            breaks: rest.first().map(|(value, _)| *value),
            again: rest.iter().rfind(|(_, held)| *held).map(|(value, _)| *value),
        }
    };
    lines.into_iter().map(edge).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(quantum: u32, mips: u32, verdict: Verdict) -> Point {
        let xruns = u64::from(verdict != Verdict::Held);
        Point { quantum, mips, outcome: Outcome::Judged { verdict, xruns, periods: 100 } }
    }

    #[test]
    fn the_edge_is_the_last_that_holds_before_the_first_that_does_not() {
        use Verdict::{Broken, Held};
        let points = [
            point(8, 500, Broken),
            point(64, 500, Held),
            point(32, 500, Held),
            point(64, 250, Held),
            point(32, 250, Broken),
            point(8, 250, Broken),
            point(64, 62, Broken),
            point(32, 62, Held),
        ];
        let edge = |at, holds, breaks, again| Edge { at, holds, breaks, again };
        assert_eq!(
            smallest_quantum(&points),
            [
                edge(500, Some(32), Some(8), None),
                edge(250, Some(64), Some(32), None),
                edge(62, None, Some(64), Some(32)),
            ]
        );
        assert_eq!(
            slowest_processor(&points),
            [
                edge(64, Some(250), Some(62), None),
                edge(32, Some(500), Some(250), Some(62)),
                edge(8, None, Some(500), None),
            ]
        );
    }

    #[test]
    fn a_point_without_a_verdict_does_not_hold() {
        let silent = Outcome::Silent { reason: "no port".to_owned() };
        let server = Outcome::Server { xruns: 3 };
        let points = [silent, server].map(|outcome| Point { quantum: 32, mips: 62, outcome });
        for point in points {
            let edges = smallest_quantum(std::slice::from_ref(&point));
            assert_eq!((edges[0].holds, edges[0].breaks), (None, Some(32)), "{point:?}");
        }
    }
}
