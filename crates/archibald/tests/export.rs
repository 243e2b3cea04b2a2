//! `archibald export libvirt`: what it writes and refuses, and the domain under a real libvirtd.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod scheduling;
mod world;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use archibald_vm::ready::{Signal, Signals};
use scheduling::{kernels_word, may_have_priorities, own_cpu};
use serde_json::Value;
use world::{Said, World, machine_file, project, said};

const PORTS: [&str; 3] = ["26822:22", "26880:8080", "26890-26892:8000-8002"];

#[test]
fn a_disk_of_somebody_elses_is_left_alone() {
    let world = World::new();
    world.write("archibald.toml", &machine_file("studio", &PORTS));
    fs::create_dir(world.path("work/studio-libvirt")).unwrap();
    world.write("studio-libvirt/disk.qcow2", "mine");
    let said = world.run(&["export", "libvirt"]);
    assert_eq!(said.status, 2, "{}", said.err);
    assert!(said.err.contains("no disk that an export made"), "{}", said.err);
    assert!(said.err.contains("--recreate"), "{}", said.err);
    assert_eq!(fs::read_to_string(world.path("work/studio-libvirt/disk.qcow2")).unwrap(), "mine");
}

#[test]
fn a_folder_that_cannot_stand_in_xml_is_refused() {
    let world = World::new();
    world.write("archibald.toml", &machine_file("studio", &PORTS));
    let said = world.run(&["export", "libvirt", "--out", "two\nlines"]);
    assert_eq!(said.status, 2, "{}", said.err);
    assert!(said.err.contains("cannot stand in XML"), "{}", said.err);
}

#[test]
#[ignore = "boots the real image; run by ./archibald test"]
fn a_libvirt_domain_boots_to_the_same_ready_signal() {
    let world = World::new();
    let placement = own_cpu().map(|cpu| format!("[realtime]\nhost-cpus = \"{cpu}\"\n"));
    world.write(
        "archibald.toml",
        &(machine_file("studio", &PORTS) + &placement.unwrap_or_default()),
    );

    let words = ["export", "libvirt", "--accel", "tcg"];
    let told = world.run_with_image(&words);
    assert_eq!(told.status, 0, "{}", told.err);
    let out = fs::canonicalize(world.path("work/studio-libvirt")).unwrap();
    secrets_are_in_their_files_alone(&out);
    the_image_is_in_use(&world, true);

    match missing(&["libvirtd", "virsh", "unshare", "setpriv"]) {
        Some(reason) => println!("SKIPPED the domain under libvirt: {reason}"),
        None => {
            let image = image_files(&out);
            let before = stamps(&image);
            the_domain_comes_up(&world, &out, &told);
            the_domain_comes_up_on_a_bridge(&world);
            assert_eq!(stamps(&image), before, "the cached image is as it was");
            assert!(world.is_quiet(), "{:?}", world.processes());
        }
    }
    an_export_again_keeps_the_disk(&world, &out);
    fs::remove_dir_all(&out).unwrap();
    the_image_is_in_use(&world, false);
}

fn secrets_are_in_their_files_alone(out: &Path) {
    let settings = fs::read_to_string(out.join("settings")).unwrap();
    assert!(settings.contains("$6$") && settings.contains("PRIVATE KEY"));
    assert_eq!(fs::metadata(out.join("settings")).unwrap().mode() & 0o777, 0o600);
    let xml = fs::read_to_string(out.join("domain.xml")).unwrap();
    assert!(!xml.contains("$6$") && !xml.contains("PRIVATE KEY"), "{xml}");
}

fn the_image_is_in_use(world: &World, expected: bool) {
    let said = world.run_with_image(&["image", "ls", "--json"]);
    let images: Value = serde_json::from_str(&said.out).unwrap();
    let used = images["images"].as_array().unwrap().iter().any(|image| image["in-use"] == true);
    assert_eq!(used, expected, "{images:#}");
}

/// The files below the domain's disk, by qemu-img's word.
fn image_files(out: &Path) -> Vec<PathBuf> {
    let output = Command::new("qemu-img")
        .args(["info", "--output=json", "--backing-chain"])
        .arg(out.join("disk.qcow2"))
        .output()
        .unwrap();
    let told = said(output);
    assert_eq!(told.status, 0, "{}", told.err);
    let chain: Value = serde_json::from_str(&told.out).unwrap();
    let files = chain.as_array().unwrap().iter().skip(1);
    let files: Vec<PathBuf> = files.map(|file| file["filename"].as_str().unwrap().into()).collect();
    assert!(!files.is_empty());
    files
}

/// Owner, change and modification of each file.
fn stamps(files: &[PathBuf]) -> Vec<(u32, i64, i64, i64)> {
    let stamp = |file: &PathBuf| {
        let file = fs::metadata(file).unwrap();
        (file.uid(), file.ctime(), file.ctime_nsec(), file.mtime())
    };
    files.iter().map(stamp).collect()
}

fn the_domain_comes_up(world: &World, out: &Path, told: &Said) {
    let libvirtd = Libvirtd::start(world, "libvirt", &[]);
    libvirtd.good(&["define", out.join("domain.xml").to_str().unwrap()]);
    // What an earlier run left must not be taken for this one's word.
    fs::write(out.join("ready"), "{\"ready\":true}\n").unwrap();
    libvirtd.good(&["start", "studio"]);
    assert_eq!(fs::read_to_string(out.join("ready")).unwrap(), "");

    let pid = world.processes().into_iter().find(|pid| is_qemu(*pid)).unwrap();
    let words = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(!words.contains("$6$") && !words.contains("PRIVATE KEY"));

    libvirtd.is_ready("studio", out);
    threads_are_placed(pid);

    let mut login = Command::new("sh");
    logs_in(login.arg("-c").arg(ssh_of(told)), "studio");
    let refused = world.run_with_image(&["export", "libvirt", "--recreate"]);
    assert_eq!(refused.status, 3, "{}", refused.err);
    assert!(refused.err.contains("virsh shutdown"), "{}", refused.err);

    libvirtd.shuts_down("studio");
    libvirtd.good(&["undefine", "studio"]);
}

/// The last line that was told is the way in.
fn ssh_of(told: &Said) -> String {
    let ssh = told.out.lines().last().unwrap();
    assert!(ssh.starts_with("ssh "), "{}", told.out);
    format!("{ssh} 'hostname && uname -v'")
}

fn logs_in(command: &mut Command, name: &str) {
    let inside = said(command.output().unwrap());
    assert!(inside.out.starts_with(&format!("{name}\n")), "{}", inside.err);
    assert!(inside.out.contains("PREEMPT_RT"), "{}", inside.err);
}

fn is_qemu(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm"))
        .is_ok_and(|name| name.starts_with("qemu-system"))
}

fn threads_are_placed(pid: u32) {
    let Some(own) = own_cpu() else {
        return println!(
            "SKIPPED the domain's placement: this host has one CPU, none to give away"
        );
    };
    let mut vcpus = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let task = task.unwrap().path();
        let Ok(status) = fs::read_to_string(task.join("status")) else { continue };
        let name = status.lines().next().unwrap();
        let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:\t"));
        let is_isolated = name.contains("CPU 1/");
        vcpus += u32::from(name.contains("CPU "));
        assert_eq!(allowed.unwrap() == own.to_string(), is_isolated, "{status}");
        if is_isolated && may_have_priorities() {
            let tid = task.file_name().unwrap().to_str().unwrap().parse().unwrap();
            assert_eq!(kernels_word(tid), ("FIFO".to_owned(), 1));
        }
    }
    assert_eq!(vcpus, 2);
}

/// On a bridge that libvirt makes, in a network namespace: the host's own network is left alone.
fn the_domain_comes_up_on_a_bridge(world: &World) {
    if let Some(reason) = missing(&["dnsmasq", "iptables", "nsenter"]) {
        return println!("SKIPPED the domain on a bridge of libvirt's: {reason}");
    }
    world.write("bridged.toml", "name = \"bridged\"\n[network]\nmode = \"bridge\"\n");
    let words = ["export", "libvirt", "--accel", "tcg", "--file", "bridged.toml"];
    let told = world.run_with_image(&words);
    assert_eq!(told.status, 0, "{}", told.err);
    let out = fs::canonicalize(world.path("work/bridged-libvirt")).unwrap();

    let libvirtd = Libvirtd::start(world, "bridged", &["--net"]);
    libvirtd.good(&["net-define", out.join("network.xml").to_str().unwrap()]);
    libvirtd.good(&["net-start", "archibald-bridged"]);
    libvirtd.good(&["define", out.join("domain.xml").to_str().unwrap()]);
    libvirtd.good(&["start", "bridged"]);
    libvirtd.is_ready("bridged", &out);
    let is_it = |pid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "libvirtd\n")
    };
    let pid = world.processes().into_iter().find(is_it).unwrap().to_string();
    let ssh = ssh_of(&told);
    assert!(ssh.contains("@192.168.122.2"), "{ssh}");
    let mut login = Command::new("nsenter");
    logs_in(login.args(["--target", &pid, "--net", "sh", "-c", &ssh]), "bridged");
    libvirtd.shuts_down("bridged");
    libvirtd.good(&["undefine", "bridged"]);
    libvirtd.good(&["net-destroy", "archibald-bridged"]);
    libvirtd.good(&["net-undefine", "archibald-bridged"]);
    fs::remove_dir_all(out).unwrap();
}

fn an_export_again_keeps_the_disk(world: &World, out: &Path) {
    let written = || {
        let disk = fs::metadata(out.join("disk.qcow2")).unwrap();
        (disk.mtime(), disk.mtime_nsec())
    };
    let before = written();
    let file = machine_file("studio", &PORTS) + "[audio]\nquantum = 64\n";
    world.write("archibald.toml", &file);
    let again = world.run_with_image(&["export", "libvirt", "--accel", "tcg"]);
    assert_eq!((again.status, written()), (0, before), "{}", again.err);
    assert!(fs::read_to_string(out.join("settings")).unwrap().contains("\"quantum\":64"));
    let again = world.run_with_image(&["export", "libvirt", "--accel", "tcg", "--recreate"]);
    assert_eq!(again.status, 0, "{}", again.err);
    assert_ne!(written(), before);
}

/// What is missing for a libvirtd in namespaces of its own, with these programs.
fn missing(programs: &[&str]) -> Option<String> {
    let id = said(Command::new("id").arg("-u").output().unwrap());
    if id.out.trim() != "0" {
        return Some("only root can give libvirtd namespaces of its own".to_owned());
    }
    let lacks = |program: &&&str| Command::new(program).arg("--version").output().is_err();
    let lacking = programs.iter().find(lacks)?;
    Some(format!(
        "{lacking} is not here (libvirt-daemon-driver-qemu, libvirt-clients, dnsmasq-base, iptables)"
    ))
}

/// A libvirtd of this test's own; it and its QEMUs go with the value.
struct Libvirtd {
    process: Child,
    socket: PathBuf,
}

impl Libvirtd {
    /// Starts one in this folder of the world, in these namespaces besides its own.
    fn start(world: &World, folder: &str, namespaces: &[&str]) -> Self {
        let folder = world.path(folder);
        fs::create_dir(&folder).unwrap();
        let log = fs::File::create(folder.join("start.log")).unwrap();
        // It goes with this test's thread, however that ends.
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "unshare", "--mount", "--pid", "--fork"])
            .args(["--kill-child", "--mount-proc"])
            .args(namespaces)
            .arg("sh")
            .arg(project().join("crates/archibald/tests/data/libvirtd"))
            .arg(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut libvirtd = Self { process, socket: folder.join("libvirt-sock") };
        for _ in 0..60 {
            if libvirtd.virsh(&["version"]).status == 0 {
                return libvirtd;
            }
            if libvirtd.process.try_wait().unwrap().is_some() {
                break;
            }
            sleep(Duration::from_secs(1));
        }
        let read = |name| fs::read_to_string(folder.join(name)).unwrap_or_default();
        panic!("libvirtd does not come up: {}{}", read("start.log"), read("libvirtd.log"));
    }

    fn virsh(&self, words: &[&str]) -> Said {
        let uri = format!("qemu+unix:///system?socket={}", self.socket.display());
        said(Command::new("virsh").args(["--connect", &uri]).args(words).output().unwrap())
    }

    fn good(&self, words: &[&str]) -> String {
        let said = self.virsh(words);
        assert_eq!(said.status, 0, "virsh {words:?}: {}", said.err);
        said.out
    }

    /// Waits for the guest's own word, as `up` does.
    fn is_ready(&self, name: &str, out: &Path) {
        let mut signals = Signals::of(out.join("ready"));
        let mut phases = Vec::new();
        'ready: for second in 0.. {
            assert!(second < 600, "not ready: {phases:?}");
            assert_eq!(self.good(&["domstate", name]).trim(), "running", "{phases:?}");
            for signal in signals.poll().unwrap() {
                match signal {
                    Signal::Phase(phase) => phases.push(phase),
                    Signal::Ready => break 'ready,
                    Signal::Failed { what, log } => panic!("{what} failed: {log}"),
                }
            }
            sleep(Duration::from_secs(1));
        }
        // As `up` shows them, in whichever order the services came up.
        phases.sort();
        assert_eq!(phases, ["audio", "pulse", "settings", "ssh", "streamdb"]);
    }

    fn shuts_down(&self, name: &str) {
        self.good(&["shutdown", name]);
        for second in 0.. {
            assert!(second < 120, "the power button does nothing");
            if self.good(&["domstate", name]).trim() == "shut off" {
                break;
            }
            sleep(Duration::from_secs(1));
        }
    }
}

impl Drop for Libvirtd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
