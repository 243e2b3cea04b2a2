//! What people and programs read: the words as snapshots, the page and the pictures as well-formed
//! documents that carry the mark of their source.

use super::*;
use crate::verdict::tests::{run, with_wakeups};
use crate::{Comparison, Source, Target};

fn text(report: &Report) -> String {
    let mut out = Vec::new();
    report.write_text(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn html(report: &Report) -> String {
    let mut out = Vec::new();
    report.write_html(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn broken() -> Report {
    let golden = Run::from_json(include_str!("../../tests/golden/run-1.json")).unwrap();
    let mut report = Report::new("Fault <lock>", vec![golden], Target::xruns(0));
    let title = "idle, same server".to_owned();
    report.control = Some(Control { title, periods: 7500, xruns: 0, held: true });
    report.findings.push(Finding {
        run: "clean-client-seed-1".into(),
        at_ns: 13_000_400_000,
        cause: "lock-held".into(),
        sentence: "The callback waited 412 us for a lock that a thread without priority held."
            .into(),
        remedy: "Use a mutex with priority inheritance, or none.".into(),
        evidence: vec!["futex <0x55d0>, held by \"writer\" (SCHED_OTHER)".into()],
    });
    report
}

#[test]
fn the_words_of_a_broken_run() {
    insta::assert_snapshot!(text(&broken()));
}

#[test]
fn the_words_of_three_clean_seeds() {
    let runs = (1..=3).map(|seed| run(seed, 7500, &[])).collect();
    insta::assert_snapshot!(text(&Report::new("Clean client", runs, Target::xruns(0))));
}

#[test]
fn the_words_of_a_run_that_is_too_short() {
    insta::assert_snapshot!(text(&Report::new("Short", vec![run(1, 2000, &[])], Target::audio())));
}

/// A run whose signal came back later than another's, with these breaks.
fn looped(seed: u64, frames: f64, breaks: &[crate::Break]) -> Run {
    let mut run = run(seed, 7500, &[]);
    run.round_trip = Some(crate::RoundTrip {
        ports: ("system:playback_1".into(), "system:capture_1".into()),
        method: crate::round_trip::Method::Sequence,
        frames,
        range: (frames, frames + if breaks.is_empty() { 0.0 } else { 33.0 }),
        samples: 240_000,
        jack_iodelay: Some(frames + 0.998),
        breaks: breaks.to_vec(),
        unlisted: 0,
    });
    run
}

/// One of each kind, and one that is two.
fn breaks() -> [crate::Break; 4] {
    let found =
        |at_ns, frame, foreign, jump, unsure| crate::Break { at_ns, frame, foreign, jump, unsure };
    [
        found(500_000_000, 24_000, 0, 3, false),
        found(1_500_000_000, 72_000, 0, -33, false),
        found(1_500_700_000, 72_032, 32, 0, false),
        found(4_000_000_000, 192_000, 64, 9000, true),
    ]
}

#[test]
fn the_words_of_a_round_trip_with_breaks() {
    let report = Report::new("Loop", vec![looped(1, 64.0, &breaks())], Target::xruns(0));
    insta::assert_snapshot!("round_trip_text", text(&report));
    insta::assert_snapshot!("round_trip_markdown", markdown(&report));
    let page = html(&report);
    for words in
        ["Round trip of the signal", "64 frames, 1.333 ms", "64 not the signal", "jack_iodelay"]
    {
        assert!(page.contains(words), "{words}: {page}");
    }
    // A lane each, with all that are of its kind.
    let chart = report.charts().into_iter().find(|chart| chart.name == "breaks").unwrap();
    assert!(is_well_formed(&chart.svg) && chart.svg.matches("class=\"lane\"").count() == 3);
    assert_eq!(chart.svg.matches("class=\"tick\"").count(), 5, "{}", chart.svg);
    let mut json = Vec::new();
    report.write_json(&mut json).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let trip = &json["round_trips"][0];
    assert_eq!(
        (&trip["frames"], &trip["breaks"], &trip["agrees"]),
        (&64.0.into(), &4.into(), &true.into())
    );
}

#[test]
fn breaks_that_are_not_shown_are_counted() {
    let one = breaks()[0];
    let many: Vec<_> = (0..50).map(|i| crate::Break { at_ns: one.at_ns + i, ..one }).collect();
    let mut run = looped(1, 64.0, &many);
    run.round_trip.as_mut().unwrap().unlisted = 7;
    let report = Report::new("Many", vec![run], Target::xruns(0));
    assert!(
        text(&report).contains("and 47 more") && markdown(&report).contains("and 47 breaks more")
    );
    assert!(html(&report).contains("The first 40 of 57 breaks"));
}

#[test]
fn two_round_trips_stand_side_by_side() {
    let a = Report::new("short", vec![looped(1, 32.0, &[])], Target::xruns(0));
    let b = Report::new("long", vec![looped(1, 1024.25, &breaks())], Target::xruns(0));
    let comparison = Comparison::new("Two loops", &a, &b);
    let row = |name: &str| {
        let row = comparison.figures.iter().find(|row| row.name == name).unwrap();
        (row.a.clone().unwrap(), row.b.clone().unwrap())
    };
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(row("round trip"), pair("32 frames, 0.6667 ms", "1024.25 frames, 21.34 ms"));
    assert_eq!(row("its range"), pair("always the same", "1024.25 to 1057.25 frames"));
    assert_eq!(row("by jack_iodelay"), pair("32.998 frames", "1025.248 frames"));
    assert_eq!(row("breaks of the signal"), pair("0", "4"));
    let mut page = Vec::new();
    comparison.write_html(&mut page).unwrap();
    let page = String::from_utf8(page).unwrap();
    assert!(page.contains("Breaks of the signal over time"), "{page}");
    // Where nobody sent a signal nothing is said of one.
    let none = Report::new("none", vec![run(1, 7500, &[])], Target::xruns(0));
    let comparison = Comparison::new("None", &none, &none);
    assert!(!comparison.figures.iter().any(|row| row.name.contains("round trip")));
}

#[test]
fn several_round_trips_have_a_line_each() {
    let runs = vec![looped(1, 32.0, &[]), looped(2, 64.0, &breaks())];
    let report = Report::new("Two", runs, Target::xruns(0));
    let (text, markdown, page) = (text(&report), markdown(&report), html(&report));
    assert!(
        text.contains("seed-2               64 frames, 1.333 ms, 64 to 97 frames, 4 breaks"),
        "{text}"
    );
    assert!(text.contains("seed-2, 0.5000 s frame 24,000: 3 dropped"), "{text}");
    assert!(
        markdown.contains("| seed-1 | 32 frames, 0.6667 ms | always the same | 0 |"),
        "{markdown}"
    );
    assert!(page.contains("<th>Round trip") && page.contains("seed-2, 1.5000 s"), "{page}");
}

#[test]
fn the_words_of_a_comparison() {
    let every = |step: u64| (0..7500).filter(|p| p % step == 7).collect::<Vec<u64>>();
    let mut stock = run(1, 7500, &every(60));
    stock.conditions.kernel = Some("stock".into());
    let mut rt = run(1, 7500, &[]);
    rt.conditions.kernel = Some("PREEMPT_RT".into());
    let (a, b) = (
        Report::new("stock", vec![stock], Target::xruns(0)),
        Report::new("rt", vec![rt], Target::xruns(0)),
    );
    let mut out = Vec::new();
    Comparison::new("Stock against RT", &a, &b).write_text(&mut out).unwrap();
    insta::assert_snapshot!(String::from_utf8(out).unwrap());

    let emulated = Report::new(
        "emulated",
        vec![Run { source: Source::Emulation, ..run(1, 7500, &[]) }],
        Target::xruns(0),
    );
    let conclusion = |a, b| Comparison::new("", a, b).conclusion;
    assert!(conclusion(&a, &emulated).contains("not judged"));
    assert!(conclusion(&b, &b).contains("do not tell"));
    let one = Report::new("one", vec![run(1, 7500, &[5])], Target::xruns(0));
    assert!(conclusion(&one, &b).contains("real for these seeds"));
    let mut failed = Report::new("failed", vec![run(1, 7500, &[])], Target::xruns(0));
    failed.control = Some(Control { title: String::new(), periods: 1, xruns: 1, held: false });
    assert!(conclusion(&failed, &b).contains("control failed"));
}

#[test]
fn a_control_that_failed_takes_the_verdict_away() {
    let mut report = Report::new("Clean", vec![run(1, 7500, &[])], Target::xruns(0));
    assert!(report.is_held());
    let title = "idle".to_owned();
    report.control = Some(Control { title, periods: 7500, xruns: 2, held: false });
    assert!(!report.is_held());
    assert!(text(&report).starts_with("Clean: the control failed: not trustworthy here"));
    assert!(html(&report).contains("the control failed"));
}

#[test]
fn the_json_has_what_a_program_needs() {
    let mut out = Vec::new();
    broken().write_json(&mut out).unwrap();
    let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(value["schema"], REPORT_SCHEMA);
    assert_eq!(value["judgement"]["verdict"], "broken");
    assert_eq!((&value["held"], &value["source"]), (&false.into(), &"virtual time".into()));
    assert_eq!(value["findings"][0]["cause"], "lock-held");
    assert_eq!(value["distributions"][0]["max_ns"], 41_730);
    // 7,497 samples carry 99.9 % and not 99.99 %.
    assert_eq!(value["distributions"][0]["quantiles"].as_array().map(Vec::len), Some(4));
}

/// Elements are closed in the order in which they were opened; enough for documents written by hand.
fn is_well_formed(xml: &str) -> bool {
    let mut open = Vec::new();
    for tag in xml.split('<').skip(1) {
        let Some((tag, _)) = tag.split_once('>') else { return false };
        let name = tag.split([' ', '/']).find(|part| !part.is_empty()).unwrap_or_default();
        match (tag.starts_with('/'), tag.ends_with('/')) {
            (true, _) if open.pop() != Some(name) => return false,
            (false, false) => open.push(name),
            _ => {}
        }
    }
    open.is_empty()
}

#[test]
fn pictures_are_well_formed_and_say_where_they_come_from() {
    for report in [broken(), Report::new("a", vec![with_wakeups(500, 90_000)], Target::audio())] {
        let charts = report.charts();
        let names: Vec<&str> = charts.iter().map(|chart| chart.name.as_str()).collect();
        assert_eq!(names.len(), 3, "{names:?}");
        for chart in &charts {
            assert!(is_well_formed(&chart.svg), "{}", chart.svg);
            assert!(chart.svg.contains("virtual time"), "{}", chart.name);
            assert!(!chart.svg.contains("NaN") && !chart.svg.contains("inf"), "{}", chart.svg);
        }
    }
}

/// What draws SVG without a browser knows no variables and no media queries.
#[test]
fn still_pictures_have_their_colours_written_out() {
    for chart in broken().charts() {
        let (light, dark) = (chart.still(false), chart.still(true));
        for still in [&light, &dark] {
            assert!(is_well_formed(still), "{still}");
            assert!(!still.contains("var(") && !still.contains("@media"), "{still}");
            assert!(still.contains(".chart .bar { fill: #"), "{still}");
        }
        assert!(light.contains(".paper { fill: #ffffff; }") && !dark.contains("#ffffff"), "{dark}");
    }
}

fn markdown(report: &Report) -> String {
    let mut out = Vec::new();
    report.write_markdown(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn the_markdown_of_a_broken_run() {
    insta::assert_snapshot!(markdown(&broken()));
}

#[test]
fn each_limit_is_a_case_and_skipped_where_nothing_is_judged() {
    let xml = broken().to_junit().to_xml();
    assert!(is_well_formed(xml.split_once("?>").unwrap().1), "{xml}");
    assert!(xml.contains("tests=\"2\" failures=\"1\" errors=\"0\" skipped=\"0\""), "{xml}");
    assert!(xml.contains("name=\"no xruns\"") && xml.contains("name=\"control\""), "{xml}");
    assert!(xml.contains("not model caches"), "{xml}");

    let short = Report::new("Short", vec![run(1, 2000, &[])], Target::audio()).to_junit().to_xml();
    assert!(short.contains("<failure message=\"not enough samples: "), "{short}");
    assert!(short.contains("it takes 2,995 samples in all"), "{short}");

    let emulated = Run { source: Source::Emulation, ..run(1, 7500, &[1, 2, 3]) };
    let xml = Report::new("Emulated", vec![emulated], Target::audio()).to_junit().to_xml();
    assert!(xml.contains("failures=\"0\" errors=\"0\" skipped=\"1\""), "{xml}");
    assert!(xml.contains("<skipped message=\"emulated: not judged\">"), "{xml}");
}

#[test]
fn several_runs_are_one_sample_with_each_beside_it() {
    let mut runs: Vec<Run> = (1..=3).map(|seed| run(seed, 7500, &[])).collect();
    for run in &mut runs {
        run.histograms.extend(with_wakeups(500, 90_000).histograms);
    }
    let report = Report::new("Three", runs.clone(), Target::xruns(0));
    assert!(report.judgement.notes.is_empty(), "{:?}", report.judgement.notes);
    let page = html(&report);
    assert!(page.contains("curve faint") && page.contains("wakeup, worst"), "{page}");
    let names: Vec<String> = report.charts().into_iter().map(|chart| chart.name).collect();
    let mut once = names.clone();
    once.dedup();
    assert_eq!(names, once, "one picture overwrites another");

    runs[1].conditions.load = Some("stress-ng --cpu 0".into());
    let mixed = Report::new("Mixed", runs, Target::xruns(0));
    assert!(text(&mixed).contains("different conditions (load)"), "{}", text(&mixed));
    assert!(
        markdown(&mixed).contains("| load | differs from run to run |"),
        "{}",
        markdown(&mixed)
    );
}

/// A repeated fault was drawn as an empty lane: jackd's log counted most and told no times.
#[test]
fn a_lane_is_of_a_meter_that_tells_times() {
    let mut runs = vec![run(1, 7500, &[1, 2, 3]), run(2, 7500, &[40])];
    runs[0].counters.insert(crate::Meter::JackdLog, 4);
    let chart = Report::new("Two", runs, Target::xruns(0)).charts().remove(0);
    assert_eq!(chart.name, "timeline");
    assert!(chart.svg.contains("seed-1, JACK xrun callback"), "{}", chart.svg);
    assert!(chart.svg.contains("class=\"tick\""), "{}", chart.svg);
}

#[test]
fn parts_of_a_distribution_are_a_table_and_no_sample_of_their_own() {
    let mut run = with_wakeups(500, 90_000);
    let whole = run.histograms[0].clone();
    for cpu in [0, 1] {
        run.histograms.push(crate::NamedHistogram {
            name: format!("{}/cpu{cpu}", whole.name),
            title: format!("CPU {cpu}"),
            histogram: whole.histogram.clone(),
        });
    }
    let report = Report::new("Parts", vec![run], Target::audio());
    assert_eq!(report.distributions().len(), 1);
    assert_eq!(report.charts().iter().filter(|chart| chart.name.contains('/')).count(), 0);
    for output in [html(&report), markdown(&report), text(&report)] {
        assert!(output.contains("CPU 1"), "{output}");
    }
}

#[test]
fn every_output_says_virtual_time_and_what_it_does_not_model() {
    let report = broken();
    let mut json = Vec::new();
    report.write_json(&mut json).unwrap();
    let xml = report.to_junit().to_xml();
    let json = String::from_utf8(json).unwrap();
    for output in [text(&report), html(&report), markdown(&report), xml, json] {
        assert!(output.contains("virtual time"), "{output}");
        assert!(output.contains("not model caches"), "{output}");
    }
}

#[test]
fn under_emulation_every_output_says_that_nothing_is_judged() {
    let emulated = Run { source: Source::Emulation, ..run(1, 7500, &[1, 2, 3]) };
    let report = Report::new("Emulated", vec![emulated], Target::audio());
    let mut json = Vec::new();
    report.write_json(&mut json).unwrap();
    let xml = report.to_junit().to_xml();
    let json = String::from_utf8(json).unwrap();
    for output in [text(&report), html(&report), markdown(&report), xml, json] {
        assert!(output.contains("mulated: not judged"), "{output}");
        assert!(!output.contains("BROKEN") && !output.contains("\"broken\""), "{output}");
    }
}

#[test]
fn the_page_fetches_nothing_and_escapes_what_it_is_given() {
    let page = html(&broken());
    assert!(page.contains("Fault &lt;lock&gt;") && !page.contains("<lock>"));
    for fetching in ["http:", "https:", "src=", "href=", "url(", "@import", "fetch("] {
        assert!(!page.contains(fetching), "{fetching}");
    }
    assert!(page.contains("prefers-color-scheme: dark"));
}

/// Reports without anything in them are still reports.
#[test]
fn nothing_at_all_is_no_panic() {
    let empty = Report::new("Nothing", Vec::new(), Target::audio());
    assert!(html(&empty).contains("not judged"));
    let mut blind = run(1, 0, &[]);
    blind.counters.clear();
    blind.histograms = vec![crate::NamedHistogram {
        name: "callback".into(),
        title: "Callback".into(),
        histogram: Histogram::new(),
    }];
    let report = Report::new("Blind", vec![blind], Target::audio());
    assert!(text(&report).contains("not enough samples"));
    assert!(report.charts().iter().all(|chart| is_well_formed(&chart.svg)));
    assert!(!html(&report).contains("NaN"));
}
