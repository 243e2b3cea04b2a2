//! `archibald ls`: all machines, one a line.

use archibald_vm::instance::Status;
use serde::Serialize;

use super::status::words;
use crate::failure::Failure;
use crate::{places, terminal};

/// List the machines.
#[derive(Debug, clap::Args)]
pub(crate) struct Ls {
    /// For programs.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row {
    name: String,
    #[serde(flatten)]
    status: Status,
    accelerator: &'static str,
    ssh: Option<String>,
    image: String,
}

impl Ls {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        let mut rows = Vec::new();
        for instance in places::directories().instances()? {
            let Some(record) = instance.record()? else { continue };
            rows.push(Row {
                name: instance.name().to_owned(),
                status: instance.status()?,
                accelerator: record.accelerator.word(),
                ssh: record.door.map(|door| format!("{}:{}", door.address, door.port)),
                image: record.image.chars().take(12).collect(),
            });
        }
        if self.json {
            terminal::say_json(&serde_json::json!({ "schema": 1, "machines": rows }));
        } else if rows.is_empty() {
            terminal::say("no machines; `archibald up` makes one");
        } else {
            let rows = rows
                .into_iter()
                .map(|row| {
                    let ssh = row.ssh.unwrap_or_default();
                    vec![row.name, words(&row.status), row.accelerator.to_owned(), ssh, row.image]
                })
                .collect();
            terminal::say(&terminal::table(
                &["NAME", "STATUS", "RUNS UNDER", "SSH", "IMAGE"],
                rows,
            ));
        }
        Ok(0)
    }
}
