//! USB controllers with their devices, and which audio interface hangs on which.

use archibald_machine::units::{PciAddress, UsbId};

use crate::Root;

const DEVICES: &str = "/sys/bus/usb/devices";

/// A controller with what hangs on it.
#[derive(Debug, Clone, PartialEq)]
pub struct UsbController {
    /// Its place.
    pub address: PciAddress,
    /// Its devices, hubs left out.
    pub devices: Vec<UsbDevice>,
}

/// A USB device.
#[derive(Debug, Clone, PartialEq)]
pub struct UsbDevice {
    /// Bus and ports: `1-4.2`.
    pub port: String,
    /// Numbers of vendor and product.
    pub id: UsbId,
    /// What it calls itself.
    pub name: String,
    /// Whether one of its interfaces is of the class audio.
    pub is_audio: bool,
}

/// A sound card.
#[derive(Debug, Clone, PartialEq)]
pub struct AudioInterface {
    /// ALSA's short name: `USB`, `PCH`.
    pub id: String,
    /// ALSA's number.
    pub card: u32,
    /// What it hangs on.
    pub place: AudioPlace,
}

/// What a sound card hangs on.
#[derive(Debug, Clone, PartialEq)]
pub enum AudioPlace {
    /// It is a PCI device itself.
    Pci(PciAddress),
    /// It hangs on this USB controller, at this port.
    Usb {
        /// The controller.
        controller: PciAddress,
        /// Bus and ports.
        port: String,
    },
    /// Neither: a virtual card.
    Elsewhere,
}

/// The innermost PCI device in a path of /sys/devices.
fn pci_of(path: &str) -> Option<PciAddress> {
    // "pci0000:00" names a bus, and does not parse.
    path.split('/').filter_map(|part| part.parse().ok()).next_back()
}

/// Controllers by place.
pub(super) fn controllers(root: &Root) -> Vec<UsbController> {
    let mut controllers: Vec<UsbController> = Vec::new();
    let names = root.names(DEVICES);
    for name in &names {
        let Some(address) = root.link(&format!("{DEVICES}/{name}")).and_then(|to| pci_of(&to))
        else {
            continue;
        };
        let position = controllers.iter().position(|known| known.address == address);
        let index = position.unwrap_or_else(|| {
            controllers.push(UsbController { address, devices: Vec::new() });
            controllers.len() - 1
        });
        let device = device(root, name, &names);
        if let (Some(controller), Some(device)) = (controllers.get_mut(index), device) {
            controller.devices.push(device);
        }
    }
    controllers.sort_by_key(|controller| controller.address);
    controllers
}

/// `usb1` is a bus, `1-4:1.0` an interface, `1-4` a device.
fn device(root: &Root, name: &str, names: &[String]) -> Option<UsbDevice> {
    let text = |file: &str| root.text(&format!("{DEVICES}/{name}/{file}"));
    if name.starts_with("usb")
        || name.contains(':')
        || text("bDeviceClass").as_deref() == Some("09")
    {
        return None;
    }
    let number = |file: &str| u16::from_str_radix(&text(file)?, 16).ok();
    let id = UsbId { vendor: number("idVendor")?, product: number("idProduct")? };
    let words: Vec<String> = ["manufacturer", "product"].into_iter().filter_map(text).collect();
    let interface = format!("{name}:");
    let is_audio = names.iter().filter(|other| other.starts_with(&interface)).any(|other| {
        let class = root.text(&format!("{DEVICES}/{other}/bInterfaceClass"));
        class.as_deref() == Some("01")
    });
    let name_of = if words.is_empty() { id.to_string() } else { words.join(" ") };
    Some(UsbDevice { port: name.to_owned(), id, name: name_of, is_audio })
}

/// Sound cards by number.
pub(super) fn audio(root: &Root) -> Vec<AudioInterface> {
    let at = "/sys/class/sound";
    let card = |name: String| {
        let card = name.strip_prefix("card")?.parse().ok()?;
        let link = root.link(&format!("{at}/{name}")).unwrap_or_default();
        let place = match pci_of(&link) {
            None => AudioPlace::Elsewhere,
            Some(address) => match link.split('/').find(|part| part.contains(':') && is_port(part))
            {
                Some(interface) => AudioPlace::Usb {
                    controller: address,
                    port: interface.split(':').next().unwrap_or_default().to_owned(),
                },
                None => AudioPlace::Pci(address),
            },
        };
        Some(AudioInterface { id: root.text(&format!("{at}/{name}/id"))?, card, place })
    };
    root.names(at).into_iter().filter_map(card).collect()
}

/// `1-4:1.0`, and not `0000:00:14.0`.
fn is_port(part: &str) -> bool {
    part.split(':').next().is_some_and(|port| port.contains('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_pci_device_of_a_path_counts() {
        let path =
            "../../devices/pci0000:00/0000:00:1c.0/0000:03:00.0/usb3/3-1/3-1:1.0/sound/card1";
        assert_eq!(pci_of(path).unwrap().to_string(), "0000:03:00.0");
        assert_eq!(pci_of("../../devices/virtual/sound/card0"), None);
        assert!(is_port("3-1:1.0") && !is_port("0000:03:00.0"));
    }
}
