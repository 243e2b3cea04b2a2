//! The network of a machine with an address of its own.

use archibald_machine::NetworkMode;

use super::Export;
use super::xml::Element;

/// What libvirt calls the network of this machine.
#[must_use]
pub fn network_name(machine: &str) -> String {
    format!("archibald-{machine}")
}

/// The network's XML; absent where the machine has none of its own.
///
/// libvirt makes the bridge with its address and NAT outwards. A bridge that is there (libvirt's own
/// virbr0, or one that the host's configuration makes) is used as it stands.
#[must_use]
pub fn network(export: &Export<'_>) -> Option<String> {
    let NetworkMode::Bridge { bridge, host, guest } = &export.machine.network.mode else {
        return None;
    };
    let name = &export.machine.name;
    let root = Element::new("network").holding([Element::text("name", network_name(name))]);
    let line = Element::new("bridge").with("name", bridge);
    let is_there = export.bridge_is_there || bridge == "virbr0";
    let mut comment =
        vec![format!("The network of \"{name}\", written by archibald export libvirt.")];
    let root = if is_there {
        comment.push(format!("The bridge {bridge} must be there before the network is started;"));
        comment.push(format!("{guest} on it belongs to the machine."));
        root.holding([Element::new("forward").with("mode", "bridge"), line])
    } else {
        comment.push(format!(
            "libvirt makes the bridge {bridge} and routes outwards by NAT. No DHCP:"
        ));
        comment.push(format!("the machine has {guest} by its own settings."));
        let address = Element::new("ip").with("address", host.address).with("prefix", host.prefix);
        let line = line.with("stp", "off").with("delay", "0");
        root.holding([Element::new("forward").with("mode", "nat"), line, address])
    };
    Some(root.document(&comment))
}
