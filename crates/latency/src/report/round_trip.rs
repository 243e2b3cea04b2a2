//! What a report says of the signal that was sent around a loop ([`RoundTrip`]): figures by name, and the
//! breaks one by one. The formats only lay it out.

use super::Report;
use super::text::at;
use crate::round_trip::Method;
use crate::words::{count, digits, duration, grouped, micros};
use crate::{Break, RoundTrip, Run};

/// The heading.
pub(super) const TITLE: &str = "Round trip of the signal";

/// The runs that sent a signal, with what it told.
pub(super) fn trips(report: &Report) -> impl Iterator<Item = (&Run, &RoundTrip)> {
    report.runs.iter().filter_map(|run| Some((run, run.round_trip.as_ref()?)))
}

/// `32 frames, 0.6667 ms`.
pub(crate) fn length(run: &Run, trip: &RoundTrip) -> String {
    let milliseconds = trip.frames * 1000.0 / f64::from(run.conditions.rate.max(1));
    format!("{} frames, {} ms", digits(trip.frames, 7), digits(milliseconds, 4))
}

/// `32 to 35 frames`.
pub(crate) fn range(trip: &RoundTrip) -> String {
    match trip.range {
        (least, most) if least == most => "always the same".to_owned(),
        (least, most) => format!("{} to {} frames", digits(least, 7), digits(most, 7)),
    }
}

/// jack_iodelay's figure, and whether it is the same.
pub(crate) fn by_iodelay(trip: &RoundTrip) -> Option<String> {
    let theirs = format!("{} frames", digits(trip.jack_iodelay?, 7));
    Some(match trip.agrees() {
        Some(false) => format!("{theirs}: THEY DIFFER"),
        _ => theirs,
    })
}

/// How many breaks, listed or not; nothing for a method that cannot tell.
pub(crate) fn breaks(trip: &RoundTrip) -> Option<u64> {
    let all = (trip.breaks.len() as u64).saturating_add(trip.unlisted);
    (trip.method == Method::Sequence).then_some(all)
}

/// The figures of a run's round trip by name.
pub(super) fn rows(run: &Run, trip: &RoundTrip) -> Vec<(&'static str, String)> {
    let (method, of) = match trip.method {
        Method::Sequence => ("coded sequence, exact to the frame", "frame"),
        Method::Phase => ("phases of tones, to a fraction of a frame", "stretch"),
    };
    let samples = match of {
        "frame" => count(trip.samples, of),
        _ => format!("{} stretches", grouped(trip.samples)),
    };
    let mut rows = vec![
        ("round trip", length(run, trip)),
        ("range", range(trip)),
        ("by jack_iodelay", by_iodelay(trip).unwrap_or_else(|| "no figure".to_owned())),
        ("way", format!("into {}, out of {}", trip.ports.0, trip.ports.1)),
        ("found by", format!("{method}, of {samples}")),
    ];
    let broken = breaks(trip).map_or("not looked for".to_owned(), |n| match n {
        0 => "none".to_owned(),
        n => grouped(n),
    });
    rows.push(("breaks", broken));
    let each: Vec<String> = run
        .counters
        .iter()
        .map(|(meter, count)| format!("{} {}", meter.title(), grouped(*count)))
        .collect();
    if !each.is_empty() {
        rows.push(("xruns by meter", each.join(", ")));
    }
    let least = run.histogram("margin").and_then(|named| named.histogram.min_ns());
    if let (Some(least), Some(period)) = (least, run.conditions.period_ns()) {
        rows.push((
            "left of a period",
            format!("at least {} of {}", micros(least), duration(period)),
        ));
    }
    rows
}

/// A break for a table: when, at which frame, what happened.
pub(super) struct Told {
    pub(super) at: String,
    pub(super) frame: String,
    pub(super) what: String,
}

/// The first `shown` breaks of all runs, and how many there are beyond.
pub(super) fn told(report: &Report, shown: usize) -> (Vec<Told>, u64) {
    let each = trips(report).flat_map(|(run, trip)| trip.breaks.iter().map(move |b| (run, b)));
    let told: Vec<Told> = each
        .take(shown)
        .map(|(run, found)| Told {
            at: at(report, &run.id, found.at_ns),
            frame: grouped(found.frame),
            what: found.words(),
        })
        .collect();
    let all: u64 = trips(report).filter_map(|(_, trip)| breaks(trip)).sum();
    let more = all.saturating_sub(told.len() as u64);
    (told, more)
}

/// A kind of break: its name, and whether a break is of it.
pub(super) type Kind = (&'static str, fn(&Break) -> bool);

/// What can happen to a signal, in the order of the lanes of the timeline.
pub(super) const KINDS: [Kind; 3] = [
    ("frames dropped", |found| found.jump > 0),
    ("frames repeated", |found| found.jump < 0),
    ("not the signal's frames", |found| found.foreign > 0),
];
