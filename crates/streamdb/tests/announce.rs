//! `serve --announce`, asked for over multicast DNS in a network of the test's own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed test should fail at the line that fails"
)]
#![allow(clippy::print_stdout, reason = "what was skipped is told")]

mod server;

use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use server::{Server, expect, program, said};

const INSIDE: &str = "STREAMDB_TEST_INSIDE_NETWORK";
const ADDRESS: &str = "10.83.7.1";
const GROUP: (Ipv4Addr, u16) = (Ipv4Addr::new(224, 0, 0, 251), 5353);

#[test]
fn a_server_that_only_this_machine_reaches_is_not_announced_unasked() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |arguments: &[&str]| {
        let mut command = program();
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(dir.path());
        command.args(arguments).output().unwrap()
    };
    let output = refused(&["--announce"]);
    expect(&output, 2);
    assert!(said(&output).contains("--announce-loopback"), "{}", said(&output));
    expect(&refused(&["--announce-loopback"]), 2);
    expect(&refused(&["--announce", "with.dots"]), 2);
}

#[test]
fn it_is_found_by_its_name_and_taken_back() {
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    // A network of its own, with one link that leads nowhere.
    let test = std::env::current_exe().unwrap();
    let links = format!(
        "ip link set lo up && ip link add d0 type veth peer name d1 && ip link set d1 up && ip addr add {ADDRESS}/24 dev d0 && \
         ip link set d0 up multicast on && ip route add default dev d0"
    );
    let made =
        Command::new("unshare").args(["--net", "--map-root-user", "sh", "-c", &links]).output();
    if !made.is_ok_and(|made| made.status.success()) {
        println!(
            "SKIPPED: no network namespace with a link can be made here (apt-get install iproute2)"
        );
        return;
    }
    let run = format!(
        "{links} && exec \"$0\" --exact it_is_found_by_its_name_and_taken_back --nocapture"
    );
    let output = Command::new("unshare")
        .args(["--net", "--map-root-user", "sh", "-c", &run])
        .arg(test)
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn inside() {
    let dir = tempfile::tempdir().unwrap();
    let listen = format!("{ADDRESS}:0");
    let mut command = program();
    command.args(["serve", "--open", "--listen", &listen, "--announce", "The store", "--data"]);
    let server = Server::spawn(command.arg(dir.path()));
    let port = server.address.port().to_be_bytes();
    for kind in ["_http", "_webdav", "_streamdb"] {
        let answer = ask(kind).expect("somebody answers for it");
        let has = |part: &[u8]| answer.windows(part.len()).any(|there| there == part);
        // The instance's label, its port as the target record tells it, and the host's address.
        assert!(has(b"\x09The store"), "{}", answer.escape_ascii());
        assert!(has(&[&[0, 0, 0, 0], &port[..]].concat()), "{}", answer.escape_ascii());
        assert!(has(&[0, 4, 10, 83, 7, 1]), "{}", answer.escape_ascii());
        assert!(has(b"path=/"), "{}", answer.escape_ascii());
    }
    // It says goodbye: a record with no time to live goes to the group.
    let heard = group();
    assert_eq!(server.stop(), Some(0));
    let mut packet = [0; 9000];
    loop {
        let (len, _) = heard.recv_from(&mut packet).unwrap();
        let goodbye = packet[..len].windows(10).any(|part| {
            // PTR, class IN, time to live 0.
            part[..8] == [0, 12, 0, 1, 0, 0, 0, 0]
        });
        if goodbye {
            return;
        }
    }
}

/// A socket that hears what is sent to the group.
fn group() -> UdpSocket {
    let socket =
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)
            .unwrap();
    rustix::net::sockopt::set_socket_reuseaddr(&socket, true).unwrap();
    rustix::net::sockopt::set_socket_reuseport(&socket, true).unwrap();
    let any = std::net::SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, GROUP.1);
    rustix::net::bind(&socket, &any).unwrap();
    let socket = UdpSocket::from(socket);
    socket.join_multicast_v4(&GROUP.0, &ADDRESS.parse().unwrap()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    socket
}

/// Asks the group who offers such a service, until somebody answers for it.
fn ask(kind: &str) -> Option<Vec<u8>> {
    let socket = group();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut question = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    let mut name = Vec::new();
    for label in [kind, "_tcp", "local"] {
        name.push(u8::try_from(label.len()).unwrap());
        name.extend(label.as_bytes());
    }
    question.extend(&name);
    question.extend([0, 0, 12, 0, 1]);
    let mut packet = [0; 9000];
    for _ in 0..60 {
        socket.send_to(&question, GROUP).unwrap();
        while let Ok((len, _)) = socket.recv_from(&mut packet) {
            let answer = &packet[..len];
            // An answer, with the target's record in it; what is asked is heard here as well.
            let target = answer.windows(4).any(|part| part == [0, 33, 0x80, 1]);
            if answer[2] & 0x80 != 0 && target && answer[12..].starts_with(&name) {
                return Some(answer.to_vec());
            }
        }
    }
    None
}
