//! What a machine has of its host while it runs: its network on a bridge, and devices. `up` takes it, the
//! keeper gives it back when QEMU ends, and whichever verb comes next gives back what the keeper could
//! not.

use std::path::{Path, PathBuf};

use archibald_host::Root;
use archibald_host::facts::Facts;
use archibald_host::handover::{self, HandoverError};
use archibald_machine::Machine;
use archibald_vm::instance::{Instance, Status};
use archibald_vm::network::{self, NetworkError, Plan, System};

use crate::failure::{Context as _, Exit, Failure};
use crate::{places, terminal};

/// The host's programs, wherever the user's PATH ends.
fn programs() -> System {
    System { path: places::search_path() }
}

/// The journal of the devices.
fn devices(instance: &Instance) -> PathBuf {
    instance.file("devices.json")
}

impl From<NetworkError> for Failure {
    fn from(error: NetworkError) -> Self {
        Self::new(Exit::Environment, &error).with_remedy(error.remedy())
    }
}

impl From<HandoverError> for Failure {
    fn from(error: HandoverError) -> Self {
        let remedy = match &error {
            HandoverError::Refused(refused) => refused.remedy(),
            HandoverError::Journal { .. } => {
                "`lspci -k` tells which driver has which device; remove the file when all is right."
                    .to_owned()
            }
            _ => "The kernel's log tells why: dmesg. As root, `archibald stop` tries it again."
                .to_owned(),
        };
        Self::new(Exit::Environment, &error).with_remedy(remedy)
    }
}

/// Tells before the long work, and before anything is touched, what the machine cannot have.
pub(crate) fn possible(machine: &Machine) -> Result<(), Failure> {
    if machine.network.is_on_bridge() {
        let facts = network::look(Path::new("/"), &mut programs())?;
        network::plan(machine, &facts).map_err(NetworkError::from)?;
    }
    plan_of_devices(machine).map(drop)
}

fn plan_of_devices(machine: &Machine) -> Result<Option<handover::Plan>, Failure> {
    if machine.devices.pci.is_empty() {
        return Ok(None);
    }
    let root = Root::default();
    let facts = Facts::read(&root).context("devices.pci")?;
    let plan = handover::plan(&root, &facts, &machine.devices.pci).map_err(HandoverError::from)?;
    Ok(Some(plan))
}

/// Makes the network of a machine that is about to start; none for one in user mode.
pub(crate) fn bring_up(instance: &Instance, machine: &Machine) -> Result<Option<Plan>, Failure> {
    Ok(network::bring_up(instance, machine, Path::new("/"), &mut programs(), &mut |_| ())?)
}

/// Hands over the devices of a machine that is about to start, and returns what people should know.
pub(crate) fn hand_over(instance: &Instance, machine: &Machine) -> Result<Vec<String>, Failure> {
    let Some(plan) = plan_of_devices(machine)? else { return Ok(Vec::new()) };
    let journal = devices(instance);
    handover::take(&Root::default(), &plan, &journal, &mut handover::Real, &mut |_: &str| ())?;
    Ok(plan.notes)
}

/// Gives back all that a machine which has ended still has.
fn give_back(instance: &Instance) -> (Result<bool, HandoverError>, Result<bool, NetworkError>) {
    let root = Root::default();
    let journal = devices(instance);
    (
        handover::give_back(&root, &journal, &mut handover::Real, &mut |_: &str| ()),
        network::take_down(instance, Path::new("/"), &mut programs(), &mut |_| ()),
    )
}

/// The same for the keeper, which nobody listens to: what does not succeed here is done by the next
/// verb, which can tell why.
pub(crate) fn give_back_quietly(instance: &Instance) {
    let _ = give_back(instance);
}

/// The same for a verb, which says what it has done.
pub(crate) fn mend(instance: &Instance) -> Result<(), Failure> {
    if matches!(instance.status(), Ok(Status::Running { .. })) {
        return Ok(());
    }
    let name = instance.name();
    let (devices, network) = give_back(instance);
    if matches!(devices, Ok(true)) {
        terminal::complain(&format!("{name}: its devices have their drivers again"));
    }
    if matches!(network, Ok(true)) {
        terminal::complain(&format!("{name}: what was left of its network has been taken away"));
    }
    devices?;
    network?;
    Ok(())
}

/// What of a running machine's network is not as it was made.
pub(crate) fn lacks(instance: &Instance) -> Result<Vec<String>, Failure> {
    Ok(network::lacks(instance, Path::new("/"), &mut programs())?)
}
