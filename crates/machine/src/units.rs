//! Units and addresses as types: each can only hold what it names, and prints as the file writes it.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a text should have looked like.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}")]
pub struct NotA {
    /// The form, with an example.
    pub expected: &'static str,
}

const fn not_a(expected: &'static str) -> NotA {
    NotA { expected }
}

/// An amount of memory or disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl Bytes {
    /// 2^20 bytes.
    pub const MIB: u64 = 1 << 20;
    /// 2^30 bytes.
    pub const GIB: u64 = 1 << 30;

    /// Whole MiB, as QEMU counts memory.
    #[must_use]
    pub fn mib(self) -> u64 {
        self.0 / Self::MIB
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n if n >= Self::GIB && n % Self::GIB == 0 => write!(f, "{} GiB", n / Self::GIB),
            n if n >= Self::GIB => write!(f, "{:.1} GiB", n as f64 / Self::GIB as f64),
            n if n >= Self::MIB && n % Self::MIB == 0 => write!(f, "{} MiB", n / Self::MIB),
            n if n >= Self::MIB => write!(f, "{:.1} MiB", n as f64 / Self::MIB as f64),
            n => write!(f, "{n} B"),
        }
    }
}

impl FromStr for Bytes {
    type Err = NotA;

    fn from_str(text: &str) -> Result<Self, NotA> {
        let error = not_a("a number with its unit, such as \"512 MiB\" or \"4 GiB\"");
        let text = text.trim();
        let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(|| error.clone())?;
        let (digits, unit) = text.split_at(split);
        let number: u64 = digits.parse().map_err(|_| error.clone())?;
        let unit = match unit.trim() {
            "MiB" | "M" => Self::MIB,
            "GiB" | "G" => Self::GIB,
            "TiB" | "T" => Self::GIB << 10,
            _ => return Err(error),
        };
        number.checked_mul(unit).map(Self).ok_or(error)
    }
}

/// A sample rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hertz(pub u32);

impl fmt::Display for Hertz {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} Hz", self.0)
    }
}

/// A number of audio frames: one sample of every channel each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Frames(pub u32);

impl fmt::Display for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} frames", self.0)
    }
}

/// A SCHED_FIFO priority, 1 to 97: 98 and 99 are left to the kernel's own threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct RtPriority(u8);

impl TryFrom<u8> for RtPriority {
    type Error = NotA;

    fn try_from(priority: u8) -> Result<Self, NotA> {
        Self::new(priority).ok_or(not_a("a priority from 1 to 97"))
    }
}

impl From<RtPriority> for u8 {
    fn from(priority: RtPriority) -> Self {
        priority.0
    }
}

impl RtPriority {
    /// The priority, if it is one.
    #[must_use]
    pub fn new(priority: u8) -> Option<Self> {
        (1..=97).contains(&priority).then_some(Self(priority))
    }

    /// As a number.
    #[must_use]
    pub fn get(self) -> u8 {
        self.0
    }
}

impl fmt::Display for RtPriority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A set of CPU numbers in the kernel's list format: `0-2,5`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CpuSet(BTreeSet<u32>);

impl CpuSet {
    /// Whether no CPU is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many CPUs are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether this CPU is in it.
    #[must_use]
    pub fn contains(&self, cpu: u32) -> bool {
        self.0.contains(&cpu)
    }

    /// The CPUs, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().copied()
    }

    /// The CPUs of this set that the other does not have.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        Self(self.0.difference(&other.0).copied().collect())
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<T: IntoIterator<Item = u32>>(iter: T) -> Self {
        Self(iter.into_iter().collect())
    }
}

impl FromStr for CpuSet {
    type Err = NotA;

    fn from_str(text: &str) -> Result<Self, NotA> {
        let error = || not_a("a list of CPUs such as \"2-3\" or \"1,4-5\"");
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let mut cpus = BTreeSet::new();
        for part in text.trim().split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let first: u32 = first.trim().parse().map_err(|_| error())?;
            let last: u32 = last.trim().parse().map_err(|_| error())?;
            // The kernel's own limit (NR_CPUS) is 8192 on x86_64.
            if first > last || last >= 8192 {
                return Err(error());
            }
            cpus.extend(first..=last);
        }
        Ok(Self(cpus))
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cpus = self.0.iter().copied().peekable();
        let mut separator = "";
        while let Some(first) = cpus.next() {
            let mut last = first;
            while let Some(next) = cpus.next_if_eq(&(last + 1)) {
                last = next;
            }
            if first == last {
                write!(f, "{separator}{first}")?;
            } else {
                write!(f, "{separator}{first}-{last}")?;
            }
            separator = ",";
        }
        Ok(())
    }
}

impl TryFrom<String> for CpuSet {
    type Error = NotA;

    fn try_from(text: String) -> Result<Self, NotA> {
        text.parse()
    }
}

impl From<CpuSet> for String {
    fn from(cpus: CpuSet) -> Self {
        cpus.to_string()
    }
}

/// Transport of a forwarded port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// Ports of the host that lead to ports of the machine, one to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// TCP or UDP.
    pub transport: Transport,
    /// First port on the host.
    pub host: u16,
    /// First port in the machine.
    pub guest: u16,
    /// How many ports in a row, at least 1.
    pub count: u16,
}

impl Forward {
    /// Every pair of (host port, guest port).
    pub fn pairs(self) -> impl Iterator<Item = (u16, u16)> {
        (0..self.count).map(move |i| (self.host + i, self.guest + i))
    }

    /// The host port that leads to this port of the machine.
    #[must_use]
    pub fn host_port_of(self, guest: u16) -> Option<u16> {
        self.pairs().find(|pair| pair.1 == guest).map(|pair| pair.0)
    }
}

impl FromStr for Forward {
    type Err = NotA;

    fn from_str(text: &str) -> Result<Self, NotA> {
        let error = || {
            not_a(
                "\"HOST:GUEST\", \"HOST:GUEST/udp\" or ranges of equal length such as \"8000-9000:8000-9000\", ports 1 to 65535",
            )
        };
        let (ports, transport) = match text.trim().split_once('/') {
            None => (text.trim(), Transport::Tcp),
            Some((ports, "tcp")) => (ports, Transport::Tcp),
            Some((ports, "udp")) => (ports, Transport::Udp),
            Some(_) => return Err(error()),
        };
        let (host, guest) = ports.split_once(':').unwrap_or((ports, ports));
        let range = |text: &str| -> Option<(u16, u16)> {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
            (first > 0 && first <= last).then_some((first, last))
        };
        let (host, guest) = range(host).zip(range(guest)).ok_or_else(error)?;
        if host.1 - host.0 != guest.1 - guest.0 || host.1 - host.0 == u16::MAX {
            return Err(error());
        }
        Ok(Self { transport, host: host.0, guest: guest.0, count: host.1 - host.0 + 1 })
    }
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count == 1 {
            write!(f, "{}:{}", self.host, self.guest)?;
        } else {
            let more = self.count - 1;
            write!(f, "{}-{}:{}-{}", self.host, self.host + more, self.guest, self.guest + more)?;
        }
        match self.transport {
            Transport::Tcp => Ok(()),
            Transport::Udp => f.write_str("/udp"),
        }
    }
}

/// An IPv4 address with its network's prefix length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network4 {
    /// The address.
    pub address: Ipv4Addr,
    /// Bits of the network part, 1 to 30.
    pub prefix: u8,
}

impl Network4 {
    /// Whether both lie in one network.
    #[must_use]
    pub fn same_network(self, other: Self) -> bool {
        let mask = u32::MAX << (32 - u32::from(self.prefix));
        self.prefix == other.prefix
            && u32::from(self.address) & mask == u32::from(other.address) & mask
    }
}

impl FromStr for Network4 {
    type Err = NotA;

    fn from_str(text: &str) -> Result<Self, NotA> {
        let error = || not_a("an address with its prefix, such as \"192.168.122.2/24\"");
        let (address, prefix) = text.trim().split_once('/').ok_or_else(error)?;
        let prefix: u8 = prefix.parse().map_err(|_| error())?;
        if !(1..=30).contains(&prefix) {
            return Err(error());
        }
        Ok(Self { address: address.parse().map_err(|_| error())?, prefix })
    }
}

impl fmt::Display for Network4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Place of a PCI device: domain, bus, device, function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PciAddress {
    /// Domain, 0 on most machines.
    pub domain: u16,
    /// Bus number.
    pub bus: u8,
    /// Device (slot), 0 to 31.
    pub device: u8,
    /// Function, 0 to 7.
    pub function: u8,
}

impl FromStr for PciAddress {
    type Err = NotA;

    fn from_str(text: &str) -> Result<Self, NotA> {
        let error = || not_a("a PCI address as `lspci -D` prints it, such as \"0000:00:1b.0\"");
        let parse = || -> Option<Self> {
            let (rest, function) = text.trim().rsplit_once('.')?;
            let mut parts = rest.rsplitn(3, ':');
            let device = u8::from_str_radix(parts.next()?, 16).ok()?;
            let bus = u8::from_str_radix(parts.next()?, 16).ok()?;
            let domain = parts.next().map_or(Some(0), |d| u16::from_str_radix(d, 16).ok())?;
            let function = u8::from_str_radix(function, 8).ok()?;
            (device < 32 && function < 8).then_some(Self { domain, bus, device, function })
        };
        parse().ok_or_else(error)
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{}", self.domain, self.bus, self.device, self.function)
    }
}

/// A folder of the host that the machine has too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Where it is on the host: absolute.
    pub host: String,
    /// Where it is in the machine: absolute, and not `/`.
    pub guest: String,
    /// Whether the machine may only read it.
    pub read_only: bool,
}

impl FromStr for Share {
    type Err = NotA;

    fn from_str(text: &str) -> Result<Self, NotA> {
        let error = || {
            not_a(
                "\"/FOLDER\", \"/FOLDER:/FOLDER-IN-THE-MACHINE\" or the same with \":ro\" at its end; in the machine in /srv, /mnt or a home, say",
            )
        };
        let (folders, read_only) = match text.strip_suffix(":ro") {
            Some(folders) => (folders, true),
            None => (text, false),
        };
        let (host, guest) = folders.split_once(':').unwrap_or((folders, folders));
        // As systemd names a mount unit by it.
        let plain = |part: &str| {
            !["", ".", ".."].contains(&part) && !part.contains([':', '\\', '%', '"', ' ', '\n'])
        };
        let whole =
            |path: &str| path.strip_prefix('/').is_some_and(|parts| parts.split('/').all(plain));
        // What is there already is the system's, and a boot that loses it does not come up.
        let own = [
            "bin", "boot", "dev", "etc", "lib", "lib64", "proc", "root", "run", "sbin", "sys",
            "usr", "var",
        ];
        let top = guest.split('/').nth(1).unwrap_or_default();
        let free = !own.contains(&top) && guest != "/home" && guest != "/tmp";
        match whole(host) && whole(guest) && free {
            true => Ok(Self { host: host.to_owned(), guest: guest.to_owned(), read_only }),
            false => Err(error()),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}{}", self.host, self.guest, if self.read_only { ":ro" } else { "" })
    }
}

/// Where a service is: a host's name or IPv4 address, and a TCP port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Endpoint {
    /// Reads `HOST` or `HOST:PORT`.
    ///
    /// # Errors
    /// What was expected instead.
    pub fn parse(text: &str, port: u16) -> Result<Self, NotA> {
        let expected = "\"HOST\" or \"HOST:PORT\", such as \"192.168.122.1:6817\"";
        let (host, port) = match text.split_once(':') {
            None => (text, port),
            Some((host, port)) => (host, port.parse().map_err(|_| not_a(expected))?),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
        if port == 0
            || !host.starts_with(|c: char| c.is_ascii_alphanumeric())
            || !host.chars().all(plain)
        {
            return Err(not_a(expected));
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Vendor and product of a USB device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct UsbId {
    /// Vendor number.
    pub vendor: u16,
    /// Product number.
    pub product: u16,
}

impl FromStr for UsbId {
    type Err = NotA;

    fn from_str(text: &str) -> Result<Self, NotA> {
        let error = || not_a("VENDOR:PRODUCT as `lsusb` prints it, such as \"1235:8210\"");
        let (vendor, product) = text.trim().split_once(':').ok_or_else(error)?;
        let number = |text: &str| u16::from_str_radix(text, 16).map_err(|_| error());
        Ok(Self { vendor: number(vendor)?, product: number(product)? })
    }
}

impl fmt::Display for UsbId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:04x}", self.vendor, self.product)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn cpu_sets_print_as_they_are_read(cpus in proptest::collection::btree_set(0u32..200, 0..40)) {
            let set: CpuSet = cpus.into_iter().collect();
            prop_assert_eq!(set.to_string().parse::<CpuSet>(), Ok(set));
        }

        #[test]
        fn no_text_makes_a_parser_panic(text in ".{0,40}") {
            let _ = text.parse::<CpuSet>();
            let _ = text.parse::<Bytes>();
            let _ = text.parse::<Forward>();
            let _ = text.parse::<Network4>();
            let _ = text.parse::<PciAddress>();
            let _ = text.parse::<UsbId>();
            let _ = text.parse::<Share>();
            let _ = Endpoint::parse(&text, 1);
        }

        #[test]
        fn forwards_print_as_they_are_read(host in 1u16..30000, guest in 1u16..30000, more in 0u16..2000, udp: bool) {
            let forward = Forward {
                transport: if udp { Transport::Udp } else { Transport::Tcp }, host, guest, count: more + 1,
            };
            prop_assert_eq!(forward.to_string().parse::<Forward>(), Ok(forward));
        }
    }

    #[test]
    fn a_range_of_other_length_is_no_forward() {
        assert!("8000-9000:8000-8999".parse::<Forward>().is_err());
        assert!("0:22".parse::<Forward>().is_err());
        assert!("9000-8000".parse::<Forward>().is_err());
        assert!("22/sctp".parse::<Forward>().is_err());
    }

    #[test]
    fn a_priority_out_of_bounds_is_no_priority() {
        let read = |text| serde_json::from_str::<RtPriority>(text).map(RtPriority::get).ok();
        assert_eq!([read("1"), read("97"), read("0"), read("98")], [Some(1), Some(97), None, None]);
    }

    #[test]
    fn sizes_need_a_unit() {
        assert_eq!("4 GiB".parse(), Ok(Bytes(4 << 30)));
        assert_eq!("512M".parse(), Ok(Bytes(512 << 20)));
        assert!("4".parse::<Bytes>().is_err());
        assert!("99999999999999 TiB".parse::<Bytes>().is_err());
    }

    #[test]
    fn a_share_is_whole_paths() {
        let share = |text: &str| text.parse::<Share>().map(|share| share.to_string()).ok();
        assert_eq!(share("/srv/farm").as_deref(), Some("/srv/farm:/srv/farm"));
        assert_eq!(share("/a,b:/mnt/x:ro").as_deref(), Some("/a,b:/mnt/x:ro"));
        for wrong in
            ["", "/", "srv", "/srv/../etc", "/srv/", "/a:b", "/a:/b:rw", "/a b", ":ro", "/a:/etc/x"]
        {
            assert_eq!(share(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_endpoint_s_port_may_be_left_out() {
        let read = |text| Endpoint::parse(text, 6817).map(|end| end.to_string()).ok();
        assert_eq!(read("head").as_deref(), Some("head:6817"));
        assert_eq!(read("10.0.0.1:1").as_deref(), Some("10.0.0.1:1"));
        for wrong in ["", ":1", "head:0", "head:x", "-h", "a b", "a:1:2", "${X}"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn pci_addresses_take_an_optional_domain() {
        assert_eq!(
            "00:1b.0".parse::<PciAddress>().map(|a| a.to_string()),
            Ok("0000:00:1b.0".into())
        );
        assert!("0000:00:2b.9".parse::<PciAddress>().is_err());
    }
}
