//! What stands around the doors: tokens with scopes, origins, counts, and the document of it all.

#![allow(clippy::unwrap_used, reason = "a failed test should fail at the line that fails")]

use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, header};
use base64::Engine;
use http_body_util::BodyExt;
use serde_json::Value;
use streamdb::http::{Access, App, Grant, OPENAPI, Settings, app_with};
use streamdb::{Options, Store};

fn door(settings: Settings) -> (tempfile::TempDir, App) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &Options::default()).unwrap();
    (dir, app_with(store, settings))
}

async fn ask(app: &App, line: &str, headers: &[(&str, &str)]) -> (Response<()>, String) {
    let (method, uri) = line.split_once(' ').unwrap();
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = if method == "PUT" { "x" } else { "" };
    let request = request.body(Body::from(body)).unwrap();
    let response = app.answer(request).await;
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (Response::from_parts(parts, ()), String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test]
async fn tokens_are_good_for_what_their_line_says() {
    let file = "all-of-it-0123456\nreads-0123456789 read\ntakes-0123456789 write takes/\n";
    let access = Access::Tokens(Grant::parse(file).unwrap());
    let (_dir, app) = door(Settings { access, ..Settings::default() });
    for (token, line, status) in [
        ("all-of-it-0123456", "PUT /v1/objects/k", 201),
        ("all-of-it-0123456", "PROPFIND /dav/", 207),
        ("reads-0123456789", "GET /v1/objects/k", 200),
        ("reads-0123456789", "PUT /v1/objects/k", 403),
        ("reads-0123456789", "MKCOL /dav/new", 403),
        ("takes-0123456789", "PUT /v1/objects/takes/1", 201),
        ("takes-0123456789", "GET /v1/objects/k", 403),
        ("takes-0123456789", "GET /v1/objects", 403),
        ("takes-0123456789", "GET /v1/objects?prefix=takes/", 200),
        ("takes-0123456789", "PROPFIND /dav/takes/", 207),
        ("takes-0123456789", "PROPFIND /dav/", 403),
        ("not-one-of-them-0", "GET /v1/objects/k", 401),
    ] {
        let bearer = format!("Bearer {token}");
        let (head, told) = ask(&app, line, &[("authorization", &bearer), ("depth", "0")]).await;
        assert_eq!(head.status(), status, "{token} {line}: {told}");
        assert!(!told.contains(token));
        let basic = base64::engine::general_purpose::STANDARD.encode(format!("anyone:{token}"));
        let basic = format!("Basic {basic}");
        let line = line.replace("/new", "/newer");
        let (again, _) = ask(&app, &line, &[("authorization", &basic), ("depth", "0")]).await;
        assert_eq!(again.status().is_success(), head.status().is_success(), "{token} {line}");
    }
    let (head, _) = ask(&app, "PROPFIND /dav/", &[("depth", "0")]).await;
    assert_eq!(head.status(), 401);
    let challenge = head.headers()[header::WWW_AUTHENTICATE].to_str().unwrap();
    assert!(challenge.starts_with("Basic"), "{challenge}");
}

#[tokio::test]
async fn other_origins_are_shut_out_unless_named() {
    let asked = [
        ("origin", "https://a.example"),
        ("access-control-request-method", "PUT"),
        ("access-control-request-headers", "authorization"),
    ];
    let (_dir, app) = door(Settings::default());
    let (head, _) = ask(&app, "OPTIONS /v1/objects/k", &asked).await;
    assert!(!head.headers().contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
    let cors_origin = Some(HeaderValue::from_static("https://a.example"));
    let access = Access::Tokens(Grant::parse("0123456789abcdef").unwrap());
    let (_dir, app) = door(Settings { access, cors_origin, ..Settings::default() });
    let (head, _) = ask(&app, "OPTIONS /v1/objects/k", &asked).await;
    assert_eq!(head.status(), 204);
    assert_eq!(head.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], "https://a.example");
    assert_eq!(head.headers()[header::ACCESS_CONTROL_ALLOW_HEADERS], "authorization");
    let (head, _) = ask(&app, "GET /v1/objects", &[asked[0]]).await;
    assert_eq!(head.status(), 401);
    assert_eq!(head.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], "https://a.example");
    let (head, _) = ask(&app, "GET /health", &[("origin", "https://b.example")]).await;
    assert!(!head.headers().contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
}

#[tokio::test]
async fn requests_are_counted_by_method_and_outcome() {
    let (_dir, app) = door(Settings::default());
    ask(&app, "PUT /v1/objects/k", &[]).await;
    ask(&app, "GET /v1/objects/none", &[]).await;
    ask(&app, "INVENTED /v1/objects/none", &[]).await;
    let (head, told) = ask(&app, "GET /metrics", &[]).await;
    assert!(head.headers()[header::CONTENT_TYPE].to_str().unwrap().starts_with("text/plain"));
    for line in [
        "streamdb_keys 1",
        "streamdb_value_bytes 1",
        "streamdb_http_requests_open 1",
        "streamdb_http_requests_total{method=\"PUT\",status=\"2xx\"} 1",
        "streamdb_http_requests_total{method=\"GET\",status=\"4xx\"} 1",
        "streamdb_http_requests_total{method=\"other\",status=\"4xx\"} 1",
        "# TYPE streamdb_http_requests_total counter",
    ] {
        assert!(told.lines().any(|there| there == line), "{line} is not in {told}");
    }
}

#[tokio::test]
async fn the_document_tells_every_route_and_no_other() {
    let (_dir, app) = door(Settings::default());
    let (_, served) = ask(&app, "GET /v1/openapi.json", &[]).await;
    assert_eq!(served, OPENAPI);
    let document: Value = serde_json::from_str(OPENAPI).unwrap();
    let paths = document["paths"].as_object().unwrap();
    for (path, methods) in paths {
        for method in methods.as_object().unwrap().keys().filter(|name| *name != "parameters") {
            let line = format!("{} {}", method.to_uppercase(), path.replace("{key}", "k"));
            ask(&app, "PUT /v1/objects/k", &[]).await;
            let (head, told) = ask(&app, &line, &[]).await;
            let status = head.status().as_u16().to_string();
            let known = &methods[method]["responses"];
            // Asked without the body that it needs, or without a word whether to append or to seal, it
            // refuses in the way that is told.
            let incomplete = methods[method]["requestBody"]["required"] == true
                || methods[method]["operationId"] == "extend";
            assert!(head.status().is_success() != incomplete, "{line}: {told}");
            assert!(known.get(&status).is_some(), "{line}: {status} is not told");
        }
    }
    // The router does not tell its routes, but the file that makes it does.
    let source = include_str!("../src/http/mod.rs");
    for route in source.split(".route(").skip(1) {
        let path = route.split('"').nth(1).unwrap();
        let path = path.replace("{*key}", "{key}");
        // People's doors are not of this document, and a slash at the end is no other address.
        if path == "/" || path.starts_with("/dav") || path == "/v1/objects/" {
            continue;
        }
        assert!(paths.contains_key(&path), "{path} is not told");
    }
}
