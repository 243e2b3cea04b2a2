//! What the verbs share about a machine on a bridge: its network is made by `up`, and taken away by
//! whichever verb comes next.

use std::path::Path;

use archibald_machine::Machine;
use archibald_vm::instance::Instance;
use archibald_vm::network::{self, NetworkError, Plan, System};

use crate::failure::{Exit, Failure};
use crate::{places, terminal};

/// The host's programs, wherever the user's PATH ends.
pub(crate) fn programs() -> System {
    System { path: places::search_path() }
}

impl From<NetworkError> for Failure {
    fn from(error: NetworkError) -> Self {
        Self::new(Exit::Environment, &error).with_remedy(error.remedy())
    }
}

/// Tells before the long work why a machine cannot have its network.
pub(crate) fn possible(machine: &Machine) -> Result<(), Failure> {
    if machine.network.is_on_bridge() {
        let facts = network::look(Path::new("/"), &mut programs())?;
        network::plan(machine, &facts).map_err(NetworkError::from)?;
    }
    Ok(())
}

/// Makes the network of a machine that is about to start; none for one in user mode.
pub(crate) fn bring_up(instance: &Instance, machine: &Machine) -> Result<Option<Plan>, Failure> {
    Ok(network::bring_up(instance, machine, Path::new("/"), &mut programs(), &mut |_| ())?)
}

/// Takes away what a machine that does not run has left of its network on the host, and says so.
pub(crate) fn mend(instance: &Instance) -> Result<(), Failure> {
    if network::take_down(instance, Path::new("/"), &mut programs(), &mut |_| ())? {
        let name = instance.name();
        terminal::complain(&format!("{name}: what was left of its network has been taken away"));
    }
    Ok(())
}

/// What of a running machine's network is not as it was made.
pub(crate) fn lacks(instance: &Instance) -> Result<Vec<String>, Failure> {
    Ok(network::lacks(instance, Path::new("/"), &mut programs())?)
}
