//! Which of the wanted devices may be taken from the host at boot. A host that cannot reach its disk
//! or its network any more cannot be told to take anything back.

use archibald_machine::units::PciAddress;

use super::LeftOut;
use crate::facts::{Facts, PciDevice};
use crate::readiness::Wanted;

/// Those that may, and the others with the reason.
pub(super) fn sorted(facts: &Facts, wanted: &Wanted) -> (Vec<PciAddress>, Vec<LeftOut>) {
    let mut may = Vec::new();
    let mut kept = Vec::new();
    for address in &wanted.pci {
        match obstacle(facts, wanted, *address) {
            None => may.push(*address),
            Some(why) => kept.push(LeftOut::new(format!("device {address}"), why)),
        }
    }
    (may, kept)
}

fn obstacle(facts: &Facts, wanted: &Wanted, address: PciAddress) -> Option<String> {
    let Some(device) = facts.device(address) else {
        return Some("there is no such device; `lspci -D` lists them".to_owned());
    };
    if device.is_bridge() {
        return Some("a bridge, which cannot be handed over".to_owned());
    }
    if let Some(use_of_it) = stands_on(device) {
        return Some(format!("the host may stand on it: it is {use_of_it}"));
    }
    let group = device.group.and_then(|number| facts.iommu.group(number))?;
    let strangers: Vec<String> = group
        .devices
        .iter()
        .filter(|other| !wanted.pci.contains(other))
        .filter(|other| facts.device(**other).is_some_and(|device| !device.is_bridge()))
        .map(ToString::to_string)
        .collect();
    (!strangers.is_empty())
        .then(|| format!("its IOMMU group {} also holds {}", group.number, strangers.join(", ")))
}

/// What a device is that a host may not be able to boot or to be reached without (PCI base classes).
fn stands_on(device: &PciDevice) -> Option<&'static str> {
    match device.class >> 16 {
        0x01 => Some("a disk controller"),
        0x02 => Some("a network card"),
        0x03 => Some("a display"),
        _ => None,
    }
}
