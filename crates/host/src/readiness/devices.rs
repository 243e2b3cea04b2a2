//! Devices: whether they can be handed over, alone or with whom, and what hangs on them.

use archibald_machine::units::PciAddress;

use super::{Finding, Mode, Wanted};
use crate::Evidence;
use crate::facts::{Access, AudioPlace, Facts, PciDevice, Vendor};

pub(super) fn findings(facts: &Facts, wanted: &Wanted) -> Vec<Finding> {
    let mut findings = vec![iommu(facts)];
    findings.extend(remapping(facts));
    findings.extend(wanted.pci.iter().map(|address| wanted_device(facts, wanted, *address)));
    findings.extend(facts.usb.iter().map(|controller| usb(facts, controller.address)));
    findings.extend(audio(facts));
    findings.extend(vfio(facts, wanted));
    findings
}

fn iommu(facts: &Facts) -> Finding {
    let iommu = &facts.iommu;
    let class = "/sys/class/iommu";
    if iommu.is_on() {
        let found = format!("on ({}), {} groups", iommu.units.join(", "), iommu.groups.len());
        return Finding::new("iommu", "IOMMU", found)
            .seen([Evidence::new(class, iommu.units.join(" "))]);
    }
    let stop = |found: &str, remedy: &str| {
        Finding::new("iommu", "IOMMU", found)
            .seen([Evidence::new(class, "empty")])
            .stop(&[Mode::Passthrough], remedy)
    };
    match &iommu.in_firmware {
        Some((Vendor::Intel, table)) => stop(
            "off, and the firmware tells of VT-d",
            "The kernel argument intel_iommu=on: `archibald host plan`.",
        )
        .seen([table.clone()]),
        // AMD's is on by default, so something turned it off.
        Some((Vendor::Amd, table)) => stop(
            "off, and the firmware tells of AMD-Vi",
            "Take amd_iommu=off or iommu=off out of the kernel's arguments.",
        )
        .seen([table.clone()]),
        None if !facts.cpus.is_x86_64() => {
            stop("none that VFIO could use", "Use a native RT kernel.")
        }
        None => stop(
            "none",
            "Turn VT-d or AMD-Vi (IOMMU) on in the firmware, if this processor has it.",
        )
        .seen([
            Evidence::absent("/sys/firmware/acpi/tables/DMAR"),
            Evidence::absent("/sys/firmware/acpi/tables/IVRS"),
        ]),
    }
}

/// Without it a device that was handed over could forge interrupts; VFIO then refuses.
fn remapping(facts: &Facts) -> Option<Finding> {
    let fact = facts.iommu.remaps_interrupts.as_ref().filter(|_| facts.iommu.is_on())?;
    let finding = |found: &str| {
        Finding::new("interrupt-remapping", "interrupt remapping", found).seen([fact.evidence()])
    };
    Some(if fact.value {
        finding("on")
    } else {
        finding("off").stop(
            &[Mode::Passthrough],
            "Turn x2APIC and interrupt remapping on in the firmware; take intremap=off out of the kernel's arguments.",
        )
    })
}

/// `0000:03:00.0 (Renesas uPD720201 USB 3.0 Host Controller)`.
fn named(facts: &Facts, address: PciAddress) -> String {
    match facts.device(address) {
        Some(device) => format!("{address} ({})", device.name()),
        None => address.to_string(),
    }
}

/// The devices that a group takes along besides bridges.
fn company(facts: &Facts, device: &PciDevice) -> Vec<PciAddress> {
    let group = device.group.and_then(|number| facts.iommu.group(number));
    let others = group.into_iter().flat_map(|group| &group.devices).copied();
    others
        .filter(|other| *other != device.address)
        .filter(|other| facts.device(*other).is_some_and(|device| !device.is_bridge()))
        .collect()
}

fn wanted_device(facts: &Facts, wanted: &Wanted, address: PciAddress) -> Finding {
    let file = |name: &str| format!("/sys/bus/pci/devices/{address}/{name}");
    let finding = |found: String| {
        Finding::new(
            format!("device.{address}"),
            format!("device {}", named(facts, address)),
            found,
        )
    };
    let Some(device) = facts.device(address) else {
        return finding("there is no such device".into())
            .seen([Evidence::absent(format!("/sys/bus/pci/devices/{address}"))])
            .stop(&[Mode::Passthrough], "`lspci -D` lists the devices; correct devices.pci.");
    };
    if device.is_bridge() {
        return finding("a bridge, which cannot be handed over".into())
            .seen([Evidence::new(file("class"), format!("{:#08x}", device.class))])
            .stop(&[Mode::Passthrough], "Name the device behind it in devices.pci.");
    }
    let Some(group) = device.group else {
        return finding("in no IOMMU group".into())
            .seen([Evidence::absent(file("iommu_group"))])
            .stop(&[Mode::Passthrough], "See IOMMU above.");
    };
    let finding = |found: String| {
        finding(found).seen([Evidence::new(file("iommu_group"), group.to_string())])
    };
    let strangers: Vec<PciAddress> =
        company(facts, device).into_iter().filter(|other| !wanted.pci.contains(other)).collect();
    if !strangers.is_empty() {
        let names: Vec<String> = strangers.iter().map(|other| named(facts, *other)).collect();
        return finding(format!("group {group} also holds {}", names.join(", "))).stop(
            &[Mode::Passthrough],
            "The whole group goes or none of it: name them all in devices.pci, or use another slot.",
        );
    }
    let driver = device.driver.as_deref().unwrap_or("no driver");
    let found = format!("group {group}, alone; {driver} has it now");
    if device.reset.is_empty() {
        return finding(found).seen([Evidence::absent(file("reset_method"))]).warn(
            "It cannot be reset alone: after a stop it may not work again until the host reboots.",
        );
    }
    finding(format!("{found}; reset by {}", device.reset.join(", ")))
        .seen([Evidence::new(file("reset_method"), device.reset.join(" "))])
}

/// What goes along when a controller is handed over.
fn usb(facts: &Facts, address: PciAddress) -> Finding {
    let devices = facts.usb.iter().filter(|controller| controller.address == address);
    let names: Vec<String> = devices
        .flat_map(|controller| &controller.devices)
        .map(|device| {
            let audio = if device.is_audio { ", audio" } else { "" };
            format!("{} ({}{audio})", device.name, device.port)
        })
        .collect();
    let holds = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
    let group = facts.device(address).map(|device| {
        let others = company(facts, device);
        match (device.group, others.len()) {
            (None, _) => "in no IOMMU group".to_owned(),
            (Some(group), 0) => format!("alone in group {group}"),
            (Some(group), count) => format!("in group {group} with {count} others"),
        }
    });
    let found =
        format!("{}; on it: {holds}", group.unwrap_or_else(|| "not a PCI device".to_owned()));
    Finding::new(
        format!("usb.{address}"),
        format!("USB controller {}", named(facts, address)),
        found,
    )
    .seen([Evidence::new(format!("/sys/bus/pci/devices/{address}"), "there")])
}

fn audio(facts: &Facts) -> Vec<Finding> {
    if facts.audio.is_empty() {
        return vec![
            Finding::new("audio", "audio interfaces", "none")
                .seen([Evidence::absent("/sys/class/sound/card0")]),
        ];
    }
    facts
        .audio
        .iter()
        .map(|card| {
            let place = match &card.place {
                AudioPlace::Pci(address) => format!("is {}", named(facts, *address)),
                AudioPlace::Usb { controller, port } => {
                    let hung = format!("hangs on {} at {port}", named(facts, *controller));
                    // QEMU hands single USB devices over with some 16 ms of buffers.
                    format!("{hung}; hand the whole controller over, not the device")
                }
                AudioPlace::Elsewhere => "is no device of this host's buses".to_owned(),
            };
            let file = format!("/sys/class/sound/card{}/id", card.card);
            Finding::new(
                format!("audio.{}", card.card),
                format!("audio interface {}", card.id),
                place,
            )
            .seen([Evidence::new(file, &card.id)])
        })
        .collect()
}

fn vfio(facts: &Facts, wanted: &Wanted) -> Option<Finding> {
    if wanted.pci.is_empty() {
        return None;
    }
    let file = "/dev/vfio/vfio";
    let finding = |found: &str, seen: &str| {
        Finding::new("vfio", "VFIO", found).seen([Evidence::new(file, seen)])
    };
    Some(match &facts.session.vfio {
        Access::Open => finding("opens", "opens"),
        Access::Refused(error) => finding("does not open", error).stop(
            &[Mode::Passthrough],
            "Run as root, or let a udev rule give /dev/vfio to your group.",
        ),
        Access::Absent => finding("not loaded", "not there")
            .stop(&[Mode::Passthrough], "sudo modprobe vfio-pci; `archibald host apply` for good."),
    })
}
