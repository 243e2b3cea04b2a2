//! The charts: what people look at when they judge latency. Histogram with logarithmic counts and the
//! exact maximum, the complementary distribution with what the sample cannot carry, xruns over time and
//! the signal's breaks.

use super::Report;
use super::chart::{Frame, WIDTH};
use super::round_trip::{self, KINDS, trips};
use super::svg::{Anchor, Svg};
use crate::bound::{Confidence, upper_share};
use crate::words::{count, digits, grouped, micros, percent};
use crate::{Episodes, Histogram, Meter, NamedHistogram, Run};

/// At most so many columns, each of whole microseconds.
const COLUMNS: u64 = 300;

/// Counts per microsecond on a logarithmic scale.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
pub(super) fn histogram(named: &NamedHistogram, limit: Option<u64>) -> (String, Svg) {
    let histogram = &named.histogram;
    let max = histogram.max_ns().unwrap_or(0) as f64 / 1000.0;
    let right = limit.map_or(max, |limit| max.max(limit as f64 / 1000.0)) * 1.04 + 1.0;
    let width = (right as u64).div_ceil(COLUMNS).max(1);
    let mut columns = std::collections::BTreeMap::<u64, u64>::new();
    for (us, count) in histogram.bins() {
        *columns.entry(us / width).or_default() += count;
    }
    let tallest = columns.values().copied().max().unwrap_or(1);
    let decades = (0, (tallest as f64).log10().floor() as i32 + 1);
    let frame = Frame { x: (0.0, right), decades, place: (34.0, 246.0) };

    let samples = count(histogram.count(), "sample");
    let label = format!("{}: histogram of {samples}, worst {}", named.title, worst(histogram));
    let mut svg = Svg::new(WIDTH, 292.0, &label);
    frame.draw_decades(&mut svg, |power| grouped(10_u64.pow(power.unsigned_abs())));
    let title = match width {
        1 => format!("{}, us", named.title),
        width => format!("{}, us; columns of {width} us", named.title),
    };
    frame.draw_x(&mut svg, &title);
    let bottom = frame.place.1;
    for (column, samples) in columns {
        let (from, to) = ((column * width) as f64, ((column + 1) * width) as f64);
        let (x, to_x) = (frame.at_x(from), frame.at_x(to));
        // One sample stands on the bottom line of the scale, and must be seen.
        let y = frame.at_y(samples as f64).min(bottom - 3.0);
        let gap = if to_x - x > 4.0 { 1.0 } else { 0.0 };
        let hover = format!("{from} to {to} us: {}", count(samples, "sample"));
        svg.rect("bar", (x, y), ((to_x - x - gap).max(1.2), bottom - y), &hover);
    }
    if let Some(limit) = limit {
        mark(
            &mut svg,
            &frame,
            "limit",
            limit as f64 / 1000.0,
            &format!("limit {}", micros(limit)),
            28.0,
        );
    }
    if histogram.count() > 0 {
        mark(&mut svg, &frame, "max", max, &format!("worst {}", worst(histogram)), 14.0);
    }
    svg.text("number", (Frame::sides().0 - 8.0, 14.0), Anchor::End, "samples");
    (format!("{}-histogram", named.name), svg)
}

/// Shares of samples above a latency, on a logarithmic scale, above the faint curves of what they
/// consist of. What lies below the grey border no sample of this size can show.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
pub(super) fn complementary(
    series: &[(String, &Histogram)],
    faint: &[&Histogram],
    limit: Option<u64>,
) -> (String, Svg) {
    let largest = |ns: fn(&Histogram) -> Option<u64>| {
        series.iter().filter_map(|(_, histogram)| ns(histogram)).max().unwrap_or(0)
    };
    let max = largest(Histogram::max_ns) as f64 / 1000.0;
    let right = limit.map_or(max, |limit| max.max(limit as f64 / 1000.0)) * 1.04 + 1.0;
    let samples = series.iter().map(|(_, h)| h.count()).max().unwrap_or(0).max(1);
    let decades = (-(((samples as f64).log10()).floor() as i32 + 1), 0);
    let frame = Frame { x: (0.0, right), decades, place: (34.0, 246.0) };
    let label = "Share of samples above a latency (complementary distribution)";
    let mut svg = Svg::new(WIDTH, 292.0, label);
    let border = upper_share(0.0, samples as f64, Confidence::C95);
    let (left, end) = Frame::sides();
    let y = frame.at_y(border);
    svg.rect("void", (left, y), (end - left, frame.place.1 - y), "");
    frame.draw_decades(&mut svg, |power| percent(10_f64.powi(power)));
    frame.draw_x(&mut svg, "latency, us");
    let told = format!("below {}: not carried by {}", percent(border), count(samples, "sample"));
    for histogram in faint {
        svg.path("curve faint", &steps(&frame, histogram), None);
    }
    for (i, (name, histogram)) in series.iter().enumerate() {
        let class = if i == 0 { "curve" } else { "curve second" };
        let points = steps(&frame, histogram);
        svg.path(class, &points, None);
        if series.len() > 1 {
            let at = 300.0 + 200.0 * i as f64;
            svg.path(class, &[(at, 11.0), (at + 28.0, 11.0)], None);
            svg.text("number", (at + 34.0, 15.0), Anchor::Start, name);
        }
    }
    if let Some(limit) = limit {
        mark(
            &mut svg,
            &frame,
            "limit",
            limit as f64 / 1000.0,
            &format!("limit {}", micros(limit)),
            28.0,
        );
    }
    // Above the lines that cross it.
    let below = (y + 15.0).min(frame.place.1 - 4.0);
    svg.text("note told", (left + 8.0, below), Anchor::Start, &told);
    svg.text("number", (left - 8.0, 14.0), Anchor::End, "above");
    ("complementary".to_owned(), svg)
}

/// The corners of a complementary distribution's curve.
#[allow(clippy::cast_precision_loss)]
fn steps(frame: &Frame, histogram: &Histogram) -> Vec<(f64, f64)> {
    let mut points = Vec::new();
    let mut before = None;
    for (us, share) in histogram.complementary() {
        let x = frame.at_x(us as f64);
        points.extend(before.map(|before| (x, frame.at_y(before))));
        points.push((x, frame.at_y(share)));
        before = Some(share);
    }
    points
}

/// A line from top to bottom with its name, on the side where there is room.
fn mark(svg: &mut Svg, frame: &Frame, class: &str, at: f64, name: &str, y: f64) {
    let x = frame.at_x(at);
    svg.line(class, (x, y + 4.0), (x, frame.place.1));
    let (anchor, x) =
        if x > WIDTH / 2.0 { (Anchor::End, x + 4.0) } else { (Anchor::Start, x - 4.0) };
    svg.text(&format!("{class}name"), (x, y), anchor, name);
}

fn worst(histogram: &Histogram) -> String {
    histogram.max_ns().map_or("unknown".to_owned(), micros)
}

/// Xruns over time: a lane for each meter of a run, for several runs a lane each; above them the DSP
/// load of a single run.
pub(super) fn timeline(report: &Report) -> (String, Svg) {
    let lanes: Vec<Lane<'_>> = match &report.runs[..] {
        [run] => {
            run.counters.iter().map(|(meter, n)| Lane::of(run, *meter, *n, meter.title())).collect()
        }
        runs => runs.iter().filter_map(Lane::of_run).collect(),
    };
    let load = match &report.runs[..] {
        [run] => {
            run.dsp_load.as_ref().filter(|load| load.samples.len() > 1).map(|load| (run, load))
        }
        _ => None,
    };
    let top = if load.is_some() { 96.0 } else { 12.0 };
    let label = format!(
        "Xruns over time: {} in {}",
        count(report.judgement.xruns, "xrun"),
        count(report.judgement.periods, "period")
    );
    let (mut svg, frame) = over_time(report, top, &lanes, &label);
    if let Some((run, load)) = load {
        draw_load(&mut svg, &frame, run, load, 84.0);
    }
    ("timeline".to_owned(), svg)
}

/// Whether there is anything for [`breaks`] to draw.
pub(super) fn has_breaks(report: &Report) -> bool {
    trips(report).any(|(_, trip)| !trip.breaks.is_empty())
}

/// The signal's breaks over time: a lane for each kind, for several runs a lane each.
pub(super) fn breaks(report: &Report) -> (String, Svg) {
    let lanes: Vec<Lane<'_>> = match &report.runs[..] {
        [_] => trips(report)
            .flat_map(|(run, trip)| {
                KINDS.iter().map(move |(name, is_it)| {
                    let own = trip.breaks.iter().filter(|found| is_it(found));
                    let times: Vec<u64> = own.map(|found| found.at_ns).collect();
                    let counted = times.len() as u64;
                    Lane { run, times, counted, name: (*name).to_owned(), what: "break" }
                })
            })
            .collect(),
        _ => trips(report)
            .map(|(run, trip)| Lane {
                run,
                times: trip.breaks.iter().map(|found| found.at_ns).collect(),
                counted: round_trip::breaks(trip).unwrap_or(0),
                name: run.id.clone(),
                what: "break",
            })
            .collect(),
    };
    let all = trips(report).filter_map(|(_, trip)| round_trip::breaks(trip)).sum();
    let label = format!("Breaks of the signal over time: {}", count(all, "break"));
    ("breaks".to_owned(), over_time(report, 12.0, &lanes, &label).0)
}

/// Lanes below each other, from `top` on.
#[allow(clippy::cast_precision_loss)]
fn over_time(report: &Report, top: f64, lanes: &[Lane<'_>], label: &str) -> (Svg, Frame) {
    let seconds = report.runs.iter().map(|run| run.window.seconds()).fold(0.001, f64::max);
    let bottom = top + 30.0 * lanes.len().max(1) as f64;
    let frame = Frame { x: (0.0, seconds), decades: (0, 1), place: (12.0, bottom) };
    let mut svg = Svg::new(WIDTH, bottom + 46.0, label);
    frame.draw_x(&mut svg, "time in the window, s");
    let (left, right) = Frame::sides();
    for (i, lane) in lanes.iter().enumerate() {
        let y = top + 30.0 * i as f64 + 4.0;
        svg.rect("lane", (left, y), (right - left, 22.0), "");
        lane.draw(&mut svg, &frame, y);
        svg.text("name told", (left + 6.0, y + 15.0), Anchor::Start, &lane.name);
        svg.text("number", (left - 8.0, y + 15.0), Anchor::End, &grouped(lane.counted));
    }
    (svg, frame)
}

#[allow(clippy::cast_precision_loss)]
fn draw_load(svg: &mut Svg, frame: &Frame, run: &Run, load: &crate::DspLoad, base: f64) {
    let height = base - 16.0;
    let most = load.max.max(100.0);
    let y = |percent: f64| base - percent.max(0.0) / most * height;
    let points: Vec<(f64, f64)> = load
        .samples
        .iter()
        .filter(|sample| run.window.has(sample.at_ns))
        .map(|sample| {
            let at = (sample.at_ns - run.window.start_ns) as f64 / 1e9;
            (frame.at_x(at), y(sample.percent))
        })
        .collect();
    svg.path("load", &points, Some(base));
    let (left, right) = Frame::sides();
    for percent in [0.0, 100.0] {
        svg.line("grid", (left, y(percent)), (right, y(percent)));
        let number = format!("{percent} %");
        svg.text("number", (left - 8.0, y(percent) + 4.0), Anchor::End, &number);
    }
    let told = format!("DSP load: mean {} %, most {} %", digits(load.mean, 3), digits(load.max, 3));
    svg.text("name", (left + 6.0, y(100.0) + 15.0), Anchor::Start, &told);
}

/// What one meter saw of one run, or of its signal.
struct Lane<'a> {
    run: &'a Run,
    times: Vec<u64>,
    counted: u64,
    name: String,
    /// One of what was seen.
    what: &'static str,
}

impl<'a> Lane<'a> {
    fn of(run: &'a Run, meter: Meter, counted: u64, name: &str) -> Self {
        let times = run.times_of(meter);
        let untold = counted.saturating_sub(times.len() as u64);
        let name = match untold {
            0 => name.to_owned(),
            untold => format!("{name} ({} without a time)", grouped(untold)),
        };
        Self { run, times, counted, name, what: "xrun" }
    }

    /// By the meter that tells most times; the one that only counts most would leave the lane empty.
    fn of_run(run: &'a Run) -> Option<Self> {
        let told = |meter: Meter| run.times_of(meter).len();
        let telling = run.counters.iter().map(|(meter, n)| (*meter, *n));
        let most = telling.filter(|(meter, _)| told(*meter) > 0).max_by_key(|(m, _)| told(*m));
        let (meter, counted) = most.or_else(|| run.worst_meter())?;
        Some(Self::of(run, meter, counted, &format!("{}, {}", run.id, meter.title())))
    }

    /// Xruns of one pixel are one mark: a storm stays readable, and a page small.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
    fn draw(&self, svg: &mut Svg, frame: &Frame, y: f64) {
        let mut marks = std::collections::BTreeMap::<i64, Vec<u64>>::new();
        for at_ns in &self.times {
            let at = at_ns.saturating_sub(self.run.window.start_ns);
            marks.entry(frame.at_x(at as f64 / 1e9).floor() as i64).or_default().push(at);
        }
        let gap = self.run.conditions.period_ns().map_or(0, Episodes::default_gap_ns);
        for (x, times) in marks {
            let first = times.first().copied().unwrap_or_default() as f64 / 1e9;
            let episodes = Episodes::of(&times, gap).count();
            let hover = match times.len() as u64 {
                1 => format!("{} at {first:.4} s", self.what),
                n => format!(
                    "{} in {} from {first:.4} s",
                    count(n, self.what),
                    count(episodes, "episode")
                ),
            };
            svg.rect("tick", (x as f64, y), (1.6, 22.0), &hover);
        }
    }
}
