//! The domain: the machine itself.

use std::path::Path;

use archibald_machine::units::Share;
use archibald_machine::{Machine, NetworkMode, Settings};

use super::xml::Element;
use super::{Backing, Export, network_name};
use crate::argv::{Accelerator, audiodev, forwarded, kernel_arguments};
use crate::network::mac;
use crate::placement::place_of;
use crate::relay::is_relayed;

/// What QEMU needs besides the guest's memory and must be able to lock: its own code and heap, and a
/// VFIO device's windows.
const BESIDES_MEMORY_KIB: u64 = 1 << 20;

/// Where the machine's own devices are on the root bus, clear of the first slots, which libvirt hands
/// out by itself.
mod slot {
    pub(super) const DISK: u8 = 0x10;
    pub(super) const SERIAL: u8 = 0x11;
    pub(super) const RANDOM: u8 = 0x12;
    pub(super) const USB: u8 = 0x13;
    pub(super) const NETWORK: u8 = 0x14;
    pub(super) const SOUND: u8 = 0x15;
    /// Of the first shared folder; the machine file has eight at most.
    pub(super) const SHARES: u8 = 0x16;
}

/// The domain's XML.
#[must_use]
pub fn domain(export: &Export<'_>) -> String {
    let machine = export.machine;
    let kind = match export.accelerator {
        Accelerator::Kvm => "kvm",
        Accelerator::Tcg => "qemu",
    };
    let name = &machine.name;
    let mut root = Element::new("domain")
        .with("type", kind)
        .with("xmlns:qemu", "http://libvirt.org/schemas/domain/qemu/1.0")
        .holding([
            Element::text("name", name),
            Element::text("uuid", uuid(name)),
            Element::text("description", format!("ArchibaldOS VM, image {}", export.image)),
        ]);
    root = root.holding(memory(export));
    root = root.holding([Element::text("vcpu", machine.vcpus).with("placement", "static")]);
    root = root.holding(placement(export));
    root = root.holding([told(name), settings(&export.files.settings), boot(export)]);
    root = root.holding([features(machine, export.accelerator)]);
    root = root.holding(cpu(machine, export.accelerator));
    root = root.holding([
        clock(export.accelerator),
        Element::text("on_poweroff", "destroy"),
        Element::text("on_reboot", "restart"),
        Element::text("on_crash", "destroy"),
        devices(export),
        own_arguments(export),
    ]);
    root.document(&comment(export))
}

fn comment(export: &Export<'_>) -> Vec<String> {
    let mut text = format!(
        "\"{}\" as a libvirt domain, written by archibald export libvirt.
The disk is the domain's own; what it stands on is image {} in archibald's cache, which is
only read and never given to another owner. Kernel and initrd are copies of that image's.
Export again after a change of the machine file (the settings, and these lines), and after a new
image if the domain shall stand on it; the disk is kept unless the export is told otherwise.
The settings hold the guest's private host key and the hashes of passwords. They are in a file of
their own, handed over by fw_cfg, so that they are neither here nor in an argument list.",
        export.machine.name, export.image
    );
    if export.machine.network.mode == NetworkMode::User
        && export.machine.network.forward.iter().any(is_relayed)
    {
        text.push_str(
            "
QEMU itself watches every port of a forwarded range, which costs CPU time at rest (archibald up
has a process of its own for it): shorten network.forward, or use mode = \"bridge\".",
        );
    }
    text.lines().map(str::to_owned).collect()
}

/// Whether the machine's memory is its own from the start, as in [`crate::argv::argv`].
fn has_own_memory(export: &Export<'_>) -> bool {
    !export.machine.realtime.host_cpus.is_empty() && export.accelerator == Accelerator::Kvm
}

fn memory(export: &Export<'_>) -> Vec<Element> {
    let kib = export.machine.memory.mib() * 1024;
    let amount = Element::text("memory", kib).with("unit", "KiB");
    if export.accelerator == Accelerator::Tcg {
        return vec![amount];
    }
    let mut backing = Element::new("memoryBacking");
    let own = has_own_memory(export);
    if let (true, Some(page)) = (own, export.huge_page) {
        let page = Element::new("page").with("size", page.0 / 1024).with("unit", "KiB");
        backing = backing.holding([Element::new("hugepages").holding([page])]);
    }
    backing = backing.holding([Element::new("nosharepages")]);
    if own {
        backing = backing.holding([Element::new("locked")]);
        if export.huge_page.is_none() {
            backing = backing.holding([Element::new("source").with("type", "memfd")]);
        }
        backing = backing.holding([Element::new("allocation").with("mode", "immediate")]);
    }
    let mut elements = vec![amount.with("dumpCore", "off"), backing];
    if own {
        // Without it `locked` lifts the limit altogether, and a leak would take the host's memory.
        let limit = Element::text("hard_limit", kib + BESIDES_MEMORY_KIB).with("unit", "KiB");
        elements.insert(1, Element::new("memtune").holding([limit]));
    }
    elements
}

fn placement(export: &Export<'_>) -> Option<Element> {
    let machine = export.machine;
    if machine.realtime.host_cpus.is_empty() {
        return None;
    }
    let rest = export.online.without(&machine.realtime.host_cpus);
    let places = || (0..machine.vcpus).map(|vcpu| (vcpu, place_of(machine, vcpu, &rest)));
    let pins = places()
        .map(|(vcpu, (cpus, _))| Element::new("vcpupin").with("vcpu", vcpu).with("cpuset", cpus));
    let priorities = places().filter_map(|(vcpu, (_, fifo))| {
        let element = Element::new("vcpusched").with("vcpus", vcpu).with("scheduler", "fifo");
        fifo.map(|priority| element.with("priority", priority))
    });
    let emulator = Element::new("emulatorpin").with("cpuset", &rest);
    Some(Element::new("cputune").holding(pins).holding([emulator]).holding(priorities))
}

/// What the guest is told that anybody may know.
fn told(name: &str) -> Element {
    let name = Element::text("entry", format!("io.systemd.credential:system.hostname={name}"));
    let strings = Element::new("oemStrings").holding([name]);
    Element::new("sysinfo").with("type", "smbios").holding([strings])
}

/// The settings, from a file: libvirt would put an OEM string into QEMU's argument list, which every
/// user of the host can read.
fn settings(file: &Path) -> Element {
    let name = format!("opt/io.systemd.credentials/{}", Settings::CREDENTIAL);
    let entry = Element::new("entry").with("name", name).with("file", file.display());
    Element::new("sysinfo").with("type", "fwcfg").holding([entry])
}

fn boot(export: &Export<'_>) -> Element {
    let mut line = kernel_arguments(export.machine, export.accelerator);
    line.extend(export.arguments.iter().cloned());
    Element::new("os").holding([
        Element::text("type", "hvm").with("arch", "x86_64").with("machine", "q35"),
        Element::text("kernel", export.files.kernel.display()),
        Element::text("initrd", export.files.initrd.display()),
        Element::text("cmdline", line.join(" ")),
        Element::new("smbios").with("mode", "sysinfo"),
    ])
}

fn features(machine: &Machine, accelerator: Accelerator) -> Element {
    let state = |name, state| Element::new(name).with("state", state);
    let mut features = Element::new("features").holding([
        Element::new("acpi"),
        Element::new("apic"),
        state("vmport", "off"),
        state("smm", "off"),
    ]);
    match accelerator {
        Accelerator::Kvm if machine.cpu.is_none() => {
            let dedicated = state("hint-dedicated", "on");
            features =
                features.holding([Element::new("kvm").holding([dedicated]), state("pmu", "off")]);
        }
        Accelerator::Kvm => {}
        Accelerator::Tcg => {
            let cache = Element::text("tb-cache", 512).with("unit", "MiB");
            features = features.holding([Element::new("tcg").holding([cache])]);
        }
    }
    features
}

/// The processor; a model of the machine file's own is QEMU's word and goes to QEMU as it stands.
fn cpu(machine: &Machine, accelerator: Accelerator) -> Option<Element> {
    if machine.cpu.is_some() {
        return None;
    }
    let topology =
        Element::new("topology").with("sockets", 1).with("cores", machine.vcpus).with("threads", 1);
    let feature = |name| Element::new("feature").with("policy", "require").with("name", name);
    let cpu = Element::new("cpu");
    Some(match accelerator {
        Accelerator::Kvm => cpu
            .with("mode", "host-passthrough")
            .with("check", "none")
            .with("migratable", "off")
            .holding([topology, feature("invtsc")]),
        Accelerator::Tcg => cpu
            .with("mode", "custom")
            .with("match", "exact")
            .with("check", "none")
            .holding([Element::text("model", "qemu64").with("fallback", "forbid"), topology])
            .holding(["ssse3", "sse4.1", "sse4.2", "popcnt"].map(feature)),
    })
}

fn clock(accelerator: Accelerator) -> Element {
    let clock = Element::new("clock").with("offset", "utc");
    match accelerator {
        // Reading the HPET leaves the guest; under KVM nobody needs it.
        Accelerator::Kvm => {
            clock.holding([Element::new("timer").with("name", "hpet").with("present", "no")])
        }
        Accelerator::Tcg => clock,
    }
}

fn devices(export: &Export<'_>) -> Element {
    let machine = export.machine;
    let usb = Element::new("controller").with("type", "usb").with("index", 0);
    let usb = match machine.devices.usb.is_empty() {
        true => usb.with("model", "none"),
        false => usb.with("model", "qemu-xhci").holding([at(slot::USB)]),
    };
    let ready = Element::new("channel").with("type", "file").holding([
        Element::new("source").with("path", export.files.ready.display()),
        Element::new("target").with("type", "virtio").with("name", "org.archibald.ready"),
    ]);
    // `virsh console` reads it; the journal is inside.
    let console = Element::new("serial").with("type", "pty");
    let source = Element::text("backend", "/dev/urandom").with("model", "random");
    let random = Element::new("rng").with("model", "virtio").holding([source, at(slot::RANDOM)]);
    let serial = Element::new("controller").with("type", "virtio-serial").with("index", 0);
    let without = |name| Element::new(name).with("model", "none");
    let video = Element::new("video").holding([Element::new("model").with("type", "none")]);
    Element::new("devices")
        .holding([disk(export), usb, serial.holding([at(slot::SERIAL)]), ready, console])
        .holding(interface(machine))
        .holding([video])
        .holding(shares(machine))
        .holding(host_devices(machine))
        .holding([without("memballoon"), random])
}

fn at(slot: u8) -> Element {
    Element::new("address")
        .with("type", "pci")
        .with("domain", "0x0000")
        .with("bus", "0x00")
        .with("slot", format!("{slot:#04x}"))
        .with("function", "0x0")
}

fn disk(export: &Export<'_>) -> Element {
    // One queue: a second one's interrupt would belong to an isolated CPU.
    let driver = Element::new("driver")
        .with("name", "qemu")
        .with("type", "qcow2")
        .with("discard", "unmap")
        .with("queues", 1);
    let backing = export.files.backing.iter().rev().fold(Element::new("backingStore"), below);
    Element::new("disk").with("type", "file").with("device", "disk").holding([
        driver,
        Element::new("source").with("file", export.files.disk.display()),
        backing,
        Element::new("target").with("dev", "vda").with("bus", "virtio"),
        at(slot::DISK),
    ])
}

/// A file of the cache under a disk, over what it stands on itself. libvirt leaves its owner alone.
fn below(lower: Element, backing: &Backing) -> Element {
    let keep = Element::new("seclabel").with("model", "dac").with("relabel", "no");
    Element::new("backingStore").with("type", "file").holding([
        Element::new("format").with("type", &backing.format),
        Element::new("source").with("file", backing.path.display()).holding([keep]),
        lower,
    ])
}

fn interface(machine: &Machine) -> Option<Element> {
    let NetworkMode::Bridge { guest, .. } = &machine.network.mode else { return None };
    Some(Element::new("interface").with("type", "network").holding([
        Element::new("mac").with("address", mac(guest.address)),
        Element::new("source").with("network", network_name(&machine.name)),
        Element::new("model").with("type", "virtio"),
        Element::new("rom").with("enabled", "no"),
        at(slot::NETWORK),
    ]))
}

fn shares(machine: &Machine) -> Vec<Element> {
    let filesystem = |(slot, (tag, share)): (u8, (String, &Share))| {
        // Squashed: files are made as the account that QEMU runs as.
        let element = Element::new("filesystem")
            .with("type", "mount")
            .with("accessmode", "squash")
            .with("multidevs", "remap")
            .holding([
                Element::new("source").with("dir", &share.host),
                Element::new("target").with("dir", tag),
            ]);
        let element = match share.read_only {
            true => element.holding([Element::new("readonly")]),
            false => element,
        };
        element.holding([at(slot)])
    };
    (slot::SHARES..).zip(machine.devices.shares_by_tag()).map(filesystem).collect()
}

fn host_devices(machine: &Machine) -> Vec<Element> {
    let hostdev = |kind| Element::new("hostdev").with("mode", "subsystem").with("type", kind);
    let pci = machine.devices.pci.iter().map(|pci| {
        let address = Element::new("address")
            .with("domain", format!("{:#06x}", pci.domain))
            .with("bus", format!("{:#04x}", pci.bus))
            .with("slot", format!("{:#04x}", pci.device))
            .with("function", format!("{:#x}", pci.function));
        // libvirt takes the device from its driver at the start and gives it back at the end.
        hostdev("pci").with("managed", "yes").holding([Element::new("source").holding([address])])
    });
    let usb = machine.devices.usb.iter().map(|usb| {
        hostdev("usb").holding([Element::new("source").holding([
            Element::new("vendor").with("id", format!("{:#06x}", usb.vendor)),
            Element::new("product").with("id", format!("{:#06x}", usb.product)),
        ])])
    });
    pci.chain(usb).collect()
}

/// What libvirt has no words for, or had none for in releases that are still in use.
fn own_arguments(export: &Export<'_>) -> Element {
    let machine = export.machine;
    let pit = if export.accelerator == Accelerator::Kvm { ",pit=off" } else { "" };
    let mut words = vec!["-machine".to_owned(), format!("sata=off,smbus=off,i8042=off{pit}")];
    if let Some(cpu) = &machine.cpu {
        words.extend(["-cpu".to_owned(), cpu.clone()]);
    }
    if machine.network.mode == NetworkMode::User {
        let mut netdev = "user,id=net,ipv6=off".to_owned();
        for (transport, host, guest) in forwarded(machine) {
            let bind = machine.network.bind;
            netdev += &format!(",hostfwd={transport}:{bind}:{host}-:{guest}");
        }
        let slot = slot::NETWORK;
        let device = format!("virtio-net-pci,netdev=net,romfile=,bus=pcie.0,addr={slot:#04x}");
        words.extend(["-netdev".to_owned(), netdev, "-device".to_owned(), device]);
    }
    // libvirt knows virtio-sound from 10.4 on, and never the backends' times.
    if let Some(backend) = machine.devices.sound {
        let slot = slot::SOUND;
        let device =
            format!("virtio-sound-pci,audiodev=sound,streams=2,bus=pcie.0,addr={slot:#04x}");
        let sound = audiodev(machine, backend);
        words.extend(["-audiodev".to_owned(), sound, "-device".to_owned(), device]);
    }
    let argument = |word: String| Element::new("qemu:arg").with("value", word);
    Element::new("qemu:commandline").holding(words.into_iter().map(argument))
}

/// The same for the same name, so that a second export replaces the first one's definition: the name's
/// FNV-1a hash as a UUID of version 8 (RFC 9562).
fn uuid(name: &str) -> String {
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    for byte in b"archibald ".iter().chain(name.as_bytes()) {
        hash = (hash ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
    }
    let hash = hash & !(0xf << 76) & !(0x3 << 62) | (0x8 << 76) | (0x2 << 62);
    let hex = format!("{hash:032x}");
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| hex.get(part).unwrap_or_default());
    parts.join("-")
}
