//! The report for programs: judgement, causes, and the figures that a reader would copy.

use std::io;

use serde_json::json;

use super::{REPORT_SCHEMA, Report, round_trip};

pub(super) fn write(report: &Report, out: &mut dyn io::Write) -> io::Result<()> {
    let distributions: Vec<_> = report
        .distributions()
        .iter()
        .map(|named| {
            let histogram = &named.histogram;
            let quantiles: Vec<_> = histogram
                .quantiles()
                .iter()
                .map(|quantile| json!({ "q": quantile.q, "at_most_ns": quantile.at_most_ns }))
                .collect();
            json!({
                "name": named.name,
                "title": named.title,
                "samples": histogram.count(),
                "min_ns": histogram.min_ns(),
                "mean_ns": histogram.mean_ns(),
                "max_ns": histogram.max_ns(),
                "quantiles": quantiles,
            })
        })
        .collect();
    let round_trips: Vec<_> = round_trip::trips(report)
        .map(|(run, trip)| {
            json!({
                "run": run.id,
                "frames": trip.frames,
                "ms": trip.frames * 1000.0 / f64::from(run.conditions.rate.max(1)),
                "range": trip.range,
                "samples": trip.samples,
                "method": trip.method,
                "jack_iodelay": trip.jack_iodelay,
                "agrees": trip.agrees(),
                "breaks": round_trip::breaks(trip),
            })
        })
        .collect();
    let document = json!({
        "schema": REPORT_SCHEMA,
        "title": report.title,
        "headline": report.headline(),
        "held": report.is_held(),
        "source": report.judgement.source,
        "caveat": report.judgement.caveat,
        "judgement": report.judgement,
        "control": report.control,
        "findings": report.findings,
        "distributions": distributions,
        "round_trips": round_trips,
        "conditions": report.runs.first().map(|run| &run.conditions),
        "runs": report.runs.iter().map(|run| &run.id).collect::<Vec<_>>(),
    });
    serde_json::to_writer_pretty(&mut *out, &document)?;
    writeln!(out)
}
