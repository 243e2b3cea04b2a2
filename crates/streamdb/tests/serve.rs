//! `streamdb serve`: starting, refusing to start, and ending.

mod server;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;

use server::{Server, bytes, expect, fresh, program, said};

#[test]
fn values_outlive_the_server() {
    let (dir, server) = fresh();
    for len in [0, 100, 5000, 65_536, 65_537, 300_000] {
        assert_eq!(server.put(&len.to_string(), &bytes(len, 1)), Some(201));
    }
    assert_eq!(server.stop(), Some(0));
    let server = Server::start(&dir.path().join("store"));
    for len in [0, 100, 5000, 65_536, 65_537, 300_000] {
        assert_eq!(server.get(&len.to_string()), Some(bytes(len, 1)));
    }
}

#[test]
fn beyond_this_machine_it_wants_a_token_or_a_word() {
    let dir = tempfile::tempdir().unwrap();
    let serve = |arguments: &[&str]| {
        let mut command = program();
        command.arg("serve").arg("--data").arg(dir.path()).args(arguments);
        command
    };
    let refused = serve(&["--listen", "0.0.0.0:0"]).output().unwrap();
    expect(&refused, 2);
    assert!(said(&refused).contains("--token-file"), "{}", said(&refused));
    let token = dir.path().join("token");
    std::fs::write(&token, "short\n").unwrap();
    let token_file = token.to_str().unwrap();
    expect(&serve(&["--token-file", token_file]).output().unwrap(), 2);
    expect(&serve(&["--token-file", "/none/there"]).output().unwrap(), 2);

    std::fs::write(&token, "0123456789abcdef\n").unwrap();
    let listen = ["--listen", "127.0.0.1:0", "--token-file", token_file];
    let server = Server::spawn(&mut serve(&listen));
    assert_eq!(server.put("k", b"x"), Some(401));
    expect(&server.run(&["ls"]), 3);
    expect(&server.run(&["ls", "--token-file", token_file]), 0);
    drop(server);

    let server = Server::spawn(&mut serve(&["--listen", "0.0.0.0:0", "--open"]));
    assert_ne!(server.address.port(), 0);
}

#[test]
fn a_held_store_and_a_taken_port_are_told() {
    let (dir, server) = fresh();
    let store = dir.path().join("store");
    let mut command = program();
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(&store);
    let held = command.output().unwrap();
    expect(&held, 3);
    assert!(said(&held).contains(store.to_str().unwrap()), "{}", said(&held));
    assert!(said(&held).contains("held by process"), "{}", said(&held));

    let other = tempfile::tempdir().unwrap();
    let mut command = program();
    command.args(["serve", "--listen", &server.address.to_string(), "--data"]);
    expect(&command.arg(other.path()).output().unwrap(), 3);
}

#[test]
fn wrong_use_is_told_with_status_2() {
    for arguments in [
        &["serve"][..],
        &["serve", "--data", "x", "--listen", "localhost:1"],
        &["serve", "--data", "x", "--max-object", "big"],
        &["nonsense"],
    ] {
        expect(&program().args(arguments).output().unwrap(), 2);
    }
}

#[test]
fn the_service_manager_is_told_when_it_is_ready_and_when_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let mut command = program();
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]);
    command.arg(dir.path().join("store")).env("NOTIFY_SOCKET", &path);
    let server = Server::spawn(&mut command);
    let mut told = [0; 100];
    let len = socket.recv(&mut told).unwrap();
    assert_eq!(told[..len].trim_ascii(), b"READY=1");
    assert_eq!(server.stop(), Some(0));
    let len = socket.recv(&mut told).unwrap();
    assert_eq!(told[..len].trim_ascii(), b"STOPPING=1");
}

#[test]
fn a_client_that_dawdles_over_its_request_is_let_go() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_with(dir.path(), &["--client-timeout", "1"]);
    let head = "PUT /v1/objects/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nab";
    for part in ["GET /health HTT", head] {
        let mut socket = TcpStream::connect(server.address).unwrap();
        socket.write_all(part.as_bytes()).unwrap();
        let mut answer = String::new();
        // Ends because the server hangs up; the test would otherwise never end.
        let _ = socket.read_to_string(&mut answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
    assert_eq!(server.get("k"), None);
}

#[test]
fn a_huge_head_is_refused() {
    let (_dir, server) = fresh();
    let mut socket = TcpStream::connect(server.address).unwrap();
    let head =
        format!("GET /health HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    // The server may hang up before all of it has been sent.
    let _ = socket.write_all(head.as_bytes());
    let mut answer = String::new();
    let _ = socket.read_to_string(&mut answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert_eq!(server.put("k", b"x"), Some(201));
}

/// One connection is let in at a time: the second client is only answered because the first, which
/// reads nothing of a large value, was given up.
#[test]
fn a_client_that_takes_nothing_of_its_answer_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let whole = 64 << 20;
    let server = Server::start(dir.path());
    assert_eq!(server.put("large", &bytes(whole, 1)), Some(201));
    drop(server);
    let options = ["--write-timeout", "1", "--connections", "1"];
    let server = Server::start_with(dir.path(), &options);
    let mut stuck = TcpStream::connect(server.address).unwrap();
    stuck.write_all(b"GET /v1/objects/large HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut first = [0; 12];
    stuck.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    assert_eq!(server.put("small", b"x"), Some(201));
    let mut rest = Vec::new();
    let _ = stuck.read_to_end(&mut rest);
    assert!(rest.len() < whole, "{}", rest.len());
}

#[test]
fn quotas_and_rates_are_taken_from_the_command_line_and_the_token_file() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "0123456789abcdef\n0123456789abcdeg write a/ 1K\n").unwrap();
    let token = token.to_str().unwrap();
    let store = dir.path().join("store");
    let options = ["--token-file", token, "--quota", "4K"];
    let server = Server::start_with(&store, &options);
    let put = |key: &str, len| {
        let file = dir.path().join("value");
        std::fs::write(&file, bytes(len, 1)).unwrap();
        server.run(&["put", "--token-file", token, key, file.to_str().unwrap()])
    };
    expect(&put("a/1", 1024), 0);
    let refused = put("a/2", 1);
    expect(&refused, 3);
    assert!(
        said(&refused).contains("quota of 1024 bytes of keys below \"a/\""),
        "{}",
        said(&refused)
    );
    expect(&put("b", 3072), 0);
    let refused = put("c", 1);
    assert!(said(&refused).contains("quota of 4096 bytes of the store"), "{}", said(&refused));
    drop(server);
    let server = Server::start_with(&dir.path().join("other"), &["--max-requests", "1"]);
    let answers: Vec<_> = (0..20).filter_map(|_| server.put("k", b"x")).collect();
    assert!(answers.contains(&429), "{answers:?}");
}
