//! What the host does with a device at this moment. A device is also in use through what hangs on it: a
//! USB controller through the disk at one of its ports.

use archibald_machine::units::PciAddress;

use crate::Root;
use crate::facts::PciDevice;

/// By what a device is in use, as far as it must not be taken away.
pub(super) fn of(root: &Root, wanted: &[PciAddress], device: &PciDevice) -> Option<String> {
    let below = Below { root, address: device.address };
    below
        .disk()
        .or_else(|| below.network(wanted))
        .or_else(|| below.screen())
        .or_else(|| below.sound())
}

struct Below<'a> {
    root: &'a Root,
    address: PciAddress,
}

impl Below<'_> {
    /// The members of a class of devices that are this device's.
    fn of_class(&self, class: &str) -> Vec<String> {
        let mut names = self.root.names(class);
        names.retain(|name| lies_below(self.root, class, name, self.address));
        names
    }

    fn disk(&self) -> Option<String> {
        let class = "/sys/class/block";
        let mut disks = self.of_class(class);
        disks.extend(self.shared_namespaces(class));
        let mounts = self.root.text("/proc/self/mountinfo").unwrap_or_default();
        let swaps = self.root.text("/proc/swaps").unwrap_or_default();
        disks.iter().find_map(|disk| {
            let number = self.root.text(&format!("{class}/{disk}/dev")).unwrap_or_default();
            let node = format!("/dev/{disk}");
            // proc_pid_mountinfo(5): the third field is the device's number, the fifth where it is
            // mounted; the source stands second behind the dash. btrfs has a number of its own.
            let mounted = mounts.lines().find_map(|line| {
                let fields: Vec<&str> = line.split(' ').collect();
                let source = line.split(" - ").nth(1).and_then(|rest| rest.split(' ').nth(1));
                (fields.get(2) == Some(&number.as_str()) || source == Some(node.as_str()))
                    .then(|| fields.get(4).copied().unwrap_or_default().to_owned())
            });
            if let Some(place) = mounted {
                return Some(format!("its disk {disk} is mounted on {place}"));
            }
            if swaps.lines().any(|line| line.split_whitespace().next() == Some(node.as_str())) {
                return Some(format!("the host swaps to its disk {disk}"));
            }
            let holders = self.root.names(&format!("{class}/{disk}/holders"));
            let holder = holders.first()?;
            Some(format!("{holder} stands on its disk {disk}"))
        })
    }

    /// With native NVMe multipath a namespace does not lie below its controller but below the
    /// subsystem, which links to its controllers.
    fn shared_namespaces(&self, class: &str) -> Vec<String> {
        let own = self.root.names(&format!("/sys/bus/pci/devices/{}/nvme", self.address));
        let mut names = self.root.names(class);
        names.retain(|name| {
            let link = self.root.link(&format!("{class}/{name}")).unwrap_or_default();
            let subsystem = link.split("/nvme-subsystem/").nth(1).and_then(|s| s.split('/').next());
            subsystem.is_some_and(|subsystem| {
                own.iter().any(|controller| {
                    let at = format!("/sys/class/nvme-subsystem/{subsystem}");
                    self.root.names(&at).contains(controller)
                })
            })
        });
        names
    }

    fn network(&self, wanted: &[PciAddress]) -> Option<String> {
        let class = "/sys/class/net";
        let cards = self.of_class(class);
        let routes = default_routes(self.root);
        for card in &cards {
            // A bridge, a bond or a VLAN above it may be what has the route.
            let mut links = vec![card.clone()];
            let mut next = 0;
            while let Some(link) = links.get(next).cloned() {
                next += 1;
                let above = self.root.names(&format!("{class}/{link}"));
                let above = above.iter().filter_map(|name| name.strip_prefix("upper_"));
                for name in above.map(str::to_owned) {
                    if !links.contains(&name) {
                        links.push(name);
                    }
                }
            }
            if let Some(link) = links.iter().find(|link| routes.contains(link)) {
                return Some(format!("the host's way outwards goes by {link}"));
            }
        }
        let card = cards.first()?;
        // A card of hardware, whoever has it, that would stay.
        let stays = |name: &String| {
            let link = self.root.link(&format!("{class}/{name}")).unwrap_or_default();
            link.contains("/devices/")
                && !link.contains("/virtual/")
                && !wanted.iter().any(|address| lies_below(self.root, class, name, *address))
        };
        let others = self.root.names(class).iter().filter(|name| stays(name)).count();
        (others == 0).then(|| format!("{card} is the host's only network card"))
    }

    fn screen(&self) -> Option<String> {
        let first = self.root.text(&super::file(&self.address.to_string(), "boot_vga"));
        (first.as_deref() == Some("1")).then(|| "it drives the host's screen".to_owned())
    }

    fn sound(&self) -> Option<String> {
        let cards = self.of_class("/sys/class/sound");
        for card in cards.iter().filter(|name| name.starts_with("card")) {
            let at = format!("/proc/asound/{card}");
            for stream in self.root.names(&at).iter().filter(|name| name.starts_with("pcm")) {
                for sub in self.root.names(&format!("{at}/{stream}")) {
                    let status = self.root.text(&format!("{at}/{stream}/{sub}/status"));
                    let Some(status) = status.filter(|text| text != "closed") else { continue };
                    let owner = status.lines().find_map(|line| line.strip_prefix("owner_pid"));
                    let owner = owner.map(|text| text.trim_start_matches([' ', '\t', ':']));
                    let owner = owner.map_or(String::new(), |pid| format!(" by process {pid}"));
                    return Some(format!("{card} is open{owner}"));
                }
            }
        }
        None
    }
}

/// Whether a member of a class lies below a PCI device, by what its link says.
fn lies_below(root: &Root, class: &str, name: &str, address: PciAddress) -> bool {
    let link = root.link(&format!("{class}/{name}"));
    link.is_some_and(|link| link.split('/').any(|part| part == address.to_string()))
}

/// The links that a default route goes by.
fn default_routes(root: &Root) -> Vec<String> {
    let v4 = root.text("/proc/net/route").unwrap_or_default();
    let v4 = v4.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let link = fields.next()?;
        // Destination, and three fields later the mask.
        (fields.next()? == "00000000" && fields.nth(5)? == "00000000").then(|| link.to_owned())
    });
    let v6 = root.text("/proc/net/ipv6_route").unwrap_or_default();
    let v6 = v6.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_default = fields.first()?.bytes().all(|b| b == b'0') && *fields.get(1)? == "00";
        let link = (*fields.last()?).to_owned();
        (is_default && link != "lo").then_some(link)
    });
    v4.chain(v6).collect()
}
