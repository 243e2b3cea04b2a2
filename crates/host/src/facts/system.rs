//! Which distribution this is, what loads its kernel, and which services bear on latency.

use serde::Serialize;

use crate::{Evidence, Root};

/// The system around the kernel.
#[derive(Debug, Clone, PartialEq)]
pub struct System {
    /// Which distribution.
    pub distribution: Distribution,
    /// What loads the kernel; `None` where nothing known does.
    pub bootloader: Option<Bootloader>,
    /// Whether irqbalance runs; the evidence when it does.
    pub irqbalance: Option<Evidence>,
    /// Whether cgroup version 2 is the only hierarchy.
    pub cgroup2: bool,
    /// The loader entries, by their names.
    pub entries: Vec<String>,
    /// The interrupts' numbers.
    pub interrupts: Vec<u32>,
}

/// A distribution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distribution {
    /// What it calls itself.
    pub name: String,
    /// Whose ways it has.
    pub family: Family,
}

/// Distributions that put their files into the same places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// Debian, Ubuntu and what is made of them.
    Debian,
    /// Fedora, RHEL and what is made of them.
    Fedora,
    /// Arch.
    Arch,
    /// NixOS, where files of /etc are made from modules.
    NixOs,
    /// Any other.
    Other,
}

/// Where a kernel's arguments come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bootloader {
    /// GRUB that reads /etc/default/grub.d (Debian's addition) and writes all into one file.
    GrubDropIns,
    /// GRUB that reads /etc/default/grub alone and writes all into one file.
    Grub,
    /// One file a kernel in this directory, read at boot by systemd-boot or by GRUB's blscfg.
    Entries(&'static str),
}

/// Where loader entries may lie (Boot Loader Specification): XBOOTLDR or ESP, as they are mounted.
const ENTRIES: [&str; 3] =
    ["/boot/loader/entries", "/efi/loader/entries", "/boot/efi/loader/entries"];

impl System {
    pub(super) fn read(root: &Root) -> Self {
        let distribution = Distribution::read(root);
        let bootloader = bootloader(root, distribution.family);
        let entries = match bootloader {
            Some(Bootloader::Entries(at)) => root.names(at),
            _ => Vec::new(),
        };
        Self {
            bootloader,
            entries: entries.into_iter().filter(|name| name.ends_with(".conf")).collect(),
            interrupts: root.names("/proc/irq").iter().filter_map(|n| n.parse().ok()).collect(),
            distribution,
            irqbalance: process(root, "irqbalance"),
            // In the mixed setup this file lies one directory deeper.
            cgroup2: root.exists("/sys/fs/cgroup/cgroup.controllers"),
        }
    }
}

impl Distribution {
    fn read(root: &Root) -> Self {
        let text = root
            .text("/etc/os-release")
            .or_else(|| root.text("/usr/lib/os-release"))
            .unwrap_or_default();
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.map(|value| value.trim_matches(['"', '\'']).to_owned())
        };
        let like =
            format!("{} {}", value("ID").unwrap_or_default(), value("ID_LIKE").unwrap_or_default());
        let family = like.split_whitespace().find_map(|word| match word {
            "debian" | "ubuntu" => Some(Family::Debian),
            "fedora" | "rhel" | "centos" => Some(Family::Fedora),
            "arch" => Some(Family::Arch),
            "nixos" => Some(Family::NixOs),
            _ => None,
        });
        Self {
            name: value("PRETTY_NAME").unwrap_or_else(|| "unknown".to_owned()),
            family: family.unwrap_or(Family::Other),
        }
    }
}

fn bootloader(root: &Root, family: Family) -> Option<Bootloader> {
    let entries =
        ENTRIES.into_iter().find(|at| root.names(at).iter().any(|name| name.ends_with(".conf")));
    let grub = root.exists("/etc/default/grub");
    match (family, entries) {
        // Debian's GRUB does not read entries; systemd-boot on Debian has no /etc/default/grub.
        (Family::Debian, _) if grub => Some(Bootloader::GrubDropIns),
        (_, Some(at)) => Some(Bootloader::Entries(at)),
        _ if grub => Some(Bootloader::Grub),
        _ => None,
    }
}

/// A running process of this name.
fn process(root: &Root, name: &str) -> Option<Evidence> {
    let is_pid = |entry: &String| entry.bytes().all(|byte| byte.is_ascii_digit());
    root.names("/proc").iter().filter(|entry| is_pid(entry)).find_map(|pid| {
        let file = format!("/proc/{pid}/comm");
        (root.text(&file)? == name).then(|| Evidence::new(file, name))
    })
}
