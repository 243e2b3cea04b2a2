//! `archibald snapshot`: the running machine kept as it is, and brought back to that moment.

mod delete;
mod guard;
mod ls;
mod restore;
mod save;

use std::path::Path;

use archibald_machine::Machine;
use archibald_vm::instance::Instance;
use archibald_vm::qemu::Qemu;
use archibald_vm::snapshot::{self, SnapshotError};

use crate::failure::{Exit, Failure};
use crate::places::MachineFile;

/// Keep the running machine as it is, memory and disk, and bring it back.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A snapshot is of one machine: the same machine file, image and QEMU bring it back, nothing else does.\nWhat was written to the machine's disk after it, StreamDB included, is gone when it is restored."
)]
pub(crate) struct Snapshot {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Save(save::Save),
    Ls(ls::Ls),
    Restore(restore::Restore),
    Delete(delete::Delete),
    #[command(hide = true)]
    Guard(guard::Guard),
}

impl Snapshot {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        match self.verb {
            Verb::Save(verb) => verb.run(),
            Verb::Ls(verb) => verb.run(),
            Verb::Restore(verb) => verb.run(),
            Verb::Delete(verb) => verb.run(),
            Verb::Guard(verb) => verb.run(),
        }
    }
}

impl From<SnapshotError> for Failure {
    fn from(error: SnapshotError) -> Self {
        let (exit, remedy) = match &error {
            SnapshotError::Name(_) => (Exit::Use, "Choose another one.".to_owned()),
            SnapshotError::Exists(_) => {
                (Exit::Use, "Choose another name, or --force to replace it.".to_owned())
            }
            SnapshotError::Missing { there, .. } if there.is_empty() => {
                (Exit::Use, "`archibald snapshot save NAME` makes one.".to_owned())
            }
            SnapshotError::Missing { there, .. } => {
                (Exit::Use, format!("There are: {}.", there.join(", ")))
            }
            SnapshotError::Damaged { name, .. } => (
                Exit::Environment,
                format!("`archibald snapshot delete {name}` removes what is left of it."),
            ),
            SnapshotError::Full { .. } => {
                (Exit::Environment, "Make room there; the machine goes on as before.".to_owned())
            }
            SnapshotError::Qmp(_) | SnapshotError::State(_) => (
                Exit::Environment,
                "Devices handed over whole, shared folders, a sound card and KVM's own processor model cannot be saved; for the \
                 last, machine.cpu = \"host,pmu=off\" can."
                    .to_owned(),
            ),
            SnapshotError::Instance(_) | SnapshotError::Cancelled => {
                return match error {
                    SnapshotError::Instance(error) => error.into(),
                    _ => Self::new(Exit::Interrupted, "called off; the machine goes on as before"),
                };
            }
            _ => return Self::new(Exit::Environment, error),
        };
        Self::new(exit, error).with_remedy(remedy)
    }
}

/// The snapshot of this name, if what it is of is still the machine that would be started.
pub(super) fn fitting(
    instance: &Instance,
    name: &str,
    file: &MachineFile,
    qemu: &Qemu,
) -> Result<snapshot::Snapshot, Failure> {
    let found = snapshot::find(instance, name)?;
    let record = &found.note.record;
    let refused = |message: String, remedy: &str| {
        let message = format!("snapshot \"{name}\" is of another machine: {message}");
        Failure::new(Exit::Use, message).with_remedy(remedy)
    };
    // The limits of the host were checked when it was started.
    let then = Machine::parse("snapshot", &record.machine, &Default::default())?;
    if let Some(what) = difference(&then, &file.machine) {
        return Err(refused(
            format!("{what} in {} is not what it was", shown(&file.path)),
            "Change it back, or `archibald up` boots the machine as the file says now.",
        ));
    }
    if record.qemu != qemu.banner {
        return Err(refused(
            format!("it was made by {}, and this is {}", record.qemu, qemu.banner),
            "Only the QEMU that saved a machine is sure to read it; `archibald up` boots it.",
        ));
    }
    let image = instance.record()?.map(|record| record.image);
    if image.as_ref() != Some(&record.image) {
        return Err(refused(
            "its disk stood on another image".to_owned(),
            "`archibald up` boots the machine on the image that it has now.",
        ));
    }
    Ok(found)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// The first part of the machine file that says something else.
fn difference(then: &Machine, now: &Machine) -> Option<&'static str> {
    let machine = |m: &Machine| (m.vcpus, m.cpu.clone(), m.memory, m.disk);
    let parts = [
        (then.name != now.name, "name"),
        (machine(then) != machine(now), "[machine]"),
        (then.image != now.image, "[image]"),
        (then.realtime != now.realtime, "[realtime]"),
        (then.audio != now.audio, "[audio]"),
        (then.cluster != now.cluster, "[cluster]"),
        (then.network != now.network, "[network]"),
        (then.devices != now.devices, "[devices]"),
        (then.users != now.users, "[[users]]"),
        (then.streamdb != now.streamdb, "[streamdb]"),
        // Whatever is added to a machine later.
        (then != now, "something"),
    ];
    parts.into_iter().find(|(differs, _)| *differs).map(|(_, what)| what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_that_differs_is_named_and_comments_do_not_count() {
        let machine = |text: &str| Machine::parse("t", text, &Default::default()).unwrap();
        let then = machine("");
        assert_eq!(difference(&then, &machine("# a remark\n")), None);
        for (text, what) in [
            ("name = \"other\"\n", "name"),
            ("[machine]\nmemory = \"2 GiB\"\n", "[machine]"),
            ("[audio]\nquantum = 64\n", "[audio]"),
            ("[network]\nforward = [\"2222:22\"]\n", "[network]"),
            ("[[users]]\nname = \"ada\"\npassword = \"x\"\n", "[[users]]"),
        ] {
            assert_eq!(difference(&then, &machine(text)), Some(what), "{text}");
        }
    }
}
