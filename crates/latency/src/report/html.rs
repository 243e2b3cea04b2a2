//! The report as one HTML page: style, script and pictures inside, nothing fetched.

use std::fmt::Write as _;

use super::svg::{self, escape};
use super::text::{at, figures, quantile_rows};
use super::{Report, charts, round_trip};
use crate::words::{count, duration, grouped, micros, span};
use crate::{Histogram, Judgement, NamedHistogram, Outcome, Run, Verdict};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// Causes and breaks that are written out; the rest is counted.
const SHOWN: usize = 40;
/// Breaks that are listed without being asked for.
const LISTED: usize = 10;

pub(super) fn page(report: &Report) -> String {
    let mut body = String::new();
    head(&mut body, report);
    limits(&mut body, report);
    // A meter of wake-ups looks for no xruns, and a picture without any would look like none.
    if report.judgement.looked.is_empty() {
        body.push_str("<section><h2>Figures</h2>");
    } else {
        body.push_str("<section><h2>Xruns</h2>");
        figure(
            &mut body,
            &charts::timeline(report).1,
            "Each mark is a period that was not served in time; \
            the number at the left is what the meter counted. Meters see different things and are not added up.",
        );
    }
    pairs(&mut body, figures(report).iter().map(|(name, value)| (*name, value.as_str())));
    findings(&mut body, report);
    body.push_str("</section>");
    round_trips(&mut body, report);
    for named in report.distributions() {
        latency(&mut body, report, &named);
    }
    runs(&mut body, report);
    conditions(&mut body, report);
    reading(&mut body, report);
    document(&report.title, &body)
}

/// The whole page around its body.
pub(super) fn document(title: &str, body: &str) -> String {
    let title = escape(title);
    let chart = svg::STYLE;
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{title}</title>\
         <style>{chart}{STYLE}</style></head><body><main>{body}</main>\
         <div id=\"hover\" role=\"tooltip\"></div><script>{SCRIPT}</script></body></html>\n"
    )
}

fn push(body: &mut String, html: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = body.write_fmt(html);
}

/// The class of a verdict's colour.
pub(super) const fn tone(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Held => "good",
        Verdict::Broken => "bad",
        Verdict::NotEnoughSamples => "open",
        Verdict::NotJudged | Verdict::NotAsked => "dim",
    }
}

fn head(body: &mut String, report: &Report) {
    let judgement = &report.judgement;
    let trusted = report.control.as_ref().is_none_or(|control| control.held);
    let tone = if trusted { tone(judgement.verdict) } else { "bad" };
    push(
        body,
        format_args!(
            "<header><p class=\"source\">{}</p><h1>{}</h1><p class=\"verdict {tone}\">{}</p>",
            judgement.source.word(),
            escape(&report.title),
            escape(report.headline()),
        ),
    );
    if let Some(criterion) = judgement.criteria.first() {
        push(body, format_args!("<p class=\"lead\">{}.</p>", escape(&criterion.found)));
    }
    body.push_str("</header>");
    push(body, format_args!("<p class=\"caveat\">{}</p>", escape(judgement.caveat)));
    for note in &judgement.notes {
        push(body, format_args!("<p class=\"caveat warn\">{}</p>", escape(note)));
    }
}

fn limits(body: &mut String, report: &Report) {
    if report.judgement.criteria.is_empty() && report.control.is_none() {
        return;
    }
    body.push_str(
        "<section><h2>Limits</h2><div class=\"wide\"><table><thead><tr><th>Limit<th>Found\
         <th>The sample shows<th>Outcome</thead><tbody>",
    );
    for criterion in &report.judgement.criteria {
        let more = criterion.more.map_or(String::new(), |more| {
            format!("<br><small>it takes {}</small>", escape(&more.words()))
        });
        push(
            body,
            format_args!(
                "<tr><td>{}<td>{}<td>{}<td><span class=\"word {}\">{}</span>{more}",
                escape(&criterion.title),
                escape(&criterion.found),
                escape(criterion.bound.as_deref().unwrap_or("–")),
                outcome_tone(criterion.outcome),
                criterion.outcome.word(),
            ),
        );
    }
    if let Some(control) = &report.control {
        let (tone, word) = if control.held { ("good", "held") } else { ("bad", "failed") };
        push(
            body,
            format_args!(
                "<tr><td>control: no xruns<td>{} in {}<td>{}<td><span class=\"word {tone}\">{word}</span>",
                count(control.xruns, "xrun"),
                count(control.periods, "period"),
                escape(&control.title),
            ),
        );
    }
    body.push_str("</tbody></table></div></section>");
}

const fn outcome_tone(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Held => "good",
        Outcome::Broken => "bad",
        Outcome::NotEnoughSamples => "open",
        Outcome::NotJudged => "dim",
    }
}

pub(super) fn figure(body: &mut String, svg: &svg::Svg, caption: &str) {
    push(
        body,
        format_args!(
            "<figure>{}<figcaption>{}</figcaption></figure>",
            svg.inline(),
            escape(caption)
        ),
    );
}

/// A list of names and values.
fn pairs<'a>(body: &mut String, rows: impl Iterator<Item = (&'a str, &'a str)>) {
    body.push_str("<dl>");
    for (name, value) in rows {
        push(body, format_args!("<div><dt>{}<dd>{}</div>", escape(name), escape(value)));
    }
    body.push_str("</dl>");
}

fn findings(body: &mut String, report: &Report) {
    if report.findings.is_empty() {
        return;
    }
    body.push_str("<h3>Causes</h3>");
    for finding in report.findings.iter().take(SHOWN) {
        push(
            body,
            format_args!(
                "<details><summary><b>{}</b> <code>{}</code> {}</summary><p><b>Remedy:</b> {}</p><ul>",
                escape(&at(report, &finding.run, finding.at_ns)),
                escape(&finding.cause),
                escape(&finding.sentence),
                escape(&finding.remedy),
            ),
        );
        for line in &finding.evidence {
            push(body, format_args!("<li>{}", escape(line)));
        }
        body.push_str("</ul></details>");
    }
    if report.findings.len() > SHOWN {
        let rest = (report.findings.len() - SHOWN) as u64;
        push(body, format_args!("<p>and {} more.</p>", count(rest, "episode")));
    }
}

/// Of a single run in full; what several have stands in the table of runs.
fn round_trips(body: &mut String, report: &Report) {
    let trips: Vec<_> = round_trip::trips(report).collect();
    let (told, more) = round_trip::told(report, SHOWN);
    let single = match (&report.runs[..], &trips[..]) {
        ([_], [(run, trip)]) => round_trip::rows(run, trip),
        _ => Vec::new(),
    };
    if single.is_empty() && told.is_empty() {
        return;
    }
    push(body, format_args!("<section><h2>{}</h2>", round_trip::TITLE));
    pairs(body, single.iter().map(|(name, value)| (*name, value.as_str())));
    if told.is_empty() {
        body.push_str("</section>");
        return;
    }
    body.push_str("<h3>Breaks</h3>");
    let caption = "Each mark is a place where the frames that came were not those that were to come; \
                   the number at the left is how often. One break can be of several kinds.";
    figure(body, &charts::breaks(report).1, caption);
    // A long list is there for who asks.
    let is_long = told.len() > LISTED;
    if is_long {
        let (first, all) = (told.len() as u64, told.len() as u64 + more);
        let which = match more {
            0 => format!("All {}", count(all, "break")),
            _ => format!("The first {} of {}", grouped(first), count(all, "break")),
        };
        push(body, format_args!("<details><summary>{which}</summary>"));
    }
    body.push_str(
        "<div class=\"wide\"><table class=\"figures happened\"><thead><tr><th>When<th>Frame\
         <th>What happened</thead><tbody>",
    );
    for found in told {
        push(
            body,
            format_args!(
                "<tr><th scope=\"row\">{}<td>{}<td>{}",
                escape(&found.at),
                found.frame,
                escape(&found.what)
            ),
        );
    }
    body.push_str("</tbody></table></div>");
    body.push_str(if is_long { "</details></section>" } else { "</section>" });
}

fn latency(body: &mut String, report: &Report, named: &NamedHistogram) {
    let limit = report.limit_of(&named.name);
    push(body, format_args!("<section><h2>{}</h2>", escape(&named.title)));
    let caption = "Samples on a logarithmic scale: rare ones stay visible. The red line \
                   is the largest sample, exactly.";
    figure(body, &charts::histogram(named, limit).1, caption);
    let single = report.single(named);
    let caption = match single.len() {
        0 | 1 => {
            "How many samples lie above a latency. The curve ends at the largest sample: what \
             lies beyond it is bounded by the grey area, not excluded."
        }
        _ => {
            "How many samples lie above a latency: the thick curve of all runs together, the thin \
             ones of each. A curve ends at its largest sample: what lies beyond the last is bounded \
             by the grey area, not excluded."
        }
    };
    let chart = charts::complementary(&report.each(named), &single, limit).1;
    figure(body, &chart, caption);
    quantiles(body, &[("", &named.histogram)]);
    parts(body, &report.parts_of(&named.name));
    body.push_str("</section>");
}

/// The parts of a distribution, by CPU for one.
fn parts(body: &mut String, parts: &[NamedHistogram]) {
    if parts.is_empty() {
        return;
    }
    body.push_str(
        "<div class=\"wide\"><table class=\"figures\"><thead><tr><th><th>samples<th>mean\
         <th>99.9 % are at most<th>worst</thead><tbody>",
    );
    for NamedHistogram { title, histogram, .. } in parts {
        let at_most = histogram.quantile(0.999).map(|quantile| micros(quantile.at_most_ns));
        push(
            body,
            format_args!(
                "<tr><th scope=\"row\">{}<td>{}<td>{}<td>{}<td>{}",
                escape(title),
                grouped(histogram.count()),
                histogram.mean_ns().map_or("–".to_owned(), duration),
                at_most.as_deref().unwrap_or("too few samples"),
                histogram.max_ns().map_or("–".to_owned(), micros),
            ),
        );
    }
    body.push_str("</tbody></table></div>");
}

/// A table of quantiles, a column for each of these.
pub(super) fn quantiles(body: &mut String, columns: &[(&str, &Histogram)]) {
    let rows: Vec<Vec<(String, String)>> =
        columns.iter().map(|(_, histogram)| quantile_rows(histogram)).collect();
    body.push_str("<table class=\"figures\">");
    if columns.len() > 1 {
        body.push_str("<thead><tr><th>");
        for (name, _) in columns {
            push(body, format_args!("<th>{}", escape(name)));
        }
        body.push_str("</thead>");
    }
    // The longest list names all rows of the others: quantiles are cut from the far end.
    let names = rows.iter().max_by_key(|rows| rows.len()).cloned().unwrap_or_default();
    for (name, _) in names {
        push(body, format_args!("<tr><th scope=\"row\">{name}"));
        for column in &rows {
            let value = column.iter().find(|(known, _)| *known == name);
            let value = value.map_or("too few samples", |(_, value)| value);
            push(body, format_args!("<td>{}", escape(value)));
        }
    }
    body.push_str("</table>");
    body.push_str("<p class=\"note\">Quantiles that the sample cannot carry are left out.</p>");
}

/// A column's name, and what it has for a run.
type Column<'a> = (String, Box<dyn Fn(&Run) -> Option<String> + 'a>);

/// Run by run, with the columns that some run has a value for.
fn runs(body: &mut String, report: &Report) {
    if report.runs.len() < 2 {
        return;
    }
    let distributions = report.distributions();
    let mut columns: Vec<Column<'_>> = vec![
        ("Seed".to_owned(), Box::new(|run| run.conditions.seed.map(|seed| seed.to_string()))),
        ("Length".to_owned(), Box::new(|run| Some(span(run.window.seconds())))),
        ("Periods".to_owned(), Box::new(|run| (run.periods > 0).then(|| grouped(run.periods)))),
        ("Xruns".to_owned(), Box::new(|run| run.worst_meter().map(|(_, n)| grouped(n)))),
        (
            "DSP load, most".to_owned(),
            Box::new(|run| run.dsp_load.as_ref().map(|load| format!("{:.0} %", load.max))),
        ),
        (
            "Round trip".to_owned(),
            Box::new(|run| Some(round_trip::length(run, run.round_trip.as_ref()?))),
        ),
        (
            "Breaks".to_owned(),
            Box::new(|run| round_trip::breaks(run.round_trip.as_ref()?).map(grouped)),
        ),
    ];
    for named in &distributions {
        let of = |run: &Run| Some(run.histogram(&named.name)?.histogram.clone());
        let title = &named.name;
        columns.push((
            format!("{title}, samples"),
            Box::new(move |run| of(run).map(|histogram| grouped(histogram.count()))),
        ));
        columns
            .push((format!("{title}, worst"), Box::new(move |run| of(run)?.max_ns().map(micros))));
    }
    columns.retain(|(_, of)| report.runs.iter().any(|run| of(run).is_some()));
    body.push_str(
        "<section><h2>Runs</h2><div class=\"wide\"><table class=\"figures\"><thead><tr><th>Run",
    );
    for (name, _) in &columns {
        push(body, format_args!("<th>{}", escape(name)));
    }
    body.push_str("</thead><tbody>");
    for run in &report.runs {
        push(body, format_args!("<tr><th scope=\"row\">{}", escape(&run.id)));
        for (_, of) in &columns {
            push(body, format_args!("<td>{}", escape(of(run).as_deref().unwrap_or("–"))));
        }
    }
    body.push_str("</tbody></table></div></section>");
}

fn conditions(body: &mut String, report: &Report) {
    let rows = report.conditions();
    if rows.is_empty() {
        return;
    }
    body.push_str("<section><h2>Conditions</h2>");
    pairs(body, rows.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    body.push_str("</section>");
}

fn reading(body: &mut String, report: &Report) {
    let Judgement { source, .. } = report.judgement;
    push(
        body,
        format_args!(
            "<footer><h2>How to read this</h2><p>The denominator is the periods that were scheduled, not \
             those that were served. Bounds are one-sided: Clopper-Pearson for shares, Garwood for rates \
             an hour, at the confidence named. They hold for conditions like these and say nothing of \
             others. Xruns at most {} periods apart are one episode; because they are not independent, \
             the bound on their share takes each episode as one event. <q>Not enough samples</q> is \
             neither held nor broken: the limit may hold, and these figures do not show it.</p>\
             <p class=\"source\">{}</p></footer>",
            crate::DEFAULT_GAP_PERIODS,
            source.word(),
        ),
    );
}
