//! `archibald measure`, as a person runs it on this very Linux. What it does in the machine is part of
//! machine.rs, where one is running.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

#[path = "../../streamdb/tests/browser/mod.rs"]
mod browser;
mod world;

use browser::Browser;
use serde_json::Value;
use world::{World, beside, said, under};

/// cyclictest's own figures on this host, or why it cannot be run.
fn measured(world: &World, words: &[&str]) -> Result<(i32, Value), String> {
    let words = [&["measure", "wakeup", "--here", "--json"], words].concat();
    let said = world.run(&words);
    match said.status {
        0 | 1 => Ok((said.status, serde_json::from_str(&said.out).unwrap())),
        3 => Err(said.err),
        other => panic!("status {other}: {}", said.err),
    }
}

#[test]
fn a_wakeup_is_measured_kept_and_reported() {
    let world = World::new();
    let (status, said) = match measured(&world, &["--for", "1s", "--target", "10000000"]) {
        Ok(said) => said,
        Err(reason) => return println!("SKIPPED measuring on this host: {reason}"),
    };
    // One thread a CPU and a thousand wake-ups a second: more than the 2,995 that the claim wants only
    // where there are many CPUs.
    let run = &said["run"];
    let samples: u64 = run["histograms"][0]["histogram"]["bins"]
        .as_array()
        .unwrap()
        .iter()
        .map(|bin| bin[1].as_u64().unwrap())
        .sum();
    assert!(samples > 0, "{run:#}");
    let verdict = said["verdict"].as_str().unwrap();
    match (run["source"].as_str().unwrap(), samples >= 2995) {
        ("emulation", _) => assert_eq!((status, verdict), (0, "not-judged")),
        (_, true) => assert_eq!((status, verdict), (0, "held"), "{said:#}"),
        (_, false) => assert_eq!((status, verdict), (1, "not-enough-samples"), "{said:#}"),
    }
    assert!(run["conditions"]["program"].as_str().unwrap().starts_with("cyclictest"), "{run:#}");

    // The kept file is what `report` reads.
    let file = said["file"].as_str().unwrap();
    let page = world.path("work/page.html");
    let said = world.run(&["report", file, "--html", page.to_str().unwrap(), "--csv", "bins.csv"]);
    assert_eq!(said.status, 0, "{}", said.err);
    assert!(said.out.contains("worst wakeup <= 50 us"), "{}", said.out);
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("cyclictest") && !page.contains("http://") && !page.contains("https://"));
    let bins = std::fs::read_to_string(world.path("work/bins.csv")).unwrap();
    let counted: u64 = bins
        .lines()
        .filter_map(|line| line.split_once(",wakeup,")?.1.split(',').nth(1)?.parse::<u64>().ok())
        .sum();
    assert_eq!(counted, samples);
    assert!(world.is_quiet());
}

#[test]
fn a_load_runs_meanwhile_and_is_gone_afterwards() {
    let world = World::new();
    let said = match measured(&world, &["--for", "1s", "--load", "cpu,fork"]) {
        Ok((_, said)) => said,
        Err(reason) => return println!("SKIPPED measuring under load on this host: {reason}"),
    };
    let load = said["run"]["conditions"]["load"].as_str().unwrap();
    assert!(load.contains("stress-ng") && load.contains("--fork"), "{load}");
    // It was this test's alone: nobody else gives it this time limit.
    let left =
        std::process::Command::new("pgrep").args(["-f", "^stress-ng .*--timeout 31$"]).output();
    assert_eq!(String::from_utf8_lossy(&left.unwrap().stdout), "");
}

/// A terminal of its own, through which `measure --live` is run and called off; what the terminal was
/// before and after stands around what it showed.
fn in_a_terminal(world: &World, words: &str, call_off_at: Option<&str>) -> Option<String> {
    use std::io::{Read as _, Write as _};
    let inner = world.command(&[]);
    let script = format!(
        "trap : INT; stty -g; {} {words}; echo status=$?; stty -g",
        inner.get_program().to_str().unwrap()
    );
    let mut terminal = beside(&["script", "-qefc", &script, "/dev/null"], &inner);
    let piped = std::process::Stdio::piped;
    terminal.stdin(piped()).stdout(piped()).env("TERM", "xterm");
    let Ok(mut child) = terminal.spawn() else {
        println!("SKIPPED: no script(1) (apt-get install bsdutils)");
        return None;
    };
    let (mut keys, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (mut shown, mut buffer) = (Vec::new(), [0; 4096]);
    let mut called_off = false;
    while let Ok(length @ 1..) = screen.read(&mut buffer) {
        shown.extend_from_slice(&buffer[..length]);
        let text = String::from_utf8_lossy(&shown);
        if call_off_at.is_some_and(|at| !called_off && text.contains(at)) {
            keys.write_all(b"\x03").unwrap();
            called_off = true;
        }
    }
    child.wait().unwrap();
    Some(String::from_utf8_lossy(&shown).into_owned())
}

#[test]
fn the_live_view_is_drawn_in_place_and_leaves_the_terminal_as_it_was() {
    let world = World::new();
    if let Err(reason) = measured(&world, &["--for", "1s"]) {
        return println!("SKIPPED the live view on this host: {reason}");
    }
    let words = "measure wakeup --here --live --for 3s --target 10000000";
    let Some(screen) = in_a_terminal(&world, words, None) else { return };
    assert!(screen.matches(" of 3 s").count() >= 2 && screen.contains("samples"), "{screen}");
    // Later pictures cover earlier ones.
    assert!(screen.contains("A\r\x1b[2K"), "{screen}");
    assert!(screen.contains("worst wakeup <= "), "{screen}");

    // Of the audio loop too.
    let words = "measure audio --here --own-jackd --live --for 3s --target 10000000";
    let audio = in_a_terminal(&world, words, None).unwrap();
    match audio.contains("status=3") {
        true => println!("SKIPPED the live view of the audio loop on this host: {audio}"),
        false => {
            assert!(audio.matches(" of 3 s").count() >= 2, "{audio}");
            assert!(
                audio.contains("round trip   32 frames") && audio.contains("A\r\x1b[2K"),
                "{audio}"
            );
        }
    }

    // Called off: nothing is left behind on the terminal, on the host, or among the runs.
    let words = "measure wakeup --here --live --for 97s --load fork";
    let screen = in_a_terminal(&world, words, Some(" of 97 s")).unwrap();
    let lines: Vec<&str> = screen.lines().map(str::trim_end).collect();
    assert!(lines.contains(&"status=130"), "{screen}");
    assert_eq!(lines.first(), lines.last(), "the terminal's settings are others: {screen}");
    for hidden in ["\x1b[?25l", "\x1b[?1049h", "\x1b[?1h"] {
        assert!(!screen.contains(hidden), "{screen}");
    }
    for left in ["cyclictest .*--duration=97", "stress-ng .*--timeout 127"] {
        let found = std::process::Command::new("pgrep").args(["-f", &format!("^{left}")]).output();
        assert_eq!(String::from_utf8_lossy(&found.unwrap().stdout), "", "{left}");
    }
    let kept = std::fs::read_dir(world.path("data/archibald/runs")).unwrap();
    let wakeups = kept
        .filter(|run| run.as_ref().unwrap().file_name().to_string_lossy().starts_with("wakeup"));
    assert_eq!(wakeups.count(), 2);
}

#[test]
fn without_a_terminal_the_live_view_is_a_line_a_second() {
    let world = World::new();
    let said = world.run(&["measure", "wakeup", "--here", "--live", "--for", "3s", "--json"]);
    if said.status == 3 {
        return println!("SKIPPED the live lines on this host: {}", said.err);
    }
    assert!(serde_json::from_str::<Value>(&said.out).is_ok(), "{}", said.out);
    let lines: Vec<&str> = said.err.lines().filter(|line| line.contains("CPU 0: ")).collect();
    assert!(lines.len() >= 2 && lines[0].contains(" samples, now "), "{}", said.err);
    assert!(!said.err.contains('\x1b'), "{}", said.err);
}

/// A store, as a person starts one.
struct Store {
    child: std::process::Child,
    url: String,
}

impl Store {
    fn start(world: &World) -> Option<Self> {
        use std::io::{BufRead as _, BufReader};
        let program =
            std::path::Path::new(env!("CARGO_BIN_EXE_archibald")).with_file_name("streamdb");
        if !program.is_file() {
            println!("SKIPPED: streamdb is not built beside archibald");
            return None;
        }
        let mut child = std::process::Command::new(program)
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(world.path("store"))
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").unwrap().to_owned();
        Some(Self { child, url })
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_run_is_kept_in_a_store_whose_page_draws_it() {
    let world = World::new();
    let Some(store) = Store::start(&world) else { return };
    let option = format!("--store={}", store.url);
    let said = match measured(&world, &["--for", "1s", &option]) {
        Ok((_, said)) => said,
        Err(reason) => return println!("SKIPPED keeping a run of this host: {reason}"),
    };
    let id = said["run"]["id"].as_str().unwrap();
    let key = format!("runs/{id}/run.json");
    let mut answer = ureq::get(format!("{}/v1/objects/{key}", store.url)).call().unwrap();
    let kept: Value = serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
    assert_eq!(kept, said["run"]);

    let Some(browser) = Browser::start(false) else { return };
    browser.post("/url", &serde_json::json!({ "url": store.url }));
    browser.run("document.querySelector('[data-suffix=\"run.json\"]').click()");
    browser.until(&format!("document.querySelector('[data-key=\"{key}\"]')"));
    browser.run(&format!("document.querySelector('[data-key=\"{key}\"]').click()"));
    browser.until("document.querySelectorAll('#run .curve').length > 0");
    // The picture says the run's own largest sample.
    let bins = said["run"]["histograms"][0]["histogram"]["max_ns"].as_u64().unwrap();
    let worst = browser.run("return document.querySelector('#run .worst').textContent");
    let digits: String = worst.as_str().unwrap().chars().filter(char::is_ascii_digit).collect();
    assert_eq!(digits, (bins / 1000).to_string(), "{worst}");
    browser.screenshot("store-run.png");
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());
}

#[test]
fn a_store_that_is_not_there_is_told_before_anything_is_measured() {
    let world = World::new();
    for (option, words) in [
        ("--store=http://127.0.0.1:1", "http://127.0.0.1:1"),
        ("--store=ftp://x", "no address of a store"),
        ("--store", "--store=http://"),
    ] {
        for meter in ["wakeup", "audio"] {
            let said = world.run(&["measure", meter, "--here", "--for", "240h", option]);
            assert!(said.status != 0 && said.err.contains(words), "{option}: {}", said.err);
        }
    }
}

fn its_page_tells_the_round_trip(store: &Store, key: &str) {
    let Some(browser) = Browser::start(false) else { return };
    browser.post("/url", &serde_json::json!({ "url": store.url }));
    browser.run("document.querySelector('[data-suffix=\"run.json\"]').click()");
    browser.until(&format!("document.querySelector('[data-key=\"{key}\"]')"));
    browser.run(&format!("document.querySelector('[data-key=\"{key}\"]').click()"));
    browser.until("document.getElementById('run').innerText.includes('32 frames, 0.667 ms')");
    browser.screenshot("store-audio.png");
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());
}

/// A jackd of its own needs no sound card. How many periods it misses depends on the host, the round trip
/// does not.
#[test]
fn an_audio_loop_is_measured_kept_and_reported() {
    let world = World::new();
    let store = Store::start(&world);
    let mut words: Vec<String> =
        ["measure", "audio", "--here", "--own-jackd", "--for", "2s", "--json", "--live"]
            .map(String::from)
            .to_vec();
    words.extend(store.as_ref().map(|store| format!("--store={}", store.url)));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let said = world.run(&words);
    if said.status == 3 {
        return println!("SKIPPED the audio loop on this host: {}", said.err);
    }
    assert!(matches!(said.status, 0 | 1), "{}", said.err);
    // A line a second; the last may come with the end.
    let lines: Vec<&str> = said.err.lines().filter(|line| line.contains(" s: ")).collect();
    assert!(
        !lines.is_empty()
            && lines.iter().all(|line| line.contains("round trip 32 frames, 0.667 ms")),
        "{}",
        said.err
    );
    assert!(!said.err.contains('\x1b') && !said.err.contains("archibald.progress"), "{}", said.err);
    let report: Value = serde_json::from_str(&said.out).unwrap();
    let run = &report["run"];
    assert_eq!(run["round_trip"]["frames"], 32.0, "{run:#}");
    assert_eq!(run["periods"], 3000, "{run:#}");
    let file = report["file"].as_str().unwrap();
    let said = world.run(&["report", file]);
    assert!(said.out.contains("worst round-trip <= 1 ms"), "{}", said.out);
    assert!(said.out.contains("round trip           32 frames, 0.6667 ms"), "{}", said.out);
    if let Some(store) = &store {
        let key = format!("runs/{}/run.json", run["id"].as_str().unwrap());
        let mut answer = ureq::get(format!("{}/v1/objects/{key}", store.url)).call().unwrap();
        let kept: Value =
            serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
        assert_eq!(&kept, run);
        its_page_tells_the_round_trip(store, &key);
    }
    drop(store);
    assert!(world.is_quiet());
}

/// Eight servers that were killed hold all places of JACK's registry, in a /dev/shm of the test's own.
#[test]
fn a_full_registry_of_servers_is_told() {
    let world = World::new();
    let inner = world.command(&["measure", "audio", "--here", "--own-jackd", "--for", "1s"]);
    let script = "mount -t tmpfs none /dev/shm && command -v jackd jack_lsp || exit 99
        for n in 1 2 3 4 5 6 7 8; do
            export JACK_NO_START_SERVER=1 JACK_DEFAULT_SERVER=full-$n
            jackd --no-realtime -n full-$n -d dummy & server=$!
            until jack_lsp; do kill -0 $server || exit 99; sleep 0.1; done
            kill -KILL $server
        done >/dev/null 2>&1
        exec \"$@\"";
    let words = ["unshare", "--mount", "--ipc", "--map-root-user", "sh", "-c", script, "sh"];
    let said = said(under(&words, &inner).output().unwrap());
    // 99 from the script, 1 where there may be no namespace: neither is this error's status.
    if said.status != 3 || said.err.contains("apt-get install") {
        return println!("SKIPPED a full registry of JACK: {} {}", said.status, said.err);
    }
    assert!(said.err.contains("Too many servers already active"), "{}", said.err);
    assert!(said.err.contains("/dev/shm/jack-shm-registry"), "{}", said.err);
}

#[test]
fn wrong_words_and_missing_machines_are_told() {
    let world = World::new();
    let said = world.run(&["measure", "wakeup", "--here", "--for", "10"]);
    assert!(said.status == 2 && said.err.contains("10s, 5m or 1h"), "{}", said.err);
    let said = world.run(&["measure", "wakeup", "--here", "--live", "--with", "rtla-timerlat"]);
    assert!(said.status == 2 && said.err.contains("--live"), "{}", said.err);
    let said = world.run(&["measure", "audio", "--here", "--through", "one"]);
    assert!(said.status == 2 && said.err.contains("INTO,OUT-OF"), "{}", said.err);
    let said = world.run(&["measure", "wakeup", "nobody"]);
    assert!(said.status != 0 && said.err.contains("archibald up"), "{} {}", said.status, said.err);
}
