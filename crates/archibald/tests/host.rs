//! `archibald host plan|apply|revert|status` on made-up hosts, and on a real Debian with GRUB.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../../host/tests/hosts/mod.rs"]
mod hosts;
mod world;

use std::fs;

use world::{Said, World};

/// A made-up host with its machine file, in a world of its own.
fn world_of(host: &str) -> World {
    let world = World::new();
    hosts::unfold(host, &world.path("host"));
    world.write("archibald.toml", hosts::wanting_cpus(host));
    world
}

fn on(world: &World, words: &[&str]) -> Said {
    let root = world.path("host");
    let (verb, rest) = words.split_first().unwrap();
    world.run(&[&["host", verb, "--root", root.to_str().unwrap()], rest].concat())
}

#[test]
fn each_host_has_its_plan_by_files() {
    for host in hosts::ALL {
        let said = on(&world_of(host), &["plan"]);
        assert_eq!(said.status, 0, "{}", said.err);
        insta::assert_snapshot!(format!("{host}-boot"), said.out);
    }
}

#[test]
fn each_host_has_its_plan_for_one_boot() {
    for host in hosts::ALL {
        let said = on(&world_of(host), &["plan", "--live"]);
        assert_eq!(said.status, 0, "{}", said.err);
        insta::assert_snapshot!(format!("{host}-live"), said.out);
    }
}

/// Offered with their price, never taken by themselves.
#[test]
fn what_endangers_the_host_is_only_offered() {
    for host in hosts::ALL {
        let world = world_of(host);
        let plan = on(&world, &["plan", "--json"]);
        let plan: serde_json::Value = serde_json::from_str(&plan.out).unwrap();
        let changes = plan["changes"].to_string();
        for word in ["mitigations=off", "idle=poll", "nosmt", "nx_huge_pages"] {
            assert!(!changes.contains(word), "{host}: {changes}");
        }
        assert!(plan["offers"].to_string().contains("Spectre"), "{host}: {plan:#}");
    }
    let world = world_of("intel-desktop");
    let said = on(&world, &["plan", "--argument", "mitigations=off"]);
    assert!(said.out.contains("iommu=pt mitigations=off\""), "{}", said.out);
    let said = on(&world, &["plan", "--argument", "a\"; reboot; \""]);
    assert_eq!(said.status, 2, "{}", said.out);
}

#[test]
fn a_machine_that_asks_for_nothing_changes_nothing() {
    let world = world_of("intel-desktop");
    world.write("archibald.toml", "");
    for verb in ["plan", "apply"] {
        let said = on(&world, &[verb]);
        assert_eq!(said.status, 0, "{}", said.err);
        assert!(said.out.contains("Nothing to do"), "{}", said.out);
        assert!(said.out.contains("realtime.host-cpus = \"6-7\""), "{}", said.out);
    }
    assert!(on(&world, &["status"]).out.contains("nothing was changed"));
}

#[test]
fn a_cpu_that_the_host_does_not_have_is_refused_at_its_line() {
    let world = world_of("nested-vm");
    world.write("archibald.toml", "[realtime]\nhost-cpus = \"8-9\"\n");
    let said = on(&world, &["plan"]);
    assert_eq!(said.status, 2, "{}", said.out);
    assert!(said.err.contains("archibald.toml:2:13"), "{}", said.err);
}

#[test]
fn what_is_applied_is_told_and_taken_back() {
    // Loader entries need no command, so that this runs without root.
    let world = world_of("amd-shared-group");
    let entry = world.path("host/boot/loader/entries/5f3e-6.16.8-200.fc42.x86_64.conf");
    let before = fs::read_to_string(&entry).unwrap();
    let applied = on(&world, &["apply"]);
    assert_eq!(applied.status, 0, "{}", applied.err);
    assert!(applied.out.contains("changed /boot/loader/entries/5f3e"), "{}", applied.out);
    let line = fs::read_to_string(&entry).unwrap();
    let line = line.lines().find(|line| line.starts_with("options")).unwrap().to_owned();
    assert!(
        line.starts_with("options root=UUID=77aa ro rhgb quiet isolcpus=managed_irq,domain,4-5")
    );
    assert!(on(&world, &["apply"]).out.contains("all is in place already"));
    let status = on(&world, &["status"]);
    assert_eq!(status.status, 0, "{}", status.out);
    insta::assert_snapshot!("status", status.out);
    // Somebody else's edit stands in the way of both.
    let sysctl = world.path("host/etc/sysctl.d/50-archibald.conf");
    let own = fs::read(&sysctl).unwrap();
    fs::write(&sysctl, "vm.swappiness = 1\n").unwrap();
    for verb in ["apply", "revert"] {
        let said = on(&world, &[verb]);
        assert_eq!(said.status, 1, "{}", said.out);
        assert!(said.err.contains("50-archibald.conf was edited"), "{}", said.err);
    }
    let status = on(&world, &["status"]);
    assert_eq!(status.status, 1);
    assert!(status.out.contains("EDITED") && status.out.contains("sysctl.d"), "{}", status.out);
    fs::write(&sysctl, own).unwrap();
    let said = on(&world, &["revert", "--json"]);
    assert_eq!(said.status, 0, "{}", said.err);
    assert_eq!(fs::read_to_string(&entry).unwrap(), before);
    assert!(on(&world, &["revert"]).out.contains("nothing to take back"));
    assert!(
        !world.path("host/etc/sysctl.d").exists() && !world.path("host/var/lib/archibald").exists()
    );
}
