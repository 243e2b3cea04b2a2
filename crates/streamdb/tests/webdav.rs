//! The WebDAV door, as its clients see it: litmus and rclone where they are installed, and plain
//! requests for what they do not ask.

#![allow(clippy::unwrap_used, reason = "a failed test should fail at the line that fails")]
#![allow(clippy::print_stdout, reason = "what was skipped is told")]

mod server;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use server::{Server, agent, bytes, fresh};
use ureq::http::{Request, Response};

/// Whether a program is installed; the test of those who need it says so when it is not.
fn installed(program: &str) -> bool {
    let there = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()));
    if !there {
        println!("SKIPPED: {program} is not installed (apt-get install {program})");
    }
    there
}

struct Answer {
    head: Response<()>,
    body: String,
}

impl Answer {
    fn status(&self) -> u16 {
        self.head.status().as_u16()
    }
}

fn ask(server: &Server, line: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let (method, path) = line.split_once(' ').unwrap();
    let mut request = Request::builder().method(method).uri(format!("{}{path}", server.url()));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    // Methods that this client does not know carry a body only on demand.
    let agent = agent();
    let answer = if body.is_empty() {
        let request = agent.configure_request(request.body(()).unwrap());
        agent.run(request.allow_non_standard_methods(true).build())
    } else {
        let request = agent.configure_request(request.body(body.to_owned()).unwrap());
        agent.run(request.allow_non_standard_methods(true).build())
    };
    let (parts, mut body) = answer.unwrap().into_parts();
    let body = body.read_to_string().unwrap_or_default();
    Answer { head: Response::from_parts(parts, ()), body }
}

#[test]
fn litmus_finds_nothing() {
    if !installed("litmus") {
        return;
    }
    let (dir, server) = fresh();
    let output = Command::new("litmus")
        .args(["-k", &format!("{}/dav/", server.url())])
        .env("TESTS", "basic copymove props locks http")
        // It leaves logs where it is run.
        .current_dir(dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let said = said.rsplit('\r').collect::<Vec<_>>().into_iter().rev().collect::<String>();
    println!("{said}");
    for suite in ["basic", "copymove", "props", "locks", "http"] {
        assert!(said.contains(&format!("summary for `{suite}'")), "{suite}: {said}");
    }
    // litmus has room for 200 bytes of a header, and the two tags of 64 digits that it puts into
    // this one do not fit: it sends a header that breaks off, which is refused.
    let cut = ["complex_cond_put", "fail_complex_cond_put"];
    for line in said.lines().filter(|line| line.contains("FAIL")) {
        let refused = line.contains("400 Bad Request");
        assert!(refused && cut.iter().any(|name| line.contains(name)), "{said}");
    }
}

#[test]
fn rclone_copies_a_tree_there_and_back() {
    if !installed("rclone") {
        return;
    }
    let (dir, server) = fresh();
    let (there, back) = (dir.path().join("there"), dir.path().join("back"));
    fs::create_dir_all(there.join("takes/a b")).unwrap();
    fs::write(there.join("one.wav"), bytes(300_000, 1)).unwrap();
    fs::write(there.join("takes/ü #?.flac"), bytes(70_000, 2)).unwrap();
    fs::write(there.join("takes/a b/empty"), b"").unwrap();
    let rclone = |arguments: &[&str]| {
        let status = Command::new("rclone")
            .args(["--config", "/dev/null", "--webdav-url", &format!("{}/dav", server.url())])
            .args(arguments)
            .stdin(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "{arguments:?}");
    };
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    rclone(&["copy", &text(&there), ":webdav:tree"]);
    rclone(&["check", "--download", &text(&there), ":webdav:tree"]);
    assert_eq!(server.get("tree/one.wav"), Some(bytes(300_000, 1)));
    rclone(&["moveto", ":webdav:tree/takes", ":webdav:moved"]);
    rclone(&["copy", ":webdav:moved", &text(&back)]);
    assert_eq!(fs::read(back.join("ü #?.flac")).unwrap(), bytes(70_000, 2));
    rclone(&["purge", ":webdav:tree"]);
    assert_eq!(server.get("tree/one.wav"), None);
}

#[test]
fn curl_puts_and_gets() {
    if !installed("curl") {
        return;
    }
    let (dir, server) = fresh();
    let file = dir.path().join("take.wav");
    fs::write(&file, bytes(1_000_000, 3)).unwrap();
    let url = format!("{}/dav/take.wav", server.url());
    let put = Command::new("curl").args(["-sfT", file.to_str().unwrap(), &url]).status();
    assert!(put.unwrap().success());
    let get = Command::new("curl").args(["-sf", "-r", "10-19", &url]).output().unwrap();
    assert_eq!(get.stdout, &bytes(1_000_000, 3)[10..20]);
    // Sent without a type, it has that of its name.
    let told = ask(&server, "GET /dav/take.wav", &[], "");
    assert_eq!(told.head.headers()["content-type"], "audio/wav");
}

#[test]
fn the_tree_is_the_prefixes_and_keeps_to_itself() {
    let (_dir, server) = fresh();
    for key in ["a/b/1", "a/b/2", "a/c", "../up", "a//x", "z"] {
        assert_eq!(server.put(key, b"x"), Some(201));
    }
    let one = [("depth", "1")];
    let listed = ask(&server, "PROPFIND /dav/a/", &one, "");
    assert_eq!(listed.status(), 207);
    let hrefs: Vec<_> = listed.body.split("<D:href>").skip(1).collect();
    let hrefs: Vec<_> = hrefs.iter().map(|rest| rest.split('<').next().unwrap()).collect();
    assert_eq!(hrefs, ["/dav/a/", "/dav/a/b/", "/dav/a/c"]);
    // Nothing outside the tree, and no walk of the whole of it.
    for (line, status) in [
        ("PROPFIND /dav/", 403),
        ("PROPFIND /dav/.streamdb/", 403),
        ("PUT /dav/.streamdb/x", 403),
        ("PUT /dav/none/x", 409),
        ("MKCOL /dav/a", 405),
        ("DELETE /dav/none", 404),
    ] {
        let depth: &[_] = if line.starts_with("PROPFIND /dav/.") { &one } else { &[] };
        let body = if line.starts_with("PUT") { "x" } else { "" };
        let answer = ask(&server, line, depth, body);
        assert_eq!(answer.status(), status, "{line}: {}", answer.body);
    }
    // An empty collection is held by its marker.
    assert_eq!(ask(&server, "MKCOL /dav/new", &[], "").status(), 201);
    assert_eq!(server.get("new/"), Some(Vec::new()));
    // Keys without an address are not deleted with the collection they seem to be in.
    assert_ne!(ask(&server, "DELETE /dav/a", &[], "").status(), 204);
    assert_eq!((server.get("a/c"), server.get("a//x")), (None, Some(b"x".to_vec())));
}

#[test]
fn properties_outlive_the_server_and_move_along() {
    let (dir, server) = fresh();
    server.put("k", b"x");
    let patch = "<D:propertyupdate xmlns:D=\"DAV:\"><D:set><D:prop>\
        <bpm xmlns=\"urn:x\">120</bpm></D:prop></D:set></D:propertyupdate>";
    assert_eq!(ask(&server, "PROPPATCH /dav/k", &[], patch).status(), 207);
    let to = [("destination", "/dav/moved")];
    assert_eq!(ask(&server, "MOVE /dav/k", &to, "").status(), 201);
    assert_eq!(server.stop(), Some(0));
    let server = Server::start(&dir.path().join("store"));
    let zero = [("depth", "0")];
    let told = ask(&server, "PROPFIND /dav/moved", &zero, "").body;
    assert!(told.contains(">120<"), "{told}");
    assert_eq!(server.delete("moved"), Some(204));
}

/// Copies and moves once were gets and puts, which lost what WebDAV does not know of, and which a
/// stream that is still being recorded did not survive.
#[test]
fn all_that_a_value_has_goes_along_at_once() {
    let (_dir, server) = fresh();
    let headers =
        [("streamdb-meta-take", "3"), ("streamdb-ttl", "1000"), ("content-type", "audio/wav")];
    let whole = bytes(300_000, 1);
    let mut put = agent().put(server.object("a/k"));
    for (name, value) in headers {
        put = put.header(name, value);
    }
    assert_eq!(put.send(&whole).unwrap().status(), 201);
    let open = agent().post(format!("{}?append", server.object("a/live"))).send("one").unwrap();
    assert_eq!(open.status(), 201);
    assert_eq!(ask(&server, "COPY /dav/a/k", &[("destination", "/dav/k2")], "").status(), 201);
    let to = [("destination", "/dav/b")];
    assert_eq!(ask(&server, "MOVE /dav/a", &to, "").status(), 201);
    for key in ["b/k", "k2"] {
        let told = agent().get(server.object(key)).call().unwrap();
        let told = |name: &str| told.headers().get(name).unwrap().to_str().unwrap().to_owned();
        assert_eq!((&*told("streamdb-meta-take"), &*told("content-type")), ("3", "audio/wav"));
        assert!(told("streamdb-expires").parse::<u64>().unwrap() > 0);
        assert_eq!(server.get(key).as_ref(), Some(&whole));
    }
    assert_eq!(server.get("a/k"), None);
    // The recording goes on under its new name; a copy of half of one is refused.
    let more = agent().post(format!("{}?append", server.object("b/live"))).send(" two").unwrap();
    assert_eq!(more.status(), 200);
    assert_eq!(server.get("b/live"), Some(b"one two".to_vec()));
    let refused = ask(&server, "COPY /dav/b/live", &[("destination", "/dav/c")], "");
    assert_eq!((refused.status(), server.get("c")), (403, None));
    // A folder is not moved into itself.
    let inside = ask(&server, "MOVE /dav/b", &[("destination", "/dav/b/in")], "");
    assert_eq!((inside.status(), server.get("b/k").is_some()), (403, true));
}

#[test]
fn a_folder_of_more_than_a_batch_is_moved_whole() {
    let (_dir, server) = fresh();
    let patch = "<D:propertyupdate xmlns:D=\"DAV:\"><D:set><D:prop>\
        <bpm xmlns=\"urn:x\">99</bpm></D:prop></D:set></D:propertyupdate>";
    let steps: Vec<_> =
        (0..700).map(|n| format!(r#"{{"op":"put","key":"from/{n:04}","text":"{n}"}}"#)).collect();
    let batch = format!(r#"{{"operations":[{}]}}"#, steps.join(","));
    assert_eq!(
        agent().post(format!("{}/v1/batch", server.url())).send(&batch).unwrap().status(),
        200
    );
    for name in ["from/", "from/0000", "from/0699"] {
        assert_eq!(ask(&server, &format!("PROPPATCH /dav/{name}"), &[], patch).status(), 207);
    }
    let to = [("destination", "/dav/to")];
    assert_eq!(ask(&server, "MOVE /dav/from", &to, "").status(), 201);
    for n in [0, 499, 500, 501, 699] {
        assert_eq!(server.get(&format!("to/{n:04}")), Some(n.to_string().into_bytes()));
    }
    let usage = agent().get(format!("{}/v1/usage?prefix=from/", server.url())).call().unwrap();
    assert!(usage.into_body().read_to_string().unwrap().contains("\"keys\":0"));
    for name in ["to/", "to/0000", "to/0699"] {
        let told = ask(&server, &format!("PROPFIND /dav/{name}"), &[("depth", "0")], "").body;
        assert!(told.contains(">99<"), "{name}: {told}");
    }
    let left = agent().get(format!("{}/v1/objects?prefix=.streamdb/properties/from", server.url()));
    assert!(left.call().unwrap().into_body().read_to_string().unwrap().contains("\"entries\":[]"));
}
