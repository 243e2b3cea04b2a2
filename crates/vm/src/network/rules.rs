//! The machine's own nftables tables, as text that a person can read: `nft list table inet ...` shows
//! them again.
//!
//! There are two, because a packet has two ways: what the host sends or routes passes the `inet`
//! hooks, which know connections; what another machine on the bridge sends passes only the `bridge`
//! hook, where not every kernel knows them. No rule of another table is touched, and none can be
//! overruled: a packet must be let through by all.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use archibald_machine::Machine;
use archibald_machine::units::{Forward, Network4, Transport};

/// Name of the tables of the machine of this name.
#[must_use]
pub fn table(machine: &str) -> String {
    format!("archibald-{machine}")
}

/// Takes the tables away; good also when they are not there.
pub(super) fn without(machine: &str) -> String {
    let table = table(machine);
    // To delete what is not there is an error, so each is made first.
    ["inet", "bridge"]
        .map(|family| format!("table {family} {table}\ndelete table {family} {table}\n"))
        .concat()
}

/// Puts the tables in place of those that were there before, all at once.
pub(super) fn rules(
    machine: &Machine,
    bridge: &str,
    card: &str,
    host: Network4,
    guest: Ipv4Addr,
) -> String {
    let name = &machine.name;
    let (table, forwards) = (table(name), &machine.network.forward);
    let sets = sets(forwards);
    let udp = match forwards.iter().any(|forward| forward.transport == Transport::Udp) {
        true => "\n\t\tudp dport @udp_ports accept",
        false => "",
    };
    let tcp = match forwards.iter().any(|forward| forward.transport == Transport::Tcp) {
        true => "\n\t\ttcp dport @tcp_ports accept",
        false => "",
    };
    let network = network(host);
    let opened = machine.network.is_open_to_others();
    let others = match opened {
        true => {
            "# network.bind is no loopback address: everybody may come to the open ports.\n\t\tjump machine"
        }
        false => {
            "# network.bind is a loopback address: only the host and the bridge may come.\n\t\tiifname BRIDGE jump machine\n\t\tmeta l4proto tcp reject with tcp reset\n\t\treject with icmp admin-prohibited"
        }
    };
    let others = others.replace("BRIDGE", &format!("\"{bridge}\""));
    let inwards = if opened { inwards(machine, bridge, guest) } else { String::new() };
    let remove = without(name);
    format!(
        "# The machine \"{name}\" of archibald: who reaches {guest}. Removed with the machine.
{remove}
table inet {table} {{
{sets}
	chain machine {{
		ct state established,related accept
		icmp type echo-request accept{tcp}{udp}
		meta l4proto tcp reject with tcp reset
		reject with icmp admin-prohibited
	}}

	chain from_host {{
		type filter hook output priority filter; policy accept;
		oifname \"{bridge}\" ip daddr {guest} jump machine
	}}

	chain routed {{
		type filter hook forward priority filter; policy accept;
		oifname \"{bridge}\" ip daddr {guest} jump others
	}}

	chain others {{
		ct state established,related accept
		{others}
	}}

	chain outwards {{
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr {guest} ip daddr != {network} masquerade
	}}
{inwards}}}

table bridge {table} {{
{sets}
	chain bridged {{
		type filter hook forward priority filter; policy accept;
		oifname \"{card}\" jump machine
	}}

	# Connections are not known here: TCP segments that begin none are let through, and of UDP only what
	# goes to an open port.
	chain machine {{
		ether type arp accept
		ether type != ip drop
		icmp type {{ echo-request, echo-reply, destination-unreachable, time-exceeded }} accept{tcp}{udp}
		tcp flags & (syn | ack) != syn accept
		drop
	}}
}}
"
    )
}

/// The ports inside the machine that `network.forward` names.
fn sets(forwards: &[Forward]) -> String {
    let mut text = String::new();
    for transport in [Transport::Tcp, Transport::Udp] {
        let ports: Vec<String> = forwards
            .iter()
            .filter(|forward| forward.transport == transport)
            .map(|forward| range(forward.guest, forward.count))
            .collect();
        if ports.is_empty() {
            continue;
        }
        let ports = ports.join(", ");
        let _ = writeln!(
            text,
            "\tset {transport}_ports {{\n\t\ttype inet_service\n\t\tflags interval\n\t\tauto-merge\n\t\telements = {{ {ports} }}\n\t}}"
        );
    }
    text
}

/// The host's ports that lead to the machine's, for those who come from elsewhere.
fn inwards(machine: &Machine, bridge: &str, guest: Ipv4Addr) -> String {
    let to = match machine.network.bind {
        IpAddr::V4(address) if !address.is_unspecified() => format!("ip daddr {address}"),
        _ => "fib daddr type local".to_owned(),
    };
    let mut text =
        "\n\tchain inwards {\n\t\ttype nat hook prerouting priority dstnat; policy accept;\n"
            .to_owned();
    for forward in &machine.network.forward {
        let Forward { transport, host, guest: port, count } = *forward;
        let target = if host == port {
            guest.to_string()
        } else if count == 1 {
            format!("{guest}:{port}")
        } else {
            let pairs = forward.pairs().map(|(host, port)| format!("{host} : {port}"));
            let pairs = pairs.collect::<Vec<_>>().join(", ");
            format!("{guest} : {transport} dport map {{ {pairs} }}")
        };
        let ports = range(host, count);
        let _ = writeln!(
            text,
            "\t\tiifname != \"{bridge}\" {to} {transport} dport {ports} dnat ip to {target}"
        );
    }
    text + "\t}\n"
}

fn range(first: u16, count: u16) -> String {
    match count {
        1 => first.to_string(),
        _ => format!("{first}-{}", first.saturating_add(count - 1)),
    }
}

fn network(of: Network4) -> String {
    let mask = u32::MAX.checked_shl(32 - u32::from(of.prefix)).unwrap_or(0);
    format!("{}/{}", Ipv4Addr::from(u32::from(of.address) & mask), of.prefix)
}
