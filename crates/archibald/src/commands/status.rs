//! `archibald status`: how one machine stands, and what it was started with.

use archibald_machine::units::Forward;
use archibald_machine::{Machine, NetworkMode};
use archibald_vm::instance::{Instance, Record, Status as State};
use archibald_vm::placement::{Standing, standing, vcpu_threads};
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
        let threads = match state {
            State::Running { pid } => threads(&instance, &record, pid),
            _ => None,
        };
        if self.json {
            terminal::say_json(&json!({
                "schema": 2,
                "name": instance.name(),
                "status": state,
                "record": record,
                "directory": instance.directory(),
                "threads": threads,
                "network": network(&instance, &record.machine),
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
            rows.extend(bridge_rows(&instance, &record.machine));
            let rows = rows.into_iter().map(|(key, value)| vec![key.to_owned(), value]).collect();
            terminal::say(&terminal::table(&[], rows));
            if let Some(threads) = threads {
                terminal::say("");
                draw(&threads);
            }
        }
        Ok(u8::from(!running))
    }
}

/// The same as [`bridge_rows`] for programs; null for a machine in user mode.
fn network(instance: &Instance, machine: &str) -> serde_json::Value {
    let machine = Machine::parse("instance", machine, &Default::default());
    let Some(machine) = machine.ok().filter(|machine| machine.network.is_on_bridge()) else {
        return serde_json::Value::Null;
    };
    let ports: Vec<String> = machine.network.forward.iter().map(guest_ports).collect();
    let store = machine.network.door_to(machine.streamdb.port).filter(|_| machine.streamdb.enable);
    json!({
        "address": machine.network.guest_address().0.address,
        "ports": ports,
        "open-to-others": machine.network.is_open_to_others(),
        "streamdb": store.map(|(address, port)| format!("http://{address}:{port}")),
        "token-file": machine.store_wants_token().then(|| instance.store_token_file()),
    })
}

/// Where a machine on a bridge is found, and how its store is used.
fn bridge_rows(instance: &Instance, machine: &str) -> Vec<(&'static str, String)> {
    let Ok(machine) = Machine::parse("instance", machine, &Default::default()) else {
        return Vec::new();
    };
    let NetworkMode::Bridge { guest, .. } = &machine.network.mode else { return Vec::new() };
    let who = match machine.network.is_open_to_others() {
        true => "everybody",
        false => "host and bridge",
    };
    let ports: Vec<String> = machine.network.forward.iter().map(guest_ports).collect();
    let address = guest.address;
    let mut rows = vec![("network", format!("{address}, for {who}: {}", ports.join(", ")))];
    if let Some((address, port)) = machine.network.door_to(machine.streamdb.port) {
        if machine.store_wants_token() {
            let file = instance.store_token_file();
            rows.push((
                "StreamDB",
                format!(
                    "curl -H \"Authorization: Bearer $(cat {})\" http://{address}:{port}/v1/objects",
                    file.display()
                ),
            ));
        } else if machine.streamdb.enable {
            rows.push(("StreamDB", format!("http://{address}:{port}, open (streamdb.open)")));
        }
    }
    rows
}

/// A forward's ports inside the machine.
fn guest_ports(forward: &Forward) -> String {
    let last = forward.guest + (forward.count - 1);
    let range = if forward.count > 1 { format!("-{last}") } else { String::new() };
    format!("{}{range}/{}", forward.guest, forward.transport)
}

/// QEMU's threads as they run, if QEMU says which are its vCPUs.
fn threads(instance: &Instance, record: &Record, pid: u32) -> Option<Vec<Standing>> {
    let mut qmp = Qmp::connect(&instance.files().qmp).ok()?;
    let vcpus = vcpu_threads(&mut qmp).ok()?;
    // The limits of the host were checked when it was started.
    let machine = Machine::parse("instance", &record.machine, &Default::default()).ok()?;
    let online = places::host_limits().cpus.unwrap_or_default();
    standing(&machine, &online, pid, &vcpus).ok()
}

fn draw(threads: &[Standing]) {
    let scheduling = |policy: &str, priority: i32| match priority {
        0 => policy.to_owned(),
        priority => format!("{policy} {priority}"),
    };
    let rows = threads.iter().map(|thread| {
        let wanted = thread.wanted.as_ref().map_or_else(
            || "nothing: realtime.host-cpus is empty".to_owned(),
            |wanted| {
                let priority = wanted.fifo.unwrap_or_default();
                let policy = if priority > 0 { "FIFO" } else { "OTHER" };
                format!("CPU {}, {}", wanted.cpus, scheduling(policy, priority))
            },
        );
        vec![
            if thread.in_force { "ok" } else { "NOT IN FORCE" }.to_owned(),
            thread.thread.clone(),
            thread.name.clone(),
            thread.tid.to_string(),
            wanted,
            format!("CPU {}, {}", thread.cpus, scheduling(thread.policy, thread.priority)),
        ]
    });
    terminal::say(&terminal::table(
        &["", "THREAD", "NAME", "ID", "ASKED FOR", "FOUND"],
        rows.collect(),
    ));
    if threads.iter().any(|thread| !thread.in_force) {
        terminal::say(
            "What is not in force was refused at the start or taken away since. A priority needs root or an rtprio limit (limits.d); `archibald restart` then asks again.",
        );
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
