//! `archibald host plan|apply|revert|status` on made-up hosts, and on a real Debian with GRUB.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../../host/tests/hosts/mod.rs"]
mod hosts;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

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

#[test]
fn doctor_sees_the_cpus_that_were_taken_out_for_one_boot() {
    let world = world_of("intel-desktop");
    let root = world.path("host");
    // No systemd is there to stop irqbalance.
    fs::remove_file(root.join("proc/812/comm")).unwrap();
    let isolated = || {
        let said = world.run(&["doctor", "--json", "--root", root.to_str().unwrap()]);
        let json: serde_json::Value = serde_json::from_str(&said.out).unwrap();
        let findings = json["findings"].as_array().unwrap().clone();
        findings.into_iter().find(|f| f["id"] == "isolated").unwrap()["severity"].clone()
    };
    assert_eq!(isolated(), "warning");
    let said = on(&world, &["apply", "--live"]);
    assert_eq!(said.status, 0, "{}{}", said.out, said.err);
    assert_eq!(isolated(), "ok");
    assert_eq!(on(&world, &["status"]).status, 0);
    assert_eq!(on(&world, &["revert"]).status, 0);
    assert_eq!(isolated(), "warning");
}

/// A Debian with GRUB and a kernel, as mmdebstrap makes it; kept outside of the checkout.
fn debian() -> Result<PathBuf, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("making and entering a Debian root needs root".to_owned());
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache"),
        PathBuf::from,
    );
    let cache = cache.join("archibald-tests");
    let (tar, draft) = (cache.join("trixie-grub.tar"), cache.join("trixie-grub.partial.tar"));
    if tar.is_file() {
        return Ok(tar);
    }
    fs::create_dir_all(&cache).unwrap();
    let output = Command::new("mmdebstrap")
        .args(["--quiet", "--mode=root", "--variant=apt"])
        .args(["--include=grub-pc,linux-image-cloud-amd64", "trixie"])
        .arg(&draft)
        .output()
        .map_err(|error| format!("mmdebstrap: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("mmdebstrap: {}", said.lines().last().unwrap_or("failed")));
    }
    fs::rename(&draft, &tar).unwrap();
    Ok(tar)
}

/// Every file with its mode and a sum of its bytes.
fn tree(root: &Path) -> BTreeMap<PathBuf, (u32, u64)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            let (path, metadata) = (entry.path(), entry.metadata().unwrap());
            let mut sum = DefaultHasher::new();
            if metadata.is_dir() {
                folders.push(path.clone());
            } else if metadata.is_symlink() {
                fs::read_link(&path).unwrap().hash(&mut sum);
            } else if metadata.is_file() {
                fs::read(&path).unwrap().hash(&mut sum);
            }
            let name = path.strip_prefix(root).unwrap().to_owned();
            found.insert(name, (metadata.mode(), sum.finish()));
        }
    }
    found
}

/// GRUB's own update-grub is run in a real Debian: the kernel's line has the arguments after `apply`,
/// and after `revert` no file of the system differs.
#[test]
#[ignore = "makes a Debian root; run by ./archibald test"]
fn a_real_debian_boots_with_the_arguments_and_gets_every_byte_back() {
    let world = World::new();
    let root = world.path("debian");
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let tar = if cpus > 1 { debian() } else { Err("one CPU cannot be shared out".to_owned()) };
    let tar = match tar {
        Ok(tar) => tar,
        Err(reason) => {
            println!("SKIPPED apply and revert on a real Debian: {reason}");
            return;
        }
    };
    fs::create_dir(&root).unwrap();
    let unpacked = Command::new("tar").arg("-xf").arg(tar).arg("-C").arg(&root).status().unwrap();
    assert!(unpacked.success());
    fs::create_dir_all(root.join("boot/grub")).unwrap();
    world.write(
        "archibald.toml",
        "[machine]\nvcpus = 1\nmemory = \"1 GiB\"\n[realtime]\nhost-cpus = \"1\"\nisolated = \"\"\n",
    );
    // Mounts and processes are in namespaces of this one command, and go with it.
    let start = |words: &[&str]| {
        let mount =
            "for each in proc sys dev; do mount --bind /$each \"$0\"/$each; done; exec \"$@\"";
        let own = world.command(words);
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", mount]);
        command.arg(&root).arg(own.get_program());
        command.args(own.get_args()).current_dir(own.get_current_dir().unwrap());
        command.envs(own.get_envs().filter_map(|(key, value)| Some((key, value?))));
        command
    };
    let within = |words: &[&str]| world::said(start(words).output().unwrap());
    let at = root.to_str().unwrap();
    let line = || {
        let menu = fs::read_to_string(root.join("boot/grub/grub.cfg")).unwrap();
        let lines = menu.lines().map(str::trim).filter(|line| line.starts_with("linux"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    // As GRUB's menu is before anything is done.
    let grub = Command::new("unshare")
        .args(["--mount", "sh", "-ec"])
        .arg("for each in proc sys dev; do mount --bind /$each \"$0\"/$each; done; exec chroot \"$0\" update-grub")
        .arg(&root)
        .output()
        .unwrap();
    assert!(grub.status.success(), "{}", String::from_utf8_lossy(&grub.stderr));
    let (before, plain) = (tree(&root), line());
    println!("before: {}", plain[0]);

    let said = within(&["host", "apply", "--root", at]);
    assert_eq!(said.status, 0, "{}{}", said.out, said.err);
    let applied = line();
    println!("applied: {}", applied[0]);
    let words = "isolcpus=managed_irq,domain,1";
    assert!(applied[0].contains(words) && applied[0].contains("hugepages=1"), "{applied:?}");
    let rescue = |line: &&String| line.contains(" single ");
    assert!(applied.iter().filter(rescue).all(|line| !line.contains(words)), "{applied:?}");
    assert!(applied.iter().any(|line| rescue(&line)), "{applied:?}");
    assert_eq!(within(&["host", "status", "--root", at]).status, 0);
    let again = within(&["host", "apply", "--root", at]);
    assert!(again.out.contains("all is in place already"), "{}{}", again.out, again.err);

    let said = within(&["host", "revert", "--root", at]);
    assert_eq!(said.status, 0, "{}{}", said.out, said.err);
    println!("reverted: {}", line()[0]);
    assert_eq!(line(), plain);
    let apart = || {
        let after = tree(&root);
        let paths: BTreeSet<&PathBuf> = before.keys().chain(after.keys()).collect();
        let differ = |path: &&PathBuf| before.get(*path) != after.get(*path);
        paths.into_iter().filter(differ).cloned().collect::<Vec<_>>()
    };
    assert!(apart().is_empty(), "left behind or changed: {:?}", apart());

    // Killed somewhere on the way, with update-grub or without it; a revert then mends it. The one that
    // is killed alone leaves its update-grub running, and the revert has to wait for that one.
    let kill = "for each in proc sys dev; do mount --bind /$each \"$0\"/$each; done
        after=$1; verb=$2; shift 2
        \"$@\" \"$verb\" --root \"$0\" >/dev/null 2>&1 & apply=$!
        sleep \"$after\"
        kill -9 $apply 2>/dev/null || true
        wait $apply || true
        waited=0
        until said=$(\"$@\" revert --root \"$0\" 2>&1); do
            case $said in *'is at work'*) waited=$((waited + 1)) ;; *) echo \"$said\"; exit 1 ;; esac
            [ $waited -lt 600 ]
            sleep 0.1
        done
        echo \"mended, $waited times told to wait\"";
    for verb in ["apply", "revert"] {
        for after in ["0.02", "0.06", "0.1", "0.2", "0.3", "0.4", "0.5", "0.7"] {
            if verb == "revert" {
                assert_eq!(within(&["host", "apply", "--root", at]).status, 0);
            }
            let own = world.command(&["host"]);
            let mut command = Command::new("unshare");
            command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", kill]);
            command.arg(&root).args([after, verb]).arg(own.get_program()).arg("host");
            command.current_dir(own.get_current_dir().unwrap());
            command.envs(own.get_envs().filter_map(|(key, value)| Some((key, value?))));
            let said = world::said(command.output().unwrap());
            assert_eq!(said.status, 0, "{verb} killed after {after} s: {}{}", said.out, said.err);
            println!("{verb} killed after {after} s: {}", said.out.trim());
            assert_eq!(line(), plain, "{verb} killed after {after} s");
            assert!(apart().is_empty(), "{verb} killed after {after} s: {:?}", apart());
        }
    }
}
