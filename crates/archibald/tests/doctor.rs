//! `archibald doctor` tells what a host is ready for, and names what it lacks.

#![allow(clippy::unwrap_used)]

#[path = "../../host/tests/hosts/mod.rs"]
mod hosts;
mod world;
use world::{Said, World, said};

#[test]
fn a_complete_host_has_no_blocker() {
    let world = World::new();
    let said = world.run(&["doctor", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    let findings = json["findings"].as_array().unwrap();
    let blockers: Vec<_> = findings.iter().filter(|f| f["severity"] == "blocker").collect();
    assert_eq!((said.status, blockers.len()), (0, 0), "{}", said.out);
    assert!(findings.iter().any(|f| f["what"] == "QEMU"));
    assert_eq!(
        json["modes"][0],
        serde_json::json!({
            "mode": "emulation", "ready": true, "asked": true, "stopped_by": [],
        })
    );
}

#[test]
fn what_is_missing_comes_with_its_package() {
    let world = World::new();
    let output = world.command(&["doctor"]).env("ARCHIBALD_QEMU", "/nonexistent/qemu").output();
    let said = said(output.unwrap());
    assert_eq!(said.status, 3, "{}", said.out);
    assert!(said.out.contains("missing  QEMU"), "{}", said.out);
    assert!(said.out.contains("apt-get install qemu-system-x86"), "{}", said.out);
}

/// What doctor says of a made-up host, for the machine that its owner wants.
fn of(host: &str, words: &[&str]) -> Said {
    let world = World::new();
    let root = world.path("host");
    hosts::unfold(host, &root);
    world.write("archibald.toml", hosts::machine_file(host));
    world.run(&[&["doctor", "--root", root.to_str().unwrap()], words].concat())
}

#[test]
fn each_host_is_told_as_it_is() {
    for host in hosts::ALL {
        let said = of(host, &[]);
        insta::assert_snapshot!(host, format!("{}(exit status {})", said.out, said.status));
    }
}

#[test]
fn the_json_has_the_evidence_of_each_finding() {
    let said = of("amd-shared-group", &["--json"]);
    assert_eq!(said.status, 1, "{}", said.err);
    let json: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(json["schema"], 2);
    let findings = json["findings"].as_array().unwrap();
    for finding in findings {
        let evidence = finding["evidence"].as_array().unwrap();
        assert!(evidence.iter().all(|e| e["file"].as_str().unwrap().starts_with('/')));
        assert!(!evidence.is_empty() || finding["severity"] == "ok", "{finding:#}");
        let bad = finding["severity"] == "blocker" || finding["severity"] == "warning";
        assert!(!bad || finding["remedy"].is_string(), "{finding:#}");
    }
    let group = findings.iter().find(|f| f["id"] == "device.0000:02:00.0").unwrap();
    assert_eq!(group["stops"], serde_json::json!(["passthrough"]));
    assert!(group["found"].as_str().unwrap().contains("0000:22:00.0"), "{group:#}");
}

#[test]
fn arm64_is_told_plainly() {
    let world = World::new();
    let root = world.path("arm");
    std::fs::create_dir_all(root.join("proc")).unwrap();
    std::fs::write(root.join("proc/cpuinfo"), "processor : 0\nCPU implementer : 0x41\n").unwrap();
    let said = world.run(&["doctor", "--root", root.to_str().unwrap()]);
    let words = "no VFIO path here, use a native RT kernel; emulation works";
    assert!(said.out.contains("aarch64") && said.out.contains(words), "{}", said.out);
    assert!(said.out.contains("emulation        yes"), "{}", said.out);
}

#[test]
fn a_folder_that_is_no_host_is_refused() {
    let world = World::new();
    let said = world.run(&["doctor", "--root", world.path("work").to_str().unwrap()]);
    assert_eq!(said.status, 2, "{}", said.err);
    assert!(said.err.contains("proc/cpuinfo") && said.err.contains("--root"), "{}", said.err);
}
