//! `streamdb bench`.

#![allow(clippy::unwrap_used, reason = "a failed test should fail at the line that fails")]

mod server;

use server::{expect, fresh, text};

#[test]
fn it_tells_rates_and_leaves_nothing() {
    let (_dir, server) = fresh();
    server.put("mine", b"stays");
    let said = server.run(&["bench", "--small", "20", "--large", "1", "--json"]);
    expect(&said, 0);
    let told: serde_json::Value = serde_json::from_str(&text(&said)).unwrap();
    assert_eq!(told["schema"], "streamdb.bench/1");
    let rows = told["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    for row in rows {
        assert!(
            row["put_per_s"].as_f64().unwrap() > 0.0 && row["get_per_s"].as_f64().unwrap() > 0.0
        );
    }
    assert_eq!(text(&server.run(&["ls"])).lines().count(), 1);
    expect(&server.run(&["bench", "--small", "0"]), 2);
}
