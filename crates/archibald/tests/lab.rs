//! `archibald lab`: the real program, and the real image where a test says so.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod world;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use world::World;

const SHORT: &str = "[time]\nduration = \"1s\"\nwarmup = \"500ms\"\nseeds = [1]\n";
const CLEAN: &str = "[program]\nbuiltin = \"jack-client\"\n";

fn scenario(world: &World, name: &str, text: &str) -> String {
    world.write(name, text).to_str().unwrap().to_owned()
}

/// Stops every experiment and boot of this world when a test fails in the middle of one.
fn lab(world: &World, words: &[&str]) -> Command {
    let words: Vec<&str> = ["lab"].iter().chain(words).copied().collect();
    world.command_with_image(&words)
}

#[test]
fn init_writes_a_scenario_once() {
    let world = World::new();
    assert_eq!(world.run(&["lab", "init"]).status, 0);
    let again = world.run(&["lab", "init"]);
    assert_eq!(again.status, 2, "{}", again.err);
    assert!(again.err.contains("--force"), "{}", again.err);
}

#[test]
fn a_wrong_scenario_is_shown_at_its_line_before_anything_is_built() {
    let world = World::new();
    world.write("lab.toml", "[program]\nbuiltin = \"jack-client\"\n[time]\nmips = 300\n");
    let said = world.run(&["lab", "run"]);
    assert_eq!(said.status, 2, "{}", said.err);
    assert!(said.err.contains("lab.toml:4:8") && said.err.contains("mips = 250"), "{}", said.err);
    let missing = world.run(&["lab", "run", "nothing.lab.toml"]);
    assert_eq!(missing.status, 2);
    assert!(missing.err.contains("archibald lab init"), "{}", missing.err);
}

#[test]
fn a_folder_without_scenarios_is_wrong_use() {
    let world = World::new();
    let said = world.run(&["lab", "test"]);
    assert_eq!(said.status, 2, "{}", said.err);
    assert!(said.err.contains("NAME.lab.toml"), "{}", said.err);
}

#[test]
#[ignore = "boots the real image"]
fn a_clean_client_holds_under_full_load_and_the_same_seed_is_the_same_run() {
    let world = World::new();
    let path = scenario(&world, "clean.lab.toml", &format!("{CLEAN}{SHORT}"));
    let run = || {
        let said = world::said(lab(&world, &["run", "--quiet", &path]).output().unwrap());
        assert_eq!(said.status, 0, "{}{}", said.out, said.err);
        assert!(said.out.contains("held") && said.out.contains("Virtual time"), "{}", said.out);
        let runs: Vec<_> = std::fs::read_dir(world.state("lab/runs")).unwrap().flatten().collect();
        assert_eq!(runs.len(), 1);
        std::fs::read_to_string(runs[0].path().join("run.json")).unwrap()
    };
    let (first, second) = (run(), run());
    if first != second {
        // On a busy host a run now and then is another one (docs/claims.md). Which of the two it was, a
        // third tells; that all three differ has not been seen.
        let third = run();
        println!("two runs of one seed differ");
        assert!(first == third || second == third, "three runs of one seed, and no two are alike");
    }
    assert!(world.is_quiet());
}

#[test]
fn comparing_one_thing_and_sweeping_over_nothing_are_wrong_use() {
    let world = World::new();
    world.write("lab.toml", CLEAN);
    for (words, remedy) in [
        (&["lab", "compare", "lab.toml"][..], "--kernel rt,stock"),
        (&["lab", "compare", "lab.toml", "--mips", "62,125,250"], "lab sweep"),
        (&["lab", "compare", "lab.toml", "--kernel", "rt,real-time"], "one of rt, stock"),
        (&["lab", "sweep", "lab.toml"], "--quantum 8,16,32,64"),
        (&["lab", "sweep", "lab.toml", "--quantum", "48"], "one of 8, 16, 32"),
        (&["lab", "shell", "other.toml"], "archibald lab init"),
    ] {
        let said = world.run(words);
        assert_eq!(said.status, 2, "{words:?}: {}", said.err);
        assert!(said.err.contains(remedy), "{words:?}: {}", said.err);
    }
}

/// One period of a hundred takes longer than it may.
const SOMETIMES: &str = "[program]\nbuild = \"cc -O2 -o client client.c -ljack -lm\"\nrun = \"./client\"\n\
    [time]\nduration = \"200ms\"\nwarmup = \"100ms\"\nseeds = [1]\n[load]\nprofile = \"idle\"\n";
const SLEEPS: &str = "\
#include <jack/jack.h>
#include <unistd.h>
static int process(jack_nframes_t frames, void *port)
{
	static unsigned int periods;
	(void)frames;
	(void)port;
	if (++periods % 100 == 0)
		usleep(1500);
	return 0;
}
int main(void)
{
	jack_client_t *client = jack_client_open(\"sleepy\", JackNoStartServer, NULL);
	jack_set_process_callback(client, process, NULL);
	jack_port_register(client, \"out\", JACK_DEFAULT_AUDIO_TYPE, JackPortIsOutput, 0);
	jack_activate(client);
	pause();
}
";

#[test]
#[ignore = "boots the real image"]
fn ten_runs_of_a_seed_are_told_apart_and_a_sweep_breaks_at_one_place() {
    let world = World::new();
    world.write("client.c", SLEEPS);
    let path = scenario(&world, "sometimes.lab.toml", SOMETIMES);
    let words = ["doctor", "--quiet", "--json", "--times", "10", &path];
    let said = world::said(lab(&world, &words).output().unwrap());
    let told: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    // On a host with five times as much to do as it has processors, one run in eighteen was another one
    // (QEMU 7.2, docs/claims.md), and why is not known. All but two of ten must be the same, and the
    // exit status must say whether all were.
    let lines: Vec<&str> =
        told["differing"].as_array().unwrap().iter().filter_map(|line| line.as_str()).collect();
    let others: std::collections::BTreeSet<_> =
        lines.iter().filter_map(|line| line.split(':').next()).collect();
    println!("of ten runs of one seed, {} differ from the first", others.len());
    assert!(others.len() <= 2, "{lines:?}");
    assert_eq!((&told["same"], &told["times"]), (&others.is_empty().into(), &10.into()));
    assert_eq!(said.status, i32::from(!others.is_empty()), "{}", said.err);
    let xruns = told["run"]["counters"]["jackd-log"].as_u64().unwrap();
    assert!(xruns > 0, "ten runs without an xrun say little: {told}");
    // A period of 5 ms has room for a sleep of 1.5 ms, one of 0.7 ms has not.
    let sweep = || {
        let words = ["sweep", "--quiet", "--json", "--quantum", "32,256", &path];
        let said = world::said(lab(&world, &words).output().unwrap());
        assert_eq!(said.status, 0, "{}{}", said.out, said.err);
        let told: serde_json::Value = serde_json::from_str(&said.out).unwrap();
        let edge = &told["smallest_quantum"][0];
        assert_eq!((&edge["holds"], &edge["breaks"]), (&256.into(), &32.into()), "{told}");
        (edge.clone(), told["slowest_processor"].clone())
    };
    assert_eq!(sweep(), sweep());
    let words = ["compare", "--quiet", "--json", "--quantum", "256,32", &path];
    let said = world::said(lab(&world, &words).output().unwrap());
    assert_eq!(said.status, 0, "{}{}", said.out, said.err);
    let told: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(told["a"]["headline"], "held", "{}", said.out);
    assert_eq!(told["b"]["headline"], "broken", "{}", said.out);
}

#[test]
#[ignore = "boots the real image"]
fn a_shell_is_in_the_machine_and_its_end_is_the_machines() {
    let world = World::new();
    let path = scenario(&world, "clean.lab.toml", &format!("{CLEAN}{SHORT}"));
    let mut command = lab(&world, &["shell", "--quiet", &path]);
    let typed = world.write("typed", "uname -v; jack_bufsize\nls client && exit\n");
    command.stdin(std::fs::File::open(typed).unwrap());
    let said = world::said(command.output().unwrap());
    assert_eq!(said.status, 0, "{}{}", said.out, said.err);
    for words in ["PREEMPT_RT", "\n32\r", "client"] {
        assert!(said.out.contains(words), "{words}: {}", said.out);
    }
    assert!(world.is_quiet());
}

#[test]
#[ignore = "boots the real image"]
fn a_synth_that_renders_nothing_is_no_verdict() {
    let world = World::new();
    let run = "exec scsynth -u 57110 -z 64 -D 0 -R 0";
    let short = SHORT.replace("1s", "300ms");
    let text = format!("[program]\nrun = \"{run}\"\nmin-load = 10\n{short}");
    let path = scenario(&world, "silent.lab.toml", &text);
    let said = world::said(lab(&world, &["run", "--quiet", &path]).output().unwrap());
    assert_eq!(said.status, 2, "{}{}", said.out, said.err);
    assert!(said.err.contains("hardly computes"), "{}", said.err);
}

#[test]
#[ignore = "boots the real image"]
fn the_stock_kernel_breaks() {
    let world = World::new();
    // In one second it may still hold: how long its critical sections are depends on what the load does.
    let time = "[time]\nduration = \"4s\"\nwarmup = \"500ms\"\nseeds = [3]\n";
    let text = format!("{CLEAN}{time}[machine]\nkernel = \"stock\"\n");
    let path = scenario(&world, "stock.lab.toml", &text);
    let said = world::said(lab(&world, &["run", "--quiet", &path]).output().unwrap());
    assert_eq!(said.status, 1, "{}{}", said.out, said.err);
    assert!(said.out.contains("broken"), "{}", said.out);
}

#[test]
#[ignore = "boots the real image"]
fn a_program_that_ends_or_never_connects_is_no_verdict() {
    let world = World::new();
    for (run, words) in [
        ("echo my last words; exit 3", ["ended with status 3", "my last words"]),
        ("sleep 60", ["no port in the graph", ""]),
    ] {
        let text = format!("[program]\nrun = \"{run}\"\nconnect = \"1s\"\n{SHORT}");
        let path = scenario(&world, "wrong.lab.toml", &text);
        let said = world::said(lab(&world, &["run", "--quiet", &path]).output().unwrap());
        assert_eq!(said.status, 2, "{}{}", said.out, said.err);
        assert!(words.iter().all(|word| said.err.contains(word)), "{}", said.err);
    }
}

#[test]
#[ignore = "boots the real image"]
fn what_is_killed_leaves_no_qemu_and_no_half_snapshot() {
    let world = World::new();
    let text = format!("{CLEAN}{SHORT}[machine]\nmemory = \"1 GiB\"\n");
    let path = scenario(&world, "killed.lab.toml", &text);
    // A cache of its own for the snapshots, on the user's images.
    let cache = world.path("own-cache");
    let user = std::env::var_os("XDG_CACHE_HOME")
        .map_or_else(|| Path::new(&std::env::var_os("HOME").unwrap()).join(".cache"), Into::into);
    let built = world::said(world.command_with_image(&["build", "--quiet"]).output().unwrap());
    assert_eq!(built.status, 0, "{}", built.err);
    std::fs::create_dir_all(cache.join("archibald")).unwrap();
    for name in ["base", "images", "recipes", "debs"] {
        let link = cache.join("archibald").join(name);
        std::os::unix::fs::symlink(user.join("archibald").join(name), link).unwrap();
    }
    for signal in ["-KILL", "-INT"] {
        let begun = std::time::SystemTime::now();
        let mut command = lab(&world, &["run", "--quiet", &path]);
        let mut child = command.env("XDG_CACHE_HOME", &cache).spawn().unwrap();
        let snapshots = cache.join("archibald/lab/snapshots");
        let half = || {
            let entries = std::fs::read_dir(&snapshots).into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).find(|path| {
                path.extension().is_some_and(|kind| kind == "partial")
                    && path.join("console.log").exists()
            })
        };
        // The boot that was killed before left its own half behind until this one sweeps it.
        let booting = || {
            let console = half().map(|path| path.join("console.log"));
            let written = console.and_then(|path| std::fs::metadata(path).ok()?.modified().ok());
            written.is_some_and(|written| written >= begun)
        };
        for _ in 0..2400 {
            if booting() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(booting(), "no boot began");
        Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        let status = child.wait().unwrap();
        if signal == "-INT" {
            assert_eq!(status.code(), Some(130));
            assert!(half().is_none(), "half a snapshot stays after Ctrl-C");
        }
        let whole = std::fs::read_dir(&snapshots)
            .unwrap()
            .flatten()
            .any(|entry| entry.path().join("snapshot.json").exists());
        assert!(!whole, "a killed boot counts as whole");
        assert!(world.is_quiet(), "QEMU outlives its lab");
    }
}
