//! What is changed on a host can be taken back, whatever stood there and wherever it was broken off.

#![allow(clippy::unwrap_used, clippy::panic)]

mod hosts;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use archibald_host::Root;
use archibald_host::change::{
    Activate, Applied, ChangeError, Journal, Phase, Standing, WithJournal, apply, revert, status,
};
use archibald_host::facts::Facts;
use archibald_host::plan::{Plan, Target, Way};
use archibald_host::readiness::Wanted;
use archibald_machine::Machine;
use proptest::prelude::*;

/// Commands that only leave their mark: the last one stands in a file of the made-up host.
struct Noted<'a>(&'a Root);

impl Activate for Noted<'_> {
    fn run(&mut self, command: &[String]) -> Result<(), String> {
        let line = command.join(" ") + "\n";
        fs::write(self.0.directory().with_extension("commands"), line)
            .map_err(|error| error.to_string())
    }
}

/// A made-up host in memory where there is room for it: fsync costs nothing there.
struct Made {
    root: Root,
    _folder: tempfile::TempDir,
}

impl Made {
    fn new(host: &str) -> Self {
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let folder = tempfile::tempdir_in(place).unwrap();
        let directory = folder.path().join("host");
        hosts::unfold(host, &directory);
        fs::create_dir_all(directory.join("var/lib")).unwrap();
        Self { root: Root::new(directory), _folder: folder }
    }

    fn plan(&self, host: &str, way: Way) -> Plan {
        plan_of(&self.root, host, way)
    }

    fn apply(&self, plan: &Plan) -> Result<Applied, ChangeError> {
        apply(&self.root, plan, &mut Noted(&self.root), &mut |_: &str| {})
    }

    fn revert(&self) -> Result<(), ChangeError> {
        revert(&self.root, false, &mut Noted(&self.root), &mut |_: &str| {}).map(|_| ())
    }

    /// A file beside the made-up host, of this ending.
    fn mark(&self, ending: &str) -> PathBuf {
        self.root.directory().with_extension(ending)
    }

    fn tree(&self) -> Tree {
        tree(self.root.directory())
    }
}

fn plan_of(root: &Root, host: &str, way: Way) -> Plan {
    let journal = Journal::read(root).unwrap();
    let facts = Facts::read(root).unwrap();
    let file = hosts::wanting_cpus(host);
    let machine = Machine::parse("archibald.toml", file, &Default::default()).unwrap();
    let originals = WithJournal { root, journal: journal.as_ref() };
    Plan::of(&facts, &Wanted::from(&machine), way, &[], &originals)
}

/// Every file and directory with its mode and bytes.
type Tree = BTreeMap<PathBuf, (u32, Vec<u8>)>;

fn tree(root: &Path) -> Tree {
    let mut found = Tree::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            let metadata = entry.metadata().unwrap();
            let path = entry.path();
            let name = path.strip_prefix(root).unwrap().to_owned();
            let bytes = if metadata.is_dir() {
                folders.push(path);
                Vec::new()
            } else if metadata.is_symlink() {
                fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
            } else {
                as_kernel_says(&name, fs::read(&path).unwrap())
            };
            found.insert(name, (metadata.permissions().mode(), bytes));
        }
    }
    found
}

/// A made-up file of the kernel keeps what is written to it, where a real one answers with all words
/// and the chosen one in brackets.
fn as_kernel_says(path: &Path, bytes: Vec<u8>) -> Vec<u8> {
    if !path.starts_with("sys") && !path.starts_with("proc") {
        return bytes;
    }
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    let chosen = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    chosen.map_or(text.clone(), |(word, _)| word.to_owned()).into_bytes()
}

/// Hosts with what each of them shows: GRUB's drop-ins, loader entries of Fedora and of Arch, no boot
/// loader, NixOS.
const CASES: [(&str, Way); 8] = [
    ("intel-desktop", Way::Boot),
    ("intel-desktop", Way::Live),
    ("amd-shared-group", Way::Boot),
    ("laptop-without-iommu", Way::Boot),
    ("nested-vm", Way::Live),
    ("test-machine", Way::Live),
    ("server-two-nodes", Way::Boot),
    ("server-two-nodes", Way::Live),
];

#[test]
fn apply_brings_it_about_and_a_second_one_does_nothing() {
    for (host, way) in CASES {
        let made = Made::new(host);
        let before = made.tree();
        let plan = made.plan(host, way);
        let first = made.apply(&plan).unwrap();
        assert_eq!(first.changed.len(), plan.changes.len(), "{host} {way:?}: {first:?}");
        assert_ne!(made.tree(), before);
        for change in &plan.changes {
            if let Target::File { after, .. } = &change.target {
                assert_eq!(made.root.bytes(&change.path).as_ref(), Some(after));
            }
        }
        // A plan made now is the same: what was changed is not taken for what was found.
        let again = made.plan(host, way);
        assert_eq!(again, plan, "{host} {way:?}");
        assert_eq!(made.apply(&again).unwrap(), Applied::default());
        made.revert().unwrap();
        assert_eq!(made.tree(), before, "{host} {way:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever stood in the files that a plan writes, it stands there again after a revert, with
    /// its permissions.
    #[test]
    fn apply_then_revert_gives_back_every_byte(
        case in 0..CASES.len(),
        files in proptest::collection::vec(
            (any::<proptest::sample::Index>(), proptest::collection::vec(any::<u8>(), 0..200), 0o400_u32..=0o777),
            0..6,
        ),
    ) {
        let (host, way) = CASES[case];
        let made = Made::new(host);
        let paths: Vec<String> = made
            .plan(host, way)
            .changes
            .into_iter()
            .filter(|change| matches!(change.target, Target::File { .. }))
            .map(|change| change.path)
            .collect();
        if !paths.is_empty() {
            for (index, bytes, mode) in files {
                let chosen: &String = index.get(&paths);
                let path = made.root.path(chosen);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, bytes).unwrap();
                // Readable at least, or only root could look at it.
                fs::set_permissions(&path, fs::Permissions::from_mode(mode | 0o600)).unwrap();
            }
        }
        let before = made.tree();
        let plan = made.plan(host, way);
        made.apply(&plan).unwrap();
        prop_assert_eq!(made.apply(&made.plan(host, way)).unwrap(), Applied::default());
        made.revert().unwrap();
        prop_assert_eq!(made.tree(), before);
    }
}

/// Kills the process that changes a host, with SIGKILL, before its n-th step, for every n there is;
/// then either a revert gives back every byte, or an apply goes on to the end.
#[test]
fn a_kill_between_any_two_steps_is_mended() {
    let mut kills = 0;
    for (host, way) in CASES {
        for verb in ["apply", "revert"] {
            for step in 1.. {
                let made = Made::new(host);
                let before = made.tree();
                let plan = made.plan(host, way);
                if verb == "revert" {
                    made.apply(&plan).unwrap();
                }
                let mut child = Command::new(std::env::current_exe().unwrap());
                child.args(["--exact", "the_process_that_is_killed", "--ignored"]);
                child.env("CHANGE_ROOT", made.root.directory()).env("CHANGE_HOST", host);
                child.env("CHANGE_WAY", format!("{way:?}")).env("CHANGE_VERB", verb);
                let output = child.env("CHANGE_STEP", step.to_string()).output().unwrap();
                if output.status.success() {
                    assert!(step > 4, "{host} {way:?} {verb} has hardly a step");
                    break;
                }
                let said = String::from_utf8_lossy(&output.stdout);
                assert_eq!(output.status.signal(), Some(9), "{host} {way:?} {verb} {step}: {said}");
                kills += 1;
                if step % 2 == 0 {
                    made.apply(&plan_of(&made.root, host, way)).unwrap();
                    let Standing::Changed { phase, .. } = status(&made.root).unwrap() else {
                        panic!("{host} {way:?} {verb} {step}: no journal after an apply");
                    };
                    assert_eq!(phase, Phase::Applied);
                }
                made.revert().unwrap();
                assert_eq!(made.tree(), before, "{host} {way:?} {verb} killed before step {step}");
                assert_eq!(status(&made.root).unwrap(), Standing::Untouched);
            }
        }
    }
    println!("killed {kills} times");
}

#[test]
#[ignore = "started by a_kill_between_any_two_steps_is_mended"]
fn the_process_that_is_killed() {
    let Some(root) = std::env::var_os("CHANGE_ROOT") else { return };
    let said = |name: &str| std::env::var(name).unwrap();
    let (root, host, last) = (Root::new(root), said("CHANGE_HOST"), said("CHANGE_STEP"));
    let way = if said("CHANGE_WAY") == "Live" { Way::Live } else { Way::Boot };
    let mut left: u32 = last.parse().unwrap();
    let mut steps = |_: &str| {
        left -= 1;
        if left == 0 {
            let me = rustix::process::getpid();
            rustix::process::kill_process(me, rustix::process::Signal::KILL).unwrap();
        }
    };
    let plan = plan_of(&root, &host, way);
    if said("CHANGE_VERB") == "apply" {
        apply(&root, &plan, &mut Noted(&root), &mut steps).unwrap();
    } else {
        revert(&root, false, &mut Noted(&root), &mut steps).unwrap();
    }
}

/// An update-grub outlives the apply that started it when that is killed. The revert that came next
/// once started a second one beside it: one of the two failed, for its draft had been taken away, or
/// the first wrote its menu last, with the arguments that had just been taken back.
#[test]
fn a_command_that_outlives_its_killed_apply_is_waited_for() {
    let host = "intel-desktop";
    let made = Made::new(host);
    let before = made.tree();
    let (started, gate) = (made.mark("started"), made.mark("gate"));
    fs::write(&gate, "").unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_process_whose_command_goes_on", "--ignored"])
        .env("CHANGE_ROOT", made.root.directory())
        .env("CHANGE_HOST", host)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let patiently = |mut done: Box<dyn FnMut() -> bool + '_>| {
        (0..600).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(50));
            done()
        })
    };
    assert!(patiently(Box::new(|| started.exists())), "the command does not start");
    child.kill().unwrap();
    child.wait().unwrap();

    assert!(matches!(made.revert(), Err(ChangeError::Busy)));
    assert!(matches!(made.apply(&made.plan(host, Way::Boot)), Err(ChangeError::Busy)));
    assert!(!made.mark("commands").exists());
    fs::remove_file(&gate).unwrap();
    assert!(patiently(Box::new(|| match made.revert() {
        Ok(()) => true,
        Err(error) => {
            assert!(matches!(error, ChangeError::Busy), "{error}");
            false
        }
    })));
    assert_eq!(made.tree(), before);
    // The last word is the revert's.
    assert_ne!(fs::read_to_string(made.mark("commands")).unwrap(), "late\n");
    assert_eq!(status(&made.root).unwrap(), Standing::Untouched);
}

#[test]
#[ignore = "started by a_command_that_outlives_its_killed_apply_is_waited_for"]
fn the_process_whose_command_goes_on() {
    let Some(root) = std::env::var_os("CHANGE_ROOT") else { return };
    let root = Root::new(root);
    let plan = plan_of(&root, &std::env::var("CHANGE_HOST").unwrap(), Way::Boot);
    apply(&root, &plan, &mut Lasting(&root), &mut |_: &str| {}).unwrap();
}

/// A command that runs for as long as its gate is there, and then leaves its mark as [`Noted`] does.
struct Lasting<'a>(&'a Root);

impl Activate for Lasting<'_> {
    fn run(&mut self, _: &[String]) -> Result<(), String> {
        let script = "touch \"$0.started\"; while [ -e \"$0.gate\" ]; do sleep 0.02; done
            echo late >\"$0.commands\"";
        let mut command = Command::new("sh");
        let status = command.args(["-c", script]).arg(self.0.directory()).status();
        status.map(|_| ()).map_err(|error| error.to_string())
    }
}

/// The kernel may find fewer pages than it was asked for; those are given back all the same. What
/// somebody else has set since is theirs.
#[test]
fn pages_that_came_in_part_are_given_back_and_the_knobs_of_others_are_left() {
    let made = Made::new("intel-desktop");
    made.apply(&made.plan("intel-desktop", Way::Live)).unwrap();
    let knob = |name: &str| made.root.path(&format!("/proc/sys/vm/{name}"));
    fs::write(knob("nr_hugepages"), "1500\n").unwrap();
    fs::write(knob("swappiness"), "33\n").unwrap();
    let reverted = revert(&made.root, false, &mut Noted(&made.root), &mut |_: &str| {}).unwrap();
    assert_eq!(reverted.left, ["/proc/sys/vm/swappiness"]);
    assert_eq!(fs::read_to_string(knob("nr_hugepages")).unwrap().trim(), "0");
    assert_eq!(fs::read_to_string(knob("swappiness")).unwrap().trim(), "33");
}

/// A second plan does not find irqbalance running, because the first apply stopped it.
#[test]
fn a_service_that_was_stopped_does_not_make_another_plan() {
    let made = Made::new("intel-desktop");
    made.apply(&made.plan("intel-desktop", Way::Live)).unwrap();
    fs::remove_file(made.root.path("/proc/812/comm")).unwrap();
    let again = made.plan("intel-desktop", Way::Live);
    assert!(again.activations.is_empty());
    assert_eq!(made.apply(&again).unwrap(), Applied::default());
    made.revert().unwrap();
    let ran = fs::read_to_string(made.root.directory().with_extension("commands")).unwrap();
    assert_eq!(ran, "systemctl start irqbalance.service\n");
}

#[test]
fn what_somebody_else_edited_is_refused_before_anything_is_touched() {
    let made = Made::new("intel-desktop");
    let before = made.tree();
    let plan = made.plan("intel-desktop", Way::Boot);
    made.apply(&plan).unwrap();
    let file = made.root.path("/etc/sysctl.d/50-archibald.conf");
    fs::write(&file, "vm.swappiness = 60\n").unwrap();
    let edited = made.tree();
    for refused in [made.apply(&plan).map(|_| ()), made.revert()] {
        let error = refused.unwrap_err();
        assert!(
            matches!(&error, ChangeError::Edited { path } if path.ends_with("50-archibald.conf"))
        );
        assert!(error.is_refusal() && error.to_string().contains("--force"), "{error}");
        assert_eq!(made.tree(), edited);
    }
    revert(&made.root, true, &mut Noted(&made.root), &mut |_: &str| {}).unwrap();
    assert_eq!(made.tree(), before);
}

#[test]
fn a_link_in_place_of_a_file_is_refused() {
    let made = Made::new("intel-desktop");
    let path = made.root.path("/etc/sysctl.d/50-archibald.conf");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("../elsewhere", &path).unwrap();
    let before = made.tree();
    let error = made.apply(&made.plan("intel-desktop", Way::Boot)).unwrap_err();
    assert!(matches!(error, ChangeError::NotAFile { .. }), "{error}");
    assert_eq!(made.tree(), before);
}

#[test]
fn another_plan_takes_the_first_one_back() {
    let made = Made::new("intel-desktop");
    let before = made.tree();
    made.apply(&made.plan("intel-desktop", Way::Boot)).unwrap();
    made.apply(&made.plan("intel-desktop", Way::Live)).unwrap();
    assert!(!made.root.exists("/etc/sysctl.d/50-archibald.conf"));
    assert_eq!(made.root.text("/proc/sys/vm/swappiness").as_deref(), Some("10"));
    made.revert().unwrap();
    assert_eq!(made.tree(), before);
}

#[test]
fn what_the_kernel_was_told_is_gone_with_the_next_boot() {
    let made = Made::new("intel-desktop");
    let before = made.tree();
    made.apply(&made.plan("intel-desktop", Way::Live)).unwrap();
    // The next boot: the kernel's files are as they were, the journal is still on the disk.
    let journal = fs::read(made.root.path("/var/lib/archibald/host/journal.json")).unwrap();
    made.revert().unwrap();
    fs::create_dir_all(made.root.path("/var/lib/archibald/host")).unwrap();
    fs::write(made.root.path("/var/lib/archibald/host/journal.json"), journal).unwrap();
    let boot = made.root.path("/proc/sys/kernel/random/boot_id");
    let first = fs::read(&boot).unwrap();
    fs::write(&boot, "another boot\n").unwrap();
    assert_eq!(status(&made.root).unwrap(), Standing::Gone);
    made.revert().unwrap();
    fs::write(&boot, first).unwrap();
    assert_eq!(made.tree(), before);
}

#[test]
fn two_at_once_do_not_mix() {
    let made = Made::new("intel-desktop");
    let plan = made.plan("intel-desktop", Way::Boot);
    let mut second = None;
    let mut steps = |_: &str| {
        second.get_or_insert_with(|| made.apply(&plan));
    };
    apply(&made.root, &plan, &mut Noted(&made.root), &mut steps).unwrap();
    assert!(matches!(second.unwrap(), Err(ChangeError::Busy)));
}

/// The lock once outlived an apply for as long as another thread took to start a process, which has a
/// copy of every descriptor between its fork and its exec; the revert behind it heard that another one
/// was at work.
#[test]
fn the_lock_ends_with_the_change_while_other_threads_start_processes() {
    let made = Made::new("intel-desktop");
    let plan = made.plan("intel-desktop", Way::Boot);
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                Command::new("true").status().unwrap();
            }
        });
        let result = (0..60).try_for_each(|_| made.apply(&plan).and_then(|_| made.revert()));
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        result.unwrap();
    });
}

#[test]
fn a_partition_that_the_kernel_calls_invalid_is_no_success() {
    // The kernel takes the write and answers "isolated invalid (...)": here a directory of that name
    // stands for a file that does not take it at all.
    let made = Made::new("intel-desktop");
    fs::create_dir_all(made.root.path("/sys/fs/cgroup/archibald/cpuset.cpus.partition")).unwrap();
    let error = made.apply(&made.plan("intel-desktop", Way::Live)).unwrap_err();
    assert!(error.to_string().contains("cpuset.cpus.partition"), "{error}");
}

#[test]
fn a_plan_takes_nothing_that_the_host_stands_on() {
    let made = Made::new("amd-shared-group");
    let facts = Facts::read(&made.root).unwrap();
    let plan = |file: &str| {
        let machine = Machine::parse("archibald.toml", file, &Default::default()).unwrap();
        Plan::of(&facts, &Wanted::from(&machine), Way::Boot, &[], &made.root)
    };
    // The group whole, and with it the disk and the network.
    let all = plan(
        "[devices]\npci = [\"02:00.0\", \"02:00.1\", \"22:00.0\", \"00:01.2\", \"09:00.0\"]\n",
    );
    let left = all.left_out.iter().map(|left| format!("{}: {}", left.what, left.why));
    let left = left.collect::<Vec<_>>().join("\n");
    for words in [
        "02:00.1: the host may stand on it: it is a disk",
        "22:00.0: the host may",
        "01.2: a bridge",
        "09:00.0: there is no such",
    ] {
        assert!(left.contains(words), "{words} not in\n{left}");
    }
    let changes = format!("{:?}", all.changes);
    assert!(!changes.contains("02:00.1") && !changes.contains("22:00.0"));
    // More memory than the host can spare would keep it from booting.
    let large = plan("[machine]\nmemory = \"15 GiB\"\n[realtime]\nhost-cpus = \"4-5\"\n");
    let difference: String =
        large.changes.iter().map(archibald_host::plan::Change::difference).collect();
    assert!(difference.contains("isolcpus") && !difference.contains("hugepages"), "{difference}");
    assert!(large.left_out.iter().any(|left| left.why.contains("might not boot")));
}

#[test]
fn the_nixos_module_is_nix() {
    let made = Made::new("server-two-nodes");
    let plan = made.plan("server-two-nodes", Way::Boot);
    let Target::File { after, .. } = &plan.changes[0].target else { panic!("{plan:?}") };
    let text = String::from_utf8(after.clone()).unwrap();
    let parsed = rnix::Root::parse(&text);
    assert!(parsed.errors().is_empty(), "{:?}\n{text}", parsed.errors());
    assert!(!rnix::Root::parse(&text.replace("];", "]")).errors().is_empty());
}

/// Arch with GRUB has no drop-ins: the one file is edited, and the shell that reads it gets the words.
#[test]
fn grub_without_drop_ins_gets_its_words_at_the_end_of_its_file() {
    let made = Made::new("laptop-without-iommu");
    fs::remove_dir_all(made.root.path("/boot/loader")).unwrap();
    fs::create_dir_all(made.root.path("/etc/default")).unwrap();
    let file = made.root.path("/etc/default/grub");
    fs::write(&file, "GRUB_CMDLINE_LINUX_DEFAULT='loglevel=3 quiet'").unwrap();
    let before = made.tree();
    made.apply(&made.plan("laptop-without-iommu", Way::Boot)).unwrap();
    let ran = fs::read_to_string(made.root.directory().with_extension("commands")).unwrap();
    assert_eq!(ran, "grub-mkconfig -o /boot/grub/grub.cfg\n");
    let script = format!(". {}; echo \"$GRUB_CMDLINE_LINUX_DEFAULT\"", file.display());
    let output = Command::new("sh").args(["-ec", &script]).output().unwrap();
    let line = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(line.starts_with("loglevel=3 quiet isolcpus=managed_irq,domain,1,3 "), "{line}");
    made.revert().unwrap();
    assert_eq!(made.tree(), before);
}
