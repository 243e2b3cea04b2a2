//! `archibald host plan`: every change with its file, its difference, why, and when it takes effect.

use archibald_host::plan::{Change, Way};

use super::{About, Planned};
use crate::failure::Failure;
use crate::terminal;

/// Show what would be changed on this host, and change nothing.
#[derive(Debug, clap::Args)]
pub(super) struct Plan {
    #[command(flatten)]
    about: About,
    /// For programs.
    #[arg(long)]
    json: bool,
}

impl Plan {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let planned = self.about.plan()?;
        if self.json {
            terminal::say_json(&as_json(&planned));
        } else {
            draw(&planned);
        }
        Ok(0)
    }
}

fn as_json(planned: &Planned) -> serde_json::Value {
    let plan = &planned.plan;
    let change = |change: &Change| {
        serde_json::json!({
            "path": change.path, "difference": change.difference(), "why": change.why,
            "effect": change.effect,
        })
    };
    serde_json::json!({
        "schema": 1,
        "way": plan.way,
        "cpus": plan.cpus,
        "changes": plan.changes.iter().map(change).collect::<Vec<_>>(),
        "commands": plan.activations,
        "left-out": plan.left_out,
        "offers": plan.offers,
        "notes": plan.notes,
    })
}

/// Draws a plan; also what `apply` shows of it.
pub(super) fn draw(planned: &Planned) {
    let (plan, wanted) = (&planned.plan, &planned.wanted);
    if plan.is_empty() && plan.left_out.is_empty() {
        terminal::say(
            "Nothing to do: the machine file asks for no CPU and no device of this host.",
        );
        if let Some(cpus) = &planned.suggestion {
            terminal::say(&format!("For cores of its own: realtime.host-cpus = \"{cpus}\"."));
        }
        return;
    }
    let mut given = Vec::new();
    if !wanted.cpus.is_empty() {
        given.push(format!("CPUs {}", wanted.cpus));
        given.push(format!("{} of memory", wanted.memory));
    }
    given.extend(wanted.pci.iter().map(ToString::to_string));
    let how = match plan.way {
        Way::Boot => "by files, from the next boot on (--live: at once, until the next boot)",
        Way::Live => "at once, until the next boot (without --live: by files, for good)",
    };
    terminal::say(&format!("For the machine alone: {}; {how}", given.join(", ")));
    for change in &plan.changes {
        terminal::say(&format!("\n{} ({})", change.path, change.effect.word()));
        terminal::say(&format!("  {}", change.why));
        for line in change.difference().lines() {
            terminal::say(&format!("    {line}"));
        }
    }
    terminal::say("");
    for command in &plan.activations {
        terminal::say(&format!("then: {} ({})", command.run.join(" "), command.why));
    }
    for left in &plan.left_out {
        terminal::say(&format!("left out: {}: {}", left.what, left.why));
    }
    for offer in &plan.offers {
        terminal::say(&format!("could be had by --argument {}: {}", offer.what, offer.why));
    }
    for note in &plan.notes {
        terminal::say(&format!("note: {note}"));
    }
}
