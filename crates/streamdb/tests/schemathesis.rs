//! The door against its own description: schemathesis makes requests from the OpenAPI document, right
//! ones and wrong ones, and looks for answers that it does not allow.

#![allow(clippy::unwrap_used, reason = "a failed test should fail at the line that fails")]
#![allow(clippy::print_stdout, reason = "what was skipped is told")]

mod server;

use std::path::PathBuf;
use std::process::Command;

use server::fresh;

/// Where tests/run installs it, or wherever the shell finds it.
fn schemathesis() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    let installed = cache.join("archibald-tests/schemathesis/bin/st");
    let found = |path: &PathBuf| {
        let asked = Command::new(path).arg("--version").output();
        asked.is_ok_and(|said| said.status.success())
    };
    [installed, PathBuf::from("st")].into_iter().find(found)
}

#[test]
fn the_description_holds_for_made_up_requests() {
    let Some(program) = schemathesis() else {
        println!(
            "SKIPPED: no schemathesis (python3 -m venv ~/.cache/archibald-tests/schemathesis && \
             ~/.cache/archibald-tests/schemathesis/bin/pip install schemathesis)"
        );
        return;
    };
    let (dir, server) = fresh();
    server.put("there", b"already");
    let said = Command::new(program)
        .current_dir(dir.path())
        .arg("--config-file")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schemathesis.toml"))
        .arg("run")
        .arg(format!("{}/v1/openapi.json", server.url()))
        .args([
            "--seed",
            "1",
            "--max-examples",
            "30",
            "--no-color",
            "--suppress-health-check",
            "all",
        ])
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success(), "{out}{}", String::from_utf8_lossy(&said.stderr));
    // A run that found nothing to ask would succeed too.
    assert!(out.contains("Tested: 12"), "{out}");
}
