//! The host's ports that a machine wants: which are taken, and by whom.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;

use archibald_machine::units::Transport;

/// A port that somebody else has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// TCP or UDP.
    pub transport: Transport,
    /// The port.
    pub port: u16,
    /// The program that has it, with its pid, where that can be seen.
    pub holder: Option<String>,
}

/// The ports of `wanted` that cannot be bound on `bind`; `root` is the root of /proc.
#[must_use]
pub fn taken(root: &Path, bind: IpAddr, wanted: &[(Transport, u16)]) -> Vec<Taken> {
    let mut taken = Vec::new();
    for &(transport, port) in wanted {
        let address = SocketAddr::new(bind, port);
        let free = match transport {
            Transport::Tcp => TcpListener::bind(address).is_ok(),
            Transport::Udp => UdpSocket::bind(address).is_ok(),
        };
        if !free {
            let holder = holder(root, transport, port);
            taken.push(Taken { transport, port, holder });
        }
    }
    taken
}

/// Who holds a port: the socket's inode from /proc/net, then the process with that inode open.
fn holder(root: &Path, transport: Transport, port: u16) -> Option<String> {
    let inode = ["", "6"].iter().find_map(|family| {
        let table = root.join(format!("proc/net/{transport}{family}"));
        socket_inode(&fs::read_to_string(table).ok()?, transport, port)
    })?;
    let link = format!("socket:[{inode}]");
    for process in fs::read_dir(root.join("proc")).ok()?.flatten() {
        let Ok(pid) = process.file_name().to_string_lossy().parse::<u32>() else { continue };
        let Ok(files) = fs::read_dir(process.path().join("fd")) else { continue };
        let holds = files
            .flatten()
            .any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str() == link.as_str()));
        if holds {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (pid {pid})", name.trim()));
        }
    }
    None
}

/// Columns of /proc/net/{tcp,udp}: 1 local address, 3 state (0A listens), 9 inode.
fn socket_inode(table: &str, transport: Transport, port: u16) -> Option<u64> {
    let suffix = format!(":{port:04X}");
    table.lines().skip(1).find_map(|line| {
        let mut columns = line.split_whitespace().skip(1);
        let local = columns.next()?;
        let state = columns.nth(1)?;
        let listens = transport == Transport::Udp || state == "0A";
        (local.ends_with(&suffix) && listens).then(|| columns.nth(5)?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_with_its_holder() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let wanted = [(Transport::Tcp, port)];
        let found = taken(Path::new("/"), [127, 0, 0, 1].into(), &wanted);
        assert_eq!(found.len(), 1);
        let holder = found[0].holder.as_ref().unwrap();
        assert!(holder.ends_with(&format!("(pid {})", std::process::id())), "{holder}");
        drop(listener);
        assert!(taken(Path::new("/"), [127, 0, 0, 1].into(), &wanted).is_empty());
    }

    #[test]
    fn udp_is_told_apart_from_tcp() {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        let ask =
            |transport| taken(Path::new("/"), [127, 0, 0, 1].into(), &[(transport, port)]).len();
        assert_eq!((ask(Transport::Udp), ask(Transport::Tcp)), (1, 0));
    }
}
