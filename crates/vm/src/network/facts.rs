//! What of the host a machine's network depends on. Links and their addresses come from `ip`, which
//! sees the network namespace that it runs in; the rest is read through a root path.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use archibald_machine::units::Network4;
use serde::Deserialize;

use super::{NetworkError, Programs};

/// Bit of the right to change the network, in the kernel's include/uapi/linux/capability.h.
const CAP_NET_ADMIN: u32 = 12;

/// What of the host a machine's network depends on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// All links.
    pub links: Vec<Link>,
    /// Whether the host forwards IPv4.
    pub forwarding: bool,
    /// Whether this process may change links and rules.
    pub may_change: bool,
    /// Whether there is /dev/net/tun.
    pub tun: bool,
    /// Whether there is /dev/vhost-net.
    pub vhost: bool,
    /// The programs that are not there, by their names.
    pub missing: Vec<String>,
    /// Chains that drop what is forwarded unless one of their rules lets it through: a firewall's.
    pub dropping: Vec<String>,
    /// Addresses that libvirt has leased to its machines.
    pub leased: Vec<Ipv4Addr>,
    /// A name server that can be reached from beyond this host's loopback.
    pub name_server: Option<Ipv4Addr>,
}

/// A link of the host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// The kernel's word for what it is: `bridge`, `tun`, `veth`; absent for a plain card.
    pub kind: Option<String>,
    /// What somebody has written on it.
    pub alias: Option<String>,
    /// The bridge that it is joined to.
    pub master: Option<String>,
    /// Its IPv4 addresses.
    pub addresses: Vec<Network4>,
}

impl Facts {
    /// The link of this name.
    #[must_use]
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }
}

#[derive(Deserialize)]
struct Line {
    ifname: String,
    ifalias: Option<String>,
    master: Option<String>,
    linkinfo: Option<Info>,
    #[serde(default)]
    addr_info: Vec<Address>,
}

#[derive(Deserialize)]
struct Info {
    info_kind: Option<String>,
}

#[derive(Deserialize)]
struct Address {
    family: Option<String>,
    local: Option<String>,
    prefixlen: Option<u8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Lease {
    ip_address: Option<Ipv4Addr>,
}

/// Looks at the host below `root`, and changes nothing.
///
/// # Errors
/// When `ip` says nothing that can be read.
pub fn look(root: &Path, programs: &mut dyn Programs) -> Result<Facts, NetworkError> {
    let mut missing = Vec::new();
    for (program, version) in [("ip", "-V"), ("nft", "--version")] {
        if programs.run(&[program, version], None).is_err() {
            missing.push(program.to_owned());
        }
    }
    let links = match missing.iter().any(|program| program == "ip") {
        true => Vec::new(),
        false => links(&programs.run(&["ip", "-json", "-details", "address", "show"], None)?)?,
    };
    // Who may not ask need not know: such a user may not change anything either.
    let chains = programs.run(&["nft", "list", "chains"], None).unwrap_or_default();
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    let capabilities = read("proc/self/status");
    let capabilities = capabilities.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let capabilities =
        capabilities.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0);
    let leases = read("var/lib/libvirt/dnsmasq/virbr0.status");
    let leases: Vec<Lease> = serde_json::from_str(&leases).unwrap_or_default();
    Ok(Facts {
        links,
        forwarding: read("proc/sys/net/ipv4/ip_forward").trim() == "1",
        may_change: capabilities >> CAP_NET_ADMIN & 1 == 1,
        tun: root.join("dev/net/tun").exists(),
        vhost: root.join("dev/vhost-net").exists(),
        missing,
        dropping: dropping(&chains),
        leased: leases.into_iter().filter_map(|lease| lease.ip_address).collect(),
        // systemd-resolved's own list, since the usual file then names its stub on loopback.
        name_server: name_server(&read("run/systemd/resolve/resolv.conf"))
            .or_else(|| name_server(&read("etc/resolv.conf"))),
    })
}

fn links(json: &str) -> Result<Vec<Link>, NetworkError> {
    let lines: Vec<Line> = serde_json::from_str(json).map_err(|error| NetworkError::Command {
        command: "ip -json -details address show".to_owned(),
        reason: format!("its answer cannot be read: {error}"),
    })?;
    let link = |line: Line| Link {
        addresses: line.addr_info.iter().filter_map(address).collect(),
        // A veth in this namespace is shown as `name@peer`, but not in JSON.
        name: line.ifname,
        kind: line.linkinfo.and_then(|info| info.info_kind),
        alias: line.ifalias,
        master: line.master,
    };
    Ok(lines.into_iter().map(link).collect())
}

fn address(address: &Address) -> Option<Network4> {
    if address.family.as_deref() != Some("inet") {
        return None;
    }
    Some(Network4 { address: address.local.as_ref()?.parse().ok()?, prefix: address.prefixlen? })
}

/// The base chains of the forward hook with the policy to drop, as `table ip filter, chain FORWARD`.
fn dropping(chains: &str) -> Vec<String> {
    let (mut table, mut chain) = ("", "");
    let mut found = Vec::new();
    for line in chains.lines().map(str::trim) {
        let name = line.trim_end_matches('{').trim_end();
        if line.starts_with("table ") {
            table = name;
        } else if line.starts_with("chain ") {
            chain = name;
        } else if line.contains(" hook forward ") && line.contains("policy drop") {
            found.push(format!("{table}, {chain}"));
        }
    }
    found
}

fn name_server(resolv: &str) -> Option<Ipv4Addr> {
    let servers = resolv.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let mut servers = servers.filter_map(|text| text.trim().parse::<Ipv4Addr>().ok());
    servers.find(|server| !server.is_loopback() && !server.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Canned(&'static str);

    const CHAINS: &str = "table ip filter {
	chain FORWARD {
		type filter hook forward priority filter; policy drop;
	}
	chain INPUT {
		type filter hook input priority filter; policy drop;
	}
}
table inet archibald-other {
	chain routed {
		type filter hook forward priority filter; policy accept;
	}
}
";

    impl Programs for Canned {
        fn run(&mut self, words: &[&str], _: Option<&str>) -> Result<String, NetworkError> {
            match words {
                ["ip", "-json", ..] => Ok(self.0.to_owned()),
                ["ip", ..] => Ok(String::new()),
                ["nft", "list", "chains"] => Ok(CHAINS.to_owned()),
                _ => Err(NetworkError::Command { command: words.join(" "), reason: "no".into() }),
            }
        }
    }

    #[test]
    fn a_host_is_read() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("proc/self/status", "Name:\tx\nCapEff:\t0000000000001000\n");
        write("proc/sys/net/ipv4/ip_forward", "1\n");
        write("dev/net/tun", "");
        write("etc/resolv.conf", "# stub\nnameserver 127.0.0.53\nnameserver 9.9.9.9\n");
        write(
            "var/lib/libvirt/dnsmasq/virbr0.status",
            r#"[{"ip-address":"192.168.122.77","mac-address":"52:54:00:00:00:01"}]"#,
        );
        let facts = look(
            root.path(),
            &mut Canned(
                r#"[{"ifname":"lo","addr_info":[{"family":"inet","local":"127.0.0.1","prefixlen":8},
                     {"family":"inet6","local":"::1","prefixlen":128}]},
                    {"ifname":"br0","ifalias":"archibald","linkinfo":{"info_kind":"bridge"},
                     "addr_info":[{"family":"inet","local":"192.168.122.1","prefixlen":24}]},
                    {"ifname":"t","master":"br0","linkinfo":{"info_kind":"tun"}}]"#,
            ),
        )
        .unwrap();
        assert!(facts.may_change && facts.forwarding && facts.tun && !facts.vhost);
        assert_eq!(facts.missing, ["nft"]);
        assert_eq!(facts.dropping, ["table ip filter, chain FORWARD"]);
        assert_eq!(facts.leased, [Ipv4Addr::new(192, 168, 122, 77)]);
        assert_eq!(facts.name_server, Some(Ipv4Addr::new(9, 9, 9, 9)));
        let bridge = facts.link("br0").unwrap();
        assert_eq!(bridge.kind.as_deref(), Some("bridge"));
        assert_eq!(bridge.alias.as_deref(), Some("archibald"));
        assert_eq!(bridge.addresses[0].to_string(), "192.168.122.1/24");
        assert_eq!(facts.link("t").unwrap().master.as_deref(), Some("br0"));
    }

    #[test]
    fn an_answer_that_is_no_list_of_links_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let error = look(root.path(), &mut Canned("oh")).unwrap_err();
        assert!(error.to_string().contains("ip -json"), "{error}");
    }
}
