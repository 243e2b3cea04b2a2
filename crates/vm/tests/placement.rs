//! Placement on the threads of a real QEMU with two vCPUs, emulated: where they may run and at which
//! priority, by the kernel's own word.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Command;

use archibald_machine::units::CpuSet;
use archibald_machine::{HostLimits, Machine};
use archibald_vm::placement::{Standing, apply, other_threads, plan, standing, vcpu_threads};
use archibald_vm::qemu::spawn;
use archibald_vm::qmp::Qmp;

#[test]
fn threads_of_a_running_qemu_are_placed_and_read_back() {
    let cpus = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
    let cpus: CpuSet = cpus.trim().parse().unwrap();
    if cpus.len() < 2 {
        println!("SKIPPED placement: this host has one CPU, none to give away");
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

    // A small host has one CPU to give, to the isolated vCPU; the other one shares with the emulator.
    let last = cpus.iter().last().unwrap();
    let rest = cpus.without(&std::iter::once(last).collect());
    let file = format!("[realtime]\nhost-cpus = \"{last}\"\nisolated = \"1\"\n");
    let machine = Machine::parse("", &file, &HostLimits { cpus: Some(cpus.clone()) }).unwrap();
    let placed = apply(plan(&machine, &cpus, &vcpus, &emulator));
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
    let expected =
        [format!("vcpu 0: CPU {rest}, OTHER 0, true"), format!("vcpu 1: CPU {last}, FIFO 1, true")];
    assert_eq!(shown, expected);
    let emulators = &seen[2..];
    assert!(!emulators.is_empty());
    let shares = |t: &Standing| t.thread == "emulator" && t.cpus == rest && t.in_force;
    assert!(emulators.iter().all(shares), "{emulators:?}");
    assert!(taken.success());
    assert_eq!((later[1].policy, later[1].in_force), ("OTHER", false), "{:?}", later[1]);
}
