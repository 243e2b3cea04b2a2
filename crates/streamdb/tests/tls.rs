//! TLS by a given certificate.

#![allow(clippy::unwrap_used, reason = "a failed test should fail at the line that fails")]
#![allow(clippy::print_stdout, reason = "what was skipped is told")]

mod server;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use server::{Server, expect, program, said};

#[test]
fn a_given_certificate_is_shown_and_a_wrong_one_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (cert, key) = (path("cert.pem"), path("key.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-days", "3650", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1", "-out", &cert, "-keyout", &key])
        .output();
    let curl = Command::new("curl").arg("--version").output();
    if !made.is_ok_and(|made| made.status.success()) || curl.is_err() {
        println!("SKIPPED: openssl or curl is not installed (apt-get install openssl curl)");
        return;
    }
    let options = ["--tls-cert", &cert, "--tls-key", &key];
    let server = Server::start_with(&dir.path().join("store"), &options);
    let url = format!("https://{}/v1/objects/k", server.address);
    let curl = |arguments: &[&str]| {
        Command::new("curl").args(["-sf", "--cacert", &cert]).args(arguments).output().unwrap()
    };
    assert!(curl(&["-T", &cert, &url]).status.success());
    assert_eq!(curl(&[&url]).stdout, std::fs::read(&cert).unwrap());
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
        command.args(["serve", "--data", &path("other"), "--listen", "127.0.0.1:0"]);
        let refused = command.args(options).output().unwrap();
        expect(&refused, 2);
        assert!(said(&refused).contains("--tls-cert"), "{}", said(&refused));
    }
}
