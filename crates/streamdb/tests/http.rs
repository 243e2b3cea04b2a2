//! The HTTP door, called as a value: no port, no process.

#![allow(clippy::unwrap_used, reason = "a failed test should fail at the line that fails")]

use std::num::NonZeroU32;

use axum::body::Body;
use axum::http::{HeaderName, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use streamdb::http::{Access, App, Grant, Settings, Token, app_with};
use streamdb::{Checksum, Options, Quota, Store};
use tempfile::TempDir;

const LARGE: usize = 300_000;

struct Door {
    app: App,
    dir: TempDir,
}

struct Answer {
    head: Response<()>,
    body: Result<Vec<u8>, String>,
}

impl Door {
    fn open() -> Self {
        Self::with(&Options::default(), Settings::default())
    }

    fn with(options: &Options, settings: Settings) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), options).unwrap();
        Self { app: app_with(store, settings), dir }
    }

    async fn ask(&self, line: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        let (method, uri) = line.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.into()).unwrap();
        let response = self.app.answer(request).await;
        let (parts, body) = response.into_parts();
        Answer {
            head: Response::from_parts(parts, ()),
            body: match body.collect().await {
                Ok(body) => Ok(body.to_bytes().to_vec()),
                Err(error) => Err(error.to_string()),
            },
        }
    }

    async fn get(&self, uri: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask(&format!("GET {uri}"), headers, Body::empty()).await
    }

    async fn put(&self, uri: &str, body: &[u8]) -> Answer {
        self.ask(&format!("PUT {uri}"), &[], body.to_vec()).await
    }
}

impl Answer {
    fn status(&self) -> u16 {
        self.head.status().as_u16()
    }

    fn header(&self, name: HeaderName) -> &str {
        let value = self.head.headers().get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }

    fn bytes(&self) -> &[u8] {
        self.body.as_ref().unwrap()
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(self.bytes()).unwrap()
    }

    #[track_caller]
    fn refused(&self, status: u16) {
        assert_eq!(self.status(), status);
        let told = self.json();
        for field in ["error", "remedy"] {
            assert!(!told[field].as_str().unwrap().is_empty(), "{told}");
        }
    }
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 253) as u8).collect()
}

#[tokio::test]
async fn values_of_every_size_go_in_and_come_out() {
    let door = Door::open();
    for len in [0, 1, 1024, 1025, 65_536, 65_537, LARGE] {
        let uri = format!("/v1/objects/takes/{len}.wav");
        let kind = [("content-type", "audio/wav")];
        let put = door.ask(&format!("PUT {uri}"), &kind, bytes(len)).await;
        assert_eq!(put.status(), 201);
        let tag = format!("\"{}\"", Checksum::of(&bytes(len)));
        assert_eq!(put.header(header::ETAG), tag);
        let get = door.get(&uri, &[]).await;
        assert_eq!((get.status(), get.bytes()), (200, bytes(len).as_slice()));
        assert_eq!(get.header(header::ETAG), tag);
        assert_eq!(get.header(header::CONTENT_TYPE), "audio/wav");
        assert_eq!(get.header(header::CONTENT_LENGTH), len.to_string());
        assert_eq!(get.header(header::ACCEPT_RANGES), "bytes");
        let head = door.ask(&format!("HEAD {uri}"), &[], Body::empty()).await;
        assert_eq!(head.status(), 200);
        assert_eq!(head.header(header::CONTENT_LENGTH), len.to_string());
        assert!(head.bytes().is_empty());
        assert_eq!(door.put(&uri, b"new").await.status(), 200);
        assert_eq!(door.get(&uri, &[]).await.bytes(), b"new");
        let delete = format!("DELETE {uri}");
        assert_eq!(door.ask(&delete, &[], Body::empty()).await.status(), 204);
        door.get(&uri, &[]).await.refused(404);
        door.ask(&delete, &[], Body::empty()).await.refused(404);
    }
}

#[tokio::test]
async fn keys_are_taken_as_they_are() {
    let door = Door::open();
    for (uri, key) in [
        ("../../etc/passwd", "../../etc/passwd"),
        ("%2e%2E/x", "../x"),
        ("/double//slash/", "/double//slash/"),
        ("a%20b+c%3Fd%23e%25", "a b+c?d#e%"),
        ("%C3%A9.wav", "é.wav"),
        ("a%2Fb", "a/b"),
    ] {
        let uri = format!("/v1/objects/{uri}");
        assert_eq!(door.put(&uri, b"x").await.json()["key"], key);
        assert_eq!(door.get(&uri, &[]).await.bytes(), b"x");
    }
    let too_long = format!("/v1/objects/{}", "k".repeat(1025));
    for uri in ["/v1/objects/a%00b", "/v1/objects/%FF", &too_long] {
        door.put(uri, b"x").await.refused(400);
    }
    door.get("/v2", &[]).await.refused(404);
    door.ask("POST /v1/objects/a", &[], "x").await.refused(400);
    door.ask("PATCH /v1/objects/a", &[], "x").await.refused(405);
}

#[tokio::test]
async fn conditions_guard_puts_gets_and_deletes() {
    let door = Door::open();
    let uri = "/v1/objects/k";
    let (put, delete) = (format!("PUT {uri}"), format!("DELETE {uri}"));
    let tag = |bytes: &[u8]| format!("\"{}\"", Checksum::of(bytes));
    let (one, two) = (tag(b"one"), tag(b"two"));
    let weak = format!("W/{one}");
    let both = format!("{two}, {one}");
    for (name, value, body, status) in [
        ("if-match", "*", "one", 412),
        ("if-none-match", "*", "one", 201),
        ("if-none-match", "*", "two", 412),
        ("if-match", two.as_str(), "two", 412),
        ("if-match", weak.as_str(), "two", 412),
        ("if-match", "unquoted", "two", 400),
        ("if-match", both.as_str(), "two", 200),
    ] {
        let answer = door.ask(&put, &[(name, value)], body).await;
        assert_eq!(answer.status(), status, "{name}: {value}");
    }
    let get = door.get(uri, &[("if-none-match", &two)]).await;
    assert_eq!((get.status(), get.bytes()), (304, &[][..]));
    assert_eq!(get.header(header::ETAG), two);
    let get = door.get(uri, &[("if-none-match", &one)]).await;
    assert_eq!((get.status(), get.bytes()), (200, &b"two"[..]));
    door.get(uri, &[("if-match", &one)]).await.refused(412);
    let refused = door.ask(&delete, &[("if-match", &one)], Body::empty()).await;
    refused.refused(412);
    let gone = door.ask(&delete, &[("if-match", &two)], Body::empty()).await;
    assert_eq!(gone.status(), 204);
}

#[tokio::test]
async fn ranges_are_served_from_small_and_large_values() {
    let door = Door::open();
    for len in [10, 5000, LARGE] {
        let uri = format!("/v1/objects/{len}");
        let whole = bytes(len);
        let tag = door.put(&uri, &whole).await.header(header::ETAG).to_owned();
        for (range, from, to) in [
            ("bytes=0-0", 0, 1),
            ("bytes=3-", 3, len),
            ("bytes=-4", len - 4, len),
            ("bytes=5-9999999", 5, len),
        ] {
            let get = door.get(&uri, &[("range", range)]).await;
            assert_eq!((get.status(), get.bytes()), (206, &whole[from..to]), "{range}");
            let told = format!("bytes {from}-{}/{len}", to - 1);
            assert_eq!(get.header(header::CONTENT_RANGE), told);
        }
        let outside = door.get(&uri, &[("range", "bytes=9999999-")]).await;
        outside.refused(416);
        assert_eq!(outside.header(header::CONTENT_RANGE), format!("bytes */{len}"));
        let first = ("range", "bytes=0-0");
        let same = door.get(&uri, &[first, ("if-range", &tag)]).await;
        assert_eq!(same.status(), 206);
        let other = door.get(&uri, &[first, ("if-range", "\"other\"")]).await;
        assert_eq!((other.status(), other.bytes().len()), (200, len));
    }
}

#[tokio::test]
async fn listings_page_in_a_stable_order() {
    let door = Door::open();
    for name in ["b/2.wav", "a/1.wav", "a/2.flac", "a/3.wav", "c"] {
        door.put(&format!("/v1/objects/{name}"), name.as_bytes()).await;
    }
    let cases: [(&str, &[&str]); 4] = [
        ("", &["a/1.wav", "a/2.flac", "a/3.wav", "b/2.wav", "c"]),
        ("prefix=a/", &["a/1.wav", "a/2.flac", "a/3.wav"]),
        // By suffix the order is that of the keys read backwards.
        ("suffix=.wav", &["a/1.wav", "b/2.wav", "a/3.wav"]),
        ("prefix=a/&suffix=.wav", &["a/1.wav", "a/3.wav"]),
    ];
    for (query, want) in cases {
        for limit in [1, 2, 1000] {
            let mut got = Vec::new();
            let mut cursor = String::new();
            loop {
                let uri = format!("/v1/objects?{query}&limit={limit}&cursor={cursor}");
                let page = door.get(&uri, &[]).await.json();
                for entry in page["entries"].as_array().unwrap() {
                    let key = entry["key"].as_str().unwrap().to_owned();
                    assert_eq!(entry["size"], key.len());
                    assert_eq!(entry["checksum"], Checksum::of(key.as_bytes()).to_string());
                    got.push(key);
                }
                match page["next"].as_str() {
                    Some(next) => cursor = next.replace('/', "%2F"),
                    None => break,
                }
            }
            assert_eq!(got, want, "{query} by {limit}");
        }
    }
    for query in ["limit=0", "limit=10001", "limit=x", "prefx=a"] {
        door.get(&format!("/v1/objects?{query}"), &[]).await.refused(400);
    }
}

#[tokio::test]
async fn damage_breaks_the_answer_off_and_no_damaged_byte_is_sent() {
    let door = Door::open();
    door.put("/v1/objects/start", &bytes(LARGE)).await;
    door.put("/v1/objects/end", &bytes(LARGE + 1)).await;
    for group in std::fs::read_dir(door.dir.path().join("blobs")).unwrap() {
        for file in std::fs::read_dir(group.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let mut content = std::fs::read(&path).unwrap();
            let at = if content.len() == LARGE { 0 } else { LARGE };
            content[at] ^= 1;
            std::fs::write(&path, content).unwrap();
        }
    }
    door.get("/v1/objects/start", &[]).await.refused(500);
    let late = door.get("/v1/objects/end", &[]).await;
    assert_eq!(late.head.status(), StatusCode::OK);
    assert!(late.body.is_err());
    let part = door.get("/v1/objects/end", &[("range", "bytes=0-9")]).await;
    assert_eq!((part.status(), part.bytes()), (206, &bytes(10)[..]));
    let last = door.get("/v1/objects/end", &[("range", "bytes=-1")]).await;
    last.refused(500);
}

#[tokio::test]
async fn limits_are_told_before_and_while_the_body_comes() {
    let options = Options { max_object: 100_000, ..Options::default() };
    let door = Door::with(&options, Settings::default());
    let put = "PUT /v1/objects/k";
    let length = [("content-length", "100001")];
    door.ask(put, &length, bytes(100_001)).await.refused(413);
    door.ask(put, &[], bytes(100_001)).await.refused(413);
    assert_eq!(door.ask(put, &[], bytes(100_000)).await.status(), 201);
    for header in [("content-range", "bytes 0-1/2"), ("content-encoding", "gzip")] {
        door.ask(put, &[header], "x").await.refused(400);
    }
}

#[tokio::test]
async fn health_counts_and_stays_open_where_values_want_a_token() {
    let settings = Settings {
        access: Access::Token(Token::new("0123456789abcdef").unwrap()),
        ..Settings::default()
    };
    let door = Door::with(&Options::default(), settings);
    door.put("/v1/objects/k", b"x").await.refused(401);
    door.get("/v1/objects", &[]).await.refused(401);
    let other = [("authorization", "Bearer 0123456789abcdeF")];
    let wrong = door.get("/v1/objects", &other).await;
    wrong.refused(401);
    assert!(wrong.header(header::WWW_AUTHENTICATE).starts_with("Bearer"));
    let right = [("authorization", "bearer 0123456789abcdef")];
    assert_eq!(door.ask("PUT /v1/objects/k", &right, "x").await.status(), 201);
    let health = door.get("/health", &[]).await.json();
    assert_eq!((&health["keys"], &health["bytes"]), (&1.into(), &1.into()));
    assert_eq!(door.get("/ready", &[]).await.status(), 200);
}

#[tokio::test]
async fn a_name_that_only_points_here_is_refused_where_there_is_no_token() {
    let settings = Settings { access: Access::Local, ..Settings::default() };
    let door = Door::with(&Options::default(), settings);
    let rebound = door.get("/v1/objects", &[("host", "rebound.example:8080")]).await;
    rebound.refused(403);
    let local = door.get("/v1/objects", &[("host", "localhost:8080")]).await;
    assert_eq!(local.status(), 200);
}

#[tokio::test]
async fn batches_usage_metadata_and_expiry() {
    let door = Door::open();
    let headers = [("streamdb-meta-bpm", "120"), ("streamdb-ttl", "3600")];
    let put = door.ask("PUT /v1/objects/a/1", &headers, "one").await;
    assert_eq!(put.status(), 201);
    assert_eq!(put.json()["user"]["bpm"], "120");
    let get = door.get("/v1/objects/a/1", &[]).await;
    assert_eq!(get.header(HeaderName::from_static("streamdb-meta-bpm")), "120");
    assert!(!get.header(HeaderName::from_static("streamdb-expires")).is_empty());
    let past = [("streamdb-expires", "1000")];
    assert_eq!(door.ask("PUT /v1/objects/gone", &past, "x").await.status(), 201);
    door.get("/v1/objects/gone", &[]).await.refused(404);
    for headers in [[("streamdb-meta-A", "\u{e9}")], [("streamdb-ttl", "soon")]] {
        door.ask("PUT /v1/objects/x", &headers, "x").await.refused(400);
    }
    let batch = r#"{"operations": [
        {"op": "put", "key": "a/2", "text": "two", "content_type": "text/plain"},
        {"op": "copy", "from": "a/1", "to": "b"},
        {"op": "rename", "from": "a/1", "to": "a/3", "if_absent": true},
        {"op": "delete", "key": "none"}]}"#;
    let done = door.ask("POST /v1/batch", &[], batch).await;
    assert_eq!(done.status(), 200);
    assert_eq!(done.json()["done"][2]["key"], "a/3");
    assert_eq!(done.json()["done"][3], serde_json::Value::Null);
    let again = door.ask("POST /v1/batch", &[], batch).await;
    again.refused(404);
    let usage = door.get("/v1/usage?prefix=a/", &[]).await.json();
    assert_eq!((&usage["keys"], &usage["bytes"]), (&2.into(), &6.into()));
    for wrong in ["", "{}", r#"{"operations": [{"op": "burn", "key": "k"}]}"#] {
        door.ask("POST /v1/batch", &[], wrong).await.refused(400);
    }
}

#[tokio::test]
async fn a_used_up_quota_is_told_before_and_while_the_body_comes() {
    let quota = |prefix: &str, bytes| Quota { prefix: prefix.into(), bytes };
    let quotas = vec![quota("", 500_000), quota("a/", 200_000)];
    let door = Door::with(&Options { quotas, ..Options::default() }, Settings::default());
    assert_eq!(door.put("/v1/objects/a/1", &bytes(150_000)).await.status(), 201);
    // Told by its length, and come without one.
    let long = door.put("/v1/objects/a/2", &bytes(60_000)).await;
    let pieces = (0..5).map(|_| Ok::<_, std::io::Error>(bytes(60_000)));
    let streamed = Body::from_stream(futures_util::stream::iter(pieces));
    let unknown = door.ask("PUT /v1/objects/a/2", &[], streamed).await;
    let dav = door.ask("PUT /dav/a/2", &[("content-length", "60000")], bytes(60_000)).await;
    let unsaid = door.ask("PUT /dav/a/2", &[], bytes(60_000)).await;
    assert_eq!(
        (unsaid.status(), &unsaid.head.headers()["retry-after"]),
        (507, &"60".parse().unwrap())
    );
    let append = door.ask("POST /v1/objects/a/s?append", &[], bytes(60_000)).await;
    for (refused, how) in [(long, "put"), (unknown, "stream"), (dav, "dav"), (append, "append")] {
        assert_eq!(refused.status(), 507, "{how}");
        assert_eq!(refused.head.headers()["retry-after"], "60", "{how}");
        let told = refused.json();
        let error = told["error"].as_str().unwrap();
        assert!(error.contains("quota of 200000 bytes of keys below \"a/\""), "{how}: {error}");
    }
    let batch = r#"{"operations":[{"op":"copy","from":"a/1","to":"a/2"}]}"#;
    assert_eq!(door.ask("POST /v1/batch", &[], batch).await.status(), 507);
    assert_eq!(door.put("/v1/objects/b", &bytes(300_000)).await.status(), 201);
    assert_eq!(door.put("/v1/objects/b", &bytes(350_000)).await.status(), 200);
    assert_eq!(door.put("/v1/objects/b", &bytes(350_001)).await.status(), 507);
    // File managers are told what is left.
    let ask =
        "<D:propfind xmlns:D=\"DAV:\"><D:prop><D:quota-available-bytes/></D:prop></D:propfind>";
    let told = door.ask("PROPFIND /dav/", &[("depth", "0")], ask).await;
    let told = String::from_utf8(told.body.unwrap()).unwrap();
    assert!(told.contains(">0</D:quota-available-bytes>"), "{told}");
}

#[tokio::test]
async fn a_client_in_a_hurry_is_told_when_to_come_again() {
    let grants = Grant::parse("0123456789abcdef\n0123456789abcdeg read\n").unwrap();
    let settings = Settings {
        access: Access::Tokens(grants),
        rate: NonZeroU32::new(1),
        ..Settings::default()
    };
    let door = Door::with(&Options::default(), settings);
    let token = [("authorization", "Bearer 0123456789abcdef")];
    let other = [("authorization", "Bearer 0123456789abcdeg")];
    let mut statuses = Vec::new();
    for _ in 0..20 {
        let answer = door.get("/v1/objects", &token).await;
        if answer.status() == 429 {
            let wait: u64 = answer.head.headers()["retry-after"].to_str().unwrap().parse().unwrap();
            assert!((1..=2).contains(&wait), "{wait}");
            assert!(answer.json()["remedy"].as_str().unwrap().contains("retry-after"));
        }
        statuses.push(answer.status());
    }
    // At least the first two, and the store was not asked as often as it was called.
    assert_eq!(statuses[..2], [200, 200]);
    assert!(statuses.contains(&429), "{statuses:?}");
    assert_eq!(door.get("/v1/objects", &other).await.status(), 200);
    // Guessing tokens is slowed down the same way, and monitors are not.
    let mut guesses = Vec::new();
    for n in 0..20 {
        let guess = format!("Bearer 0123456789abcd{n:02}");
        guesses.push(door.get("/v1/objects", &[("authorization", &guess)]).await.status());
        assert_eq!(door.get("/health", &[]).await.status(), 200);
    }
    assert_eq!(guesses[..2], [401, 401]);
    assert!(guesses.contains(&429), "{guesses:?}");
}
