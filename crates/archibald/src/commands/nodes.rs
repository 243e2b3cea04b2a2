//! `up --join`: the machine of a file as a node of a Slurm cluster, or several of its kind.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use archibald_machine::units::{Endpoint, Network4};
use archibald_machine::{Machine, NetworkMode, Os, SLURMCTLD_PORT};

use crate::failure::{Context as _, Exit, Failure};
use crate::places::{self, MachineFile};

/// How the machine of a file is a node, and how many of it there are.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Nodes {
    /// Make it a node of the Slurm cluster whose slurmctld listens there, as `[cluster]` in the machine file does.
    #[arg(long, value_name = "HOST[:PORT]", value_parser = controller)]
    join: Option<Endpoint>,
    /// The cluster's munge key on this host; /etc/munge/munge.key when left out.
    #[arg(long, value_name = "FILE", requires = "join")]
    munge_key: Option<PathBuf>,
    /// As many nodes, NAME-1 and so on, from the machine file's address upwards.
    #[arg(long, value_name = "N", requires = "join", conflicts_with_all = ["json", "snapshot"],
        value_parser = clap::value_parser!(u32).range(1..=250))]
    count: Option<u32>,
}

fn controller(text: &str) -> Result<Endpoint, String> {
    Endpoint::parse(text, SLURMCTLD_PORT).map_err(|error| format!("expected {}", error.expected))
}

impl Nodes {
    /// The machine files that this makes of one: itself, if it says nothing.
    pub(crate) fn of(&self, file: MachineFile) -> Result<Vec<MachineFile>, Failure> {
        let Some(controller) = &self.join else { return Ok(vec![file]) };
        let NetworkMode::Bridge { guest, host, .. } = file.machine.network.mode else {
            let message =
                format!("{}: a node of a cluster needs an address of its own", file.path.display());
            return Err(Failure::new(Exit::Use, message)
                .with_remedy("Write mode = \"bridge\" under [network] (docs/bridge.md)."));
        };
        if file.machine.image.os == Os::NixOs {
            let message = "what a NixOS machine is stands in its machine file, from which its system is built";
            return Err(Failure::new(Exit::Use, message).with_remedy(
                "Write [cluster] into it instead of --join; for several nodes, a file for each.",
            ));
        }
        self.only_one_has(&file)?;
        let key = match &self.munge_key {
            Some(key) => Some(std::path::absolute(key).context(key.display())?),
            None => None,
        };
        let Some(count) = self.count else {
            return Ok(vec![node(&file, &file.machine.name, guest, controller, key.as_ref())?]);
        };
        let nodes = (0..count).map(|place| {
            let address = following(guest, place).filter(|address| address.address != host.address);
            let Some(address) = address else {
                let message =
                    format!("{count} machines from {guest} on do not fit into its network");
                return Err(Failure::new(Exit::Use, message).with_remedy(
                    "Choose a lower network.guest-address, a lower --count or a wider network.",
                ));
            };
            let name = format!("{}-{}", file.machine.name, place + 1);
            node(&file, &name, address, controller, key.as_ref())
        });
        nodes.collect()
    }

    /// What of the host cannot be several machines' at once.
    fn only_one_has(&self, file: &MachineFile) -> Result<(), Failure> {
        let machine = &file.machine;
        let has = [
            (!machine.realtime.host_cpus.is_empty(), "realtime.host-cpus"),
            (!machine.devices.pci.is_empty(), "devices.pci"),
            (!machine.devices.usb.is_empty(), "devices.usb"),
            (machine.network.is_open_to_others(), "a network.bind that is no loopback address"),
        ];
        let several = self.count.is_some_and(|count| count > 1);
        match has.iter().find(|(has, _)| *has && several) {
            None => Ok(()),
            Some((_, what)) => {
                let message = format!("{}: {what} is for one machine alone", file.path.display());
                Err(Failure::new(Exit::Use, message)
                    .with_remedy("Leave it out, or write a machine file for each node."))
            }
        }
    }
}

/// The address `place` further on, if the network has it and it is not the broadcast address.
fn following(first: Network4, place: u32) -> Option<Network4> {
    let address = Ipv4Addr::from(u32::from(first.address).checked_add(place)?);
    let last = u32::from(first.address) | (u32::MAX >> first.prefix);
    let address = Network4 { address, prefix: first.prefix };
    (first.same_network(address) && u32::from(address.address) < last).then_some(address)
}

/// The file with what makes a node of its machine written into it. It is what the instance keeps, so that
/// whatever is asked of the node later is asked of what it is.
fn node(
    file: &MachineFile,
    name: &str,
    address: Network4,
    controller: &Endpoint,
    key: Option<&PathBuf>,
) -> Result<MachineFile, Failure> {
    // It has been read once already.
    let unreadable = |error: toml::de::Error| Failure::new(Exit::Use, error);
    let mut keys: toml::Table = file.text.parse().map_err(unreadable)?;
    keys.insert("name".to_owned(), name.into());
    let mut put = |table: &str, key: &str, value: String| {
        let table = keys.entry(table).or_insert_with(|| toml::Table::new().into());
        if let Some(table) = table.as_table_mut() {
            table.insert(key.to_owned(), value.into());
        }
    };
    put("network", "guest-address", address.to_string());
    put("cluster", "controller", controller.to_string());
    if let Some(key) = key {
        put("cluster", "munge-key", key.display().to_string());
    }
    let text = keys.to_string();
    let shown = format!("{} as node {name}", file.path.display());
    let machine = Machine::parse(&shown, &text, &places::host_limits())?;
    Ok(MachineFile { path: file.path.clone(), text, machine })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> MachineFile {
        let machine = Machine::parse("a.toml", text, &Default::default()).unwrap();
        MachineFile { path: "a.toml".into(), text: text.to_owned(), machine }
    }

    fn nodes(count: Option<u32>) -> Nodes {
        Nodes { join: Some(controller("head").unwrap()), munge_key: Some("/k".into()), count }
    }

    const ON_BRIDGE: &str =
        "name = \"studio\"\n[network]\nmode = \"bridge\"\n[[users]]\nname = \"ada\"\n";

    #[test]
    fn nodes_differ_in_name_and_address_alone() {
        let made = nodes(Some(3)).of(file(ON_BRIDGE)).unwrap();
        let told: Vec<String> = made
            .iter()
            .map(|file| format!("{} {}", file.machine.name, file.machine.network.guest_address().0))
            .collect();
        assert_eq!(
            told,
            ["studio-1 192.168.122.2/24", "studio-2 192.168.122.3/24", "studio-3 192.168.122.4/24"]
        );
        for file in &made {
            let cluster = file.machine.cluster.as_ref().unwrap();
            assert_eq!(cluster.controller.to_string(), "head:6817");
            assert_eq!(cluster.munge_key, PathBuf::from("/k"));
            assert_eq!(file.machine.users[0].name, "ada");
            assert_eq!(file.machine.network.host_port_of(6818), Some(6818));
            // What the instance keeps is the node.
            let kept = Machine::parse("kept", &file.text, &Default::default()).unwrap();
            assert_eq!(kept, file.machine);
        }
    }

    #[test]
    fn one_node_keeps_its_name_and_no_node_is_the_file() {
        let made = nodes(None).of(file(ON_BRIDGE)).unwrap();
        assert_eq!((made.len(), made[0].machine.name.as_str()), (1, "studio"));
        let same = Nodes::default().of(file(ON_BRIDGE)).unwrap();
        assert_eq!((same.len(), same[0].text.as_str()), (1, ON_BRIDGE));
    }

    #[test]
    fn what_cannot_be_is_told() {
        let said = |nodes: Nodes, text: &str| {
            let failure = nodes.of(file(text)).map(|made| made.len()).unwrap_err();
            format!("{failure:?}")
        };
        assert!(said(nodes(None), "").contains("address of its own"));
        let narrow = ON_BRIDGE.replace(
            "mode",
            "host-address = \"10.0.0.1/30\"\nguest-address = \"10.0.0.2/30\"\nmode",
        );
        assert_eq!(nodes(Some(1)).of(file(&narrow)).unwrap().len(), 1);
        assert!(said(nodes(Some(2)), &narrow).contains("do not fit"));
        let nixos = format!("{ON_BRIDGE}[image]\nos = \"nixos\"\n");
        assert!(said(nodes(None), &nixos).contains("[cluster]"));
        let own = format!("{ON_BRIDGE}[devices]\npci = [\"0000:00:1b.0\"]\n");
        assert!(said(nodes(Some(2)), &own).contains("devices.pci"));
        assert!(nodes(Some(1)).of(file(&own)).is_ok());
        assert!(controller("head:x").unwrap_err().contains("HOST"));
    }
}
