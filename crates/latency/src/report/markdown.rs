//! The report for a comment, a commit or a wiki: Markdown as GitHub and GitLab draw it.

use std::io;

use super::text::{at, figures, quantile_rows};
use super::{Report, round_trip};
use crate::Outcome;
use crate::words::{count, grouped, micros};

/// Causes that are written out; the rest is counted.
const SHOWN: usize = 10;

pub(super) fn write(report: &Report, out: &mut dyn io::Write) -> io::Result<()> {
    let judgement = &report.judgement;
    writeln!(out, "# {}\n", cell(&report.title))?;
    writeln!(out, "**{}** ({})\n", cell(report.headline()), judgement.source.word())?;
    writeln!(out, "> {}\n", judgement.caveat)?;
    for note in &judgement.notes {
        writeln!(out, "> {}\n", cell(note))?;
    }
    if !judgement.criteria.is_empty() || report.control.is_some() {
        table(out, &["Limit", "Found", "The sample shows", "Outcome"])?;
    }
    for criterion in &judgement.criteria {
        let mut outcome = match criterion.outcome {
            Outcome::Broken => "BROKEN".to_owned(),
            outcome => outcome.word().to_owned(),
        };
        if let Some(more) = criterion.more {
            outcome.push_str(&format!("; it takes {}", more.words()));
        }
        let bound = criterion.bound.as_deref().unwrap_or("–");
        row(out, &[&criterion.title, &criterion.found, bound, &outcome])?;
    }
    if let Some(control) = &report.control {
        let found =
            format!("{} in {}", count(control.xruns, "xrun"), count(control.periods, "period"));
        let outcome = if control.held { "held" } else { "FAILED" };
        row(out, &["control: no xruns", &found, &control.title, outcome])?;
    }
    writeln!(out, "\n## Figures\n")?;
    table(out, &["", ""])?;
    for (name, value) in figures(report) {
        row(out, &[name, &value])?;
    }
    round_trips(report, out)?;
    for named in report.distributions() {
        writeln!(out, "\n## {}\n", cell(&named.title))?;
        table(out, &["", ""])?;
        for (name, value) in quantile_rows(&named.histogram) {
            row(out, &[&name, &value])?;
        }
        let parts = report.parts_of(&named.name);
        if !parts.is_empty() {
            writeln!(out)?;
            table(out, &["", "samples", "worst"])?;
        }
        for part in parts {
            let worst = part.histogram.max_ns().map_or("unknown".to_owned(), micros);
            row(out, &[&part.title, &count(part.histogram.count(), "sample"), &worst])?;
        }
    }
    if !report.findings.is_empty() {
        writeln!(out, "\n## Causes\n")?;
    }
    for finding in report.findings.iter().take(SHOWN) {
        let at = at(report, &finding.run, finding.at_ns);
        let (cause, sentence) = (&finding.cause, cell(&finding.sentence));
        writeln!(out, "- {at} `{cause}`: {sentence} **Remedy:** {}", cell(&finding.remedy))?;
    }
    if report.findings.len() > SHOWN {
        let rest = (report.findings.len() - SHOWN) as u64;
        writeln!(out, "- and {} more", count(rest, "episode"))?;
    }
    writeln!(out, "\n## Conditions\n")?;
    table(out, &["", ""])?;
    for (name, value) in report.conditions() {
        row(out, &[&name, &value])?;
    }
    Ok(())
}

/// Of a single run in full, of each of several in a row.
fn round_trips(report: &Report, out: &mut dyn io::Write) -> io::Result<()> {
    let trips: Vec<_> = round_trip::trips(report).collect();
    if trips.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n## {}\n", round_trip::TITLE)?;
    match (&report.runs[..], &trips[..]) {
        ([_], [(run, trip)]) => {
            table(out, &["", ""])?;
            for (name, value) in round_trip::rows(run, trip) {
                row(out, &[name, &value])?;
            }
        }
        _ => {
            table(out, &["Run", "Round trip", "Range", "Breaks"])?;
            for (run, trip) in trips {
                let breaks = round_trip::breaks(trip).map_or("–".to_owned(), grouped);
                let (length, range) = (round_trip::length(run, trip), round_trip::range(trip));
                row(out, &[&run.id, &length, &range, &breaks])?;
            }
        }
    }
    let (told, more) = round_trip::told(report, SHOWN);
    if !told.is_empty() {
        writeln!(out)?;
        table(out, &["Break at", "Frame", "What happened"])?;
    }
    for found in told {
        row(out, &[&found.at, &found.frame, &found.what])?;
    }
    if more > 0 {
        writeln!(out, "\nand {} more.", count(more, "break"))?;
    }
    Ok(())
}

/// A table's head, of which these are the columns.
fn table(out: &mut dyn io::Write, columns: &[&str]) -> io::Result<()> {
    row(out, columns)?;
    writeln!(out, "|{}", " --- |".repeat(columns.len()))
}

fn row(out: &mut dyn io::Write, cells: &[&str]) -> io::Result<()> {
    let cells: Vec<String> = cells.iter().map(|text| cell(text)).collect();
    writeln!(out, "| {} |", cells.join(" | "))
}

/// A text that stays in its cell and its line, and is no markup.
fn cell(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '|' | '`' | '*' | '_' | '[' | ']' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            // A tag begins with a letter, a slash or a mark; `<= 50 us` may stay readable.
            '<' if rest.peek().is_some_and(|next| !next.is_whitespace() && *next != '=') => {
                out.push_str("&lt;");
            }
            '&' => out.push_str("&amp;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}
