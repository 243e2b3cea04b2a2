//! Who listens: the kernel's own tables of sockets, `/proc/net/{tcp,tcp6,udp,udp6}`.

use archibald_machine::units::Transport;

use crate::Root;

/// Where a port is listened on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Nobody listens.
    Nowhere,
    /// On a loopback address alone.
    Loopback,
    /// On an address that the host's forward arrives at.
    Network,
}

/// Where `port` is listened on.
#[must_use]
pub fn reach(root: &Root, transport: Transport, port: u16) -> Reach {
    let tables = match transport {
        Transport::Tcp => ["/proc/net/tcp", "/proc/net/tcp6"],
        Transport::Udp => ["/proc/net/udp", "/proc/net/udp6"],
    };
    let texts = tables.iter().filter_map(|table| root.read(table));
    texts.map(|text| reach_in(&text, transport, port)).max().unwrap_or(Reach::Nowhere)
}

/// The same in the text of one table; see Documentation/networking/proc_net_tcp.rst.
fn reach_in(table: &str, transport: Transport, port: u16) -> Reach {
    // TCP_LISTEN; an unconnected UDP socket is in TCP_CLOSE.
    let waiting = match transport {
        Transport::Tcp => "0A",
        Transport::Udp => "07",
    };
    let lines = table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_whitespace();
        let (address, found) = fields.nth(1)?.split_once(':')?;
        let state = fields.nth(1)?;
        (u16::from_str_radix(found, 16).ok()? == port && state == waiting).then_some(address)
    });
    lines
        .map(|address| match address {
            // Written as little-endian words: 127.x.y.z ends in 7F.
            v4 if v4.len() == 8 && v4.ends_with("7F") => Reach::Loopback,
            "00000000000000000000000001000000" => Reach::Loopback,
            _ => Reach::Network,
        })
        .max()
        .unwrap_or(Reach::Nowhere)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 1 1
   1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 1 1
   2: 0F02000A:1269 0202000A:C350 01 00000000:00000000 00:00000000 00000000 0 0 1 1
";

    #[test]
    fn a_listener_is_told_from_loopback_and_from_a_connection() {
        assert_eq!(reach_in(TCP, Transport::Tcp, 22), Reach::Network);
        assert_eq!(reach_in(TCP, Transport::Tcp, 8080), Reach::Loopback);
        assert_eq!(reach_in(TCP, Transport::Tcp, 4713), Reach::Nowhere);
    }

    #[test]
    fn either_family_counts() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let v6 = format!("head\n 0: {:0<32}:0016 {:0<32}:0000 0A x\n", "", "");
        root.write("/proc/net/tcp6", v6.as_bytes(), 0o644).unwrap();
        assert_eq!(reach(&root, Transport::Tcp, 22), Reach::Network);
        assert_eq!(reach(&root, Transport::Udp, 22), Reach::Nowhere);
    }
}
