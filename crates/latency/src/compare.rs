//! Two runs, or two sets of runs, side by side: are the conditions the same, what differs in the
//! figures, and is the difference more than chance.

use std::fmt::Write as _;
use std::io;

use serde::Serialize;

use crate::bound::{Confidence, lower_share, upper_share};
use crate::report::{Report, round_trip};
use crate::words::{count, digits, grouped, micros, percent, span};
use crate::{Judgement, RoundTrip, Run, Source};

/// The name of the JSON form.
pub const COMPARISON_SCHEMA: &str = "archibald.comparison/1";

/// A value of A beside the one of B.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// What.
    pub name: String,
    /// In A; absent if A does not have it.
    pub a: Option<String>,
    /// In B.
    pub b: Option<String>,
}

/// What two sets of runs say about each other.
#[derive(Debug, Clone)]
pub struct Comparison<'a> {
    /// The heading.
    pub title: String,
    /// The first.
    pub a: &'a Report,
    /// The second.
    pub b: &'a Report,
    /// Conditions that are not the same: what the comparison is about, or what spoils it.
    pub differing: Vec<Row>,
    /// Figures.
    pub figures: Vec<Row>,
    /// What follows, in a sentence.
    pub conclusion: String,
}

impl<'a> Comparison<'a> {
    /// Compares two reports.
    pub fn new(title: impl Into<String>, a: &'a Report, b: &'a Report) -> Self {
        Self {
            title: title.into(),
            a,
            b,
            differing: differing(&a.runs, &b.runs),
            figures: figures(a, b),
            conclusion: conclusion(a, b),
        }
    }

    /// Writes a text for the terminal.
    ///
    /// # Errors
    /// What the writer says.
    pub fn write_text(&self, out: &mut dyn io::Write) -> io::Result<()> {
        writeln!(out, "{} ({})", self.title, sources(self.a, self.b))?;
        writeln!(out, "  {}", self.conclusion)?;
        for (heading, rows) in [("what differs", &self.differing), ("figures", &self.figures)] {
            writeln!(
                out,
                "\n  {heading:<24} {:<30} B: {}",
                format!("A: {}", self.a.title),
                self.b.title
            )?;
            for Row { name, a, b } in rows {
                let [a, b] = [a, b].map(|value| value.as_deref().unwrap_or("-"));
                writeln!(out, "  {name:<24} {a:<30} {b}")?;
            }
            if rows.is_empty() {
                writeln!(out, "  nothing: the conditions are the same")?;
            }
        }
        writeln!(out)?;
        for caveat in caveats(self.a, self.b) {
            writeln!(out, "  {caveat}")?;
        }
        Ok(())
    }

    /// Writes the JSON form ([`COMPARISON_SCHEMA`]).
    ///
    /// # Errors
    /// What the writer says.
    pub fn write_json(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let side = |report: &Report| {
            serde_json::json!({
                "title": report.title, "headline": report.headline(), "judgement": report.judgement,
                "runs": report.runs.iter().map(|run| &run.id).collect::<Vec<_>>(),
            })
        };
        let document = serde_json::json!({
            "schema": COMPARISON_SCHEMA, "title": self.title, "conclusion": self.conclusion,
            "differing": self.differing, "figures": self.figures,
            "caveats": caveats(self.a, self.b), "a": side(self.a), "b": side(self.b),
        });
        serde_json::to_writer_pretty(&mut *out, &document)?;
        writeln!(out)
    }

    /// Writes one HTML page that asks nothing of the network.
    ///
    /// # Errors
    /// What the writer says.
    pub fn write_html(&self, out: &mut dyn io::Write) -> io::Result<()> {
        out.write_all(self.page().as_bytes())
    }

    fn page(&self) -> String {
        use crate::report::{escape, side_by_side, verdict_tone};
        let mut body = String::new();
        let _ = write!(
            body,
            "<header><p class=\"source\">{}</p><h1>{}</h1><p class=\"lead\">{}</p></header>",
            sources(self.a, self.b),
            escape(&self.title),
            escape(&self.conclusion)
        );
        for caveat in caveats(self.a, self.b) {
            let _ = write!(body, "<p class=\"caveat\">{}</p>", escape(caveat));
        }
        for (heading, rows) in [("What differs", &self.differing), ("Figures", &self.figures)] {
            if rows.is_empty() {
                let _ = write!(
                    body,
                    "<section><h2>{heading}</h2><p>Nothing: the conditions are the same.</p></section>"
                );
                continue;
            }
            let _ = write!(
                body,
                "<section><h2>{heading}</h2><div class=\"wide\"><table><thead><tr><th>\
                 <th class=\"a\">A: {}<th class=\"b\">B: {}</thead><tbody>",
                escape(&self.a.title),
                escape(&self.b.title)
            );
            for Row { name, a, b } in rows {
                let [left, right] = [a, b].map(|v| escape(v.as_deref().unwrap_or("–")));
                let class = if a == b { "" } else { " class=\"differs\"" };
                let _ = write!(
                    body,
                    "<tr{class}><th scope=\"row\">{}<td>{left}<td>{right}",
                    escape(name)
                );
            }
            body.push_str("</tbody></table></div></section>");
        }
        let _ = write!(
            body,
            "<section><h2>Verdicts</h2><p>A: <span class=\"word {}\">{}</span><br>B: \
             <span class=\"word {}\">{}</span></p></section>",
            verdict_tone(self.a),
            escape(self.a.headline()),
            verdict_tone(self.b),
            escape(self.b.headline())
        );
        side_by_side(&self.title, body, self.a, self.b)
    }
}

fn sources(a: &Report, b: &Report) -> String {
    let [a, b] = [a, b].map(|report| report.judgement.source.word());
    if a == b { a.to_owned() } else { format!("{a} and {b}") }
}

fn caveats(a: &Report, b: &Report) -> Vec<&'static str> {
    let mut caveats = vec![a.judgement.caveat, b.judgement.caveat];
    caveats.dedup();
    caveats
}

/// Conditions, each with the values of all runs, that A and B do not share.
fn differing(a: &[Run], b: &[Run]) -> Vec<Row> {
    let (a, b) = (conditions(a), conditions(b));
    let mut names: Vec<&String> = a.iter().chain(&b).map(|(name, _)| name).collect();
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(*name));
    let value = |of: &[(String, String)], name: &str| {
        of.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    };
    let row = |name: &String| Row { name: name.clone(), a: value(&a, name), b: value(&b, name) };
    names.into_iter().map(row).filter(|row| row.a != row.b).collect()
}

fn conditions(runs: &[Run]) -> Vec<(String, String)> {
    let mut all: Vec<(String, Vec<String>)> = Vec::new();
    for run in runs {
        let mut rows = run.conditions.rows();
        rows.push(("source".to_owned(), run.source.word().to_owned()));
        rows.push(("length of the window".to_owned(), span(run.window.seconds())));
        for (name, value) in rows {
            match all.iter_mut().find(|(known, _)| *known == name) {
                Some((_, values)) if values.contains(&value) => {}
                Some((_, values)) => values.push(value),
                None => all.push((name, vec![value])),
            }
        }
    }
    all.into_iter().map(|(name, values)| (name, values.join(", "))).collect()
}

/// What a run's round trip has for a row.
type OfTrip<'a> = &'a dyn Fn(&Run, &RoundTrip) -> Option<String>;

fn figures(a: &Report, b: &Report) -> Vec<Row> {
    let row = |name: &str, of: &dyn Fn(&Report) -> Option<String>| Row {
        name: name.to_owned(),
        a: of(a),
        b: of(b),
    };
    let judged =
        |of: fn(&Judgement) -> Option<String>| move |report: &Report| of(&report.judgement);
    let mut rows = vec![
        row("verdict", &|report| Some(report.headline().to_owned())),
        row("scheduled periods", &judged(|j| Some(grouped(j.periods)))),
        row("xruns", &judged(|j| Some(grouped(j.xruns)))),
        row("episodes", &judged(|j| j.episodes.map(grouped))),
        row(
            "xruns of periods, at 95 %",
            &judged(|j| Some(format!("at most {}", percent(j.share_below[0])))),
        ),
        row("xruns an hour", &judged(|j| j.per_hour.map(|rate| digits(rate, 2)))),
        row(
            "runs that failed",
            &judged(|j| Some(format!("{} of {}", j.trials.failing, j.trials.runs))),
        ),
    ];
    // Of several runs each value once.
    let trip = |of: OfTrip<'_>| {
        let of = move |report: &Report| {
            let each = report.runs.iter().filter_map(|run| of(run, run.round_trip.as_ref()?));
            let mut each: Vec<String> = each.collect();
            each.dedup();
            (!each.is_empty()).then(|| each.join("; "))
        };
        (of(a), of(b))
    };
    let trips: [(&str, OfTrip<'_>); 4] = [
        ("round trip", &|run, trip| Some(round_trip::length(run, trip))),
        ("its range", &|_, trip| Some(round_trip::range(trip))),
        ("by jack_iodelay", &|_, trip| round_trip::by_iodelay(trip)),
        ("breaks of the signal", &|_, trip| round_trip::breaks(trip).map(grouped)),
    ];
    for (name, of) in trips {
        let (a, b) = trip(of);
        if a.is_some() || b.is_some() {
            rows.push(Row { name: name.to_owned(), a, b });
        }
    }
    let names = |report: &Report| -> Vec<(String, String)> {
        report.distributions().into_iter().map(|named| (named.name, named.title)).collect()
    };
    let mut all = names(a);
    all.extend(names(b));
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|(name, _)| seen.insert(name.clone()));
    for (name, title) in all {
        let find = |report: &Report| {
            report.distributions().into_iter().find(|named| named.name == name).map(|n| n.histogram)
        };
        rows.push(row(&format!("{title}: worst"), &|report| find(report)?.max_ns().map(micros)));
        for q in [0.5, 0.99, 0.9999] {
            let quantile = |report: &Report| Some(micros(find(report)?.quantile(q)?.at_most_ns));
            let row = row(&format!("{title}: {} % at most", digits(q * 100.0, 4)), &quantile);
            rows.extend((row.a.is_some() || row.b.is_some()).then_some(row));
        }
    }
    rows
}

/// More in one than in the other only if the bounds at 95 % do not overlap.
fn conclusion(a: &Report, b: &Report) -> String {
    let (ja, jb) = (&a.judgement, &b.judgement);
    let emulated = [ja, jb].iter().any(|j| !j.source.is_judged());
    let trusted = [a, b].iter().all(|r| r.control.as_ref().is_none_or(|control| control.held));
    if !trusted {
        return "A control failed: nothing follows from these figures.".to_owned();
    }
    if emulated {
        return "Emulated: not judged. Nothing follows from these figures.".to_owned();
    }
    if ja.source != jb.source {
        return format!(
            "Figures of {} and of {} cannot be held against each other.",
            ja.source.word(),
            jb.source.word()
        );
    }
    let seen = format!(
        "{} in {} against {} in {}",
        count(ja.xruns, "xrun"),
        count(ja.periods, "period"),
        count(jb.xruns, "xrun"),
        count(jb.periods, "period"),
    );
    let [(ka, na), (kb, nb)] = [ja.effective, jb.effective];
    let c = Confidence::C95;
    let more = match () {
        () if lower_share(ka, na, c) > upper_share(kb, nb, c) => "A has more xruns than B",
        () if lower_share(kb, nb, c) > upper_share(ka, na, c) => "B has more xruns than A",
        () if ja.source == Source::VirtualTime && ja.xruns != jb.xruns => {
            return format!(
                "{seen}. Each repeats exactly, so that the difference is real for these seeds; whether \
                 others would show it, so few cannot tell."
            );
        }
        () => return format!("{seen}. The samples do not tell A and B apart."),
    };
    format!("{more}, beyond chance: {seen}, and the bounds at 95 % do not overlap.")
}
