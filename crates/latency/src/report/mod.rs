//! A report: runs and their judgement, written as text, JSON, Markdown, JUnit's XML, SVG charts or one
//! self-contained HTML page. It goes to the writer that one gives; nothing here opens a file.

mod chart;
mod charts;
mod html;
mod json;
mod junit;
mod markdown;
pub(crate) mod round_trip;
mod svg;
mod text;

use std::io;

use serde::{Deserialize, Serialize};

use crate::{Histogram, Judgement, NamedHistogram, Run, Target, Verdict, judge};

/// The name of the JSON form.
pub const REPORT_SCHEMA: &str = "archibald.report/1";

/// What is reported on.
#[derive(Debug, Clone)]
pub struct Report {
    /// The heading.
    pub title: String,
    /// The runs, of one set of conditions.
    pub runs: Vec<Run>,
    /// What they were held against.
    pub target: Target,
    /// How they came out.
    pub judgement: Judgement,
    /// The run that must be clean for the others to mean anything.
    pub control: Option<Control>,
    /// Why it was late, episode by episode, where somebody has looked.
    pub findings: Vec<Finding>,
}

/// A control: the same server without program and load, which must have no xruns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// What was run: `idle, same server`.
    pub title: String,
    /// Scheduled periods.
    pub periods: u64,
    /// Xruns among them.
    pub xruns: u64,
    /// Whether it came out as it must.
    pub held: bool,
}

/// The cause of an episode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// [`Run::id`] of the run it belongs to.
    pub run: String,
    /// Start of the episode, on the run's clock.
    pub at_ns: u64,
    /// A code that stays the same over versions: `lock-held`.
    pub cause: String,
    /// The cause in a sentence.
    pub sentence: String,
    /// What to do about it, in a sentence.
    pub remedy: String,
    /// What it rests on, line by line.
    pub evidence: Vec<String>,
}

pub(crate) use svg::escape;

/// The class of a report's verdict's colour.
pub(crate) fn verdict_tone(report: &Report) -> &'static str {
    html::tone(report.judgement.verdict)
}

/// A page that begins with `body` and shows the charts of two reports, one above the other and their
/// distributions in one.
pub(crate) fn side_by_side(title: &str, mut body: String, a: &Report, b: &Report) -> String {
    body.push_str("<section><h2>Xruns over time</h2>");
    for (word, report) in [("A", a), ("B", b)] {
        let caption = format!("{word}: {}", report.title);
        html::figure(&mut body, &charts::timeline(report).1, &caption);
    }
    body.push_str("</section>");
    if [a, b].iter().any(|report| charts::has_breaks(report)) {
        body.push_str("<section><h2>Breaks of the signal over time</h2>");
        for (word, report) in [("A", a), ("B", b)] {
            let caption = format!("{word}: {}", report.title);
            html::figure(&mut body, &charts::breaks(report).1, &caption);
        }
        body.push_str("</section>");
    }
    let theirs = b.distributions();
    for ours in a.distributions() {
        let Some(theirs) = theirs.iter().find(|named| named.name == ours.name) else { continue };
        let [left, right] = [(a, &ours.histogram), (b, &theirs.histogram)];
        let names = [format!("A: {}", left.0.title), format!("B: {}", right.0.title)];
        let series = [(names[0].clone(), left.1), (names[1].clone(), right.1)];
        body.push_str("<section><h2>");
        body.push_str(&escape(&ours.title));
        body.push_str("</h2>");
        let chart = charts::complementary(&series, &[], a.limit_of(&ours.name)).1;
        html::figure(&mut body, &chart, "How many samples lie above a latency.");
        html::quantiles(&mut body, &[(&names[0], left.1), (&names[1], right.1)]);
        body.push_str("</section>");
    }
    html::document(title, &body)
}

/// A chart as a picture of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chart {
    /// A file's name without its ending: `callback-histogram`.
    pub name: String,
    /// The SVG document, in light and dark.
    pub svg: String,
}

impl Chart {
    /// The SVG document in one of its two faces, its colours written out: for programs that draw SVG
    /// and know no variables and no media queries of style sheets.
    pub fn still(&self, dark: bool) -> String {
        self.svg.replacen(svg::STYLE, &svg::still_style(dark), 1)
    }
}

impl Report {
    /// Judges the runs.
    pub fn new(title: impl Into<String>, runs: Vec<Run>, target: Target) -> Self {
        let judgement = judge(&runs, &target);
        let (control, findings) = (None, Vec::new());
        Self { title: title.into(), runs, target, judgement, control, findings }
    }

    /// The one line that everything else explains. A control that failed takes the word from the
    /// verdict.
    pub fn headline(&self) -> &'static str {
        match self.control.as_ref().is_some_and(|control| !control.held) {
            true => "the control failed: not trustworthy here",
            false => self.judgement.verdict.word(),
        }
    }

    /// Whether the verdict stands and is good.
    pub fn is_held(&self) -> bool {
        self.judgement.verdict == Verdict::Held
            && self.control.as_ref().is_none_or(|control| control.held)
    }

    /// Writes a text for the terminal.
    ///
    /// # Errors
    /// What the writer says.
    pub fn write_text(&self, out: &mut dyn io::Write) -> io::Result<()> {
        text::write(self, out)
    }

    /// Writes the JSON form ([`REPORT_SCHEMA`]), which does not repeat the runs.
    ///
    /// # Errors
    /// What the writer says.
    pub fn write_json(&self, out: &mut dyn io::Write) -> io::Result<()> {
        json::write(self, out)
    }

    /// Writes Markdown, with tables as GitHub and GitLab draw them.
    ///
    /// # Errors
    /// What the writer says.
    pub fn write_markdown(&self, out: &mut dyn io::Write) -> io::Result<()> {
        markdown::write(self, out)
    }

    /// The report as a suite of JUnit: a case for each limit, skipped where nothing is judged.
    pub fn to_junit(&self) -> crate::junit::Suite {
        junit::suite(self)
    }

    /// Writes one HTML page that asks nothing of the network.
    ///
    /// # Errors
    /// What the writer says.
    pub fn write_html(&self, out: &mut dyn io::Write) -> io::Result<()> {
        out.write_all(html::page(self).as_bytes())
    }

    /// The charts as pictures of their own.
    pub fn charts(&self) -> Vec<Chart> {
        let mut charts = Vec::new();
        if !self.judgement.looked.is_empty() {
            charts.push(charts::timeline(self));
        }
        if charts::has_breaks(self) {
            charts.push(charts::breaks(self));
        }
        for named in self.distributions() {
            charts.push(charts::histogram(&named, self.limit_of(&named.name)));
            let (all, limit) = (self.each(&named), self.limit_of(&named.name));
            let mut chart = charts::complementary(&all, &self.single(&named), limit);
            chart.0 = format!("{}-complementary", named.name);
            charts.push(chart);
        }
        let named =
            |(name, svg): (String, svg::Svg)| Chart { name, svg: svg.document(self.mark()) };
        charts.into_iter().map(named).collect()
    }

    /// What stands beside every figure.
    fn mark(&self) -> &'static str {
        self.judgement.source.word()
    }

    /// The distributions of all runs, those of one name together. A run that repeats another adds
    /// nothing, as in the judgement.
    pub(crate) fn distributions(&self) -> Vec<NamedHistogram> {
        self.together(|named| named.part_of().is_none())
    }

    /// The parts of the distribution of this name, by CPU for one: those of all runs, as
    /// [`Report::distributions`].
    pub(crate) fn parts_of(&self, name: &str) -> Vec<NamedHistogram> {
        self.together(|named| named.part_of() == Some(name))
    }

    fn together(&self, is_meant: impl Fn(&NamedHistogram) -> bool) -> Vec<NamedHistogram> {
        let mut all: Vec<NamedHistogram> = Vec::new();
        let every = crate::verdict::samples(&self.runs).flat_map(|run| &run.histograms);
        for named in every.filter(|named| is_meant(named)) {
            match all.iter_mut().find(|known| known.name == named.name) {
                Some(known) => known.histogram.merge(&named.histogram),
                None => all.push(named.clone()),
            }
        }
        all
    }

    /// The conditions of the runs by name; those that are not the same say so.
    pub(crate) fn conditions(&self) -> Vec<(String, String)> {
        let Some(first) = self.runs.first() else { return Vec::new() };
        let each: Vec<Vec<(String, String)>> =
            self.runs.iter().map(|run| run.conditions.rows()).collect();
        let mut rows = vec![("source".to_owned(), first.source.word().to_owned())];
        for row in each.iter().flatten() {
            if rows.iter().any(|(name, _)| *name == row.0) {
                continue;
            }
            rows.push(match each.iter().all(|own| own.contains(row)) {
                true => row.clone(),
                false => (row.0.clone(), "differs from run to run".to_owned()),
            });
        }
        rows.push(("warm-up, left out".to_owned(), crate::words::micros(first.window.warmup_ns)));
        rows
    }

    /// A distribution as a chart's series.
    fn each<'a>(&self, named: &'a NamedHistogram) -> Vec<(String, &'a Histogram)> {
        let what = match self.runs.len() {
            1 => named.title.clone(),
            n => format!("{}, {n} runs together", named.title),
        };
        vec![(what, &named.histogram)]
    }

    /// The same distribution of each run, where there are several.
    fn single(&self, named: &NamedHistogram) -> Vec<&Histogram> {
        if self.runs.len() < 2 {
            return Vec::new();
        }
        let own = crate::verdict::samples(&self.runs).filter_map(|run| run.histogram(&named.name));
        own.map(|named| &named.histogram).collect()
    }

    fn limit_of(&self, name: &str) -> Option<u64> {
        self.target.limits.iter().find_map(|limit| match limit {
            crate::Limit::Worst { histogram, at_most_ns, .. } if histogram == name => {
                Some(*at_most_ns)
            }
            _ => None,
        })
    }
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
