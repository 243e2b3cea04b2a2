//! `archibald up`: what it refuses before the long work begins, each with the remedy, and how a start
//! ends that cannot succeed. The start that does succeed is in machine.rs.

#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::net::TcpListener;
use std::process::{Child, Stdio};
use std::time::Duration;

use world::{World, machine_file, said};

#[test]
fn a_wrong_machine_file_is_shown_at_its_line() {
    let world = World::new();
    world.write("archibald.toml", "[audio]\nquantum = 48\nserver = \"alsa\"\n");
    let said = world.run(&["up"]);
    assert_eq!(said.status, 2, "{}", said.err);
    // All that is wrong, at once.
    assert!(said.err.contains("archibald.toml:3:10"), "{}", said.err);
    assert!(said.err.contains("archibald.toml:2:11"), "{}", said.err);
    assert!(said.err.contains("Write quantum = 32."), "{}", said.err);
    assert!(!world.state("archibald").exists());
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let world = World::new();
    let said = world.run(&["up", "-f", "none.toml"]);
    assert_eq!(said.status, 2, "{}", said.err);
    assert!(said.err.contains("none.toml") && said.err.contains("archibald init"), "{}", said.err);
}

#[test]
fn a_missing_qemu_is_named_with_its_package() {
    let world = World::new();
    world.write("archibald.toml", &machine_file("studio", &["25022:22"]));
    let output = world.command(&["up"]).env("ARCHIBALD_QEMU", "/nonexistent/qemu").output();
    let said = said(output.unwrap());
    assert_eq!(said.status, 3, "{}", said.err);
    assert!(said.err.contains("qemu-system-x86"), "{}", said.err);
    assert!(!world.state("studio").exists());
}

#[test]
fn an_old_qemu_is_refused_with_its_version() {
    let world = World::new();
    world.write("archibald.toml", &machine_file("studio", &["25022:22"]));
    let old = world.script("qemu", "#!/bin/sh\necho 'QEMU emulator version 5.2.0'\n");
    let said = said(world.command(&["up"]).env("ARCHIBALD_QEMU", old).output().unwrap());
    assert_eq!(said.status, 3, "{}", said.err);
    assert!(said.err.contains("5.2.0") && said.err.contains("7.2"), "{}", said.err);
}

#[test]
fn a_taken_port_is_named_with_its_holder_and_the_way_out() {
    let world = World::new();
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    world.write("archibald.toml", &machine_file("studio", &[&format!("{port}:22")]));
    let said = world.run(&["up"]);
    assert_eq!(said.status, 3, "{}", said.err);
    assert!(said.err.contains(&format!("port {port} (tcp) is in use by")), "{}", said.err);
    assert!(said.err.contains(&format!("(pid {})", std::process::id())), "{}", said.err);
    // The way out still leads to the guest's port.
    assert!(
        said.err.contains("network.forward") && said.err.contains(":22\" instead"),
        "{}",
        said.err
    );
}

#[test]
fn a_taken_port_of_a_range_gets_a_range_instead() {
    let world = World::new();
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let range = format!("{}-{}:8000-8010", port - 5, port + 5);
    world.write("archibald.toml", &machine_file("studio", &[&range]));
    let said = world.run(&["up"]);
    assert_eq!(said.status, 3, "{}", said.err);
    assert!(said.err.contains(":8000-8010\" instead"), "{}", said.err);
}

#[test]
fn a_device_that_is_not_there_is_refused_before_anything_is_touched() {
    let world = World::new();
    let file = machine_file("studio", &["25021:22"]) + "[devices]\npci = [\"ffff:ff:1f.7\"]\n";
    world.write("archibald.toml", &file);
    let said = world.run(&["up"]);
    assert_eq!(said.status, 3, "{}", said.err);
    assert!(said.err.contains("no PCI device ffff:ff:1f.7") && said.err.contains("lspci -D"));
    assert!(!world.state("studio").exists());
}

#[test]
fn a_qemu_without_the_sound_card_or_its_backend_is_told() {
    let world = World::new();
    let file = machine_file("studio", &["25026:22"]) + "[devices]\nsound = \"pipewire\"\n";
    world.write("archibald.toml", &file);
    let up = |options: &str| {
        let qemu = world.script(
            "qemu",
            &format!(
                "#!/bin/sh\ncase $1 in\n--version) echo 'QEMU emulator version 9.9.9' ;;\n\
                 -device) echo '{options}' ;;\n\
                 -audiodev) printf 'Available audio drivers:\\nnone\\nalsa\\n' ;;\nesac\n"
            ),
        );
        said(world.command(&["up"]).env("ARCHIBALD_QEMU", qemu).output().unwrap())
    };
    let refused = up("");
    assert!(refused.status == 3 && refused.err.contains("8.2"), "{}", refused.err);
    let refused = up("  audiodev=<str>");
    assert!(
        refused.status == 3 && refused.err.contains("only through none, alsa"),
        "{}",
        refused.err
    );
    assert!(!world.state("studio").exists());
}

/// QEMU's own message is what tells a person why it does not start; it must not drown.
#[test]
#[ignore = "needs the real image; run by ./archibald test"]
fn a_qemu_that_dies_is_quoted_and_leaves_nothing() {
    let world = World::new();
    world.write("archibald.toml", &machine_file("studio", &["25022:22"]));
    let dying = world.script(
        "qemu",
        "#!/bin/sh\n[ \"$1\" = --version ] && { echo 'QEMU emulator version 9.9.9'; exit; }\necho 'qemu: no luck today' >&2\nexit 7\n",
    );
    let output =
        world.command_with_image(&["up", "--accel", "tcg"]).env("ARCHIBALD_QEMU", dying).output();
    let said = said(output.unwrap());
    assert_eq!(said.status, 3, "{}", said.err);
    assert!(said.err.contains("qemu: no luck today"), "{}", said.err);
    assert!(said.err.contains("status 7"), "{}", said.err);
    assert!(world.is_quiet(), "{:?}", world.processes());
    assert!(!world.state("studio").exists());
}

/// A guest that is not ready in time. Eight seconds are enough for an emulated kernel to write to the
/// console, and far too few for the machine.
#[test]
#[ignore = "needs the real image; run by ./archibald test"]
fn a_guest_that_does_not_get_ready_is_ended_with_its_consoles_tail() {
    let world = World::new();
    world.write("archibald.toml", &machine_file("studio", &["25023:22"]));
    let said = world.run_with_image(&["up", "--accel", "tcg", "--timeout", "8"]);
    assert_eq!(said.status, 1, "{}", said.err);
    assert!(said.err.contains("not ready after 8 seconds"), "{}", said.err);
    assert!(said.err.contains("--timeout"), "{}", said.err);
    assert!(world.is_quiet(), "{:?}", world.processes());
    assert!(!world.state("studio").exists());
}

/// Ctrl-C while the guest boots, and kill -9 of the command: no QEMU may stay.
#[test]
#[ignore = "needs the real image; run by ./archibald test"]
fn a_start_that_is_called_off_or_killed_leaves_no_process() {
    for signal in ["INT", "TERM", "KILL"] {
        let world = World::new();
        world.write("archibald.toml", &machine_file("studio", &["25024:22"]));
        let mut up = booting(&world);
        let killed = std::process::Command::new("kill")
            .args([&format!("-{signal}"), &up.id().to_string()])
            .status()
            .unwrap();
        assert!(killed.success());
        let status = up.wait().unwrap();
        assert!(world.is_quiet(), "{signal}: {:?}", world.processes());
        if signal != "KILL" {
            assert_eq!(status.code(), Some(130), "{signal}");
            assert!(!world.state("studio").exists(), "{signal}");
        }
        // After kill -9 the record is there, says the truth, and can be deleted.
        let said = world.run(&["ls"]);
        assert!(!said.out.contains("running"), "{signal}: {}", said.out);
        if signal == "KILL" {
            assert_eq!(world.run(&["delete", "studio"]).status, 0);
        }
    }
}

/// The lock decides: the second `up` names the first.
#[test]
#[ignore = "needs the real image; run by ./archibald test"]
fn the_second_of_two_ups_says_who_is_at_work() {
    let world = World::new();
    world.write("archibald.toml", &machine_file("studio", &["25025:22"]));
    let mut first = booting(&world);
    let said = world.run_with_image(&["up", "--accel", "tcg"]);
    assert_eq!(said.status, 3, "{}", said.err);
    assert!(said.err.contains(&format!("archibald up (pid {})", first.id())), "{}", said.err);
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(world.is_quiet());
}

/// An `up` whose guest has begun to boot.
fn booting(world: &World) -> Child {
    let up = world
        .command_with_image(&["up", "--accel", "tcg"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let console = world.state("studio").join("console.log");
    wait_for(|| console.exists());
    up
}

fn wait_for(what: impl Fn() -> bool) {
    for _ in 0..1200 {
        if what() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("it did not come");
}
