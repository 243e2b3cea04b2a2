//! The explanation as text for a terminal.

use std::fmt::Write as _;

use crate::explain::{Explained, Explanation};
use crate::sentence::duration;

/// Episodes of one cause that are shown in full.
const SHOWN: usize = 2;

/// The explanation for a person: the causes, the most frequent first, each with its longest episodes.
#[must_use]
pub fn text(explanation: &Explanation) -> String {
    let mut out = String::new();
    write_text(&mut out, explanation).unwrap_or_default();
    out
}

fn write_text(out: &mut String, explanation: &Explanation) -> std::fmt::Result {
    let length = explanation.trace.1.saturating_sub(explanation.trace.0);
    writeln!(
        out,
        "{} periods of {} in {} of {}: {}",
        explanation.periods,
        duration(explanation.period_ns),
        duration(length),
        explanation.source,
        counted(explanation.episodes.len(), "late episode")
    )?;
    if explanation.lost > 0 {
        writeln!(
            out,
            "{} events did not fit into the trace: its beginning is missing",
            explanation.lost
        )?;
    }
    for player in &explanation.graph {
        let priority =
            player.priority.map_or("ordinary".to_owned(), |rt| format!("real-time {rt}"));
        writeln!(
            out,
            "  {} ({priority}) usually computes {} a period",
            player.name,
            duration(player.usual_ns)
        )?;
    }
    let mut causes: Vec<_> = explanation.causes.iter().collect();
    causes.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    for (code, count) in causes {
        let mut own: Vec<&Explained> =
            explanation.episodes.iter().filter(|episode| episode.cause == *code).collect();
        own.sort_by_key(|episode| std::cmp::Reverse(episode.to_ns - episode.from_ns));
        writeln!(out, "\n{} ({})", code.as_str(), counted(*count, "episode"))?;
        writeln!(out, "  remedy: {}", code.remedy())?;
        for episode in own.iter().take(SHOWN) {
            write_episode(out, explanation, episode)?;
        }
        if own.len() > SHOWN {
            writeln!(out, "  and {} shorter ones", own.len() - SHOWN)?;
        }
    }
    if !explanation.unexplained.is_empty() {
        writeln!(
            out,
            "\nnot explained: {} in no late period of the trace, the first at {} ms",
            counted(explanation.unexplained.len(), "reported xrun"),
            explanation.unexplained.first().copied().unwrap_or(0) / 1_000_000
        )?;
    }
    Ok(())
}

fn write_episode(
    out: &mut String,
    explanation: &Explanation,
    episode: &Explained,
) -> std::fmt::Result {
    let since = episode.from_ns.saturating_sub(explanation.trace.0);
    writeln!(
        out,
        "  at {}, {} late until {} was done after {}",
        duration(since),
        counted(episode.late_periods, "period"),
        episode.late,
        duration(episode.to_ns - episode.from_ns)
    )?;
    writeln!(out, "    {}", episode.sentence)?;
    for line in &episode.evidence {
        writeln!(out, "      {line}")?;
    }
    Ok(())
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
