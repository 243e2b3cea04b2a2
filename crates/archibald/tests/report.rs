//! `archibald report`: files of runs, and files that are none. The page is looked at in a real browser.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../../streamdb/tests/browser/mod.rs"]
mod browser;
mod world;

use browser::Browser;
use serde_json::json;
use world::World;

/// A run of the first version, as every later one must read it.
const RUN: &str = include_str!("data/wakeup-run-1.json");

#[test]
fn a_run_of_the_first_version_is_still_read() {
    let world = World::new();
    world.write("run.json", RUN);
    let said = world.run(&["report", "run.json"]);
    assert_eq!(said.status, 0, "{}", said.err);
    insta::assert_snapshot!("report", said.out);
}

#[test]
fn two_runs_are_compared_and_their_different_conditions_named() {
    let world = World::new();
    world.write("a.json", RUN);
    world.write("b.json", &RUN.replace("\"load\": \"none\"", "\"load\": \"stress-ng --cpu 0\""));
    let said = world.run(&["report", "a.json", "b.json", "--html", "page.html"]);
    assert_eq!(said.status, 0, "{}", said.err);
    assert!(said.out.contains("load") && said.out.contains("stress-ng --cpu 0"), "{}", said.out);
    assert!(std::fs::read_to_string(world.path("work/page.html")).unwrap().contains("<svg"));
    for format in ["--csv", "--md", "--junit", "--png", "--svg"] {
        assert_eq!(world.run(&["report", "a.json", "b.json", format, "x"]).status, 2, "{format}");
    }
    let said = world.run(&["report", "a.json", "b.json", "--together"]);
    assert!(said.out.starts_with("2 runs together: broken (bare metal)"), "{}", said.out);
    assert!(said.out.contains("under different conditions (load)"), "{}", said.out);
}

/// The lab's `broken` was `not enough samples` here: a share was asked of what allows no xrun at all.
#[test]
fn a_run_in_virtual_time_is_held_against_what_the_lab_asks() {
    let world = World::new();
    world.write("run.json", include_str!("../../latency/tests/golden/run-1.json"));
    let said = world.run(&["report", "run.json"]);
    assert!(said.out.contains(": broken (virtual time)"), "{}", said.out);
    assert!(said.out.contains("BROKEN  no xruns: 3 xruns in 7,500 periods"), "{}", said.out);
    let said = world.run(&["report", "run.json", "--xruns", "3"]);
    assert!(said.out.contains(": held (virtual time)"), "{}", said.out);
}

#[test]
fn what_is_no_run_is_refused_with_its_name() {
    let world = World::new();
    world.write("cut.json", &RUN[..RUN.len() / 2]);
    world.write("other.json", "{\"schema\": \"archibald.run/9\"}");
    for (file, words) in
        [("cut.json", "cut short"), ("other.json", "archibald.run/9"), ("none.json", "none.json")]
    {
        let said = world.run(&["report", file]);
        assert!(said.status == 2 && said.err.contains(words), "{}", said.err);
        assert!(said.err.contains(file), "{}", said.err);
    }
}

#[test]
fn every_format_is_written_at_once() {
    let world = World::new();
    world.write("run.json", RUN);
    let said = world.run(&[
        "report",
        "run.json",
        "--html",
        "page.html",
        "--md",
        "run.md",
        "--junit",
        "junit.xml",
        "--svg",
        "charts",
        "--png",
        "charts",
        "--csv",
        "bins.csv",
        "--json",
    ]);
    assert_eq!(said.status, 0, "{}", said.err);
    let read = |name: &str| std::fs::read(world.path("work").join(name)).unwrap();
    let text = |name: &str| String::from_utf8(read(name)).unwrap();
    let report: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(report["judgement"]["verdict"], "broken");
    assert!(text("run.md").contains("| worst wakeup <= 50 us | worst 467 us of 5,999 samples |"));
    let junit = text("junit.xml");
    assert!(
        junit.contains("<failure message=\"broken: worst 467 us of 5,999 samples\">"),
        "{junit}"
    );
    assert!(text("bins.csv").lines().any(|line| line.ends_with(",wakeup,467,1")));
    for name in ["wakeup-histogram", "wakeup-complementary"] {
        assert!(text(&format!("charts/{name}.svg")).starts_with("<svg"), "{name}");
        let png = read(&format!("charts/{name}.png"));
        assert!(png.starts_with(b"\x89PNG\r\n\x1a\n"), "{name}");
        // IHDR: twice as wide as the drawing.
        assert_eq!(png[16..20], 1520_u32.to_be_bytes(), "{name}");
    }
}

/// Ten runs of one set of conditions, each with latencies of its own.
fn ten(world: &World) -> Vec<String> {
    let write = |number: usize| {
        let name = format!("run-{number}.json");
        let mut run: serde_json::Value = serde_json::from_str(RUN).unwrap();
        run["id"] = format!("wakeup-{number}").into();
        let histogram = &mut run["histograms"][0]["histogram"];
        let last = histogram["bins"].as_array().unwrap().len() - 1;
        let worst = 467 + 13 * number;
        histogram["bins"][last][0] = worst.into();
        histogram["max_ns"] = (worst * 1000).into();
        world.write(&name, &run.to_string());
        name
    };
    (0..10).map(write).collect()
}

#[test]
fn a_page_of_ten_runs_asks_nothing_of_the_network() {
    let world = World::new();
    let runs = ten(&world);
    let mut words = vec!["report", "--html", "page.html"];
    words.extend(runs.iter().map(String::as_str));
    let said = world.run(&words);
    assert_eq!(said.status, 0, "{}", said.err);
    let page = format!("file://{}", world.path("work/page.html").display());
    for dark in [false, true] {
        let Some(browser) = Browser::start(dark) else { return };
        browser.requests();
        browser.post("/url", &json!({ "url": page }));
        browser.until("document.readyState === 'complete'");

        // What the page must have, each where a person sees it.
        let count = |what: &str| {
            let found = browser.run(&format!("return document.querySelectorAll('{what}').length"));
            found.as_u64().unwrap()
        };
        assert_eq!((count("svg.chart"), count(".curve.faint"), count("line.max")), (2, 10, 1));
        assert!(count("rect.bar") > 10 && count("line.limit") == 2);
        let told = browser.run("return document.body.innerText");
        let told = told.as_str().unwrap();
        for words in [
            "worst 584 us",
            "99.99 % are at most",
            "wakeup-9",
            "PREEMPT_RT",
            "bare metal",
            "How to read this",
            "Clopper-Pearson",
        ] {
            assert!(told.to_lowercase().contains(&words.to_lowercase()), "{words}: {told}");
        }
        let ground = browser.run("return getComputedStyle(document.body).backgroundColor");
        assert_eq!(ground == json!("rgb(255, 255, 255)"), !dark, "{ground}");
        browser.screenshot(if dark { "ten-dark.png" } else { "ten-light.png" });

        // A bar tells its numbers at the pointer.
        browser.run(
            "const bar = document.querySelector('rect.bar');
             bar.dispatchEvent(new PointerEvent('pointermove', { bubbles: true, clientX: 200, clientY: 200 }));",
        );
        browser.until("document.querySelector('#hover.on').textContent.includes(' us: ')");

        // On a telephone nothing is wider than it.
        browser.be_wide(390);
        browser.until("innerWidth === 390");
        let wide = browser.run("return document.documentElement.scrollWidth");
        assert!(wide.as_u64().unwrap() <= 390, "{wide} points wide");
        browser.screenshot(if dark { "ten-narrow-dark.png" } else { "ten-narrow.png" });

        assert_eq!(
            browser.requests(),
            std::slice::from_ref(&page),
            "the page asked for more than itself"
        );
        assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());
    }
}
