//! Why a device may not be handed over, looked for before anything is touched.

use archibald_machine::units::PciAddress;

use super::{DRIVERS, Handover, VFIO, file, usage};
use crate::Root;
use crate::facts::{Facts, PciDevice};

/// The drivers of bridges that let VFIO have their group.
const SHARES: [&str; 3] = ["pcieport", "pci-stub", VFIO];

/// Why a device may not be handed over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The address is nobody's.
    #[error("there is no PCI device {0}")]
    NoDevice(PciAddress),
    /// A bridge.
    #[error("{0} is a bridge, which cannot be handed over")]
    Bridge(String),
    /// There is no IOMMU at work.
    #[error("{0} cannot be handed over: the IOMMU is off, or this host has none")]
    NoIommu(String),
    /// Interrupts do not go through the IOMMU.
    #[error(
        "{0} cannot be handed over: this host does not remap interrupts, so that the machine could forge them"
    )]
    NoRemapping(String),
    /// It is in no group.
    #[error("{0} is in no IOMMU group")]
    NoGroup(String),
    /// Its group has other devices.
    #[error("{device} can only be handed over with the rest of its IOMMU group {group}: {}", .others.join(", "))]
    Group {
        /// The device.
        device: String,
        /// Its group.
        group: u32,
        /// The others, by name.
        others: Vec<String>,
        /// Their addresses.
        addresses: Vec<PciAddress>,
    },
    /// Its group has a bridge whose driver keeps the group from VFIO.
    #[error(
        "{device} cannot be handed over: in its IOMMU group {group} the driver {driver} has the bridge {bridge}"
    )]
    GroupHeld {
        /// The device.
        device: String,
        /// Its group.
        group: u32,
        /// The bridge.
        bridge: String,
        /// The bridge's driver.
        driver: String,
    },
    /// The host needs it.
    #[error("{device} is in use: {why}")]
    InUse {
        /// The device.
        device: String,
        /// By what.
        why: String,
    },
    /// The driver is not loaded.
    #[error("the driver {VFIO} is not loaded")]
    NoDriver,
    /// The kernel has not the file that names a device's driver.
    #[error("{0} is not there: this kernel cannot bind a device to a driver by name")]
    NoOverride(String),
    /// The user may not.
    #[error("this user may not write to {0}")]
    NoRight(String),
}

impl Refused {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::NoDevice(_) => {
                "`lspci -D` lists the devices; correct devices.pci in the machine file.".to_owned()
            }
            Self::Bridge(_) => "Name the device behind it in devices.pci.".to_owned(),
            Self::NoIommu(_) | Self::NoRemapping(_) | Self::NoGroup(_) => {
                "`archibald doctor` tells what is missing: the firmware's VT-d or AMD-Vi, or a kernel argument."
                    .to_owned()
            }
            Self::Group { addresses, .. } => {
                let list: Vec<String> = addresses.iter().map(|a| format!("\"{a}\"")).collect();
                format!(
                    "Name them too: devices.pci = [..., {}]; or put the device into another slot.",
                    list.join(", ")
                )
            }
            Self::GroupHeld { .. } => "Put the device into another slot.".to_owned(),
            Self::InUse { .. } => {
                "End that use, or take the device out of devices.pci.".to_owned()
            }
            Self::NoDriver => {
                "sudo modprobe vfio-pci; `archibald host apply` loads it at every boot.".to_owned()
            }
            Self::NoOverride(_) | Self::NoRight(_) => {
                "Run it as root: sudo archibald up.".to_owned()
            }
        }
    }
}

/// The device, if nothing stands in the way.
pub(super) fn device<'a>(
    root: &Root,
    facts: &'a Facts,
    wanted: &[PciAddress],
    address: PciAddress,
) -> Result<&'a PciDevice, Refused> {
    let device = facts.device(address).ok_or(Refused::NoDevice(address))?;
    let named = |device: &PciDevice| format!("{} ({})", device.address, device.name());
    let name = named(device);
    if device.is_bridge() {
        return Err(Refused::Bridge(name));
    }
    if !facts.iommu.is_on() {
        return Err(Refused::NoIommu(name));
    }
    if facts.iommu.remaps_interrupts.as_ref().is_some_and(|fact| !fact.value) {
        return Err(Refused::NoRemapping(name));
    }
    let group = device.group.and_then(|number| facts.iommu.group(number));
    let group = group.ok_or_else(|| Refused::NoGroup(name.clone()))?;
    let others = group.devices.iter().filter(|other| !wanted.contains(other));
    let others = others.filter_map(|other| facts.device(*other));
    let (bridges, strangers): (Vec<&PciDevice>, Vec<&PciDevice>) =
        others.partition(|other| other.is_bridge());
    if !strangers.is_empty() {
        return Err(Refused::Group {
            device: name,
            group: group.number,
            others: strangers.iter().map(|other| named(other)).collect(),
            addresses: strangers.iter().map(|other| other.address).collect(),
        });
    }
    // Bridges stay with the host; their drivers let VFIO have the group if they move no data themselves
    // (`driver_managed_dma` in the kernel).
    for bridge in bridges {
        if let Some(driver) = bridge.driver.as_deref().filter(|driver| !SHARES.contains(driver)) {
            return Err(Refused::GroupHeld {
                device: name,
                group: group.number,
                bridge: named(bridge),
                driver: driver.to_owned(),
            });
        }
    }
    if !device.is_handed_over() {
        if let Some(why) = usage::of(root, wanted, device) {
            return Err(Refused::InUse { device: name, why });
        }
    }
    Ok(device)
}

/// Whether there is what it takes: the driver, the kernel's files, and the right to write to them.
pub(super) fn means(root: &Root, handover: &Handover) -> Result<(), Refused> {
    if !root.exists(&format!("{DRIVERS}/{VFIO}")) {
        return Err(Refused::NoDriver);
    }
    for device in &handover.devices {
        let path = file(&device.address, "driver_override");
        if !root.exists(&path) {
            return Err(Refused::NoOverride(path));
        }
        if rustix::fs::access(root.path(&path), rustix::fs::Access::WRITE_OK).is_err() {
            return Err(Refused::NoRight(path));
        }
    }
    Ok(())
}
