//! TLS by a given certificate, and HTTP/2 with it and without.

#![allow(clippy::unwrap_used, reason = "a failed test should fail at the line that fails")]
#![allow(clippy::print_stdout, reason = "what was skipped is told")]

mod server;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Output};

use server::{Server, bytes, expect, fresh, program, said, text};
use tempfile::TempDir;

fn path(dir: &TempDir, name: &str) -> String {
    dir.path().join(name).to_str().unwrap().to_owned()
}

/// Makes a certificate for 127.0.0.1 and its key, as `serve --help` says.
fn made(cert: &str, key: &str) -> bool {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-days", "3650", "-subj", "/CN=localhost", "-addext"])
        .args(["subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-out", cert, "-keyout", key])
        .output();
    let curl = Command::new("curl").arg("--version").output();
    let there = made.is_ok_and(|made| made.status.success()) && curl.is_ok();
    if !there {
        println!("SKIPPED: openssl or curl is not installed (apt-get install openssl curl)");
    }
    there
}

fn curl(arguments: &[&str]) -> Output {
    Command::new("curl").args(["-sf", "--max-time", "60"]).args(arguments).output().unwrap()
}

#[test]
fn a_given_certificate_is_shown_and_a_wrong_one_told() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (path(&dir, "cert.pem"), path(&dir, "key.pem"));
    if !made(&cert, &key) {
        return;
    }
    let options = ["--tls-cert", &cert, "--tls-key", &key];
    let server = Server::start_with(&dir.path().join("store"), &options);
    let url = format!("https://{}/v1/objects/k", server.address);
    // What was agreed on is told: HTTP/2 where the client can, HTTP/1.1 where it cannot.
    let version = ["--cacert", &cert, "-w", "%{http_version}"];
    for (asked, agreed) in [("--http2", "2"), ("--http1.1", "1.1")] {
        let body = path(&dir, "body");
        let put = curl(&[&version[..], &[asked, "-o", &body, "-T", &cert, &url]].concat());
        assert_eq!((put.status.code(), text(&put)), (Some(0), agreed.into()));
        let get = curl(&[&version[..], &[asked, "-o", &body, &url]].concat());
        assert_eq!(text(&get), agreed);
        assert_eq!(std::fs::read(&body).unwrap(), std::fs::read(&cert).unwrap());
    }
    // Whoever speaks without TLS gets no answer in the clear.
    let mut plain = TcpStream::connect(server.address).unwrap();
    plain.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"));
    assert_eq!(server.stop(), Some(0));

    for options in
        [["--tls-cert", &key, "--tls-key", &key], ["--tls-cert", &cert, "--tls-key", &cert]]
    {
        let mut command = program();
        command.args(["serve", "--data", &path(&dir, "other"), "--listen", "127.0.0.1:0"]);
        let refused = command.args(options).output().unwrap();
        expect(&refused, 2);
        assert!(said(&refused).contains("--tls-cert"), "{}", said(&refused));
    }
}

#[test]
fn the_client_speaks_https_to_whom_it_is_told_to_trust() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (path(&dir, "cert.pem"), path(&dir, "key.pem"));
    let (other, other_key) = (path(&dir, "other.pem"), path(&dir, "other-key.pem"));
    if !made(&cert, &key) || !made(&other, &other_key) {
        return;
    }
    let options = ["--tls-cert", &cert, "--tls-key", &key];
    let server = Server::start_with(&dir.path().join("store"), &options);
    let run = |arguments: &[&str]| {
        let mut command = program();
        command.env("STREAMDB_SERVER", format!("https://{}", server.address));
        command.args(arguments).output().unwrap()
    };
    let file = path(&dir, "value");
    std::fs::write(&file, bytes(300_000, 1)).unwrap();
    expect(&run(&["put", "--cacert", &cert, "takes/one", &file]), 0);
    let got = run(&["cat", "--cacert", &cert, "takes/one"]);
    expect(&got, 0);
    assert_eq!(got.stdout, bytes(300_000, 1));
    for wrong in [&["ls", "--cacert", &other][..], &["ls"]] {
        let refused = run(wrong);
        expect(&refused, 3);
        assert!(said(&refused).contains("--cacert"), "{}", said(&refused));
    }
    for file in ["/none/there", &key] {
        expect(&run(&["ls", "--cacert", file]), 2);
    }
}

#[test]
fn http2_without_tls_is_spoken_to_those_who_know() {
    let (dir, server) = fresh();
    if !made(&path(&dir, "cert.pem"), &path(&dir, "key.pem")) {
        return;
    }
    let value = path(&dir, "value");
    std::fs::write(&value, bytes(3_000_000, 1)).unwrap();
    let url = server.object("k");
    let known = ["--http2-prior-knowledge", "-w", "%{http_version}"];
    let told = curl(&[&known[..], &["-o", "/dev/null", "-T", &value, &url]].concat());
    assert_eq!(text(&told), "2");
    let part = curl(&["--http2-prior-knowledge", "-r", "1000000-1000009", &url]);
    assert_eq!(part.stdout, &bytes(3_000_000, 1)[1_000_000..1_000_010]);
    // A page from elsewhere that has its name point here is refused in this version as well.
    let elsewhere = curl(&["--http2-prior-knowledge", "-H", "Host: example.org", &url]);
    assert_eq!(elsewhere.status.code(), Some(22));
    assert_eq!(server.get("k"), Some(bytes(3_000_000, 1)));
}

/// The start of every HTTP/2 connection: the preface and an empty SETTINGS.
const BEGIN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// One connection is let in at a time, so that the last request is only answered because both
/// others were given up: one that asks nothing, one that has no room for the rest of its answer.
#[test]
fn http2_clients_that_only_hold_their_place_are_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    assert_eq!(server.put("large", &bytes(1 << 20, 1)), Some(201));
    drop(server);
    let options = ["--write-timeout", "1", "--client-timeout", "1", "--connections", "1"];
    let server = Server::start_with(dir.path(), &options);
    let mut idle = TcpStream::connect(server.address).unwrap();
    idle.write_all(BEGIN).unwrap();
    let mut stuck = TcpStream::connect(server.address).unwrap();
    stuck.write_all(BEGIN).unwrap();
    // GET over http from localhost, as HPACK; the window of 65,535 bytes is never widened.
    let mut head = b"\x82\x86\x44\x11/v1/objects/large\x41\x09localhost".to_vec();
    let length = u8::try_from(head.len()).unwrap();
    let mut frame = vec![0, 0, length, 1, 5, 0, 0, 0, 1];
    frame.append(&mut head);
    stuck.write_all(&frame).unwrap();
    // The server's keep-alive pings are answered by nobody either, which alone would end both; that
    // they end for what they are is held by the unit test.
    let mut got = [Vec::new(), Vec::new()];
    for (socket, got) in [&mut idle, &mut stuck].into_iter().zip(&mut got) {
        let _ = socket.read_to_end(got);
    }
    assert!(got[0].len() < 1000 && (60_000..100_000).contains(&got[1].len()));
    assert_eq!(server.put("small", b"x"), Some(201));
}

/// A first piece too short to tell the version is waited for, and not for long.
#[test]
fn a_client_that_stops_within_its_first_bytes_is_let_go() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_with(dir.path(), &["--client-timeout", "1"]);
    let mut slow = TcpStream::connect(server.address).unwrap();
    slow.write_all(b"P").unwrap();
    let mut rest = Vec::new();
    let _ = slow.read_to_end(&mut rest);
    assert_eq!(rest, b"");
    let mut slow = TcpStream::connect(server.address).unwrap();
    for piece in [&b"P"[..], b"RO", b"PFIND /dav/ HTTP/1.1\r\nHost: localhost\r\nDepth: 0\r\n\r\n"]
    {
        slow.write_all(piece).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(30));
    }
    let mut first = [0; 12];
    slow.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 207");
}
