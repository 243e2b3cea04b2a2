//! The machine file, `archibald.toml`, as a checked value.
//!
//! Here live the types of what a machine is ([`Machine`]), its units ([`units`]), the reading of the
//! file with errors that point at the line ([`Machine::parse`], [`reader`]), and what a machine is told at launch
//! ([`Settings`]). Nothing here touches the disk, the terminal or the host.

mod file;
mod problem;
pub mod reader;
mod settings;
mod span;
pub mod units;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

pub use file::{DEFAULT_FILE, HostLimits};
pub use problem::{FileError, Problem};
pub use settings::{Settings, SettingsCluster, SettingsUser, StoreDoor};
pub use span::Span;
use units::{
    Bytes, CpuSet, Endpoint, Forward, Frames, Hertz, Network4, PciAddress, RtPriority, Share,
    Transport, UsbId,
};

/// What every machine's kernel is told; NixOS' modules read the same file.
const KERNEL_ARGUMENTS: &str = include_str!("../../../guest/kernel-arguments");

/// A machine as its file describes it; every value has been checked against the others.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    /// Name of the instance and of the host inside: letters, digits and dashes, at most 63.
    pub name: String,
    /// Number of virtual CPUs, 1 to 64.
    pub vcpus: u32,
    /// QEMU's processor model with its flags; absent: what suits the accelerator.
    pub cpu: Option<String>,
    /// Guest memory.
    pub memory: Bytes,
    /// Size that the guest sees of its disk.
    pub disk: Bytes,
    /// What the image is made of.
    pub image: Image,
    /// Who runs where and at which priority.
    pub realtime: Realtime,
    /// The audio graph.
    pub audio: Audio,
    /// How the machine is reached.
    pub network: Network,
    /// Host devices given to the machine.
    pub devices: Devices,
    /// The people who log in; the first one runs the audio session.
    pub users: Vec<User>,
    /// The store inside the machine.
    pub streamdb: StreamDb,
    /// The cluster that it is a node of.
    pub cluster: Option<Cluster>,
}

/// The Slurm cluster that a machine is a node of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Where slurmctld listens.
    pub controller: Endpoint,
    /// File of the cluster's munge key on the host, read at each start.
    pub munge_key: PathBuf,
}

/// slurmctld's usual port (SlurmctldPort).
pub const SLURMCTLD_PORT: u16 = 6817;
/// The port on which a node takes work (SlurmdPort).
pub const SLURMD_PORT: u16 = 6818;

/// What the image is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Which builder makes it.
    pub os: Os,
    /// Packages beyond the image's own list.
    pub packages: Vec<String>,
    /// Where packages come from; the host's own configuration when absent.
    pub mirror: Option<String>,
}

/// The operating system of an image, and with it the builder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Os {
    /// Debian 13 by mmdebstrap.
    Debian,
    /// NixOS by the flakes of this project.
    NixOs,
}

/// Who runs where and at which priority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Realtime {
    /// Host CPUs that the machine has for itself: one for each vCPU, or one for each isolated vCPU
    /// ([`Machine::own_host_cpu`]); empty: all are shared.
    pub host_cpus: CpuSet,
    /// Guest CPUs kept for audio.
    pub isolated: CpuSet,
    /// SCHED_FIFO priority of the audio graph's threads.
    pub audio_priority: RtPriority,
    /// SCHED_FIFO priority of the sound card's interrupt threads.
    pub irq_priority: RtPriority,
}

/// The audio graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Audio {
    /// Who owns the graph.
    pub server: AudioServer,
    /// Sample rate.
    pub rate: Hertz,
    /// Frames in one period.
    pub quantum: Frames,
}

impl Audio {
    /// Length of one period in nanoseconds: quantum / rate.
    #[must_use]
    pub fn period_ns(&self) -> u64 {
        u64::from(self.quantum.0) * 1_000_000_000 / u64::from(self.rate.0)
    }
}

/// The machine's port for sound: over TCP its PulseAudio door, over UDP NetJACK2.
pub const SOUND_PORT: u16 = 4713;

/// Who owns the audio graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AudioServer {
    /// PipeWire, with its own libjack for JACK clients.
    PipeWire,
    /// JACK2; PipeWire is not started.
    Jack,
}

impl AudioServer {
    /// The word for it in the machine file.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::PipeWire => "pipewire",
            Self::Jack => "jack",
        }
    }
}

/// How the machine is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Address of the host that forwarded ports are bound to.
    pub bind: IpAddr,
    /// Ports of the host that lead into the machine, in the file's order.
    pub forward: Vec<Forward>,
    /// User-mode or bridge.
    pub mode: NetworkMode,
}

/// How the machine's network card is joined to the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkMode {
    /// QEMU's own user-mode network; needs no rights on the host.
    User,
    /// An address of its own on a bridge of the host.
    Bridge {
        /// The bridge's interface name.
        bridge: String,
        /// The host's address on it.
        host: Network4,
        /// The machine's address on it.
        guest: Network4,
    },
}

impl Network {
    /// The TCP port of the host that leads to this port of the machine, if one does.
    #[must_use]
    pub fn host_port_of(&self, guest: u16) -> Option<u16> {
        let tcp = self.forward.iter().filter(|forward| forward.transport == Transport::Tcp);
        tcp.filter_map(|forward| forward.host_port_of(guest)).next()
    }

    /// Whether the machine has an address of its own on a bridge of the host.
    #[must_use]
    pub fn is_on_bridge(&self) -> bool {
        matches!(self.mode, NetworkMode::Bridge { .. })
    }

    /// Whether others than the host, and on a bridge those who are joined to it, may come to the
    /// forwarded ports.
    #[must_use]
    pub fn is_open_to_others(&self) -> bool {
        !self.bind.is_loopback()
    }

    /// Where a TCP port of the machine is reached from the host: on a bridge at the machine's own
    /// address, else at a port of the host that leads there, if one does.
    #[must_use]
    pub fn door_to(&self, guest: u16) -> Option<(IpAddr, u16)> {
        let host = self.host_port_of(guest)?;
        match &self.mode {
            NetworkMode::User => Some((self.bind, host)),
            NetworkMode::Bridge { guest: network, .. } => Some((network.address.into(), guest)),
        }
    }

    /// The same as an address that a client can name: bound to every address, it is reached at this one.
    #[must_use]
    pub fn reached_at(&self, guest: u16) -> Option<SocketAddr> {
        let (address, port) = self.door_to(guest)?;
        let address =
            if address.is_unspecified() { IpAddr::from(Ipv4Addr::LOCALHOST) } else { address };
        Some((address, port).into())
    }

    /// The machine's own address and the gateway: QEMU's fixed ones in user mode.
    #[must_use]
    pub fn guest_address(&self) -> (Network4, Ipv4Addr) {
        match &self.mode {
            NetworkMode::User => (
                Network4 { address: Ipv4Addr::new(10, 0, 2, 15), prefix: 24 },
                Ipv4Addr::new(10, 0, 2, 2),
            ),
            NetworkMode::Bridge { host, guest, .. } => (*guest, host.address),
        }
    }
}

/// Host devices given to the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Devices {
    /// Whole PCI devices, by VFIO.
    pub pci: Vec<PciAddress>,
    /// Single USB devices.
    pub usb: Vec<UsbId>,
    /// A sound card that QEMU plays for the machine, by way of this; absent: none.
    pub sound: Option<SoundBackend>,
    /// Folders of the host.
    pub shares: Vec<Share>,
}

impl Devices {
    /// The shared folders, each with the tag that QEMU offers it under.
    pub fn shares_by_tag(&self) -> impl Iterator<Item = (String, &Share)> {
        self.shares.iter().enumerate().map(|(place, share)| (format!("share{place}"), share))
    }
}

/// What of the host QEMU plays a machine's sound card through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SoundBackend {
    /// Nothing: the card is there, and nobody hears it.
    Silence,
    /// PipeWire.
    PipeWire,
    /// JACK.
    Jack,
    /// ALSA's default device.
    Alsa,
}

impl SoundBackend {
    /// The word for it in the machine file, and QEMU's.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Silence => "none",
            Self::PipeWire => "pipewire",
            Self::Jack => "jack",
            Self::Alsa => "alsa",
        }
    }
}

/// Somebody who logs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// Password in the clear, as the file has it; absent: login by key only.
    pub password: Option<String>,
    /// Supplementary groups.
    pub groups: Vec<String>,
    /// Public keys, one line each.
    pub authorized_keys: Vec<String>,
}

/// The store inside the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamDb {
    /// Whether the service runs.
    pub enable: bool,
    /// TCP port inside the machine.
    pub port: u16,
    /// Whether a machine on a bridge lets in who has no token; in user mode nobody needs one.
    pub open: bool,
}

impl Machine {
    /// Whether who uses the store must show its token: on a bridge there are others than the host.
    #[must_use]
    pub fn store_wants_token(&self) -> bool {
        self.streamdb.enable && self.network.is_on_bridge() && !self.streamdb.open
    }
}

impl Machine {
    /// All guest CPUs.
    #[must_use]
    pub fn cpus(&self) -> CpuSet {
        (0..self.vcpus).collect()
    }

    /// The guest CPUs that are not isolated: interrupts, services and shells run here.
    #[must_use]
    pub fn housekeeping(&self) -> CpuSet {
        self.cpus().without(&self.realtime.isolated)
    }

    /// The host CPU that this vCPU has for itself. Absent where it has none: the vCPUs of the guest's
    /// housekeeping run on the host's other CPUs when only the isolated ones were given their own.
    #[must_use]
    pub fn own_host_cpu(&self, vcpu: u32) -> Option<u32> {
        let own = &self.realtime.host_cpus;
        let owners = if own.len() == self.vcpus as usize {
            self.cpus()
        } else {
            self.realtime.isolated.clone()
        };
        let place = owners.iter().position(|owner| owner == vcpu)?;
        own.iter().nth(place)
    }

    /// The user who owns the audio session.
    #[must_use]
    pub fn audio_user(&self) -> Option<&User> {
        self.users.first()
    }

    /// The kernel arguments that this machine needs, whichever way it boots.
    ///
    /// Only real-time settings; root device and console are the launcher's business.
    #[must_use]
    pub fn kernel_arguments(&self) -> Vec<String> {
        let every = KERNEL_ARGUMENTS.lines().filter(|line| !line.starts_with('#'));
        let mut arguments: Vec<String> = every.map(str::to_owned).collect();
        let isolated = &self.realtime.isolated;
        if !isolated.is_empty() {
            arguments.extend([
                format!("isolcpus=managed_irq,domain,{isolated}"),
                format!("nohz_full={isolated}"),
                format!("rcu_nocbs={isolated}"),
                format!("irqaffinity={}", self.housekeeping()),
            ]);
        }
        arguments
    }
}
