//! `archibald status`: how one machine stands, and what it was started with.

use archibald_vm::instance::Status as State;
use archibald_vm::placement::vcpu_threads;
use archibald_vm::qmp::Qmp;
use serde_json::json;

use super::stop::absent;
use crate::failure::Failure;
use crate::{places, terminal};

/// Show how a machine stands; exit status 0 when it runs, 1 when it does not.
#[derive(Debug, clap::Args)]
pub(crate) struct Status {
    /// The machine; the machine file's when left out.
    name: Option<String>,
    /// For programs.
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        let instance = places::instance(self.name.as_deref())?;
        let Some(record) = instance.record()? else { return Err(absent(instance.name())) };
        let state = instance.status()?;
        let running = matches!(state, State::Running { .. });
        let threads = if running {
            Qmp::connect(&instance.files().qmp).and_then(|mut qmp| vcpu_threads(&mut qmp)).ok()
        } else {
            None
        };
        if self.json {
            terminal::say_json(&json!({
                "schema": 1,
                "name": instance.name(),
                "status": state,
                "record": record,
                "directory": instance.directory(),
                "vcpu-threads": threads,
            }));
        } else {
            let mut rows = vec![
                ("machine", instance.name().to_owned()),
                ("status", words(&state)),
                ("runs under", format!("{}: {}", record.accelerator.word(), record.because)),
                ("QEMU", record.qemu),
                ("image", record.image),
                ("files", instance.directory().display().to_string()),
            ];
            if let Some(door) = record.door {
                rows.push(("ssh", format!("{}:{}", door.address, door.port)));
            }
            if let Some(threads) = threads {
                let threads: Vec<String> = threads.iter().map(ToString::to_string).collect();
                rows.push(("vCPU threads", threads.join(", ")));
            }
            let rows = rows.into_iter().map(|(key, value)| vec![key.to_owned(), value]).collect();
            terminal::say(&terminal::table(&[], rows));
        }
        Ok(u8::from(!running))
    }
}

/// A status in words.
pub(crate) fn words(status: &State) -> String {
    match status {
        State::Absent => "absent".to_owned(),
        State::Running { pid } => format!("running (pid {pid})"),
        State::Stopped => "stopped".to_owned(),
        State::Ended { how } => format!("ended: {how}"),
    }
}
