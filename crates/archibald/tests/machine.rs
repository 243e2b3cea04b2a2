//! The main job, end to end, on the real image with real clients: one machine, brought up once, on
//! which every verb is tried as a person would. Takes minutes in emulation.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod guide;
mod meters;
mod projects;
mod rtcqs;
mod saved;
mod scheduling;
mod sound;
mod world;

use std::io::Write as _;
use std::process::{Command, Stdio};

use archibald_machine::units::CpuSet;
use scheduling::{kernels_word, may_have_priorities, own_cpu};
use world::{World, machine_file, said, under};

const PORTS: [&str; 5] =
    ["26022:22", "26713:4713", "26713:4713/udp", "26080:8080", "27000-27020:8000-8020"];

#[test]
#[ignore = "boots the real image; run by ./archibald test"]
fn from_up_to_delete() {
    let world = World::new();
    world.write("archibald.toml", &placed_file());

    up_ends_with_every_check_held(&world);
    status_and_ls_say_that_it_runs(&world);
    status_proves_the_placement(&world);
    exec_passes_words_and_status(&world);
    threads_are_listed_and_the_wrong_order_is_named(&world);
    wakeups_are_measured_and_not_judged(&world);
    the_kernels_tracers_tell_interrupt_from_thread(&world);
    a_measurement_that_is_killed_leaves_nothing_in_the_machine(&world);
    the_audio_loop_is_measured_to_the_frame(&world);
    planted_drops_are_found_in_the_machine(&world);
    meters::a_planted_cause_is_named(&world);
    meters::all_meters_measure_at_once(&world);
    the_network_is_measured(&world);
    scan_puts_host_and_machine_side_by_side(&world);
    copy_brings_files_in_and_out(&world);
    the_store_answers_curl(&world);
    a_port_of_the_range_answers(&world);
    sound::a_tone_goes_in_and_comes_back_by_pulse(&world);
    sound::a_recording_is_ended_early_and_is_whole(&world);
    sound::files_are_shared_both_ways(&world);
    saved::the_machine_goes_back(&world, &|world| {
        the_store_answers_curl(world);
        a_port_of_the_range_answers(world);
    });
    saved::another_machine_is_refused(&world);
    saved::a_save_that_is_broken_off_leaves_nothing(&world);
    saved::damage_is_told_and_deleting_frees(&world);
    the_published_password_is_for_loopback_alone(&world);
    logs_show_the_journal(&world);
    projects::all(&world);
    guides_that_need_a_machine(&world);
    up_again_only_checks(&world);
    delete_refuses_a_running_machine(&world);
    stop_keeps_the_disk(&world);
    restart_brings_a_changed_file_into_force(&world);
    status_says_that_the_priority_was_not_had(&world);
    a_killed_qemu_is_told(&world);
    delete_leaves_nothing(&world);
}

fn placed_file() -> String {
    let file = machine_file("studio", &PORTS);
    own_cpu().map_or(file.clone(), |cpu| file + &format!("[realtime]\nhost-cpus = \"{cpu}\"\n"))
}

/// This user may not ask for a real-time priority, whoever it is.
const WITHOUT_PRIORITIES: [&str; 6] = [
    "prlimit",
    "--rtprio=0:0",
    "setpriv",
    "--bounding-set=-sys_nice",
    "--inh-caps=-sys_nice",
    "--",
];

fn threads(world: &World) -> Vec<serde_json::Value> {
    let said = world.run(&["status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    status["threads"].as_array().unwrap().clone()
}

fn up_ends_with_every_check_held(world: &World) {
    let said = world.run_with_image(&["up", "--json"]);
    let report: serde_json::Value =
        serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{}{}", said.out, said.err));
    let failed: Vec<_> =
        report["rows"].as_array().unwrap().iter().filter(|row| row["status"] == "failed").collect();
    assert!(failed.is_empty() && said.status == 0, "{failed:#?}\n{}", said.err);
    let ids: Vec<_> =
        report["rows"].as_array().unwrap().iter().filter_map(|row| row["id"].as_str()).collect();
    for id in ["host.ssh-key", "host.ssh-password", "host.ports", "host.streamdb"] {
        assert!(ids.contains(&id), "{ids:?}");
    }
    // Under emulation nothing is judged, and the report says so.
    if report["accelerator"] == "tcg" {
        assert!(report["not-judged"].as_u64() > Some(0), "{report:#}");
    }
}

fn status_and_ls_say_that_it_runs(world: &World) {
    let said = world.run(&["status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((said.status, &status["status"]["state"]), (0, &"running".into()));
    let threads = status["threads"].as_array().unwrap();
    let count = |kind: &str| {
        let is = |thread: &&serde_json::Value| thread["thread"].as_str().unwrap().starts_with(kind);
        threads.iter().filter(is).count()
    };
    assert_eq!(count("vcpu"), 2, "{threads:?}");
    assert!(count("emulator") > 0, "{threads:?}");
    let said = world.run(&["ls"]);
    assert!(said.out.contains("studio") && said.out.contains("running"), "{}", said.out);
}

/// Every thread of QEMU against the kernel's own files and chrt's reading of them.
fn status_proves_the_placement(world: &World) {
    let threads = threads(world);
    let pid = pid(world);
    let mut tasks: Vec<u64> = std::fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap()
        .map(|task| task.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect();
    // Helper threads of QEMU come and go between two looks; the lasting ones are all there.
    tasks.retain(|tid| threads.iter().any(|thread| thread["tid"] == *tid));
    assert!(tasks.len() >= 4, "{tasks:?} {threads:#?}");
    for tid in tasks {
        let thread = threads.iter().find(|thread| thread["tid"] == tid).unwrap();
        let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/status")) else {
            continue;
        };
        let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:\t"));
        assert_eq!(thread["cpus"].as_str(), allowed, "{thread}");
        let (policy, priority) = kernels_word(tid);
        assert_eq!((&thread["policy"], &thread["priority"]), (&policy.into(), &priority.into()));
    }
    let Some(own) = own_cpu() else {
        return println!(
            "SKIPPED the placement of vCPUs: this host has one CPU, none to give away"
        );
    };
    let vcpu = |number: u32| {
        threads.iter().find(|thread| thread["thread"] == format!("vcpu {number}")).unwrap()
    };
    assert_eq!(vcpu(1)["cpus"], own.to_string(), "{threads:#?}");
    let others = threads.iter().filter(|thread| thread["thread"] != "vcpu 1");
    for thread in others {
        let cpus: CpuSet = thread["cpus"].as_str().unwrap().parse().unwrap();
        assert!(!cpus.contains(own), "{thread}");
        assert_eq!((&thread["policy"], &thread["in_force"]), (&"OTHER".into(), &true.into()));
    }
    if may_have_priorities() {
        let got = (&vcpu(1)["policy"], &vcpu(1)["priority"], &vcpu(1)["in_force"]);
        assert_eq!(got, (&"FIFO".into(), &1.into(), &true.into()), "{threads:#?}");
    } else {
        println!("SKIPPED the vCPU's priority: this user may not have SCHED_FIFO");
        assert_eq!(vcpu(1)["in_force"], false, "{threads:#?}");
    }
}

fn pid(world: &World) -> u64 {
    let status = world.run(&["status", "--json"]).out;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    status["status"]["pid"].as_u64().unwrap()
}

fn status_says_that_the_priority_was_not_had(world: &World) {
    if own_cpu().is_none() {
        return;
    }
    let threads = threads(world);
    let vcpu = threads.iter().find(|thread| thread["thread"] == "vcpu 1").unwrap();
    assert_eq!((&vcpu["policy"], &vcpu["in_force"]), (&"OTHER".into(), &false.into()), "{vcpu}");
    // Where it runs needs no right, and is had.
    assert_eq!(vcpu["cpus"], own_cpu().unwrap().to_string());
    let said = world.run(&["status"]);
    assert!(said.out.contains("NOT IN FORCE") && said.out.contains("rtprio"), "{}", said.out);
}

fn exec_passes_words_and_status(world: &World) {
    let said = world.run(&["exec", "--", "uname", "-v"]);
    assert!(said.out.contains("PREEMPT_RT"), "{}{}", said.out, said.err);
    let said = world.run(&["exec", "--", "printf", "%s|", "two words", "$HOME", "it's"]);
    assert_eq!(said.out, "two words|$HOME|it's|");
    assert_eq!(world.run(&["exec", "--", "sh", "-c", "exit 7"]).status, 7);
    let said = world.run(&["exec", "--", "id", "-un"]);
    assert_eq!(said.out.trim(), "audio-user");
    // A shell that is given a script instead of a terminal.
    let mut shell = world.command(&["shell"]);
    let mut child =
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"echo from-$((40 + 2))\nexit\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("from-42"), "{output:?}");
}

fn threads_are_listed_and_the_wrong_order_is_named(world: &World) {
    let ask = || {
        let said = world.run(&["threads", "--json"]);
        let report: serde_json::Value =
            serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{}{}", said.out, said.err));
        (said.status, report)
    };
    let (status, report) = ask();
    assert_eq!((status, report["inversions"].as_array().map(Vec::len)), (0, Some(0)), "{report:#}");
    let graph =
        report["threads"].as_array().unwrap().iter().find(|t| t["role"] == "graph").unwrap();
    assert_eq!((&graph["priority"], &graph["cpus"]), (&88.into(), &"1".into()), "{graph}");

    // A program of the user above the graph, as a person would start it.
    let start = "archibald-guest exec --priority 95 -- sleep 600 </dev/null >/dev/null 2>&1 &
        sleep 3; grep -E 'VmLck|Cpus_allowed_list' /proc/$(pgrep -x sleep)/status";
    let said = world.run(&["exec", "--", "sh", "-c", start]);
    let locked = said.out.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap_or("0 kB");
    assert!(said.out.contains("list:\t1\n") && locked.trim() != "0 kB", "{}{}", said.out, said.err);
    let (status, report) = ask();
    assert_eq!(status, 1, "{report:#}");
    let what = report["inversions"][0]["what"].as_str().unwrap();
    assert!(what.contains("sleep (FIFO 95)"), "{what}");
    assert!(world.run(&["threads"]).out.contains("audio program"));
    assert_eq!(world.run(&["exec", "--", "pkill", "-x", "sleep"]).status, 0);
}

fn wakeups_are_measured_and_not_judged(world: &World) {
    let said = world.run(&["measure", "wakeup", "--for", "2s", "--load", "fork", "--json"]);
    let report: serde_json::Value =
        serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{}{}", said.out, said.err));
    let run = &report["run"];
    let names: Vec<_> =
        run["histograms"].as_array().unwrap().iter().filter_map(|h| h["name"].as_str()).collect();
    assert_eq!(names, ["wakeup", "wakeup-housekeeping"], "{run:#}");
    assert!(run["conditions"]["kernel"].as_str().unwrap().contains("PREEMPT_RT"), "{run:#}");
    if run["source"] == "emulation" {
        assert_eq!((said.status, &report["verdict"]), (0, &"not-judged".into()));
        let said = world.run(&["report", report["file"].as_str().unwrap()]);
        assert!(said.out.contains("emulated: not judged"), "{}", said.out);
    }
    let said = world.run(&["exec", "--", "pgrep", "stress-ng"]);
    assert_eq!(said.out, "", "the load outlives the measurement");
}

fn the_kernels_tracers_tell_interrupt_from_thread(world: &World) {
    let measure = |with: &str, more: &[&str]| -> serde_json::Value {
        let words =
            [&["measure", "wakeup", "--for", "2s", "--json", "--with", with], more].concat();
        let said = world.run(&words);
        // Under KVM it is judged, and may be broken.
        assert!(said.status <= 1, "{}{}", said.out, said.err);
        serde_json::from_str(&said.out).unwrap()
    };
    let names = |report: &serde_json::Value| -> Vec<String> {
        let all = report["run"]["histograms"].as_array().unwrap().iter();
        all.map(|named| named["name"].as_str().unwrap().to_owned()).collect()
    };
    // Kept in the machine's own store as well.
    let report = measure("rtla-timerlat", &["--store"]);
    for name in ["wakeup", "wakeup-irq", "wakeup-housekeeping", "wakeup-irq-housekeeping"] {
        assert!(names(&report).iter().any(|known| known == name), "{report:#}");
    }
    let bins = |name: &str| -> u64 {
        let all = report["run"]["histograms"].as_array().unwrap().iter();
        let named = all.into_iter().find(|named| named["name"] == name).unwrap();
        let bins = named["histogram"]["bins"].as_array().unwrap().iter();
        bins.map(|bin| bin[1].as_u64().unwrap()).sum()
    };
    assert!(bins("wakeup") > 0 && bins("wakeup-irq") > 0, "{report:#}");
    assert_eq!(kept(&report["run"]), report["run"]);

    let report = measure("rtla-osnoise", &[]);
    assert!(names(&report).iter().any(|name| name == "noise"), "{report:#}");
    // The tracers are switched off again: their busy threads would take the CPUs for ever.
    let said = world.run(&["exec", "--", "sh", "-c", "pgrep -l 'osnoise|timerlat' || echo none"]);
    assert_eq!(said.out.trim(), "none", "{}", said.err);
}

/// Killed outright, it cannot clear up: what it started there ends with the connection.
fn a_measurement_that_is_killed_leaves_nothing_in_the_machine(world: &World) {
    let runs = |wanted: bool| {
        let look = "pgrep -l 'cyclictest|stress-ng'";
        // A machine that forks as fast as it can, emulated on a busy host, takes its time to hear of it.
        for _ in 0..180 {
            let found = world.run(&["exec", "--", "sh", "-c", look]).out;
            if found.contains("cyclictest") == wanted && (wanted || found.is_empty()) {
                return true;
            }
            std::thread::sleep(std::time::Duration::from_millis(500));
        }
        false
    };
    let words = ["measure", "wakeup", "--for", "1h", "--load", "fork"];
    let mut child =
        world.command(&words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let began = runs(true);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(began, "the measurement never began");
    assert!(runs(false), "the measurement outlives who wanted it");
}

fn measured(world: &World, words: &[&str]) -> serde_json::Value {
    let said = world.run(&[&["measure"], words, &["--json"]].concat());
    let report: serde_json::Value =
        serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{}{}", said.out, said.err));
    if report["run"]["source"] == "emulation" {
        assert_eq!((said.status, &report["verdict"]), (0, &"not-judged".into()), "{}", said.err);
    }
    report["run"].clone()
}

/// Against PipeWire, which runs, and against a JACK2 of the measurement's own.
fn the_audio_loop_is_measured_to_the_frame(world: &World) {
    for (words, server) in [(&[][..], "pipewire"), (&["--own-jackd"], "jack")] {
        let run = measured(world, &[&["audio", "--for", "3s"], words].concat());
        assert_eq!(run["conditions"]["server"], server, "{run:#}");
        assert_eq!(run["conditions"]["quantum"], 32, "{run:#}");
        // Who set the pace. PipeWire has clients that no sink drives follow a node of its own.
        let driver = &run["conditions"]["other"]["driver"];
        assert_eq!(driver, if server == "jack" { "dummy" } else { "Dummy-Driver" }, "{run:#}");
        let trip = &run["round_trip"];
        assert_eq!(
            (&trip["frames"], &trip["method"]),
            (&32.0.into(), &"sequence".into()),
            "{trip}"
        );
        let theirs = trip["jack_iodelay"].as_f64().unwrap_or_else(|| panic!("{trip}"));
        assert!((theirs - 32.0).abs() <= 1.0, "jack_iodelay: {theirs}");
        let names: Vec<_> = run["histograms"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|named| named["name"].as_str())
            .collect();
        assert_eq!(names, ["round-trip", "callback", "margin", "jitter"]);
        let counters = run["counters"].as_object().unwrap();
        for meter in ["jack-callback", "frame-clock", "callback-pause", "sequence"] {
            assert!(counters.contains_key(meter), "{counters:?}");
        }
        assert_eq!(counters.contains_key("pw-top"), server == "pipewire", "{counters:?}");
    }
    let said = world.run(&["exec", "--", "pgrep", "-x", "jackd|archibald-probe"]);
    assert_eq!(said.out, "", "something outlives the measurement");
}

/// What the emulated graph itself loses are whole periods; these are not.
fn planted_drops_are_found_in_the_machine(world: &World) {
    // Close together: an emulated graph may be many times slower than its clock.
    let faults: Vec<String> = (1..180)
        .map(|at| {
            let (kind, frames) = if at % 2 == 0 { ("repeat", 1) } else { ("drop", 3) };
            format!("--fault {kind}:{frames}@{}", 16_000 * at)
        })
        .collect();
    let start = format!(
        "archibald-probe relay {} </dev/null >relayed 2>&1 & echo $! >relay; sleep 1",
        faults.join(" ")
    );
    assert_eq!(world.run(&["exec", "--", "sh", "-c", &start]).status, 0);
    let way = "archibald-relay:in,archibald-relay:out";
    let run = measured(world, &["audio", "--for", "5s", "--through", way]);
    let end = "kill $(cat relay); sleep 1; cat relayed";
    let relayed = world.run(&["exec", "--", "sh", "-c", end]).out;
    let relayed: serde_json::Value =
        serde_json::from_str(&relayed).unwrap_or_else(|_| panic!("{relayed}"));
    let done = relayed["done"].as_array().unwrap();
    assert!(done.len() >= 5, "{relayed}");
    let found: Vec<i64> = run["round_trip"]["breaks"]
        .as_array()
        .unwrap_or_else(|| panic!("{run:#}"))
        .iter()
        .map(|found| found["jump"].as_i64().unwrap_or(0))
        .filter(|jump| jump % 32 != 0)
        .collect();
    // Of each kind in turn.
    assert!(found.len() >= 3, "{found:?}");
    assert!(found.windows(2).all(|pair| pair[0] + pair[1] == 2), "{found:?}");
}

fn the_network_is_measured(world: &World) {
    let pacat = Command::new("pacat").arg("--version").output().is_ok();
    if !pacat {
        let said = world.run(&["measure", "network", "--for", "1s"]);
        assert!(said.status == 3 && said.err.contains("pulseaudio-utils"), "{}", said.err);
        return println!("SKIPPED measuring the network: pacat is not here");
    }
    let run = measured(world, &["network", "--for", "1s", "--store"]);
    let names: Vec<_> =
        run["histograms"].as_array().unwrap().iter().filter_map(|h| h["name"].as_str()).collect();
    // UDP has one forwarded port, on which nobody listens.
    assert_eq!(names, ["network-tcp", "network-udp", "audio-round-trip"], "{run:#}");
    let sound = run["conditions"]["other"]["sound"].as_str().unwrap();
    assert!(
        sound.contains(" bursts heard; PulseAudio says ") && sound.contains(" ms to the sink"),
        "{sound}"
    );
    // No sound comes back before a period in and a period out have passed.
    let least = run["histograms"][2]["histogram"]["min_ns"].as_u64().unwrap();
    assert!(least > 2 * 666_666, "{least} ns");
    assert_eq!(kept(&run), run);
    let said = world.run(&["exec", "--", "pgrep", "-f", "[a]rchibald-guest echo"]);
    assert_eq!(said.out, "", "the echo outlives the measurement");
    let left = world.run(&["exec", "--", "sh", "-c", "pactl list short clients | grep -c pacat"]);
    assert_eq!(left.out.trim(), "0", "a client outlives the measurement: {}", left.err);

    // Without the client nothing is measured by halves.
    let ssh = world.path("ssh-alone");
    std::fs::create_dir_all(&ssh).unwrap();
    let real = Command::new("sh").args(["-c", "command -v ssh"]).output().unwrap().stdout;
    let _ = std::os::unix::fs::symlink(String::from_utf8_lossy(&real).trim(), ssh.join("ssh"));
    let mut without = world.command(&["measure", "network", "--for", "1s"]);
    let said = world::said(without.env("PATH", &ssh).output().unwrap());
    assert!(
        said.status == 3 && said.err.contains("apt-get install pulseaudio-utils"),
        "{}",
        said.err
    );
}

/// A run as the machine's own store has it.
fn kept(run: &serde_json::Value) -> serde_json::Value {
    let key = format!("runs/{}/run.json", run["id"].as_str().unwrap());
    let url = format!("http://127.0.0.1:26080/v1/objects/{key}");
    let kept = Command::new("curl").args(["-sS", "--fail", &url]).output().unwrap();
    serde_json::from_slice(&kept.stdout).unwrap()
}

fn scan_puts_host_and_machine_side_by_side(world: &World) {
    let said = world.run(&["scan", "--json"]);
    assert_eq!(said.status, 0, "{}", said.err);
    let scan: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    let ids = |of: &str| -> Vec<String> {
        let rows = scan[of].as_array().unwrap_or_else(|| panic!("{of}: {}", said.out));
        rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids("host"), ids("machine"));
    let machine = scan["machine"].as_array().unwrap();
    let warned = |id: &str| machine.iter().any(|r| r["id"] == id && r["verdict"] == "warning");
    for id in ["root", "audio_group", "preempt_rt", "rt_prio", "swappiness", "power_management"] {
        assert!(!warned(id), "{id}: {machine:#?}");
    }
    let program = match rtcqs::installed() {
        Ok(program) => program,
        Err(reason) => {
            return println!("SKIPPED the comparison with rtcqs in the machine: {reason}");
        }
    };
    assert_eq!(world.run(&["copy", program.to_str().unwrap(), ":rtcqs.py"]).status, 0);
    let theirs = world.run(&[&["exec", "--"], rtcqs::command(".").as_slice()].concat());
    let apart = rtcqs::compare(&theirs.out, &scan["machine"]);
    assert!(apart.is_empty(), "not the same verdict on {apart:?}");
}

fn copy_brings_files_in_and_out(world: &World) {
    world.write("take.bin", &"0123456789".repeat(1000));
    assert_eq!(world.run(&["copy", "take.bin", ":there.bin"]).status, 0);
    assert_eq!(world.run(&["copy", ":there.bin", "back.bin"]).status, 0);
    let read = |name: &str| std::fs::read(world.path("work").join(name)).unwrap();
    assert_eq!(read("take.bin"), read("back.bin"));
}

fn the_store_answers_curl(world: &World) {
    let url = "http://127.0.0.1:26080/v1/objects/curl/take1";
    let curl = |words: &[&str]| {
        let output =
            Command::new("curl").args(["-sS", "--fail"]).args(words).arg(url).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    world.write("sound", "a few bytes of sound");
    let file = world.path("work/sound");
    curl(&["-T", file.to_str().unwrap()]);
    assert_eq!(curl(&[]), b"a few bytes of sound");
    assert_eq!(curl(&["-r", "2-4"]), b"few");
    curl(&["-X", "DELETE"]);
}

fn a_port_of_the_range_answers(world: &World) {
    let server = "cd /tmp && echo custom-port > hello && exec python3 -m http.server 8017";
    let mut child = world
        .command(&["exec", "--", "sh", "-c", server])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut answer = Vec::new();
    for _ in 0..60 {
        let output = Command::new("curl")
            .args(["-sS", "--fail", "-m", "10", "http://127.0.0.1:27017/hello"])
            .output()
            .unwrap();
        if output.status.success() {
            answer = output.stdout;
            break;
        }
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    world.run(&["exec", "--", "pkill", "-f", "http.server 8017"]);
    assert_eq!(answer, b"custom-port\n");
}

/// What sshd would do for somebody from elsewhere, by its own word.
fn the_published_password_is_for_loopback_alone(world: &World) {
    let ask = |address: &str| {
        let connection = format!("addr={address},user=audio-user,host=elsewhere");
        let said =
            world.run(&["exec", "--", "sudo", "-n", "/usr/sbin/sshd", "-T", "-C", &connection]);
        assert_eq!(said.status, 0, "{}", said.err);
        said.out.lines().any(|line| line == "passwordauthentication yes")
    };
    assert!(ask("10.0.2.2"), "the host may log in by password");
    assert!(!ask("203.0.113.5"), "nobody else may");
}

fn logs_show_the_journal(world: &World) {
    let said = world.run(&["logs", "--log", "journal", "--unit", "streamdb", "--tail", "5"]);
    assert!(
        said.status == 0 && said.out.to_lowercase().contains("streamdb"),
        "{}{}",
        said.out,
        said.err
    );
    assert_eq!(world.run(&["logs", "--log", "qemu"]).status, 0);
    assert_eq!(world.run(&["logs"]).status, 0);
}

fn guides_that_need_a_machine(world: &World) {
    // A guide's machine has the usual ports and the usual name; this one's name stands in its file.
    let changed = |command: &str| {
        let command = command.replace("127.0.0.1:8017", "127.0.0.1:27017");
        let command = command.replace("127.0.0.1:4713", "127.0.0.1:26713");
        match command.strip_prefix("archibald new ").and_then(|rest| rest.split(' ').next()) {
            Some(name) if !name.starts_with('-') => {
                format!("{command} && cp archibald.toml {name}/")
            }
            _ => command,
        }
    };
    for guide in guide::all() {
        guide.walk(world, guide::Place::Machine, &changed);
    }
}

fn up_again_only_checks(world: &World) {
    let said = world.run_with_image(&["up", "--no-check"]);
    assert_eq!(said.status, 0, "{}", said.err);
    assert!(said.err.contains("runs already"), "{}", said.err);
}

fn delete_refuses_a_running_machine(world: &World) {
    let said = world.run(&["delete"]);
    assert_eq!(said.status, 2);
    assert!(said.err.contains("--force"), "{}", said.err);
}

fn stop_keeps_the_disk(world: &World) {
    assert_eq!(world.run(&["exec", "--", "sh", "-c", "echo mine > kept; sync"]).status, 0);
    let said = world.run(&["stop"]);
    assert_eq!(said.out.trim(), "studio: stopped", "{}", said.err);
    assert!(world.is_quiet(), "{:?}", world.processes());
    assert_eq!(world.run(&["stop"]).out.trim(), "studio: was not running");
    let said = world.run(&["check"]);
    assert!(said.status == 1 && said.err.contains("not running"), "{}", said.err);
}

fn restart_brings_a_changed_file_into_force(world: &World) {
    world.write("archibald.toml", &(placed_file() + "[audio]\nquantum = 64\n"));
    let restart = world.command_with_image(&["restart", "--no-check"]);
    let said = said(under(&WITHOUT_PRIORITIES, &restart).output().unwrap());
    assert_eq!(said.status, 0, "{}", said.err);
    if own_cpu().is_some() {
        assert!(said.err.contains("vcpu 1 is not placed: SCHED_FIFO 1 not had"), "{}", said.err);
    }
    assert_eq!(world.run(&["exec", "--", "cat", "kept"]).out, "mine\n");
    let said = world.run(&["exec", "--", "pw-jack", "jack_bufsize"]);
    assert!(said.out.contains("64"), "{}{}", said.out, said.err);
}

fn a_killed_qemu_is_told(world: &World) {
    let pid = pid(world).to_string();
    assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    assert!(world.is_quiet());
    let said = world.run(&["status"]);
    assert!(said.status == 1 && said.out.contains("signal 9"), "{}", said.out);
    let said = world.run(&["exec", "--", "true"]);
    assert!(said.status == 1 && said.err.contains("archibald up"), "{}", said.err);
}

fn delete_leaves_nothing(world: &World) {
    assert_eq!(said(world.command(&["delete"]).output().unwrap()).status, 0);
    for place in ["state/archibald", "run/archibald"] {
        let left: Vec<_> =
            std::fs::read_dir(world.path(place)).unwrap().flatten().map(|e| e.path()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}
