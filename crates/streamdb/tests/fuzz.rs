//! Parsers of what clients send, fed with mutations of a seeded corpus: addresses, ranges, conditions,
//! `If` headers, WebDAV's XML, batches, token files. None may panic, blame the store, or be believed
//! where it is nonsense.
//!
//! The count of inputs is fixed, so that a run is repeatable; `STREAMDB_FUZZ=1000000` runs as many
//! for each target, and `STREAMDB_FUZZ_SEED` begins elsewhere.

#![allow(clippy::unwrap_used, reason = "a failed test should fail at the line that fails")]
#![allow(clippy::print_stdout, reason = "how much was tried is told")]

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Request, Uri};
use http_body_util::BodyExt;
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use streamdb::http::{App, Grant, Settings, app_with};
use streamdb::{Key, Options, Put, Store};

const VALUE: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// Numbers that look like chance, the same in every run.
struct Chance(u64);

impl Chance {
    fn seeded(target: &str) -> Self {
        let seed = std::env::var("STREAMDB_FUZZ_SEED").ok().and_then(|seed| seed.parse().ok());
        let of_target = target.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self((of_target ^ seed.unwrap_or(0)) | 1)
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end.max(1)
    }

    /// A text of the corpus after one to six changes.
    fn mutated(&mut self, corpus: &[&[u8]], words: &[&[u8]]) -> Vec<u8> {
        let mut text = corpus[self.below(corpus.len())].to_vec();
        for _ in 0..=self.below(6) {
            let at = self.below(text.len() + 1);
            let end = (at + self.below(8)).min(text.len());
            match self.below(7) {
                0 if at < text.len() => text[at] ^= 1 << self.below(8),
                1 => text.truncate(at),
                2 => drop(text.drain(at..end)),
                3 => text.insert(at, self.below(256) as u8),
                4 => {
                    let again = text[at..end].to_vec();
                    text.splice(at..at, again);
                }
                5 => {
                    let other = corpus[self.below(corpus.len())];
                    text.truncate(at);
                    text.extend(&other[self.below(other.len() + 1)..]);
                }
                _ => {
                    let word = words[self.below(words.len())];
                    text.splice(at..end, word.iter().copied());
                }
            }
        }
        text
    }
}

fn count(usual: usize) -> usize {
    let asked = std::env::var("STREAMDB_FUZZ").ok().and_then(|count| count.parse().ok());
    asked.unwrap_or(usual)
}

struct Target {
    app: App,
    store: Store,
    _dir: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
}

impl Target {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &Options::default()).unwrap();
        store.put(&Key::new("k").unwrap(), VALUE, &Put::default()).unwrap();
        store.put(&Key::new("a/b").unwrap(), VALUE, &Put::default()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { app: app_with(store.clone(), Settings::default()), store, _dir: dir, runtime }
    }

    /// `None` where the text cannot even be sent.
    fn ask(
        &self,
        method: &str,
        uri: &str,
        headers: &[(&str, &[u8])],
        body: Vec<u8>,
    ) -> Option<(u16, Vec<u8>)> {
        let mut request = Request::builder().method(method).uri(uri.parse::<Uri>().ok()?);
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            request = request.header(name, HeaderValue::from_bytes(value).ok()?);
        }
        let request = request.body(Body::from(body)).unwrap();
        self.runtime.block_on(async {
            let response = self.app.answer(request).await;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            // WebDAV's own word for an address that leads out of the tree, or to another server.
            let elsewhere = status == 502 && uri.starts_with("/dav");
            let known = status < 500 || status == 501 || status == 507 || elsewhere;
            assert!(known, "{method} {uri}: {status}: {body:?}");
            Some((status, body.to_vec()))
        })
    }
}

fn told(target: &str, tried: usize, taken: usize) {
    println!("{target}: {tried} inputs, {taken} of them taken");
    assert!(taken > 0 && taken < tried, "the corpus of {target} reaches only one side");
}

#[test]
fn ranges_give_a_part_of_the_value_or_all_of_it() {
    let (door, mut chance, tries) = (Target::new(), Chance::seeded("range"), count(3000));
    let corpus: &[&[u8]] =
        &[b"bytes=0-3", b"bytes=-5", b"bytes=7-", b"bytes=1-2,4-5", b"bytes = 3 - 9"];
    let words: &[&[u8]] =
        &[b"-", b"=", b",", b"18446744073709551615", b"99999999999999999999", b"35", b"36", b" "];
    let mut parts = 0;
    for _ in 0..tries {
        let text = chance.mutated(corpus, words);
        let Some((status, body)) = door.ask("GET", "/v1/objects/k", &[("range", &text)], vec![])
        else {
            continue;
        };
        match status {
            200 => assert_eq!(body, VALUE),
            206 => {
                parts += 1;
                assert!(!body.is_empty() && VALUE.windows(body.len()).any(|part| part == body));
            }
            other => assert_eq!(other, 416, "{}", text.escape_ascii()),
        }
    }
    told("range", tries, parts);
}

#[test]
fn keys_come_back_as_they_were_sent() {
    let (door, mut chance, tries) = (Target::new(), Chance::seeded("key"), count(400));
    let corpus: &[&[u8]] =
        &[b"takes/one.wav", b"../../etc/passwd", "ü/#?%".as_bytes(), b"a//b", b".", b"%2e%2E"];
    let words: &[&[u8]] =
        &[b"\0", b"/", b"..", b"%", b"\xff", "\u{10ffff}".as_bytes(), b"\n", b"?", &[b'k'; 1100]];
    let mut taken = 0;
    for _ in 0..tries {
        let name = chance.mutated(corpus, words);
        let uri = format!("/v1/objects/{}", percent_encode(&name, NON_ALPHANUMERIC));
        let Some((status, _)) = door.ask("PUT", &uri, &[], b"v".to_vec()) else { continue };
        let key = Key::from_bytes(&name);
        assert_eq!(matches!(status, 200 | 201), key.is_ok(), "{status} {}", name.escape_ascii());
        if let Ok(key) = key {
            taken += 1;
            assert!(door.store.stat(&key).unwrap().is_some());
            let page = door.ask(
                "GET",
                &format!("/v1/objects?prefix={}", percent_encode(&name, NON_ALPHANUMERIC)),
                &[],
                vec![],
            );
            let page: serde_json::Value = serde_json::from_slice(&page.unwrap().1).unwrap();
            assert_eq!(page["entries"][0]["key"], key.as_str());
        }
        // Not decoded twice, and as it stands: whatever the address then names, it is not a fault.
        if let Ok(raw) = std::str::from_utf8(&name) {
            door.ask("GET", &format!("/v1/objects/{raw}"), &[], vec![]);
            door.ask("GET", &format!("/v1/objects?{raw}"), &[], vec![]);
            door.ask("GET", &format!("/dav/{raw}"), &[], vec![]);
        }
    }
    told("key", tries, taken);
}

#[test]
fn conditions_are_understood_or_refused() {
    let (door, mut chance, tries) = (Target::new(), Chance::seeded("condition"), count(3000));
    let tag =
        format!("\"{}\"", door.store.stat(&Key::new("k").unwrap()).unwrap().unwrap().checksum);
    let list = format!("\"x\", W/{tag} , {tag}");
    let corpus: &[&[u8]] = &[tag.as_bytes(), list.as_bytes(), b"*", b"W/\"x\""];
    let words: &[&[u8]] = &[b"\"", b",", b"W/", b"*", b" ", tag.as_bytes()];
    let mut held = 0;
    for _ in 0..tries {
        let text = chance.mutated(corpus, words);
        // Whoever names the value's own tag, unharmed, is not told that it is another.
        let whole = text.windows(tag.len()).any(|part| part == tag.as_bytes());
        for (name, hold) in [("if-match", 200), ("if-none-match", 304)] {
            let Some((status, _)) = door.ask("GET", "/v1/objects/k", &[(name, &text)], vec![])
            else {
                continue;
            };
            assert!([200, 304, 400, 412].contains(&status), "{status}");
            held += usize::from(status == hold);
            assert!(whole || text.contains(&b'*') || status != hold, "{}", text.escape_ascii());
        }
    }
    told("condition", 2 * tries, held);
}

#[test]
fn webdav_takes_what_is_webdav() {
    let (door, mut chance, tries) = (Target::new(), Chance::seeded("webdav"), count(1500));
    let bodies: &[&[u8]] = &[
        b"<?xml version=\"1.0\"?><D:propfind xmlns:D=\"DAV:\"><D:allprop/></D:propfind>",
        b"<D:propfind xmlns:D=\"DAV:\"><D:prop><D:getetag/><x xmlns=\"urn:x\"/></D:prop></D:propfind>",
        b"<D:propertyupdate xmlns:D=\"DAV:\"><D:set><D:prop><bpm xmlns=\"urn:x\">1</bpm></D:prop></D:set></D:propertyupdate>",
        b"<D:lockinfo xmlns:D=\"DAV:\"><D:lockscope><D:exclusive/></D:lockscope><D:locktype><D:write/></D:locktype></D:lockinfo>",
        b"<!DOCTYPE x [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><x>&b;</x>",
    ];
    let marks: &[&[u8]] =
        &[b"<", b">", b"&", b"]]>", b"<![CDATA[", b"xmlns", b"DAV:", b"\"", b"&#0;", b"\xff"];
    let ifs: &[&[u8]] = &[
        b"(<opaquelocktoken:a> [\"b\"]) (Not <DAV:no-lock>)",
        b"<http://localhost/dav/k> (<urn:uuid:1>) ([W/\"x\"])",
        b"([\"x\"])",
    ];
    let if_words: &[&[u8]] =
        &[b"(", b")", b"<", b">", b"[", b"]", b"\"", b"Not", b"W/", b" ", b"http://"];
    let mut taken = 0;
    for number in 0..tries {
        let method = ["PROPFIND", "PROPPATCH", "LOCK", "UNLOCK", "COPY", "MOVE", "MKCOL", "DELETE"]
            [chance.below(8)];
        let path = ["/dav/k", "/dav/", "/dav/a/", "/dav/new"][chance.below(4)];
        let (body, clause) = (chance.mutated(bodies, marks), chance.mutated(ifs, if_words));
        let destination = chance.mutated(
            &[b"/dav/k2", b"http://localhost/dav/a/c", b"/dav/../x"],
            &[b"/", b"%", b"..", b"//"],
        );
        let mut headers: Vec<(&str, &[u8])> =
            vec![("depth", [&b"0"[..], b"1", b"infinity", b"x"][chance.below(4)])];
        if number % 2 == 0 {
            headers.push(("if", &clause));
        }
        if matches!(method, "COPY" | "MOVE") {
            headers.push(("destination", &destination));
        }
        if method == "UNLOCK" {
            headers.push(("lock-token", &clause));
        }
        let body = if matches!(method, "PROPFIND" | "PROPPATCH" | "LOCK") { body } else { vec![] };
        taken += usize::from(
            door.ask(method, path, &headers, body).is_some_and(|(status, _)| status < 300),
        );
        // It stays a store that can be used.
        if number % 100 == 0 {
            door.store.put(&Key::new("k").unwrap(), VALUE, &Put::default()).unwrap();
            assert_eq!(door.store.check(|_| {}).unwrap().problems, vec![]);
        }
    }
    told("webdav", tries, taken);
}

#[test]
fn batches_are_done_whole_or_refused() {
    let (door, mut chance, tries) = (Target::new(), Chance::seeded("batch"), count(1500));
    let corpus: &[&[u8]] = &[
        br#"{"operations":[{"op":"put","key":"x","text":"1","ttl":5,"user":{"a":"b"}}]}"#,
        br#"{"operations":[{"op":"copy","from":"k","to":"y","if_absent":true},{"op":"delete","key":"y"}]}"#,
        br#"{"operations":[{"op":"rename","from":"a/b","to":"a/c"},{"op":"rename","from":"a/c","to":"a/b"}]}"#,
    ];
    let words: &[&[u8]] = &[
        b"\"",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\\u0000",
        b"\\ud800",
        b"1e999",
        b"18446744073709551616",
        b"null",
        b"\"op\"",
    ];
    let mut taken = 0;
    for _ in 0..tries {
        let text = chance.mutated(corpus, words);
        let before = door.store.counts().unwrap();
        let (status, _) = door.ask("POST", "/v1/batch", &[], text).unwrap();
        taken += usize::from(status == 200);
        assert!(status == 200 || door.store.counts().unwrap() == before, "{status}");
    }
    assert_eq!(door.store.check(|_| {}).unwrap().problems, vec![]);
    told("batch", tries, taken);
}

#[test]
fn token_files_are_read_or_their_line_is_named() {
    let (mut chance, tries) = (Chance::seeded("tokens"), count(20_000));
    let corpus: &[&[u8]] = &[
        b"0123456789abcdef\n",
        b"# c\n0123456789abcdef read takes/\n",
        b"0123456789abcdef write a/ 10G\n",
    ];
    let words: &[&[u8]] =
        &[b"\n", b" ", b"#", b"read", b"write", b"99999999999T", b"\t", b"\xc3\xbc"];
    let mut taken = 0;
    for _ in 0..tries {
        let text = String::from_utf8_lossy(&chance.mutated(corpus, words)).into_owned();
        match Grant::parse(&text) {
            Ok(grants) => {
                taken += 1;
                assert!(!grants.is_empty() && grants.len() <= text.lines().count());
            }
            Err(error) => {
                let error = error.to_string();
                assert!(error.contains("line ") || error.contains("no token"), "{error}");
            }
        }
    }
    told("tokens", tries, taken);
}
