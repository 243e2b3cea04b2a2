//! PCI devices and IOMMU groups. A device can only be handed over together with its whole group,
//! because the IOMMU cannot tell the group's members apart (kernel: Documentation/driver-api/vfio.rst).

use archibald_machine::units::PciAddress;
use pci_ids::FromId as _;

use crate::{Evidence, Fact, Root};

const DEVICES: &str = "/sys/bus/pci/devices";
const GROUPS: &str = "/sys/kernel/iommu_groups";

/// A PCI device.
#[derive(Debug, Clone, PartialEq)]
pub struct PciDevice {
    /// Where it is.
    pub address: PciAddress,
    /// Numbers of vendor and device.
    pub id: (u16, u16),
    /// Base class, subclass, programming interface in one number: 0x0c0330 is an xHCI controller.
    pub class: u32,
    /// The driver that has it.
    pub driver: Option<String>,
    /// Its IOMMU group.
    pub group: Option<u32>,
    /// The ways in which it alone can be reset, best first.
    pub reset: Vec<String>,
    /// The NUMA node that it hangs on.
    pub node: Option<u32>,
}

impl PciDevice {
    /// Vendor and device by name, as far as the PCI ID list knows them.
    #[must_use]
    pub fn name(&self) -> String {
        let (vendor, device) = self.id;
        if let Some(known) = pci_ids::Device::from_vid_pid(vendor, device) {
            return format!("{} {}", known.vendor().name(), known.name());
        }
        let number = format!("{vendor:04x}:{device:04x}");
        let vendor = pci_ids::Vendor::from_id(vendor);
        vendor.map_or_else(|| format!("device {number}"), |v| format!("{} {number}", v.name()))
    }

    /// Whether this joins buses; such a device stays with the host when its group is handed over.
    #[must_use]
    pub fn is_bridge(&self) -> bool {
        self.class >> 16 == 0x06
    }

    /// Whether USB devices hang on this.
    #[must_use]
    pub fn is_usb_controller(&self) -> bool {
        self.class >> 8 == 0x0c03
    }

    /// Whether this makes sound (multimedia: audio device, HD audio).
    #[must_use]
    pub fn is_audio(&self) -> bool {
        matches!(self.class >> 8, 0x0401 | 0x0403)
    }

    /// Whether VFIO has it already.
    #[must_use]
    pub fn is_handed_over(&self) -> bool {
        self.driver.as_deref() == Some("vfio-pci")
    }
}

/// All PCI devices by address.
pub(super) fn devices(root: &Root) -> Vec<PciDevice> {
    let mut devices: Vec<PciDevice> =
        root.names(DEVICES).iter().filter_map(|name| device(root, name)).collect();
    devices.sort_by_key(|device| device.address);
    devices
}

fn device(root: &Root, name: &str) -> Option<PciDevice> {
    let at = |file: &str| format!("{DEVICES}/{name}/{file}");
    let number =
        |file: &str| u32::from_str_radix(root.text(&at(file))?.trim_start_matches("0x"), 16).ok();
    Some(PciDevice {
        address: name.parse().ok()?,
        id: (number("vendor")?.try_into().ok()?, number("device")?.try_into().ok()?),
        class: number("class")?,
        driver: root.link_name(&at("driver")),
        group: root.link_name(&at("iommu_group")).and_then(|name| name.parse().ok()),
        reset: root
            .text(&at("reset_method"))
            .map(|text| text.split_whitespace().map(str::to_owned).collect())
            .unwrap_or_default(),
        // -1 where the firmware does not say.
        node: root.text(&at("numa_node")).and_then(|text| text.parse().ok()),
    })
}

/// The IOMMU.
#[derive(Debug, Clone, PartialEq)]
pub struct Iommu {
    /// Units at work, such as `dmar0` or `ivhd0`; empty: off.
    pub units: Vec<String>,
    /// What the firmware tells of one.
    pub in_firmware: Option<(Vendor, Evidence)>,
    /// Whether interrupts of devices go through it; unknown without /proc/interrupts.
    pub remaps_interrupts: Option<Fact<bool>>,
    /// Its groups.
    pub groups: Vec<IommuGroup>,
}

/// Who makes an IOMMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vendor {
    /// VT-d, told by the ACPI table DMAR.
    Intel,
    /// AMD-Vi, told by the ACPI table IVRS.
    Amd,
}

/// Devices that can only be handed over together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IommuGroup {
    /// Its number.
    pub number: u32,
    /// Its devices, bridges included.
    pub devices: Vec<PciAddress>,
}

impl Iommu {
    pub(super) fn read(root: &Root, devices: &[PciDevice]) -> Self {
        let table = |name: &str, vendor| {
            let file = format!("/sys/firmware/acpi/tables/{name}");
            root.exists(&file).then(|| (vendor, Evidence::new(file, "there")))
        };
        let mut groups: Vec<IommuGroup> = root
            .names(GROUPS)
            .iter()
            .filter_map(|name| Some(IommuGroup { number: name.parse().ok()?, devices: Vec::new() }))
            .collect();
        for group in &mut groups {
            let of = |device: &&PciDevice| device.group == Some(group.number);
            group.devices = devices.iter().filter(of).map(|device| device.address).collect();
        }
        Self {
            units: root.names("/sys/class/iommu"),
            in_firmware: table("DMAR", Vendor::Intel).or_else(|| table("IVRS", Vendor::Amd)),
            remaps_interrupts: remaps_interrupts(root),
            groups,
        }
    }

    /// Whether devices can be handed over at all.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.units.is_empty() && !self.groups.is_empty()
    }

    /// The group of this number.
    #[must_use]
    pub fn group(&self, number: u32) -> Option<&IommuGroup> {
        self.groups.iter().find(|group| group.number == number)
    }
}

/// The kernel puts "IR-" before the interrupt controllers whose interrupts are remapped.
fn remaps_interrupts(root: &Root) -> Option<Fact<bool>> {
    root.fact("/proc/interrupts", |text| {
        let line = text.lines().find(|line| line.contains("IR-"));
        let controller =
            line.and_then(|line| line.split_whitespace().find(|w| w.starts_with("IR-")));
        Some(controller.map(str::to_owned))
    })
    .map(|fact| Fact {
        text: fact.value.clone().unwrap_or_else(|| "no controller IR-...".to_owned()),
        value: fact.value.is_some(),
        file: fact.file,
    })
}
