//! Ports: those that the host forwards, seen from inside.

use archibald_machine::AudioServer;
use archibald_machine::units::{Forward, Transport};

use super::{Group, Machine, Row};
use crate::listening::{Reach, reach};

/// Of the PulseAudio door.
const PULSE: u16 = 4713;

pub(super) fn rows(machine: Machine<'_>) -> Vec<Row> {
    let mut rows = vec![address(machine), gateway(machine)];
    rows.extend(machine.settings.forward.iter().map(|forward| forwarded(machine, *forward)));
    rows
}

fn address(machine: Machine<'_>) -> Row {
    let asked = machine.settings.address.address.to_string();
    let table = machine.root.read("/proc/net/fib_trie").unwrap_or_default();
    // A leaf of the local table: the address on one line, its kind on the next.
    let leaf = format!("|-- {asked}");
    let mut lines = table.lines().skip_while(|line| line.trim() != leaf);
    let ours = lines.nth(1).is_some_and(|line| line.contains("host LOCAL"));
    Row::new(Group::Network, "network.address", "Own address", asked.clone())
        .judge(if ours { asked.as_str() } else { "not set" }, ours)
        .remedy("networkctl status; journalctl -u systemd-networkd")
}

fn gateway(machine: Machine<'_>) -> Row {
    let asked = machine.settings.gateway;
    let table = machine.root.read("/proc/net/route").unwrap_or_default();
    // Fields 1 and 2 are destination and gateway, in the machine's byte order.
    let found = table.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (destination, gateway) = (fields.next()?, fields.next()?);
        let gateway = u32::from_str_radix(gateway, 16).ok()?;
        (destination == "00000000").then(|| std::net::Ipv4Addr::from(gateway.swap_bytes()))
    });
    Row::new(Group::Network, "network.gateway", "Default route", asked.to_string())
        .equal(found.map(|found| found.to_string()))
        .remedy("networkctl status; journalctl -u systemd-networkd")
}

/// The service that must stand behind a port of the machine.
fn service(machine: Machine<'_>, transport: Transport, port: u16) -> Option<&'static str> {
    let settings = machine.settings;
    match (transport, port) {
        (Transport::Tcp, 22) => Some("ssh"),
        (Transport::Tcp, PULSE) if settings.server == AudioServer::PipeWire => {
            Some("pipewire-pulse")
        }
        (Transport::Tcp, port) if settings.streamdb_port == Some(port) => Some("streamdb"),
        _ => None,
    }
}

fn forwarded(machine: Machine<'_>, forward: Forward) -> Row {
    let Forward { transport, guest, count, .. } = forward;
    let last = guest.saturating_add(count - 1);
    let ports = if count == 1 { guest.to_string() } else { format!("{guest}-{last}") };
    let id = format!("network.forward.{ports}.{transport}");
    let title = format!("Port {ports}/{transport}");

    let must: Option<&str> = (count == 1).then(|| service(machine, transport, guest)).flatten();
    let Some(unit) = must else {
        // Somebody's own program may stand here, or nobody's: both are as specified.
        let listening: Vec<String> = (guest..=last)
            .filter(|port| reach(machine.root, transport, *port) == Reach::Network)
            .map(|port| port.to_string())
            .collect();
        let found = match listening.is_empty() {
            true => "free".to_owned(),
            false => format!("in use: {}", listening.join(", ")),
        };
        return Row::new(Group::Network, id, title, "free or in use").judge(found, true);
    };
    let reached = reach(machine.root, transport, guest);
    let found = match reached {
        Reach::Network => format!("{unit} listens"),
        Reach::Loopback => "only on loopback, where no forward arrives".to_owned(),
        Reach::Nowhere => "nobody listens".to_owned(),
    };
    Row::new(Group::Network, id, title, format!("{unit} listens"))
        .judge(found, reached == Reach::Network)
        .remedy(match unit {
            "pipewire-pulse" => "journalctl --user -u pipewire-pulse".to_owned(),
            unit => format!("journalctl -u {unit}"),
        })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Made, failed};
    use super::*;
    use crate::run::tests::Canned;

    const TCP: &str = "head
 0: 00000000:0016 00000000:0000 0A x
 1: 00000000:1269 00000000:0000 0A x
 2: 00000000:1F90 00000000:0000 0A x
";
    const FIB: &str = "Local:
        +-- 10.0.2.0/24 2 0 2
           |-- 10.0.2.15
              /32 host LOCAL
";
    const ROUTE: &str = "Iface Destination Gateway
enp0s1 0002000A 00000000
enp0s1 00000000 0202000A
";
    const GOOD: [(&str, &str); 3] =
        [("/proc/net/tcp", TCP), ("/proc/net/fib_trie", FIB), ("/proc/net/route", ROUTE)];

    #[test]
    fn services_behind_their_ports_pass_and_ranges_are_free() {
        let made = Made::new(&GOOD, Canned(vec![]));
        let rows = rows(made.machine());
        assert_eq!(failed(&rows), Vec::<&str>::new());
        let found = |id: &str| rows.iter().find(|row| row.id == id).unwrap().found.clone();
        assert_eq!(found("network.forward.4713.udp"), "free");
        assert_eq!(found("network.forward.8000-9000.tcp"), "in use: 8080");
    }

    #[test]
    fn a_service_on_loopback_or_missing_fails() {
        let made = Made::new(&[], Canned(vec![]));
        let loopback = "head\n 0: 0100007F:1F90 00000000:0000 0A x\n";
        made.root.write("/proc/net/tcp", loopback.as_bytes(), 0o644).unwrap();
        assert_eq!(
            failed(&rows(made.machine())),
            [
                "network.address",
                "network.gateway",
                "network.forward.22.tcp",
                "network.forward.4713.tcp",
                "network.forward.8080.tcp"
            ]
        );
    }

    #[test]
    fn with_jack_nobody_needs_to_stand_behind_4713() {
        let mut made = Made::new(&GOOD, Canned(vec![]));
        made.settings.server = AudioServer::Jack;
        let text = TCP.replace("1269", "126A");
        made.root.write("/proc/net/tcp", text.as_bytes(), 0o644).unwrap();
        assert_eq!(failed(&rows(made.machine())), Vec::<&str>::new());
    }
}
