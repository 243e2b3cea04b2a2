//! Reading the machine file: TOML to [`Machine`], every value checked, every problem at its line.

use std::net::IpAddr;
use std::ops::Range;
use std::str::FromStr;

use serde::Deserialize;
use toml::Spanned;

use crate::reader::{Number, Reader, Text};
use crate::units::{
    Bytes, CpuSet, Endpoint, Forward, Network4, NotA, RtPriority, Share, Transport,
};
use crate::{
    Audio, AudioServer, Cluster, Devices, FileError, Image, Machine, Network, NetworkMode, Os,
    Realtime, SLURMCTLD_PORT, SLURMD_PORT, SoundBackend, StreamDb, User,
};

/// The commented default, as `archibald init` writes it.
pub const DEFAULT_FILE: &str = include_str!("../../../archibald.toml");

/// What of the host a machine file is checked against.
#[derive(Debug, Clone, Default)]
pub struct HostLimits {
    /// The host's online CPUs; absent: dedicated CPUs are taken as they stand.
    pub cpus: Option<CpuSet>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct File {
    name: Option<Text>,
    machine: MachineTable,
    image: ImageTable,
    realtime: RealtimeTable,
    audio: AudioTable,
    network: NetworkTable,
    devices: DevicesTable,
    users: Option<Spanned<Vec<UserTable>>>,
    streamdb: StreamDbTable,
    cluster: Option<Spanned<ClusterTable>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct MachineTable {
    arch: Option<Text>,
    vcpus: Option<Number>,
    cpu: Option<Text>,
    memory: Option<Text>,
    disk: Option<Text>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct ImageTable {
    os: Option<Text>,
    packages: Vec<Text>,
    mirror: Option<Text>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct RealtimeTable {
    host_cpus: Option<Text>,
    isolated: Option<Text>,
    audio_priority: Option<Number>,
    irq_priority: Option<Number>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct AudioTable {
    server: Option<Text>,
    rate: Option<Number>,
    quantum: Option<Number>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct NetworkTable {
    mode: Option<Text>,
    bind: Option<Text>,
    forward: Option<Vec<Text>>,
    bridge: Option<Text>,
    host_address: Option<Text>,
    guest_address: Option<Text>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct DevicesTable {
    pci: Vec<Text>,
    usb: Vec<Text>,
    sound: Option<Text>,
    shares: Vec<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct UserTable {
    name: Text,
    password: Option<Text>,
    #[serde(default)]
    groups: Option<Vec<String>>,
    #[serde(default)]
    authorized_keys: Vec<Text>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct StreamDbTable {
    enable: Option<bool>,
    port: Option<Number>,
    open: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct ClusterTable {
    controller: Option<Text>,
    munge_key: Option<Text>,
}

/// Reads one machine file against one host.
struct Reading<'a> {
    reader: Reader,
    host: &'a HostLimits,
}

/// Every one takes a slot of the root bus, next to the machine's other devices.
const MOST_SHARES: usize = 8;

/// The password that stands in the default file, and therefore is no secret.
const PUBLISHED_PASSWORD: &str = "archibaldos";

impl Machine {
    /// Reads a machine file.
    ///
    /// `name` is shown in errors; `text` is the file's content; values that depend on the host are
    /// checked against `host`.
    ///
    /// # Errors
    /// [`FileError`] with every problem found: unknown keys, wrong types, impossible values.
    /// A file that is not TOML, or has an unknown key, yields that one problem.
    pub fn parse(name: &str, text: &str, host: &HostLimits) -> Result<Self, FileError> {
        let reader = Reader::new("a machine", "archibald init", name, text);
        let file: File = reader.toml()?;
        let mut reading = Reading { reader, host };
        match reading.machine(file) {
            Some(machine) => reading.reader.finish(machine),
            None => Err(reading.reader.error()),
        }
    }
}

impl Reading<'_> {
    fn machine(&mut self, file: File) -> Option<Machine> {
        let name = self.name(file.name.as_ref());
        if let Some(arch) = file.machine.arch.as_ref().filter(|arch| arch.get_ref() != "x86_64") {
            self.reader.problem(
                arch.span(),
                format!("arch = \"{}\" has no machine here", arch.get_ref()),
                "\"x86_64\"",
                "On arm64 use a native PREEMPT_RT kernel; an x86_64 machine also runs there, emulated.",
            );
        }
        let vcpus = self.reader.number("vcpus", file.machine.vcpus.as_ref(), 1..=64, 2);
        let memory = self.size(
            "memory",
            file.machine.memory.as_ref(),
            Bytes(512 * Bytes::MIB),
            Bytes(4 * Bytes::GIB),
        );
        let disk = self.size(
            "disk",
            file.machine.disk.as_ref(),
            Bytes(6 * Bytes::GIB),
            Bytes(16 * Bytes::GIB),
        );
        let realtime = self.realtime(&file.realtime, vcpus)?;
        let audio = self.audio(&file.audio);
        let users = self.users(file.users);
        let mut network = self.network(&file.network, &users);
        let cluster = file.cluster.and_then(|table| self.cluster(table, &mut network));
        Some(Machine {
            name,
            vcpus,
            cpu: self.cpu(file.machine.cpu),
            memory,
            disk,
            image: self.image(file.image),
            realtime,
            audio,
            network,
            devices: Devices {
                pci: self.list("pci", &file.devices.pci),
                usb: self.list("usb", &file.devices.usb),
                sound: self.sound(file.devices.sound.as_ref()),
                shares: self.shares(&file.devices.shares),
            },
            users: users.into_iter().map(|(user, _)| user).collect(),
            streamdb: StreamDb {
                enable: file.streamdb.enable.unwrap_or(true),
                port: self.reader.number("port", file.streamdb.port.as_ref(), 1..=65535, 8080),
                open: file.streamdb.open.unwrap_or(false),
            },
            cluster,
        })
    }

    fn name(&mut self, value: Option<&Text>) -> String {
        let Some(value) = value else { return "archibald".to_owned() };
        let name = value.get_ref();
        if !is_name(name) || name.len() > 63 || name.contains('_') {
            let expected =
                "a host name: lower-case letters, digits and dashes, a letter first, at most 63";
            self.reader.problem(
                value.span(),
                format!("name = \"{name}\" cannot be a host name"),
                expected,
                "Write a name such as \"archibald\" or \"studio-2\".",
            );
        }
        name.clone()
    }

    fn cpu(&mut self, value: Option<Text>) -> Option<String> {
        let value = value?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.,+=".contains(c);
        if value.get_ref().is_empty() || !value.get_ref().chars().all(plain) {
            self.reader.problem(
                value.span(),
                format!("cpu = \"{}\" is no processor model", value.get_ref()),
                "a model of `qemu-system-x86_64 -cpu help` and its flags",
                "Write for example cpu = \"host,-arch-capabilities\", or remove the key.",
            );
        }
        Some(value.into_inner())
    }

    fn size(&mut self, key: &str, value: Option<&Text>, least: Bytes, default: Bytes) -> Bytes {
        let size = self.reader.text(key, value, default);
        if let Some(value) = value.filter(|_| size < least) {
            self.reader.problem(
                value.span(),
                format!("{key} = \"{size}\" is too small"),
                format!("at least {least}"),
                format!("Write {key} = \"{least}\" or more."),
            );
        }
        size
    }

    fn image(&mut self, table: ImageTable) -> Image {
        let os = self.reader.word(
            "os",
            table.os.as_ref(),
            &[("debian", Os::Debian), ("nixos", Os::NixOs)],
            Os::Debian,
        );
        for package in &table.packages {
            let plain = |c: char| c.is_ascii_alphanumeric() || "+-._".contains(c);
            if package.get_ref().is_empty()
                || !package.get_ref().chars().all(plain)
                || package.get_ref().starts_with('-')
            {
                self.reader.problem(
                    package.span(),
                    format!("\"{}\" is no package name", package.get_ref()),
                    "letters, digits and + - . _",
                    "Write one package name an entry, such as \"sc3-plugins\".",
                );
            }
        }
        Image {
            os,
            packages: table.packages.into_iter().map(Spanned::into_inner).collect(),
            mirror: table.mirror.map(Spanned::into_inner),
        }
    }

    /// Absent only when no CPU would be left for the housekeeping, which is told as a problem.
    fn realtime(&mut self, table: &RealtimeTable, vcpus: u32) -> Option<Realtime> {
        let default_isolated = if vcpus > 1 { (1..vcpus).collect() } else { CpuSet::default() };
        let isolated = self.reader.text("isolated", table.isolated.as_ref(), default_isolated);
        if let Some(value) = &table.isolated {
            if let Some(beyond) = isolated.iter().find(|cpu| *cpu >= vcpus) {
                self.reader.problem(
                    value.span(),
                    format!("guest CPU {beyond} is beyond the machine's {vcpus}"),
                    format!("CPUs from 0 to {}", vcpus - 1),
                    format!(
                        "Set machine.vcpus to {} or more, or leave CPU {beyond} out.",
                        beyond + 1
                    ),
                );
            } else if isolated.len() == vcpus as usize {
                self.reader.problem(
                    value.span(),
                    "every guest CPU is isolated",
                    "at least one CPU left for interrupts and services",
                    "Leave CPU 0 out, or raise machine.vcpus.",
                );
            }
        }
        let host_cpus = self.reader.text("host-cpus", table.host_cpus.as_ref(), CpuSet::default());
        if let Some(value) = &table.host_cpus {
            self.host_cpus(value.span(), &host_cpus, vcpus, &isolated);
        }
        let audio_priority =
            self.reader.number("audio-priority", table.audio_priority.as_ref(), 1..=97, 88u8);
        let irq_priority =
            self.reader.number("irq-priority", table.irq_priority.as_ref(), 1..=97, 90u8);
        if let Some(value) = table.audio_priority.as_ref().or(table.irq_priority.as_ref()) {
            if audio_priority >= irq_priority {
                self.reader.problem(
                    value.span(),
                    format!("the graph (priority {audio_priority}) would hold up the sound card's interrupts (priority {irq_priority})"),
                    "audio-priority below irq-priority",
                    "Raise irq-priority or lower audio-priority.",
                );
            }
        }
        Some(Realtime {
            host_cpus,
            isolated,
            audio_priority: RtPriority::new(audio_priority)?,
            irq_priority: RtPriority::new(irq_priority)?,
        })
    }

    fn host_cpus(&mut self, span: Range<usize>, dedicated: &CpuSet, vcpus: u32, isolated: &CpuSet) {
        if dedicated.is_empty() {
            return;
        }
        if let Some(online) = &self.host.cpus {
            let lacking = dedicated.without(online);
            if !lacking.is_empty() {
                let (expected, remedy) = (
                    format!("CPUs out of {online}, which are online here"),
                    format!("Leave out {lacking}; `lscpu -e` lists the host's CPUs."),
                );
                return self.reader.problem(
                    span,
                    format!("the host has no CPU {lacking}"),
                    expected,
                    remedy,
                );
            }
            if online.without(dedicated).is_empty() {
                return self.reader.problem(
                    span,
                    "no CPU would be left for the host",
                    format!("at least one CPU of {online} left out"),
                    "Leave CPU 0 to the host; one CPU for each isolated vCPU is enough.",
                );
            }
        }
        if ![vcpus as usize, isolated.len()].contains(&dedicated.len()) {
            let (fewer, remedy) = match isolated.len() {
                0 => (String::new(), format!("List {vcpus}.")),
                count => (
                    format!(", or {count}: one for each isolated vCPU"),
                    format!("List {vcpus}, or {count} when the host has no more to give."),
                ),
            };
            self.reader.problem(
                span,
                format!("{} host CPUs for {vcpus} vCPUs", dedicated.len()),
                format!("{vcpus} host CPUs, one for each vCPU{fewer}"),
                remedy,
            );
        }
    }

    fn audio(&mut self, table: &AudioTable) -> Audio {
        let servers = [("pipewire", AudioServer::PipeWire), ("jack", AudioServer::Jack)];
        let server =
            self.reader.word("server", table.server.as_ref(), &servers, AudioServer::PipeWire);
        let rate = self.reader.rate(table.rate.as_ref());
        let quantum = self.reader.quantum(table.quantum.as_ref());
        Audio { server, rate, quantum }
    }

    /// The users, each with the place of its password.
    fn users(
        &mut self,
        tables: Option<Spanned<Vec<UserTable>>>,
    ) -> Vec<(User, Option<Range<usize>>)> {
        let groups = || ["audio", "pipewire", "video", "sudo"].map(String::from).to_vec();
        let Some(tables) = tables else {
            let user = User {
                name: "audio-user".to_owned(),
                password: Some(PUBLISHED_PASSWORD.to_owned()),
                groups: groups(),
                authorized_keys: Vec::new(),
            };
            return vec![(user, None)];
        };
        let mut users: Vec<(User, Option<Range<usize>>)> = Vec::new();
        if tables.get_ref().is_empty() {
            self.reader.problem(
                tables.span(),
                "the machine has no user",
                "at least one user: the first one runs the audio session",
                "Remove the key: the default is \"audio-user\".",
            );
        }
        for table in tables.into_inner() {
            let name = table.name.get_ref();
            if !is_name(name) || name.len() > 31 || name == "root" {
                self.reader.problem(
                    table.name.span(),
                    format!("\"{name}\" cannot be a login name"),
                    "lower-case letters, digits, dashes and underscores, a letter first, at most 31, not root",
                    "Write a name such as \"audio-user\".",
                );
            }
            if users.iter().any(|(user, _)| user.name == *name) {
                self.reader.problem(
                    table.name.span(),
                    format!("user \"{name}\" stands twice"),
                    "every user once",
                    "Remove one of the two.",
                );
            }
            for key in &table.authorized_keys {
                if key.get_ref().split_whitespace().count() < 2 || key.get_ref().contains('\n') {
                    self.reader.problem(
                        key.span(),
                        "this is no public key",
                        "one line as in ~/.ssh/id_ed25519.pub",
                        "Paste the whole line of the .pub file.",
                    );
                }
            }
            let password_span = table.password.as_ref().map(Spanned::span);
            let user = User {
                name: name.clone(),
                password: table.password.map(Spanned::into_inner),
                groups: table.groups.unwrap_or_else(groups),
                authorized_keys: table
                    .authorized_keys
                    .into_iter()
                    .map(Spanned::into_inner)
                    .collect(),
            };
            users.push((user, password_span));
        }
        users
    }

    fn network(&mut self, table: &NetworkTable, users: &[(User, Option<Range<usize>>)]) -> Network {
        let loopback = IpAddr::from([127, 0, 0, 1]);
        let bind = match &table.bind {
            None => loopback,
            Some(value) => value.get_ref().parse().unwrap_or_else(|_| {
                let message = format!("bind = \"{}\" is no address", value.get_ref());
                self.reader.problem(
                    value.span(),
                    message,
                    "an IP address",
                    "Write bind = \"127.0.0.1\".",
                );
                loopback
            }),
        };
        // The published password is for those who already are on this host.
        if let Some(value) = table.bind.as_ref().filter(|_| !bind.is_loopback()) {
            if users.iter().any(|(user, _)| user.password.as_deref() == Some(PUBLISHED_PASSWORD)) {
                self.reader.problem(
                    value.span(),
                    format!("bind = \"{bind}\" would open a machine with a published password to the network"),
                    "a loopback address, or users without the published password",
                    "Give [[users]] another password, or remove it and log in by key.",
                );
            }
        }
        let forward = self.forwards(table.forward.as_deref());
        let mode = self.network_mode(table);
        Network { bind, forward, mode }
    }

    /// A node of a cluster, whose port is open to those who reach the machine's other ports.
    fn cluster(&mut self, table: Spanned<ClusterTable>, network: &mut Network) -> Option<Cluster> {
        let span = table.span();
        let ClusterTable { controller, munge_key } = table.into_inner();
        let Some(controller) = controller else {
            self.reader.problem(
                span,
                "[cluster] names no controller",
                "controller = \"HOST\" or \"HOST:PORT\": where slurmctld listens",
                "Write for example controller = \"192.168.122.1\", or remove the table.",
            );
            return None;
        };
        if !network.is_on_bridge() {
            self.reader.problem(
                controller.span(),
                "a node of a cluster needs an address of its own",
                "network.mode = \"bridge\", so that the controller reaches the node",
                "Write mode = \"bridge\" under [network] (docs/bridge.md), or remove [cluster].",
            );
        }
        if network.host_port_of(SLURMD_PORT).is_none() {
            let (transport, port) = (Transport::Tcp, SLURMD_PORT);
            network.forward.push(Forward { transport, host: port, guest: port, count: 1 });
        }
        let munge_key = munge_key.map_or("/etc/munge/munge.key".to_owned(), Spanned::into_inner);
        match Endpoint::parse(controller.get_ref(), SLURMCTLD_PORT) {
            Ok(controller) => Some(Cluster { controller, munge_key: munge_key.into() }),
            Err(NotA { expected }) => {
                let message = format!("controller = \"{}\" is nowhere", controller.get_ref());
                self.reader.problem(
                    controller.span(),
                    message,
                    expected,
                    format!("Write {expected}."),
                );
                None
            }
        }
    }

    fn shares(&mut self, values: &[Text]) -> Vec<Share> {
        let shares: Vec<Share> = self.list("shares", values);
        if let Some(value) = values.get(MOST_SHARES) {
            self.reader.problem(
                value.span(),
                format!("{} shared folders", shares.len()),
                format!("at most {MOST_SHARES}: each is a device of its own"),
                "Share a folder that is above some of them.",
            );
        }
        for (place, share) in shares.iter().enumerate() {
            let same = |other: &Share| other.guest == share.guest;
            if let Some(value) = values.get(place).filter(|_| shares.iter().take(place).any(same)) {
                self.reader.problem(
                    value.span(),
                    format!("two folders would be {} in the machine", share.guest),
                    "another place for each",
                    "Write \"/FOLDER:/FOLDER-IN-THE-MACHINE\".",
                );
            }
        }
        shares
    }

    fn network_mode(&mut self, table: &NetworkTable) -> NetworkMode {
        let is_bridge = self.reader.word(
            "mode",
            table.mode.as_ref(),
            &[("user", false), ("bridge", true)],
            false,
        );
        let network = |last| Network4 { address: [192, 168, 122, last].into(), prefix: 24 };
        let host = self.reader.text("host-address", table.host_address.as_ref(), network(1));
        let guest = self.reader.text("guest-address", table.guest_address.as_ref(), network(2));
        if let Some(value) = table.guest_address.as_ref().or(table.host_address.as_ref()) {
            if !host.same_network(guest) || host.address == guest.address {
                self.reader.problem(
                    value.span(),
                    format!("host {host} and guest {guest} cannot reach each other"),
                    "two addresses of one network",
                    "Write host-address = \"192.168.122.1/24\" and guest-address = \"192.168.122.2/24\".",
                );
            }
        }
        let bridge = table.bridge.as_ref().map_or("br0", |bridge| bridge.get_ref());
        if let Some(value) = &table.bridge {
            // IFNAMSIZ is 16 with its final zero.
            if bridge.is_empty() || bridge.len() > 15 || bridge.contains(['/', ' ', ':', ',']) {
                self.reader.problem(
                    value.span(),
                    format!("bridge = \"{bridge}\" is no interface name"),
                    "1 to 15 characters without spaces, slashes, colons or commas",
                    "Write bridge = \"br0\".",
                );
            }
        }
        if is_bridge {
            NetworkMode::Bridge { bridge: bridge.to_owned(), host, guest }
        } else {
            NetworkMode::User
        }
    }

    fn forwards(&mut self, values: Option<&[Text]>) -> Vec<Forward> {
        let Some(values) = values else {
            return ["2222:22", "4713:4713", "4713:4713/udp", "8080:8080", "8000-9000:8000-9000"]
                .iter()
                .filter_map(|text| text.parse().ok())
                .collect();
        };
        let mut forwards: Vec<Forward> = Vec::new();
        for value in values {
            let forward: Forward = match value.get_ref().parse() {
                Ok(forward) => forward,
                Err(NotA { expected }) => {
                    let message = format!("\"{}\" forwards no port", value.get_ref());
                    self.reader.problem(
                        value.span(),
                        message,
                        expected,
                        "Write for example \"2222:22\".",
                    );
                    continue;
                }
            };
            if let Some((port, other)) =
                forwards.iter().find_map(|other| Some((clash(forward, *other)?, *other)))
            {
                self.reader.problem(
                    value.span(),
                    format!(
                        "host port {port} ({}) is forwarded twice: by \"{other}\" too",
                        forward.transport
                    ),
                    "every host port at most once, or ranges that agree",
                    format!("Remove one of the two, or choose another host port than {port}."),
                );
            }
            forwards.push(forward);
        }
        forwards
    }

    fn sound(&mut self, value: Option<&Text>) -> Option<SoundBackend> {
        use SoundBackend::{Alsa, Jack, PipeWire, Silence};
        let backends = [Silence, PipeWire, Jack, Alsa].map(|one| (one.word(), Some(one)));
        self.reader.word("sound", value, &[&[("off", None)], &backends[..]].concat(), None)
    }

    fn list<T: FromStr<Err = NotA> + PartialEq>(&mut self, key: &str, values: &[Text]) -> Vec<T> {
        let mut list = Vec::new();
        for value in values {
            match value.get_ref().parse() {
                Ok(item) if list.contains(&item) => self.reader.problem(
                    value.span(),
                    format!("{key} has \"{}\" twice", value.get_ref()),
                    "every device once",
                    "Remove one of the two.",
                ),
                Ok(item) => list.push(item),
                Err(NotA { expected }) => {
                    let message = format!("{key} has \"{}\"", value.get_ref());
                    self.reader.problem(
                        value.span(),
                        message,
                        expected,
                        format!("Write {expected}."),
                    );
                }
            }
        }
        list
    }
}

/// The first host port on which two forwards disagree. A single port inside a range that leads to the
/// same place is no clash; the very same entry twice is.
fn clash(a: Forward, b: Forward) -> Option<u16> {
    if a.transport != b.transport {
        return None;
    }
    if a == b {
        return Some(a.host);
    }
    let agree = i32::from(a.guest) - i32::from(a.host) == i32::from(b.guest) - i32::from(b.host);
    let first = a.host.max(b.host);
    let last = (a.host + (a.count - 1)).min(b.host + (b.count - 1));
    (first <= last && !agree).then_some(first)
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c))
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
