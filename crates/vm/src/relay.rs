//! Ranges of forwarded ports, kept by the machine's keeper instead of by QEMU.
//!
//! QEMU's user-mode network looks at every forwarded port's socket at every turn of its main loop: a
//! thousand of them cost a sixth of a core while nobody uses any. Here they wait in one epoll set,
//! and QEMU is asked for a port only when somebody first connects to it.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use archibald_machine::units::{Forward, Transport};
use rustix::event::epoll::{CreateFlags, Event, EventData, EventFlags, add, create, wait};
use serde_json::{Value, json};

use crate::qmp::{Qmp, QmpError};

/// Whether a forward is relayed: a TCP range. Single ports and UDP are QEMU's own.
#[must_use]
pub fn is_relayed(forward: &Forward) -> bool {
    forward.transport == Transport::Tcp && forward.count > 1
}

/// The listening sockets of all relayed ports.
#[derive(Debug)]
pub struct Relay {
    listeners: Vec<(TcpListener, u16)>,
}

impl Relay {
    /// Listens on every port of these ranges that is not in `taken`, the ports that QEMU has itself.
    ///
    /// # Errors
    /// When a port cannot be had, with its number.
    pub fn listen(bind: IpAddr, ranges: &[Forward], taken: &[u16]) -> io::Result<Self> {
        let mut listeners = Vec::new();
        for (host, guest) in ranges.iter().flat_map(|range| range.pairs()) {
            if taken.contains(&host) {
                continue;
            }
            let listener = TcpListener::bind(SocketAddr::new(bind, host))
                .map_err(|error| io::Error::new(error.kind(), format!("port {host}: {error}")))?;
            listener.set_nonblocking(true)?;
            listeners.push((listener, guest));
        }
        Ok(Self { listeners })
    }

    /// Relays connections until the process ends, on a thread of its own.
    ///
    /// # Errors
    /// When the kernel gives no epoll set.
    pub fn run(self, qmp: PathBuf) -> io::Result<()> {
        if self.listeners.is_empty() {
            return Ok(());
        }
        let epoll = create(CreateFlags::CLOEXEC)?;
        for (index, (listener, _)) in self.listeners.iter().enumerate() {
            add(&epoll, listener, EventData::new_u64(index as u64), EventFlags::IN)?;
        }
        let inner = Arc::new(Inner { qmp, known: Mutex::default() });
        thread::Builder::new().name("relay".to_owned()).spawn(move || {
            let mut events =
                [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; 16];
            loop {
                let Ok(ready) = wait(&epoll, &mut events, None) else { continue };
                for event in events.iter().take(ready) {
                    let index = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
                    let Some((listener, guest)) = self.listeners.get(index) else { continue };
                    let Ok((client, _)) = listener.accept() else { continue };
                    let (inner, guest) = (Arc::clone(&inner), *guest);
                    // A guest that does not answer keeps one client waiting, not the others.
                    let _ = thread::Builder::new().spawn(move || inner.serve(client, guest));
                }
            }
        })?;
        Ok(())
    }
}

struct Inner {
    qmp: PathBuf,
    /// Where QEMU listens for each port of the guest that has been asked for.
    known: Mutex<HashMap<u16, u16>>,
}

impl Inner {
    /// Joins a client with the guest; a client whose guest cannot be reached sees its connection
    /// closed, as one sees with QEMU's own forwards.
    fn serve(&self, client: TcpStream, guest: u16) {
        let Ok(port) = self.door(guest) else { return };
        let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { return };
        let _ = join(client, server);
    }

    fn door(&self, guest: u16) -> Result<u16, QmpError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(port) = known.get(&guest) {
            return Ok(*port);
        }
        let port = ask_for_port(&self.qmp, guest)?;
        known.insert(guest, port);
        Ok(port)
    }
}

/// Asks QEMU to forward a port of its own choice to this port of the guest.
fn ask_for_port(socket: &Path, guest: u16) -> Result<u16, QmpError> {
    // QEMU has one monitor client at a time; another one is soon gone.
    let mut tries = 0;
    let mut qmp = loop {
        match Qmp::connect(socket) {
            Ok(qmp) => break qmp,
            Err(error) if tries == 50 => return Err(error),
            Err(_) => {
                tries += 1;
                thread::sleep(Duration::from_millis(100));
            }
        }
    };
    let mut monitor = |line: String| {
        let command = "human-monitor-command";
        qmp.execute(command, json!({ "command-line": line }))
            .map(|value| value.as_str().map_or_else(|| Value::to_string(&value), str::to_owned))
    };
    monitor(format!("hostfwd_add net tcp:127.0.0.1:0-:{guest}"))?;
    let table = monitor("info usernet".to_owned())?;
    forwarded_from(&table, guest)
        .ok_or(QmpError::Malformed { command: "info usernet".to_owned(), line: table })
}

/// Columns of `info usernet`: protocol, file, source address, source port, destination, its port.
fn forwarded_from(table: &str, guest: u16) -> Option<u16> {
    table.lines().filter(|line| line.trim_start().starts_with("TCP[HOST_FORWARD]")).find_map(
        |line| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            let to: u16 = columns.get(5)?.parse().ok()?;
            (to == guest).then(|| columns.get(3)?.parse().ok())?
        },
    )
}

/// Copies both ways until both ends have said all they had to say.
fn join(client: TcpStream, server: TcpStream) -> io::Result<()> {
    client.set_nonblocking(false)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    let up = thread::spawn(move || {
        let _ = io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    let (mut from_server, mut to_client) = (server, client);
    let _ = io::copy(&mut from_server, &mut to_client);
    let _ = to_client.shutdown(Shutdown::Write);
    let _ = up.join();
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn the_port_is_read_from_qemus_table() {
        let table = "Hub -1 (net):\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\n  TCP[HOST_FORWARD]   3       127.0.0.1 33987       10.0.2.15  8017     0     0\n";
        assert_eq!(forwarded_from(table, 8017), Some(33987));
        assert_eq!(forwarded_from(table, 8018), None);
    }

    /// A QEMU that forwards every port that it is asked for to `guest`.
    fn qemu(guest: u16) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("qmp");
        let listener = UnixListener::bind(&socket).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                stream.write_all(b"{\"QMP\":{}}\n").unwrap();
                for line in BufReader::new(stream.try_clone().unwrap()).lines() {
                    let answer = if line.unwrap().contains("info usernet") {
                        json!({ "return": format!("  TCP[HOST_FORWARD] 3 127.0.0.1 {guest} 10.0.2.15 8001 0 0") })
                    } else {
                        json!({ "return": "" })
                    };
                    stream.write_all(format!("{answer}\n").as_bytes()).unwrap();
                }
            }
        });
        (dir, socket)
    }

    #[test]
    fn bytes_and_their_end_pass_both_ways() {
        let guest = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let (_dir, socket) = qemu(guest.local_addr().unwrap().port());
        let free = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let relay = Relay { listeners: vec![(free.try_clone().unwrap(), 8001)] };
        free.set_nonblocking(true).unwrap();
        relay.run(socket).unwrap();
        thread::spawn(move || {
            for stream in guest.incoming() {
                let mut stream = stream.unwrap();
                let mut said = Vec::new();
                stream.read_to_end(&mut said).unwrap();
                said.reverse();
                stream.write_all(&said).unwrap();
            }
        });
        for _ in 0..2 {
            let mut client = TcpStream::connect(free.local_addr().unwrap()).unwrap();
            client.write_all(b"abc").unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, "cba");
        }
    }

    #[test]
    fn a_taken_port_is_named() {
        let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let host = taken.local_addr().unwrap().port();
        let range = Forward { transport: Transport::Tcp, host, guest: 8000, count: 1 };
        let error = Relay::listen([127, 0, 0, 1].into(), &[range], &[]).unwrap_err();
        assert!(error.to_string().contains(&format!("port {host}")), "{error}");
        assert!(Relay::listen([127, 0, 0, 1].into(), &[range], &[host]).is_ok());
    }
}
