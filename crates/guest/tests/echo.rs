//! `archibald-guest echo` on this host's loopback.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

#[test]
fn what_is_sent_comes_back_until_the_input_ends() {
    // A port that is taken, then one of the system's choice.
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let ports = format!("{},0", taken.local_addr().unwrap().port());
    let mut child = Command::new(env!("CARGO_BIN_EXE_archibald-guest"))
        .args(["echo", "--tcp", &ports, "--udp", "0"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let told: serde_json::Value = serde_json::from_str(&line).unwrap();
    let port = |name: &str| u16::try_from(told[name].as_u64().unwrap()).unwrap();

    let mut stream = TcpStream::connect(("127.0.0.1", port("tcp"))).unwrap();
    stream.write_all(b"there and back").unwrap();
    let mut back = [0; 14];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"there and back");

    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket.send_to(b"datagram", ("127.0.0.1", port("udp"))).unwrap();
    let mut back = [0; 64];
    let (length, _) = socket.recv_from(&mut back).unwrap();
    assert_eq!(&back[..length], b"datagram");

    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    assert!(TcpStream::connect(("127.0.0.1", port("tcp"))).is_err());
}
