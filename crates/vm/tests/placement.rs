//! Placement on the threads of a real QEMU with two vCPUs, emulated: where they may run and at which
//! priority, by the kernel's own word.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Command;

use archibald_machine::units::CpuSet;
use archibald_machine::{HostLimits, Machine};
use archibald_vm::placement::{apply, other_threads, plan, standing, vcpu_threads};
use archibald_vm::qemu::spawn;
use archibald_vm::qmp::Qmp;

#[test]
fn threads_of_a_running_qemu_are_placed_and_read_back() {
    let cpus = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
    let cpus: CpuSet = cpus.trim().parse().unwrap();
    if cpus.len() < 2 {
        println!("SKIPPED placement: this host has one CPU, two vCPUs need one each");
        return;
    }
    let (ours, theirs) = UnixStream::pair().unwrap();
    let log = tempfile::tempfile().unwrap();
    let arguments = "-nodefaults -no-user-config -S -display none -machine q35 -m 64M -smp 2 \
        -accel tcg,thread=multi -chardev socket,id=qmp,fd=0 -mon chardev=qmp,mode=control";
    let arguments: Vec<&str> = arguments.split_whitespace().collect();
    let mut child = spawn("qemu-system-x86_64", &arguments, OwnedFd::from(theirs), &log).unwrap();
    let mut qmp = Qmp::greet(ours).unwrap();
    let vcpus = vcpu_threads(&mut qmp).unwrap();
    let emulator = other_threads(child.id(), &vcpus).unwrap();
    assert_eq!(vcpus.len(), 2);

    // The host of a small machine has no CPU left besides; this one lends the emulator its first.
    let file = "[realtime]\nhost-cpus = \"0-1\"\nisolated = \"1\"\n";
    let machine = Machine::parse("", file, &HostLimits::default()).unwrap();
    let mut wanted = plan(&machine, &"0-2".parse().unwrap(), &vcpus, &emulator);
    for thread in wanted.iter_mut().filter(|wanted| wanted.thread == "emulator") {
        thread.cpus = "0".parse().unwrap();
    }
    let placed = apply(wanted);
    let refused = placed.iter().find_map(|placed| placed.missing.clone());
    let seen = standing(&machine, &cpus, child.id(), &vcpus).unwrap();
    // Somebody takes the priority away behind our back.
    let taken =
        Command::new("chrt").args(["-o", "-p", "0", &vcpus[1].to_string()]).status().unwrap();
    let later = standing(&machine, &cpus, child.id(), &vcpus).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();

    if let Some(refused) = refused {
        println!("SKIPPED placement with a real-time priority: {refused}");
        return;
    }
    assert!(placed.iter().all(|placed| placed.in_force), "{placed:?}");
    let shown: Vec<String> = seen[..2]
        .iter()
        .map(|t| {
            format!("{}: CPU {}, {} {}, {}", t.thread, t.cpus, t.policy, t.priority, t.in_force)
        })
        .collect();
    assert_eq!(shown, ["vcpu 0: CPU 0, OTHER 0, true", "vcpu 1: CPU 1, FIFO 1, true"]);
    let emulators = &seen[2..];
    assert!(!emulators.is_empty());
    assert!(emulators.iter().all(|t| t.thread == "emulator" && t.cpus == "0".parse().unwrap()));
    // It runs where it was put, which is not what the plan for this host asks for: told, not assumed.
    assert!(emulators.iter().all(|t| !t.in_force), "{emulators:?}");
    assert!(taken.success());
    assert_eq!((later[1].policy, later[1].in_force), ("OTHER", false), "{:?}", later[1]);
}
