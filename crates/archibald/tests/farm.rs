//! `archibald farm`: real scsynth and sclang, a real Slurm cluster, and the real image where a test says so.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod cluster;
mod world;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use cluster::Cluster;
use world::{Said, World};

/// What is missing for a render, told as a test that was left out.
fn can_render() -> bool {
    for program in ["scsynth", "sclang"] {
        if !cluster::has(program) {
            println!("SKIPPED: {program} is not installed, so nothing is rendered");
            return false;
        }
    }
    true
}

fn can_cluster() -> bool {
    if let Some(why) = cluster::lacks() {
        println!("SKIPPED: no Slurm cluster: {why}");
        return false;
    }
    true
}

/// The example's score, made by sclang, with what stands beside it.
fn rain(world: &World) -> PathBuf {
    for name in ["rain.scd", "rain.farm.toml"] {
        fs::copy(world::project().join("examples/farm").join(name), world.path("work").join(name))
            .unwrap();
    }
    let said = world.run(&[
        "farm",
        "render",
        "rain.scd",
        "--local",
        "--whole",
        "--shared",
        "first",
        "-o",
        "first.out",
        "-q",
    ]);
    assert_eq!(said.status, 0, "{}{}", said.out, said.err);
    let inputs = fs::read_dir(world.path("work/first/inputs")).unwrap().flatten();
    let score =
        inputs.map(|entry| entry.path()).find(|path| path.extension().is_some_and(|e| e == "osc"));
    let osc = world.path("work/rain.osc");
    fs::copy(score.unwrap(), &osc).unwrap();
    osc
}

fn bytes(world: &World, name: &str) -> Vec<u8> {
    let path = world.path("work").join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn results(world: &World, shared: &str) -> Vec<PathBuf> {
    let mut results: Vec<PathBuf> = fs::read_dir(world.path("work").join(shared).join("results"))
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    results.sort();
    results
}

#[test]
fn segments_are_joined_to_the_very_samples_of_the_whole() {
    if !can_render() {
        return;
    }
    let world = World::new();
    rain(&world);
    let render = |more: &[&str]| -> Said {
        let words = ["farm", "render", "rain.osc", "--local", "--shared", "farm", "-q"];
        world.run(&[&words[..], more].concat())
    };
    let said = render(&["--prove"]);
    assert_eq!(said.status, 0, "{}{}", said.out, said.err);
    assert!(
        said.out.contains("in 8 segments") && said.out.contains("the same samples"),
        "{}",
        said.out
    );
    // The whole was rendered from the .scd by another call, and is this very file.
    let wav = bytes(&world, "rain.wav");
    assert!(wav == bytes(&world, "first.out/rain.wav"), "the joined file is not the whole one");
    // And scsynth's own, called by hand.
    let by_hand = Command::new("scsynth")
        .args(["-N", "rain.osc", "_", "hand.raw", "48000", "RAW", "float", "-o", "2", "-D", "0"])
        .current_dir(world.path("work"))
        .output()
        .unwrap();
    assert!(by_hand.status.success(), "{by_hand:?}");
    let hand = bytes(&world, "hand.raw");
    assert!(hand == wav[wav.len() - hand.len()..], "not what scsynth renders by itself");
    assert!(hand.iter().any(|byte| *byte != 0), "silence proves nothing");

    let manifest: serde_json::Value =
        serde_json::from_slice(&bytes(&world, "rain.render.json")).unwrap();
    assert_eq!(manifest["same_as_whole"], true);
    let segments = manifest["segments"].as_array().unwrap();
    let frames: u64 = segments.iter().map(|segment| segment["frames"].as_u64().unwrap()).sum();
    assert_eq!((segments.len() as u64, frames), (8, (hand.len() / 8) as u64));
    let sum = Command::new("sha256sum")
        .args(["-c", "rain.wav.sha256"])
        .current_dir(world.path("work"))
        .output();
    assert!(sum.unwrap().status.success());

    // A flipped bit is noticed; afterwards only that segment is rendered.
    let before = results(&world, "farm");
    let key = segments[2]["result"].as_str().unwrap();
    let samples = world.path("work/farm/results").join(key).join("samples.f32");
    let mut content = fs::read(&samples).unwrap();
    content[1000] ^= 1;
    fs::write(&samples, content).unwrap();
    let said = render(&[]);
    assert_eq!(said.status, 3, "{}{}", said.out, said.err);
    assert!(said.err.contains("checksum") && said.err.contains("again"), "{}", said.err);
    let times = |world: &World| -> Vec<(PathBuf, std::time::SystemTime)> {
        results(world, "farm")
            .into_iter()
            .map(|path| (path.clone(), path.metadata().unwrap().modified().unwrap()))
            .collect()
    };
    let kept = times(&world);
    assert_eq!(kept.len(), before.len() - 1);
    let said = render(&[]);
    assert_eq!(said.status, 0, "{}{}", said.out, said.err);
    assert!(wav == bytes(&world, "rain.wav"));
    let now = times(&world);
    assert!(kept.iter().all(|old| now.contains(old)), "more than the damaged segment was rendered");
    assert_eq!(now.len(), before.len());
    assert!(world.is_quiet());
}

#[test]
fn a_patch_that_breaks_its_promise_is_found_out() {
    if !can_render() {
        return;
    }
    let world = World::new();
    // A room that turns: the phase of its oscillator is its past.
    let turning = fs::read_to_string(world::project().join("examples/farm/rain.scd")).unwrap();
    let turning = turning.replace("Out.ar(0, dry +", "Out.ar(0, dry * SinOsc.kr(0.3) +");
    world.write("turning.scd", &turning);
    fs::copy(
        world::project().join("examples/farm/rain.farm.toml"),
        world.path("work/turning.farm.toml"),
    )
    .unwrap();
    let said = world.run(&[
        "farm",
        "render",
        "turning.scd",
        "--local",
        "--prove",
        "-q",
        "--shared",
        "farm",
    ]);
    assert_eq!(said.status, 1, "{}{}", said.out, said.err);
    assert!(said.out.contains("does not keep its promise"), "{}", said.out);
    // The first segment that began without its whole past is the third: one second is rendered before each.
    assert!(
        said.out.contains(", 2.000 s")
            || said.out.contains(", 2.001 s")
            || said.out.contains(", 2.00"),
        "{}",
        said.out
    );
}

#[test]
fn what_is_wrong_with_a_score_is_said_before_anything_is_rendered() {
    let world = World::new();
    world.write("a.osc", "RIFF....WAVE");
    world.write("b.osc", "");
    world.write("b.farm.toml", "[segments]\nlength = \"1s\"\noverlap = \"1s\"\n");
    fs::create_dir(world.path("work/sub")).unwrap();
    fs::copy(world.path("work/a.osc"), world.path("work/sub/a.osc")).unwrap();
    for (words, said) in [
        (&["farm", "render", "--local", "nothing.osc"][..], "nothing.osc: No such file"),
        (&["farm", "render", "--local", "a.osc"], "a.osc: bundle 1"),
        (&["farm", "render", "--local", "b.osc"], "without a promise"),
        (&["farm", "render", "--local", "a.osc", "sub/a.osc"], "two scores are called a"),
        (
            &["farm", "render", "--local", "a.osc", "--format", "flac", "--samples", "float"],
            "no floating point",
        ),
        (&["farm", "render", "--local", "a.osc", "--partition", "x"], "cannot be used with"),
        (&["farm", "lab", "--local", "nothing.toml"], "archibald lab init"),
        (&["farm", "lab", "--local", "nothing.toml", "--seeds", "9..1"], "1..200"),
        (&["farm", "status", "--shared", "sub"], "no farm's folder"),
    ] {
        let found = world.run(words);
        assert_eq!(found.status, 2, "{words:?}: {}", found.err);
        assert!(found.err.contains(said), "{words:?}: {}", found.err);
    }
    assert_eq!(world.run(&["farm", "render", "--example"]).status, 0);
}

#[test]
fn what_the_server_complains_of_is_a_failed_task() {
    if !can_render() {
        return;
    }
    let world = World::new();
    let rain = fs::read_to_string(world::project().join("examples/farm/rain.scd")).unwrap();
    world.write("wrong.scd", &rain.replace("['/s_new', \\drop,", "['/s_new', \\drip,"));
    let said = world.run(&[
        "farm",
        "render",
        "wrong.scd",
        "--local",
        "-q",
        "--shared",
        "farm",
        "--retries",
        "0",
    ]);
    assert_eq!(said.status, 3, "{}{}", said.out, said.err);
    assert!(said.err.contains("1 of 1 tasks failed") && said.err.contains("drip"), "{}", said.err);
    assert!(!world.path("work/wrong.wav").exists());
    let status = world.run(&["farm", "status", "--shared", "farm"]);
    assert_eq!(status.status, 1, "{}", status.err);
    assert!(status.out.contains("0/1") && status.out.contains("drip"), "{}", status.out);
    // An error in the program itself is the program's.
    world.write("broken.scd", "(\nvar a = ;\n)\n");
    let said = world.run(&["farm", "render", "broken.scd", "--local", "-q", "--shared", "farm"]);
    assert_eq!(said.status, 2, "{}{}", said.out, said.err);
    assert!(said.err.contains("broken.scd"), "{}", said.err);
}

#[test]
fn the_model_in_the_documents_keeps_to_its_bounds() {
    let said = Command::new("python3")
        .arg(world::project().join("benchmarks/farm"))
        .arg("--check")
        .output();
    match said {
        Ok(said) => {
            let text = String::from_utf8_lossy(&said.stdout).into_owned();
            assert!(said.status.success() && text.contains("keeps to its bounds"), "{said:?}");
        }
        Err(_) => println!("SKIPPED: no python3, so the farm's model is not checked"),
    }
}

/// A cluster with a server that takes its time, so that something can happen to a node meanwhile.
fn slowly(world: &World) -> std::ffi::OsString {
    fs::create_dir(world.path("slow")).unwrap();
    let script = world.path("slow/scsynth");
    let real = Command::new("sh").args(["-c", "command -v scsynth"]).output().unwrap().stdout;
    let real = String::from_utf8(real).unwrap();
    let text = format!("#!/bin/sh\n[ \"$1\" = -v ] || sleep 2\nexec {} \"$@\"\n", real.trim());
    world::executable(&script, &text);
    let mut path = world.path("slow").into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    path
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..600 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("not within a minute: {what}");
}

#[test]
fn slurm_renders_what_one_machine_renders_also_when_a_node_fails() {
    if !can_render() || !can_cluster() {
        return;
    }
    let world = World::new();
    rain(&world);
    let cluster = Cluster::start(4, 26600);
    let path = slowly(&world);
    let command = |words: &[&str]| {
        let mut command =
            world.command(&[&["farm", "render", "rain.osc", "--shared", "farm"], words].concat());
        command.env("SLURM_CONF", cluster.conf()).env("PATH", &path);
        command
    };
    let running = command(&["-o", "out"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn();
    let running = running.unwrap();
    until("four tasks run", || {
        cluster.ask(&["squeue", "-h", "-t", "RUNNING", "-r"]).lines().count() >= 4
    });
    let on_two = || cluster.ask(&["squeue", "-h", "-w", "node2", "-r", "-o", "%K"]);
    let lost = on_two();
    assert!(!lost.trim().is_empty(), "nothing runs on the node that is to fail");
    cluster.kill("node2");
    let status = |words: &[&str]| {
        let mut command = world.command(&[&["farm", "status", "--shared", "farm"], words].concat());
        world::said(command.env("SLURM_CONF", cluster.conf()).output().unwrap())
    };
    let told = status(&["--json"]);
    assert_eq!(told.status, 0, "{}", told.err);
    let told: serde_json::Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!(told["jobs"][0]["tasks"], 8);
    assert!(told["jobs"][0]["queued"]["running"].as_u64().is_some(), "{told}");
    // Slurm lets what comes back from a dead node wait for two minutes, in case that it was the task's doing.
    until("the node is found dead, and its task comes back", || {
        cluster.ask(&["sinfo", "-h", "-n", "node2", "-o", "%T"]).contains("down")
            && cluster
                .ask(&["squeue", "-h", "-t", "PENDING", "-r", "-o", "%r"])
                .contains("BeginTime")
            || results(&world, "farm").len() == 8
    });
    let id = cluster.ask(&["squeue", "-h", "-o", "%F"]);
    if let Some(id) = id.lines().next() {
        cluster.ask(&["scontrol", "update", &format!("JobId={}", id.trim()), "StartTime=now"]);
    }
    let said = world::said(running.wait_with_output().unwrap());
    assert_eq!(said.status, 0, "{}{}", said.out, said.err);
    assert!(
        bytes(&world, "out/rain.wav") == bytes(&world, "first.out/rain.wav"),
        "not the whole one's samples"
    );
    assert!(
        cluster.ask(&["sinfo", "-h", "-n", "node2", "-o", "%T"]).contains("down"),
        "the node did not fail"
    );
    let told = status(&[]);
    assert_eq!(told.status, 0, "{}", told.err);
    assert!(told.out.contains("8/8"), "{}", told.out);

    // Called off: nothing of it stays in the queue.
    fs::remove_dir_all(world.path("work/farm/results")).unwrap();
    let running = command(&["-o", "again"]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    until("a task runs", || {
        !cluster.ask(&["squeue", "-h", "-t", "RUNNING", "-r"]).trim().is_empty()
    });
    assert!(
        Command::new("kill").args(["-INT", &running.id().to_string()]).status().unwrap().success()
    );
    let said = world::said(running.wait_with_output().unwrap());
    assert_eq!(said.status, 130, "{}", said.err);
    until("the queue is empty", || cluster.ask(&["squeue", "-h", "-r"]).trim().is_empty());
    assert!(!world.path("work/again").join("rain.wav").exists());

    // Killed: the same words wait for what Slurm still has.
    let mut running =
        command(&["-o", "again"]).stderr(std::process::Stdio::null()).spawn().unwrap();
    until("a task runs", || {
        !cluster.ask(&["squeue", "-h", "-t", "RUNNING", "-r"]).trim().is_empty()
    });
    running.kill().unwrap();
    running.wait().unwrap();
    let said = world::said(command(&["-o", "again"]).output().unwrap());
    assert_eq!(said.status, 0, "{}", said.err);
    assert!(said.err.contains("going on with what Slurm still has"), "{}", said.err);
    assert!(bytes(&world, "again/rain.wav") == bytes(&world, "first.out/rain.wav"));
    fs::remove_dir_all(world.path("work/farm/results")).unwrap();

    // A server that fails everywhere is named with its tasks, and not tried for ever.
    world::executable(
        &world.path("slow/scsynth"),
        "#!/bin/sh\n[ \"$1\" != -v ] || { echo scsynth 0.0; exit; }\necho out of luck\nexit 7\n",
    );
    let said = world::said(command(&["--retries", "1", "-o", "again"]).output().unwrap());
    assert_eq!(said.status, 3, "{}", said.err);
    assert!(
        said.err.contains("8 of 8 tasks failed") && said.err.contains("out of luck"),
        "{}",
        said.err
    );
    assert_eq!(said.err.matches("Slurm has it as job").count(), 2, "{}", said.err);
}

/// Quiet and short: two tenths of a second are played.
const SHORT: &str = "[program]\nbuiltin = \"jack-client\"\n[time]\nduration = \"200ms\"\nwarmup = \"100ms\"\nseeds = [1]\n\
    [load]\nprofile = \"idle\"\n";

#[test]
#[ignore = "boots the real image"]
fn a_sweep_of_twelve_is_the_same_on_slurm_here_and_in_the_lab() {
    if !can_cluster() {
        return;
    }
    let world = World::new();
    world.write("short.lab.toml", SHORT);
    let cluster = Cluster::start(2, 26620);
    let run = |words: &[&str]| -> serde_json::Value {
        let mut command = world.command_with_image(words);
        let said = world::said(command.env("SLURM_CONF", cluster.conf()).output().unwrap());
        assert_eq!(said.status, 0, "{words:?}: {}{}", said.out, said.err);
        serde_json::from_str(&said.out).unwrap()
    };
    let sweep = ["short.lab.toml", "--quantum", "32,64,128,256", "--json"];
    let on_slurm =
        run(&[&["farm", "lab"], &sweep[..], &["--seeds", "1..3", "--shared", "a"]].concat());
    let here =
        run(&[&["farm", "lab", "--local"], &sweep[..], &["--seeds", "1..3", "--shared", "b"]]
            .concat());
    assert_eq!(on_slurm, here);
    let points = on_slurm["points"].as_array().unwrap();
    assert_eq!(points.len(), 4);
    assert!(points.iter().all(|point| point["verdict"] == "held"), "{on_slurm}");
    let lab = ["lab", "sweep", "short.lab.toml", "--quantum", "256", "--seed", "1,2,3", "--json"];
    assert_eq!(run(&lab)["points"][0], points[0]);
    let twelve = |shared: &str| {
        let mut found: Vec<String> = results(&world, shared)
            .iter()
            .map(|path| fs::read_to_string(path.join("experiment.json")).unwrap())
            .collect();
        found.sort();
        found
    };
    assert_eq!(twelve("a").len(), 12);
    assert_eq!(twelve("a"), twelve("b"), "an experiment differs with who runs it");
    assert_eq!(
        results(&world, "a").iter().map(|path| path.file_name()).collect::<Vec<_>>(),
        results(&world, "b").iter().map(|path| path.file_name()).collect::<Vec<_>>()
    );
}
