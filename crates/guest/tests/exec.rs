//! `archibald-guest exec`: what the kernel says of the program that was started, not what was asked for.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::process::{Command, Output};

fn exec(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_archibald-guest")).arg("exec").args(words).output().unwrap()
}

/// Why this host lets nobody have a real-time priority, if it does not.
fn forbidden() -> Option<String> {
    let said = exec(&["--priority", "1", "--cpus", "0", "--", "true"]);
    (!said.status.success()).then(|| String::from_utf8_lossy(&said.stderr).into_owned())
}

fn field(status: &str, key: &str) -> String {
    let line = status.lines().find(|line| line.starts_with(key));
    line.unwrap_or_else(|| panic!("no {key} in {status}"))
        .split_once(':')
        .unwrap()
        .1
        .trim()
        .to_owned()
}

#[test]
fn the_program_has_its_priority_its_cpu_and_its_memory_locked() {
    if let Some(reason) = forbidden() {
        println!("SKIPPED real-time execution: {reason}");
        return;
    }
    // `sleep` stands for a program that maps libraries after its first instruction.
    let mut child = Command::new(env!("CARGO_BIN_EXE_archibald-guest"))
        .args(["exec", "--priority", "7", "--cpus", "0", "--", "sleep", "60"])
        .spawn()
        .unwrap();
    let read = |file: &str| {
        std::fs::read_to_string(format!("/proc/{}/{file}", child.id())).unwrap_or_default()
    };
    for _ in 0..200 {
        // Asleep in its own main function, with everything mapped.
        if read("comm").trim() == "sleep" && read("wchan").contains("nanosleep") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(25));
    }
    let (status, stat, maps) = (read("status"), read("stat"), read("smaps"));
    let children = read(&format!("task/{}/children", child.id()));
    child.kill().unwrap();
    child.wait().unwrap();

    assert_eq!(field(&status, "Name"), "sleep", "the same process number");
    assert_eq!(field(&status, "Cpus_allowed_list"), "0");
    assert_eq!(field(&status, "TracerPid"), "0", "nobody watches any more");
    assert_eq!(children, "", "the program has no child that it did not start");
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    assert_eq!((fields[37], fields[38]), ("7", "1"), "SCHED_FIFO 7: {stat}");
    let locked = field(&status, "VmLck");
    assert_ne!(locked, "0 kB");
    // libc came after the lock was taken.
    let libc = maps.split("VmFlags:").find(|part| part.contains("libc.so.6")).unwrap();
    assert_eq!(field(libc, "Locked"), field(libc, "Pss"), "{libc}");
}

#[test]
fn words_output_and_exit_status_are_the_programs_own() {
    if let Some(reason) = forbidden() {
        println!("SKIPPED real-time execution: {reason}");
        return;
    }
    let said = exec(&[
        "--priority",
        "7",
        "--cpus",
        "0",
        "--",
        "sh",
        "-c",
        "echo \"$1\"; exit 9",
        "sh",
        "two words",
    ]);
    assert_eq!(said.status.code(), Some(9));
    assert_eq!(String::from_utf8_lossy(&said.stdout), "two words\n");
    // A static program locks its memory just as well.
    let program = env!("CARGO_BIN_EXE_archibald-guest");
    let said = exec(&["--priority", "7", "--cpus", "0", "--", program, "--version"]);
    assert!(said.status.success() && !said.stdout.is_empty(), "{said:?}");
}

#[test]
fn what_cannot_be_had_is_named_with_its_remedy() {
    for (words, status, said) in [
        (&["--priority", "98", "--", "true"][..], 2, "1 to 97"),
        (&["--priority", "7", "--cpus", "8000", "--", "true"], 3, "/sys/devices/system/cpu/online"),
        (&["--priority", "7", "--cpus", "0", "--", "/no/such/program"], 3, "/no/such/program"),
    ] {
        let output = exec(words);
        let error = String::from_utf8_lossy(&output.stderr);
        if error.contains("ulimit") {
            println!("SKIPPED one refusal of real-time execution: {error}");
            continue;
        }
        assert_eq!(output.status.code(), Some(status), "{error}");
        assert!(error.contains(said), "{error}");
    }
}
