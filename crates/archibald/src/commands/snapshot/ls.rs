//! `archibald snapshot ls`: what there is to go back to.

use archibald_machine::units::Bytes;
use archibald_vm::snapshot;
use serde_json::json;

use crate::commands::stop::absent;
use crate::failure::Failure;
use crate::{places, terminal};

/// List the machine's snapshots with size and date, the oldest first.
#[derive(Debug, clap::Args)]
pub(super) struct Ls {
    /// The machine; the machine file's when left out.
    name: Option<String>,
    /// For programs.
    #[arg(long)]
    json: bool,
}

impl Ls {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let instance = places::instance(self.name.as_deref())?;
        if instance.record()?.is_none() {
            return Err(absent(instance.name()));
        }
        let all = snapshot::list(&instance)?;
        if self.json {
            let rows: Vec<_> = all
                .iter()
                .map(|one| {
                    json!({
                        "name": one.name, "bytes": one.size(), "made-ms": one.note.made_ms,
                        "accelerator": one.note.record.accelerator, "image": one.note.record.image,
                    })
                })
                .collect();
            terminal::say_json(&json!({ "schema": 1, "snapshots": rows }));
        } else if all.is_empty() {
            terminal::say("no snapshots; `archibald snapshot save NAME` makes one");
        } else {
            let rows = all
                .into_iter()
                .map(|one| {
                    vec![one.name.clone(), Bytes(one.size()).to_string(), date(one.note.made_ms)]
                })
                .collect();
            terminal::say(&terminal::table(&["SNAPSHOT", "MEMORY", "MADE"], rows));
        }
        Ok(0)
    }
}

/// `2026-11-28 08:15:02 UTC`, of milliseconds since 1970.
fn date(ms: u64) -> String {
    let seconds = ms / 1000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms": years begin in March, so that the
    // leap day is the last one, and 400 of them have 146,097 days.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(date(951_782_400_000), "2000-02-29 00:00:00 UTC");
        assert_eq!(date(1_795_852_799_999), "2026-11-28 07:59:59 UTC");
        assert_eq!(date(4_107_542_399_000), "2100-02-28 23:59:59 UTC");
    }
}
