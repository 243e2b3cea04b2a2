//! What people read of a scenario's runs.

use archibald_lab::Scenario;
use archibald_lab::bench::{Control, Finished};
use archibald_latency::{Judgement, Meter};

use crate::terminal;

/// The runs one by one, then the verdict.
pub(super) fn show(
    scenario: &Scenario,
    runs: &[Finished],
    judgement: &Judgement,
    control: &Control,
) {
    let rows = runs.iter().map(row).collect();
    let header = ["SEED", "PERIODS", "XRUNS", "BY", "DSP LOAD", "AUDIO THREAD", "LATE"];
    terminal::say(&terminal::table(&header, rows));
    terminal::say("");
    let audio = scenario.audio;
    terminal::say(&format!(
        "{}: {} ({}), {} frames at {} Hz, {} MIPS, {} kernel, load {}",
        judgement.verdict.word(),
        judgement.criteria.first().map_or("", |criterion| criterion.title.as_str()),
        audio.server.word(),
        audio.quantum.0,
        audio.rate.0,
        scenario.time.mips.number(),
        scenario.machine.kernel.word(),
        scenario.load.title(),
    ));
    if let Some(rate) = judgement.rate_words() {
        let plural = if runs.len() == 1 { "" } else { "s" };
        terminal::say(&format!("xruns an hour: {rate} (virtual time, {} run{plural})", runs.len()));
    }
    terminal::say(&format!("idle control: {} xruns in {} periods", control.xruns, control.periods));
    for note in &judgement.notes {
        terminal::say(note);
    }
    terminal::say(judgement.caveat);
    if let Some(folder) = runs.first().and_then(|run| run.dir.parent()) {
        terminal::say(&format!("runs: {}", folder.display()));
    }
}

fn row(finished: &Finished) -> Vec<String> {
    let evidence = &finished.evidence;
    let run = &evidence.run;
    let (meter, xruns) = run.worst_meter().map_or(("", 0), |(meter, count)| (by(meter), count));
    let share = evidence.audio_thread().map_or_else(String::new, |(thread, share)| {
        let priority = match thread.policy.as_str() {
            "SCHED_OTHER" => "no priority".to_owned(),
            policy => format!("{} {}", policy.trim_start_matches("SCHED_"), thread.priority),
        };
        format!("{share:.1} %, {priority}")
    });
    let mut late: Vec<_> = evidence.late_clients.iter().collect();
    late.sort_by(|a, b| b.1.cmp(a.1));
    let late: Vec<String> = late.iter().map(|(name, count)| format!("{name} {count}")).collect();
    vec![
        run.conditions.seed.map_or_else(String::new, |seed| seed.to_string()),
        run.periods.to_string(),
        xruns.to_string(),
        if xruns == 0 { String::new() } else { meter.to_owned() },
        run.dsp_load
            .as_ref()
            .map_or_else(|| "unknown".to_owned(), |load| format!("{:.1} %", load.mean)),
        share,
        late.join(", "),
    ]
}

fn by(meter: Meter) -> &'static str {
    meter.title()
}
