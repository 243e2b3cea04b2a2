//! Open streams over HTTP: appended to, read along and by ranges, sealed; and a thousand readers.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a failed test should fail at the line that fails"
)]

mod server;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use server::{Server, agent, bytes, expect, fresh, program, text};

fn append(server: &Server, key: &str, piece: &[u8], offset: Option<usize>) -> (u16, String) {
    let mut request = agent().post(format!("{}?append", server.object(key)));
    if let Some(offset) = offset {
        request = request.header("streamdb-offset", offset.to_string());
    }
    let answer = request.send(piece).unwrap();
    let size = answer.headers().get("streamdb-size");
    let size = size.map(|size| size.to_str().unwrap().to_owned()).unwrap_or_default();
    (answer.status().as_u16(), size)
}

fn post(server: &Server, key: &str, query: &str) -> u16 {
    let answer = agent().post(format!("{}?{query}", server.object(key))).send_empty().unwrap();
    answer.status().as_u16()
}

#[test]
fn a_stream_is_appended_to_read_by_ranges_and_sealed() {
    let (_dir, server) = fresh();
    assert_eq!(append(&server, "take.wav", b"RIFF", Some(0)).0, 201);
    assert_eq!(append(&server, "take.wav", b"RIFF", Some(0)), (409, "4".to_owned()));
    assert_eq!(append(&server, "take.wav", b"sound", Some(4)).0, 200);
    assert_eq!(append(&server, "other", b"x", Some(4)).0, 404);
    let ranged = agent().get(server.object("take.wav")).header("range", "bytes=2-5").call();
    let mut ranged = ranged.unwrap();
    assert_eq!(ranged.status(), 206);
    assert_eq!(ranged.headers()["content-range"], "bytes 2-5/9");
    assert_eq!(ranged.headers()["streamdb-open"], "true");
    assert_eq!(ranged.body_mut().read_to_string().unwrap(), "FFso");
    assert_eq!(post(&server, "take.wav", "seal"), 200);
    assert_eq!(post(&server, "take.wav", "seal"), 200);
    assert_eq!(append(&server, "take.wav", b"x", None).0, 409);
    assert_eq!(post(&server, "none", "seal"), 404);
    assert_eq!(post(&server, "take.wav", "nonsense"), 400);
    let uri = format!("{}?tail&from=4", server.object("take.wav"));
    assert_eq!(agent().get(uri).call().unwrap().body_mut().read_to_string().unwrap(), "sound");
    let uri = format!("{}?events", server.object("take.wav"));
    let events = agent().get(uri).call().unwrap().body_mut().read_to_string().unwrap();
    assert_eq!(events, "event: sealed\ndata: {\"size\":9}\n\n");
}

/// What comes in slowly over one connection is readable before it ends.
#[test]
fn the_verbs_append_follow_and_end() {
    let (_dir, server) = fresh();
    let mut command = program();
    command.env("STREAMDB_SERVER", server.url()).args(["append", "live", "--seal"]);
    let mut writer = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut input = writer.stdin.take().unwrap();
    input.write_all(b"first ").unwrap();
    while server.get("live") != Some(b"first ".to_vec()) {}
    let mut command = program();
    command.env("STREAMDB_SERVER", server.url()).args(["tail", "live"]);
    let mut reader = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut out = reader.stdout.take().unwrap();
    let mut got = [0; 6];
    out.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"first ");
    input.write_all(b"second").unwrap();
    out.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"second");
    drop(input);
    assert!(writer.wait().unwrap().success() && reader.wait().unwrap().success());
    let cat = server.run(&["cat", "live", "live"]);
    expect(&cat, 0);
    assert_eq!(text(&cat), "first secondfirst second");
    expect(&server.run(&["tail", "none"]), 1);
    expect(&server.run(&["append", "live"]), 1);
}

/// A player asks for ranges of a recording that still goes on.
#[test]
fn ffmpeg_reads_a_recording_that_grows() {
    let found = Command::new("ffmpeg").arg("-version").stdout(Stdio::null()).status();
    if found.is_err() {
        println!("SKIPPED: there is no ffmpeg here");
        return;
    }
    let (_dir, server) = fresh();
    let frames = 48_000_u32;
    let mut wav = Vec::new();
    wav.extend_from_slice(b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\x01\0\x01\0");
    wav.extend_from_slice(&48_000_u32.to_le_bytes());
    wav.extend_from_slice(&96_000_u32.to_le_bytes());
    wav.extend_from_slice(b"\x02\0\x10\0data\xff\xff\xff\xff");
    let head = wav.len();
    wav.extend(bytes(frames as usize * 2, 5));
    assert_eq!(append(&server, "take.wav", &wav, None).0, 201);
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-i", &server.object("take.wav"), "-f", "s16le", "-"]);
    let output = command.output().unwrap();
    assert!(output.stdout == wav[head..], "{}", String::from_utf8_lossy(&output.stderr));

    // And one that reads along gets what comes while it reads.
    let uri = format!("{}?tail", server.object("take.wav"));
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-i", &uri, "-f", "s16le", "-"]).stdout(Stdio::piped());
    let along = command.spawn().unwrap();
    let more = bytes(200_000, 6);
    for piece in more.chunks(30_000) {
        assert_eq!(append(&server, "take.wav", piece, None).0, 200);
    }
    assert_eq!(post(&server, "take.wav", "seal"), 200);
    assert!(along.wait_with_output().unwrap().stdout == [&wav[head..], &more].concat());
}

const READERS: usize = 1000;

/// Every reader gets every byte once, while none of them holds up the writer.
#[test]
fn a_thousand_readers_lose_and_repeat_nothing() {
    // Both ends of every connection in this test are on this machine, the client's in this process.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let wanted = READERS as u64 + 200;
    if limit.maximum.is_some_and(|most| most < wanted) {
        panic!("the test needs {wanted} open files; raise the hard limit (ulimit -Hn)");
    }
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).unwrap();

    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_with(&dir.path().join("store"), &["--connections", "1100"]);
    let whole = bytes(1_000_000, 11);
    assert_eq!(append(&server, "live", &whole[..1000], Some(0)).0, 201);
    let connect = |_| {
        let mut socket = TcpStream::connect(server.address).unwrap();
        let request = "GET /v1/objects/live?tail HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n";
        socket.write_all(request.as_bytes()).unwrap();
        socket
    };
    let mut sockets: Vec<_> = (0..READERS).map(connect).collect();
    std::thread::scope(|scope| {
        // Half of them read while the stream grows; the others only begin when it is over.
        let late = sockets.split_off(READERS / 2);
        for share in sockets.chunks(READERS / 8) {
            let whole = &whole;
            scope.spawn(move || share.iter().for_each(|socket| follow(socket, whole)));
        }
        let mut at = 1000;
        while at < whole.len() {
            let end = (at + 7001).min(whole.len());
            assert_eq!(append(&server, "live", &whole[at..end], Some(at)).0, 200);
            at = end;
        }
        assert_eq!(post(&server, "live", "seal"), 200);
        late.iter().for_each(|socket| follow(socket, &whole));
    });
    let memory = std::fs::read_to_string(format!("/proc/{}/status", server.pid().as_raw_nonzero()));
    let memory = memory.unwrap();
    let peak = memory.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    let peak: u64 = peak.split_whitespace().nth(1).unwrap().parse().unwrap();
    println!("{READERS} readers, {} bytes each, peak of the server {peak} KiB", whole.len());
    assert!(peak < 512 * 1024, "the server took {peak} KiB for {READERS} readers");
}

/// Reads an answer in chunks to its end and compares the bytes.
fn follow(mut socket: &TcpStream, whole: &[u8]) {
    let mut answer = Vec::new();
    let mut piece = vec![0; 64 * 1024];
    while !answer.ends_with(b"0\r\n\r\n") {
        let count = socket.read(&mut piece).unwrap();
        assert!(count > 0, "the answer broke off after {} bytes", answer.len());
        answer.extend_from_slice(&piece[..count]);
    }
    let start = answer.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
    let mut rest = &answer[start..];
    let mut got = Vec::with_capacity(whole.len());
    loop {
        let line = rest.windows(2).position(|end| end == b"\r\n").unwrap();
        let length = std::str::from_utf8(&rest[..line]).unwrap();
        let length = usize::from_str_radix(length, 16).unwrap();
        if length == 0 {
            break;
        }
        got.extend_from_slice(&rest[line + 2..line + 2 + length]);
        rest = &rest[line + 4 + length..];
    }
    assert!(got == whole, "{} bytes came instead of {}", got.len(), whole.len());
}
