//! What is done to the host for a machine's network, and what undoes it: pure functions of the machine
//! and of what the host has.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use archibald_machine::units::Network4;
use archibald_machine::{Machine, NetworkMode};
use serde::{Deserialize, Serialize};

use super::rules;
use super::{Facts, Link};

/// The file that says whether the host forwards IPv4.
const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";
/// What stands on a bridge that a machine brought along.
const OURS: &str = "archibald";
/// The bridge of libvirt's default network, which has 192.168.122.1 as well.
const LIBVIRT: &str = "virbr0";

/// One thing that is done to the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A command, with what it reads.
    Run {
        /// Its words.
        words: Vec<String>,
        /// Its standard input.
        input: Option<String>,
    },
    /// A file of the kernel is written to.
    Write {
        /// Which.
        path: String,
        /// With what.
        text: String,
    },
}

/// As a person would type it.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run { words, input: None } => f.write_str(&words.join(" ")),
            Self::Run { words, input: Some(input) } => {
                write!(f, "{} <<'END'\n{input}END", words.join(" "))
            }
            Self::Write { path, text } => write!(f, "echo {text} >{path}"),
        }
    }
}

/// What is done for a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// In this order.
    pub steps: Vec<Step>,
    /// What to write down before the first one.
    pub made: Made,
    /// Whether the kernel moves the card's packets (/dev/vhost-net).
    pub vhost: bool,
    /// Whom the machine asks for names.
    pub name_server: Ipv4Addr,
    /// What people should know about it.
    pub notes: Vec<String>,
}

/// What was made, so that it can be undone: the instance's `network.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// Version of this form.
    pub schema: u32,
    /// The machine.
    pub machine: String,
    /// The bridge that its card is joined to.
    pub bridge: String,
    /// Whether the bridge was not there before.
    pub bridge_is_new: bool,
    /// The machine's card on the host's side.
    pub card: String,
    /// Whether the host did not forward before the first machine came.
    pub forwarding_was_off: bool,
}

/// Version of [`Made`].
pub(super) const SCHEMA: u32 = 1;

/// Why a machine cannot have its network; nothing has been touched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// A program is not there.
    #[error("bridge mode needs the program{} {}", if .0.len() > 1 { "s" } else { "" }, .0.join(" and "))]
    NoProgram(Vec<String>),
    /// The process may not change the network.
    #[error("bridge mode changes the host's network, which this user may not (CAP_NET_ADMIN)")]
    NoRight,
    /// There is no tap device.
    #[error("this kernel has no /dev/net/tun, and so no card for a machine on a bridge")]
    NoTun,
    /// The link of the bridge's name is something else.
    #[error("\"{name}\" is no bridge but a link of kind {kind}")]
    NoBridge {
        /// The link.
        name: String,
        /// What it is.
        kind: String,
    },
    /// The bridge is somebody else's and has not the host's address.
    #[error("the bridge \"{name}\" is not archibald's and has {} instead of {wanted}", if .has.is_empty() { "no address" } else { .has })]
    OtherBridge {
        /// The bridge.
        name: String,
        /// Its addresses.
        has: String,
        /// What the machine file says.
        wanted: Network4,
    },
    /// Another link has the host's address, or one of the same network.
    #[error(
        "\"{link}\" has {has}, in the network of {wanted} that the machine's bridge is to have"
    )]
    Taken {
        /// The other link.
        link: String,
        /// Its address.
        has: Network4,
        /// What the machine file says.
        wanted: Network4,
    },
    /// The machine's address is somebody's.
    #[error("{address} is the address of {whose}")]
    GuestTaken {
        /// The address.
        address: Ipv4Addr,
        /// Whose.
        whose: String,
    },
    /// A link has the name that the machine's card would have.
    #[error("there is a link \"{0}\" already, and this machine did not make it")]
    CardTaken(String),
    /// The machine has no address of that family.
    #[error("network.bind = \"{0}\" is an IPv6 address, and a machine on a bridge has an IPv4 one")]
    Bind6(IpAddr),
}

impl Refused {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::NoProgram(programs) => {
                let packages = programs.iter().map(|program| match program.as_str() {
                    "ip" => "iproute2",
                    "nft" => "nftables",
                    other => other,
                });
                let packages = packages.collect::<Vec<_>>().join(" ");
                format!("Install {packages} (Debian's names), or write mode = \"user\".")
            }
            Self::NoRight => {
                "Run it as root (sudo archibald up), or write mode = \"user\", which needs no rights."
                    .to_owned()
            }
            Self::NoTun => "Load it: modprobe tun. Or write mode = \"user\".".to_owned(),
            Self::NoBridge { .. } => {
                "Write another name for network.bridge in the machine file.".to_owned()
            }
            Self::OtherBridge { name, .. } => format!(
                "Write another name for network.bridge, or the addresses of \"{name}\" for network.host-address and network.guest-address."
            ),
            Self::Taken { link, .. } => format!(
                "Write other addresses, such as host-address = \"192.168.133.1/24\" and guest-address = \"192.168.133.2/24\"; if \"{link}\" is a bridge for machines: bridge = \"{link}\"."
            ),
            Self::GuestTaken { .. } => {
                "Write another network.guest-address, and its network's prefix.".to_owned()
            }
            Self::CardTaken(link) => format!(
                "If no machine of that name runs, which `ip -details link show {link}` tells: ip link delete dev {link}"
            ),
            Self::Bind6(_) => "Write bind = \"0.0.0.0\", or a loopback address.".to_owned(),
        }
    }
}

/// Name of a machine's card on the host's side. Names of links have at most 15 characters, so a long
/// name is cut and told apart by a checksum of the whole.
#[must_use]
pub fn card(machine: &str) -> String {
    if machine.len() <= 12 {
        return format!("ar-{machine}");
    }
    // FNV-1a, 32 bits.
    let hash = machine
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let start: String = machine.chars().take(5).collect();
    format!("ar-{start}{:07x}", hash & 0x0fff_ffff)
}

/// The hardware address that goes with an IPv4 address: QEMU's prefix, and what tells the machines of
/// one bridge apart.
#[must_use]
pub fn mac(address: Ipv4Addr) -> String {
    let [_, b, c, d] = address.octets();
    format!("52:54:00:{b:02x}:{c:02x}:{d:02x}")
}

/// What stands on a machine's card.
struct Note<'a> {
    machine: &'a str,
    guest: &'a str,
    forwarding_was_off: bool,
}

impl<'a> Note<'a> {
    fn of(link: &'a Link) -> Option<Self> {
        let mut words = link.alias.as_deref()?.strip_prefix(OURS)?.strip_prefix(':')?.split(':');
        Some(Self {
            machine: words.next()?,
            guest: words.next()?,
            forwarding_was_off: words.next()? == "forwarding-was-off",
        })
    }
}

impl fmt::Display for Note<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let was = if self.forwarding_was_off { "off" } else { "on" };
        write!(f, "{OURS}:{}:{}:forwarding-was-{was}", self.machine, self.guest)
    }
}

fn ip(words: &str) -> Step {
    let words = ["ip"].into_iter().chain(words.split(' ')).map(str::to_owned).collect();
    Step::Run { words, input: None }
}

fn nft(rules: String) -> Step {
    Step::Run { words: ["nft", "-f", "-"].map(str::to_owned).to_vec(), input: Some(rules) }
}

fn forward(on: bool) -> Step {
    Step::Write { path: FORWARDING.to_owned(), text: u8::from(on).to_string() }
}

/// What is to be done for this machine on this host; nothing for one in user mode.
///
/// # Errors
/// [`Refused`], with what to do instead.
pub fn plan(machine: &Machine, facts: &Facts) -> Result<Option<Plan>, Refused> {
    let NetworkMode::Bridge { bridge, host, guest } = &machine.network.mode else {
        return Ok(None);
    };
    if !facts.missing.is_empty() {
        return Err(Refused::NoProgram(facts.missing.clone()));
    }
    if !facts.may_change {
        return Err(Refused::NoRight);
    }
    if !facts.tun {
        return Err(Refused::NoTun);
    }
    let bind = machine.network.bind;
    if bind.is_ipv6() && !bind.is_loopback() && !bind.is_unspecified() {
        return Err(Refused::Bind6(bind));
    }
    let name = &machine.name;
    let card = card(name);
    if facts.link(&card).is_some() {
        return Err(Refused::CardTaken(card));
    }
    let mut notes = Vec::new();
    let (bridge, is_new) = choose_bridge(bridge, *host, facts, &mut notes)?;
    free(guest.address, name, facts)?;

    let others = facts.links.iter().filter_map(Note::of);
    let forwarding_was_off =
        !facts.forwarding || others.into_iter().any(|note| note.forwarding_was_off);
    // The rules come before the card, so that there is no moment without them.
    let mut steps = vec![nft(rules::rules(machine, &bridge, &card, *host, guest.address))];
    if is_new {
        let mac = mac(host.address);
        steps.extend([
            ip(&format!("link add name {bridge} address {mac} type bridge")),
            ip(&format!("link set dev {bridge} alias {OURS}")),
        ]);
    }
    if !facts.link(&bridge).is_some_and(|link| link.addresses.contains(host)) {
        steps.push(ip(&format!("address add {host} dev {bridge}")));
    }
    let note = Note { machine: name, guest: &guest.address.to_string(), forwarding_was_off };
    steps.extend([
        ip(&format!("link set dev {bridge} up")),
        ip(&format!("tuntap add dev {card} mode tap")),
        ip(&format!("link set dev {card} alias {note}")),
        ip(&format!("link set dev {card} master {bridge} up")),
    ]);
    if !facts.forwarding {
        steps.push(forward(true));
    }
    if !facts.vhost {
        notes.push(
            "this host has no /dev/vhost-net: the machine's packets go by way of QEMU, not by the kernel alone (modprobe vhost_net)"
                .to_owned(),
        );
    }
    if !facts.dropping.is_empty() {
        notes.push(format!(
            "a firewall of this host drops what is forwarded unless it has a rule for it ({}): the machine's way outwards, and others' way to it, are for that firewall to open",
            facts.dropping.join("; ")
        ));
    }
    let name_server = match (bridge.as_str(), facts.name_server) {
        // libvirt's dnsmasq listens on its bridge.
        (LIBVIRT, _) | (_, None) => host.address,
        (_, Some(server)) => server,
    };
    if name_server == host.address && bridge != LIBVIRT {
        notes.push(format!(
            "no name server beyond this host's loopback is known; the machine asks {}",
            host.address
        ));
    }
    Ok(Some(Plan {
        steps,
        made: Made {
            schema: SCHEMA,
            machine: name.clone(),
            bridge,
            bridge_is_new: is_new,
            card,
            forwarding_was_off,
        },
        vhost: facts.vhost,
        name_server,
        notes,
    }))
}

/// The bridge to join, and whether it must be made.
fn choose_bridge(
    wanted: &str,
    host: Network4,
    facts: &Facts,
    notes: &mut Vec<String>,
) -> Result<(String, bool), Refused> {
    // Its address may be there already, and nothing else of its network elsewhere.
    let mut neighbours = facts.links.iter().filter(|link| link.name != wanted).flat_map(|link| {
        let near = link.addresses.iter().filter(move |address| overlap(**address, host));
        near.map(move |address| (link, *address))
    });
    let neighbour = neighbours.next();
    if let Some((link, has)) = neighbour {
        let is_libvirts = link.name == LIBVIRT && link.kind.as_deref() == Some("bridge");
        if is_libvirts && has == host && facts.link(wanted).is_none() {
            notes.push(format!(
                "libvirt's default network is here and has {host}: the machine joins its bridge {LIBVIRT}, whose own rules hold besides. libvirt may lease the machine's address to another: reserve it, or end its range before it (virsh net-edit default)"
            ));
            return Ok((LIBVIRT.to_owned(), false));
        }
        return Err(Refused::Taken { link: link.name.clone(), has, wanted: host });
    }
    let Some(link) = facts.link(wanted) else { return Ok((wanted.to_owned(), true)) };
    if link.kind.as_deref() != Some("bridge") {
        let kind = link.kind.clone().unwrap_or_else(|| "card".to_owned());
        return Err(Refused::NoBridge { name: wanted.to_owned(), kind });
    }
    let is_ours = link.alias.as_deref() == Some(OURS);
    if link.addresses.contains(&host) || is_ours && link.addresses.is_empty() {
        return Ok((wanted.to_owned(), false));
    }
    let has = link.addresses.iter().map(Network4::to_string).collect::<Vec<_>>().join(", ");
    Err(Refused::OtherBridge { name: wanted.to_owned(), has, wanted: host })
}

/// Nobody that can be known of has the machine's address.
fn free(address: Ipv4Addr, machine: &str, facts: &Facts) -> Result<(), Refused> {
    let taken = |whose: String| Err(Refused::GuestTaken { address, whose });
    for link in &facts.links {
        if link.addresses.iter().any(|own| own.address == address) {
            return taken(format!("this host's \"{}\"", link.name));
        }
        if let Some(note) = Note::of(link).filter(|note| note.guest == address.to_string()) {
            if note.machine != machine {
                return taken(format!("the machine \"{}\"", note.machine));
            }
        }
    }
    match facts.leased.contains(&address) {
        true => taken("a machine of libvirt, by a lease of its default network".to_owned()),
        false => Ok(()),
    }
}

fn overlap(a: Network4, b: Network4) -> bool {
    let prefix = u32::from(a.prefix.min(b.prefix));
    let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
    u32::from(a.address) & mask == u32::from(b.address) & mask
}

/// What takes away all that is still there of what was made, whether its making or its taking away was
/// broken off. What other machines still use stays for the last of them.
#[must_use]
pub fn undo(made: &Made, facts: &Facts) -> Vec<Step> {
    let mut steps = Vec::new();
    let is_mine = |link: &&Link| link.name == made.card;
    let others = facts.links.iter().filter(|link| !is_mine(link) && Note::of(link).is_some());
    // Before the card, which tells other machines that it was off.
    if made.forwarding_was_off && facts.forwarding && others.count() == 0 {
        steps.push(forward(false));
    }
    if facts.link(&made.card).is_some() {
        steps.push(ip(&format!("link delete dev {}", made.card)));
    }
    let users = facts.links.iter().filter(|link| !is_mine(link));
    let users = users.filter(|link| link.master.as_deref() == Some(made.bridge.as_str())).count();
    if let Some(bridge) = facts.link(&made.bridge).filter(|_| users == 0) {
        // Broken off before anything was written on it, it is known by the journal alone.
        let is_bare = bridge.alias.is_none() && bridge.addresses.is_empty();
        if bridge.alias.as_deref() == Some(OURS) || made.bridge_is_new && is_bare {
            steps.push(ip(&format!("link delete dev {}", made.bridge)));
        }
    }
    steps.push(nft(rules::without(&made.machine)));
    steps
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
