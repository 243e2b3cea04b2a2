//! Snapshots of the running machine: saved, gone back to, refused, broken off.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use crate::world::{World, said, under};

/// How often the machine goes back; `ARCHIBALD_RESTORES` asks for more.
fn rounds() -> usize {
    std::env::var("ARCHIBALD_RESTORES").ok().and_then(|n| n.parse().ok()).unwrap_or(3)
}

fn directory(world: &World) -> PathBuf {
    world.state("studio").join("snapshots")
}

/// The snapshots inside the disk, which a list of files does not show.
fn inside_the_disk(world: &World) -> Vec<String> {
    let disk = world.state("studio").join("disk.qcow2");
    let output =
        Command::new("qemu-img").args(["info", "-U", "--output=json"]).arg(disk).output().unwrap();
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let list = told["snapshots"].as_array().cloned().unwrap_or_default();
    list.iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}

fn listed(world: &World) -> Vec<String> {
    let said = world.run(&["snapshot", "ls", "--json"]);
    assert_eq!(said.status, 0, "{}", said.err);
    let told: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    let list = told["snapshots"].as_array().unwrap().clone();
    assert!(list.iter().all(|one| one["bytes"].as_u64() > Some(1 << 20)), "{list:?}");
    list.iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}

fn inside(world: &World, script: &str) -> String {
    let said = world.run(&["exec", "--", "sh", "-c", script]);
    assert_eq!(said.status, 0, "{script}: {}{}", said.out, said.err);
    said.out.trim().to_owned()
}

/// Memory and disk are those of one moment, the clock is right, random numbers are new, and the ways
/// in are open, each time.
pub(crate) fn the_machine_goes_back(world: &World, ways_in: &dyn Fn(&World)) {
    inside(world, "echo then > on-disk && sync && echo then > /dev/shm/in-memory");
    // A process that goes on counting.
    inside(world, "setsid -f sleep 77777 </dev/null >/dev/null 2>&1");
    let who = "cat /proc/sys/kernel/random/boot_id /etc/machine-id; pgrep -x sleep";
    let before = inside(world, who);
    let save = world.run(&["snapshot", "save", "before"]);
    assert!(save.status == 0 && save.out.contains("before: saved"), "{}{}", save.out, save.err);
    assert_eq!(listed(world), ["before"]);
    // It went on, and knows nothing of it.
    assert_eq!(inside(world, who), before);
    let again = world.run(&["snapshot", "save", "before"]);
    assert!(again.status == 2 && again.err.contains("--force"), "{}", again.err);

    inside(world, "echo now > on-disk && sync && rm /dev/shm/in-memory && pkill -x sleep");
    let refused = world.run(&["snapshot", "restore", "before"]);
    assert!(refused.status == 2 && refused.err.contains("is running"), "{}", refused.err);
    assert_eq!(inside(world, "cat on-disk"), "now");
    let mut random = BTreeSet::new();
    for round in 1..=rounds() {
        let restore = world.run_with_image(&["snapshot", "restore", "before", "--force"]);
        assert_eq!(restore.status, 0, "round {round}: {}{}", restore.out, restore.err);
        assert_eq!(inside(world, "cat on-disk /dev/shm/in-memory"), "then\nthen", "round {round}");
        assert_eq!(inside(world, who), before, "round {round}");
        let guest: u64 = inside(world, "date +%s").parse().unwrap();
        let host = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        // What ssh took lies between the two readings; the machine had lost minutes.
        assert!(guest <= host + 2 && host <= guest + 60, "round {round}: {guest} {host}");
        random.insert(inside(world, "head -c 16 /dev/urandom | od -An -tx1"));
        assert_eq!(random.len(), round, "the same random numbers twice");
        ways_in(world);
        inside(world, "echo now > on-disk && sync");
    }
}

/// A snapshot is of one machine.
pub(crate) fn another_machine_is_refused(world: &World) {
    let file = world.path("work/archibald.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}[audio]\nquantum = 64\n")).unwrap();
    let refused = world.run(&["snapshot", "restore", "before", "--force"]);
    assert!(refused.status == 2 && refused.err.contains("[audio]"), "{}", refused.err);
    std::fs::write(&file, text).unwrap();
    let refused = world.run(&["snapshot", "restore", "never", "--force"]);
    assert!(refused.status == 2 && refused.err.contains("There are: before."), "{}", refused.err);
    let refused = world.run(&["snapshot", "save", "../out"]);
    assert!(refused.status == 2 && refused.err.contains("cannot be"), "{}", refused.err);
    // Nothing was ended for it.
    assert_eq!(inside(world, "cat on-disk"), "now");
}

/// Killed, called off or out of space: the machine goes on, and nothing of it counts.
pub(crate) fn a_save_that_is_broken_off_leaves_nothing(world: &World) {
    // TERM and not INT, which a test that runs in the background may have been told to ignore.
    for signal in ["KILL", "TERM"] {
        let state = directory(world).join("half.partial/state");
        // What the one before left is still there; held open, so that the new file gets another number.
        let left = std::fs::File::open(&state).ok();
        let before = left.as_ref().map(|left| left.metadata().unwrap().ino());
        let mut save = world
            .command(&["snapshot", "save", "half"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begun = (0..2000).any(|_| {
            std::thread::sleep(Duration::from_millis(5));
            std::fs::metadata(&state)
                .is_ok_and(|state| state.len() > 1 << 20 && Some(state.ino()) != before)
        });
        let pid = save.id().to_string();
        assert!(
            Command::new("kill").args([&format!("-{signal}"), &pid]).status().unwrap().success()
        );
        let status = save.wait().unwrap();
        assert!(begun, "{signal}: the save did not begin");
        assert!(!status.success(), "{signal}: it was saved before it could be broken off");
        // It was paused at that moment.
        assert_eq!(inside(world, "echo goes on"), "goes on", "{signal}");
        assert_eq!(listed(world), ["before"], "{signal}");
    }
    out_of_space(world);
    let save = world.run(&["snapshot", "save", "after"]);
    assert_eq!(save.status, 0, "{}", save.err);
    assert_eq!(listed(world), ["before", "after"]);
    assert_eq!(inside_the_disk(world).len(), 2);
    assert!(!directory(world).join("half.partial").exists());
}

fn out_of_space(world: &World) {
    if !rustix::process::geteuid().is_root() {
        return println!("SKIPPED a full disk under a snapshot: a small file system takes root");
    }
    // The save alone sees the small file system.
    let place = directory(world);
    let script = "place=$1 && shift && mount -t tmpfs -o size=8m tmpfs \"$place\" && exec \"$@\"";
    let save = world.command(&["snapshot", "save", "full"]);
    let place = place.to_str().unwrap();
    let save = under(&["unshare", "--mount", "sh", "-c", script, "sh", place], &save).output();
    let save = said(save.unwrap());
    assert!(save.status == 3 && save.err.contains("no space left in"), "{}{}", save.out, save.err);
    assert_eq!(inside(world, "echo goes on"), "goes on");
    assert_eq!(listed(world), ["before"]);
}

/// A file that lost its end is told, and can be deleted; the space comes back.
pub(crate) fn damage_is_told_and_deleting_frees(world: &World) {
    let state = directory(world).join("after/state");
    std::fs::OpenOptions::new().write(true).open(&state).unwrap().set_len(1 << 20).unwrap();
    let refused = world.run(&["snapshot", "restore", "after", "--force"]);
    assert!(refused.status == 3 && refused.err.contains("damaged"), "{}", refused.err);
    assert_eq!(world.run(&["snapshot", "delete", "after"]).status, 0);
    let gone = world.run(&["snapshot", "delete", "before"]);
    assert_eq!(gone.out.trim(), "before: deleted", "{}", gone.err);
    assert_eq!(listed(world), Vec::<String>::new());
    assert_eq!(std::fs::read_dir(directory(world)).unwrap().count(), 0);
    assert_eq!(inside_the_disk(world), Vec::<String>::new());
    assert_eq!(inside(world, "echo goes on"), "goes on");
}
