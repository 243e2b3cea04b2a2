//! Writes the report on run files, to look at: `report RUN.json... > page.html`; with `--compare`
//! first, two of them side by side; with `--text` first, the words for a terminal.
// An example may fail loudly.
#![allow(clippy::unwrap_used)]

use archibald_latency::{Comparison, Report, Run, Target};

fn main() {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let how = words.first().filter(|word| word.starts_with("--")).cloned();
    words.drain(..usize::from(how.is_some()));
    let read = |path: &String| Run::from_json(&std::fs::read_to_string(path).unwrap()).unwrap();
    let runs: Vec<Run> = words.iter().map(read).collect();
    let out = &mut std::io::stdout().lock();
    let report = |runs: Vec<Run>| {
        let title = runs.first().map_or("nothing", |run| run.id.as_str()).to_owned();
        let target = runs.first().map_or_else(Target::audio, Target::for_run);
        Report::new(title, runs, target)
    };
    match how.as_deref() {
        Some("--compare") => {
            let sides: Vec<Report> = runs.into_iter().map(|run| report(vec![run])).collect();
            Comparison::new("Side by side", &sides[0], &sides[1]).write_html(out).unwrap();
        }
        Some("--text") => report(runs).write_text(out).unwrap(),
        _ => report(runs).write_html(out).unwrap(),
    }
}
