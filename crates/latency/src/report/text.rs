//! The report for a terminal.

use std::io;

use super::{Report, round_trip};
use crate::Outcome;
use crate::words::{count, digits, grouped, micros, percent, span};

/// Findings that are written out; the rest is counted.
const SHOWN: usize = 10;

pub(super) fn write(report: &Report, out: &mut dyn io::Write) -> io::Result<()> {
    let judgement = &report.judgement;
    writeln!(out, "{}: {} ({})", report.title, report.headline(), judgement.source.word())?;
    for criterion in &judgement.criteria {
        let bound = criterion.bound.as_ref().map_or(String::new(), |bound| format!("; {bound}"));
        let word = match criterion.outcome {
            Outcome::Held => "held",
            Outcome::Broken => "BROKEN",
            Outcome::NotEnoughSamples => "short",
            Outcome::NotJudged => "-",
        };
        writeln!(out, "  {word:<7} {}: {}{bound}", criterion.title, criterion.found)?;
        if let Some(more) = criterion.more {
            writeln!(out, "          -> it takes {}", more.words())?;
        }
    }
    if let Some(control) = &report.control {
        let word = if control.held { "held" } else { "FAILED" };
        let (xruns, periods) = (count(control.xruns, "xrun"), count(control.periods, "period"));
        writeln!(out, "  {word:<7} control ({}): {xruns} in {periods}", control.title)?;
    }
    writeln!(out)?;
    for (name, value) in figures(report) {
        writeln!(out, "  {name:<22} {value}")?;
    }
    round_trips(report, out)?;
    for named in report.distributions() {
        writeln!(out, "\n  {}", named.title)?;
        for (name, value) in quantile_rows(&named.histogram) {
            writeln!(out, "    {name:<20} {value:>12}")?;
        }
        for part in report.parts_of(&named.name) {
            let worst = part.histogram.max_ns().map_or("unknown".to_owned(), micros);
            let samples = count(part.histogram.count(), "sample");
            writeln!(out, "    {:<20} {worst:>12} at worst of {samples}", part.title)?;
        }
    }
    if !report.findings.is_empty() {
        writeln!(out)?;
    }
    for finding in report.findings.iter().take(SHOWN) {
        let at = at(report, &finding.run, finding.at_ns);
        writeln!(out, "  {at} {}: {}", finding.cause, finding.sentence)?;
        writeln!(out, "          -> {}", finding.remedy)?;
    }
    if report.findings.len() > SHOWN {
        writeln!(out, "  and {} more episodes", report.findings.len() - SHOWN)?;
    }
    writeln!(out)?;
    for note in &judgement.notes {
        writeln!(out, "  {note}")?;
    }
    writeln!(out, "  {}", judgement.caveat)
}

/// Of a single run in full, of each of several in a line.
fn round_trips(report: &Report, out: &mut dyn io::Write) -> io::Result<()> {
    let trips: Vec<_> = round_trip::trips(report).collect();
    if trips.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n  {}", round_trip::TITLE)?;
    match (&report.runs[..], &trips[..]) {
        ([_], [(run, trip)]) => {
            for (name, value) in round_trip::rows(run, trip) {
                writeln!(out, "    {name:<20} {value}")?;
            }
        }
        _ => {
            for (run, trip) in trips {
                let breaks = round_trip::breaks(trip)
                    .map_or(String::new(), |n| format!(", {}", count(n, "break")));
                let length = round_trip::length(run, trip);
                writeln!(out, "    {:<20} {length}, {}{breaks}", run.id, round_trip::range(trip))?;
            }
        }
    }
    let (told, more) = round_trip::told(report, SHOWN);
    for found in told {
        writeln!(out, "      {} frame {}: {}", found.at, found.frame, found.what)?;
    }
    if more > 0 {
        writeln!(out, "      and {} more", grouped(more))?;
    }
    Ok(())
}

/// When something was, from the start of its run's window.
#[allow(clippy::cast_precision_loss)]
pub(super) fn at(report: &Report, run: &str, at_ns: u64) -> String {
    let start = report.runs.iter().find(|known| known.id == run).map(|run| run.window.start_ns);
    let seconds = at_ns.saturating_sub(start.unwrap_or(0)) as f64 / 1e9;
    match report.runs.len() {
        1 => format!("{seconds:.4} s"),
        _ => format!("{run}, {seconds:.4} s"),
    }
}

/// The figures of the judgement by name.
pub(super) fn figures(report: &Report) -> Vec<(&'static str, String)> {
    let judgement = &report.judgement;
    let length = ("length", format!("{} of {}", span(judgement.seconds), clock(report)));
    if judgement.looked.is_empty() {
        let mut rows = vec![length, ("xruns", "no meter looked for them".to_owned())];
        rows.extend(cost(report).map(|words| ("cost", words)));
        return rows;
    }
    let mut rows = vec![("scheduled periods", grouped(judgement.periods)), length];
    let meters: Vec<&str> = judgement.meters.iter().map(|meter| meter.title()).collect();
    let by = if meters.is_empty() { String::new() } else { format!(", by {}", meters.join(", ")) };
    rows.push(("xruns", format!("{}{by}", grouped(judgement.xruns))));
    rows.push(("episodes", judgement.episodes.map_or("not known".to_owned(), grouped)));
    let [at95, at99] = judgement.share_below;
    rows.push((
        "xruns of periods",
        format!("at most {} at 95 %, {} at 99 %", percent(at95), percent(at99)),
    ));
    rows.extend(judgement.rate_words().map(|words| ("an hour", words)));
    if judgement.trials.runs > 1 {
        let trials = &judgement.trials;
        let [at95, at99] = trials.failing_below;
        rows.push((
            "runs as trials",
            format!(
                "{} of {} failed; at most {} would, at 95 % ({} at 99 %)",
                trials.failing,
                trials.runs,
                percent(at95),
                percent(at99)
            ),
        ));
    }
    if let [run] = &report.runs[..] {
        rows.extend(run.dsp_load.as_ref().map(|load| {
            let words = format!("mean {} %, most {} %", digits(load.mean, 3), digits(load.max, 3));
            ("DSP load", words)
        }));
    }
    rows.extend(cost(report).map(|words| ("cost", words)));
    rows
}

fn clock(report: &Report) -> &'static str {
    match report.judgement.source {
        crate::Source::VirtualTime => "virtual time",
        _ => "the machine's clock",
    }
}

fn cost(report: &Report) -> Option<String> {
    let sum = |of: fn(&crate::Cost) -> Option<f64>| {
        report.runs.iter().map(|run| of(&run.cost)).sum::<Option<f64>>().filter(|s| *s > 0.0)
    };
    let (cpu, wall) = (sum(|cost| cost.cpu_s), sum(|cost| cost.wall_s));
    let words: Vec<String> = [(cpu, "of processor time"), (wall, "on the clock")]
        .into_iter()
        .filter_map(|(seconds, what)| seconds.map(|s| format!("{} {what}", span(s))))
        .collect();
    (!words.is_empty()).then(|| words.join(", "))
}

/// Smallest, mean, the quantiles that the sample carries, and the exact maximum.
pub(super) fn quantile_rows(histogram: &crate::Histogram) -> Vec<(String, String)> {
    let mut rows = vec![("samples".to_owned(), grouped(histogram.count()))];
    let known = |ns: Option<u64>| ns.map_or("unknown".to_owned(), micros);
    rows.push(("smallest".to_owned(), known(histogram.min_ns())));
    let mean = histogram.mean_ns().map_or("unknown".to_owned(), crate::words::duration);
    rows.push(("mean".to_owned(), mean));
    for quantile in histogram.quantiles() {
        let name = format!("{} % are at most", digits(quantile.q * 100.0, 5));
        rows.push((name, micros(quantile.at_most_ns)));
    }
    rows.push(("worst, exactly".to_owned(), known(histogram.max_ns())));
    rows
}
