//! `archibald-guest echo`: sends back whatever comes, so that `archibald measure network` can time the
//! way to the machine and back. Lives as long as its standard input.

use std::io::{Read as _, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use super::Outcome;
use crate::GuestError;

/// Longer than any datagram that an Ethernet carries whole.
const LONGEST: usize = 2048;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// TCP ports, of which the first that is free is taken
    #[arg(long, value_name = "PORT", value_delimiter = ',')]
    tcp: Vec<u16>,
    /// UDP ports, likewise
    #[arg(long, value_name = "PORT", value_delimiter = ',')]
    udp: Vec<u16>,
}

impl Arguments {
    pub(super) fn run(&self, out: &mut dyn Write) -> Result<Outcome, GuestError> {
        let any = Ipv4Addr::UNSPECIFIED;
        let listener = self.tcp.iter().find_map(|port| TcpListener::bind((any, *port)).ok());
        let socket = self.udp.iter().find_map(|port| UdpSocket::bind((any, *port)).ok());
        let port = |address: std::io::Result<std::net::SocketAddr>| {
            address.ok().map(|address| address.port())
        };
        let told = serde_json::json!({
            "tcp": listener.as_ref().and_then(|listener| port(listener.local_addr())),
            "udp": socket.as_ref().and_then(|socket| port(socket.local_addr())),
        });
        writeln!(out, "{told}")?;
        out.flush()?;
        if let Some(listener) = listener {
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    thread::spawn(move || echo(stream));
                }
            });
        }
        if let Some(socket) = socket {
            thread::spawn(move || {
                let mut buffer = [0; LONGEST];
                loop {
                    // An error is that of a sender who has gone.
                    let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                    let _ = socket.send_to(buffer.get(..length).unwrap_or_default(), from);
                }
            });
        }
        let mut rest = [0; 256];
        while matches!(std::io::stdin().read(&mut rest), Ok(length) if length > 0) {}
        Ok(Outcome::Good)
    }
}

fn echo(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut buffer = [0; LONGEST];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(buffer.get(..length).unwrap_or_default()).is_err() {
            return;
        }
    }
}
