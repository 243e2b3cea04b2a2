//! `archibald measure`: latency by the tools that the field trusts, judged and kept. One file a meter.

mod audio;
mod burst;
mod explain;
mod live;
mod load;
mod network;
mod place;
mod soak;
mod sound;
mod store;
mod wakeup;

use std::fs;
use std::path::PathBuf;

use archibald_latency::{Report, Run, Verdict};

pub(crate) use audio::Told;
pub(crate) use sound::{Heard, Way};
pub(crate) use wakeup::duration;

use crate::failure::{Context as _, Failure};
use crate::{places, terminal};

/// Measure latency, and say whether the target was kept.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Under emulation nothing is judged. Exit status: 0 held or not judged, 1 broken or not enough samples."
)]
pub(crate) struct Measure {
    #[command(subcommand)]
    meter: Meter,
}

#[derive(Debug, clap::Subcommand)]
enum Meter {
    Audio(audio::Audio),
    Network(network::Network),
    Soak(soak::Soak),
    Wakeup(wakeup::Wakeup),
}

impl Measure {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        match self.meter {
            Meter::Audio(meter) => meter.run(),
            Meter::Network(meter) => meter.run(),
            Meter::Soak(meter) => meter.run(),
            Meter::Wakeup(meter) => meter.run(),
        }
    }
}

/// Keeps a run, shows its report, puts it into the store if there is one, and returns the exit status.
fn tell(
    report: &Report,
    run: &Run,
    json: bool,
    store: Option<&store::Store>,
) -> Result<u8, Failure> {
    let folder = runs()?;
    let path = folder.join(format!("{}.json", run.id));
    let partial = folder.join(format!("{}.partial", run.id));
    let text = run.to_json().context("the run")?;
    fs::write(&partial, text).context(partial.display())?;
    fs::rename(&partial, &path).context(path.display())?;
    if json {
        terminal::say_json(&serde_json::json!({
            "schema": "archibald.measure/1", "file": path, "verdict": report.judgement.verdict,
            "judgement": report.judgement, "run": run,
        }));
    } else {
        let mut text = Vec::new();
        report.write_text(&mut text).context("the report")?;
        terminal::say(String::from_utf8_lossy(&text).trim_end());
        terminal::say(&format!("\nrun: {}", path.display()));
        terminal::say(&format!(
            "  `archibald report {} --html report.html` makes a page of it.",
            path.display()
        ));
    }
    if let Some(store) = store {
        store.put(run)?;
    }
    Ok(match report.judgement.verdict {
        Verdict::Held | Verdict::NotJudged | Verdict::NotAsked => 0,
        Verdict::Broken | Verdict::NotEnoughSamples => 1,
    })
}

/// Where runs are kept, whatever becomes of the machine.
fn runs() -> Result<PathBuf, Failure> {
    let folder = places::data().join("runs");
    fs::create_dir_all(&folder).context(folder.display())?;
    Ok(folder)
}
