//! `archibald audio`, on the real image, with the servers that a host has: a PulseAudio without a card and a
//! jackd on its dummy driver, both of the test's own. The machine's period is long, so that an emulated one
//! keeps up with NetJACK2.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod sound;
mod world;

use std::process::Command;
use std::time::Duration;

use archibald_guest::tone::{find_tone, read_wav};
use sound::{RATE, Running, assert_tone, has, tone_file};
use world::{Said, World, machine_file, said};

const PORTS: [&str; 4] = ["26322:22", "26313:4713", "26313:4713/udp", "26380:8080"];
/// Of jackd's manager, for this test alone.
const MANAGER: &str = "26319";

#[test]
fn what_cannot_be_connected_is_wrong_use() {
    let world = World::new();
    for verb in ["connect", "disconnect", "status"] {
        let said = world.run(&["audio", verb, "nobody"]);
        assert_eq!(said.status, 2, "{}", said.err);
        assert!(said.err.contains("there is no machine \"nobody\""), "{}", said.err);
    }
    assert_eq!(world.run(&["audio", "connect", "--port", "0"]).status, 2);
    assert_eq!(world.run(&["audio", "connect", "--by", "carrier-pigeon"]).status, 2);
}

#[test]
#[ignore = "boots the real image; run by ./archibald test"]
fn the_hosts_sound_goes_into_the_machine_and_comes_back() {
    let world = World::new();
    let file = machine_file("attic", &PORTS) + "[audio]\nquantum = 1024\n";
    world.write("archibald.toml", &file);
    let up = world.run_with_image(&["up", "--no-check"]);
    assert_eq!(up.status, 0, "{}", up.err);
    let refused = audio(&world, &["connect"]);
    assert_eq!(refused.status, 3, "{}{}", refused.out, refused.err);
    assert!(refused.err.contains("no audio server answers"), "{}", refused.err);
    match has("pulseaudio") && has("pactl") {
        true => {
            by_pulse(&world, pulseaudio, "attic: connected to pulseaudio", "module-tunnel-sink-new")
        }
        false => println!("SKIPPED audio connect by PulseAudio: pulseaudio, pactl are not here"),
    }
    match PIPEWIRE.iter().all(|program| has(program)) && has("pactl") {
        true => by_pulse(
            &world,
            pipewire,
            "attic: connected to PulseAudio (on PipeWire",
            "module-tunnel-sink",
        ),
        false => {
            println!("SKIPPED audio connect by PipeWire: one of {PIPEWIRE:?} is not here, or pactl")
        }
    }
    match has("jackd") && has("jack_load") {
        true => by_netjack2(&world),
        false => println!("SKIPPED audio connect by NetJACK2: jackd, jack_load are not here"),
    }
    let deleted = world.run(&["delete", "--force", "attic"]);
    assert_eq!(deleted.status, 0, "{}", deleted.err);
    assert!(world.is_quiet());
}

/// A program that finds the test's servers and no others.
fn among(world: &World, mut command: Command) -> Command {
    command
        .env_remove("PULSE_SERVER")
        .env("HOME", world.dir.path())
        .env("XDG_CONFIG_HOME", world.path("config"))
        .env("XDG_RUNTIME_DIR", world.path("run"))
        .env("JACK_DEFAULT_SERVER", jack_name(world));
    command
}

fn jack_name(world: &World) -> String {
    let name = world.dir.path().file_name().unwrap().to_string_lossy().into_owned();
    format!("test{}", name.trim_start_matches('.'))
}

fn audio(world: &World, words: &[&str]) -> Said {
    said(among(world, world.command(&[&["audio"], words].concat())).output().unwrap())
}

fn client(world: &World, program: &str, words: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(words);
    among(world, command)
}

fn asked(world: &World, program: &str, words: &[&str]) -> String {
    let said = said(client(world, program, words).output().unwrap());
    assert_eq!(said.status, 0, "{program} {words:?}: {}{}", said.out, said.err);
    said.out
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    for _ in 0..300 {
        if is() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("{what} did not come");
}

fn pulseaudio(world: &World) -> Running {
    std::fs::create_dir_all(world.path("run")).unwrap();
    // Without a configuration, which would look for cards and for a session.
    let words = ["-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no"];
    let mut command = client(world, "pulseaudio", &words);
    command.args(["--load=module-native-protocol-unix", "--load=module-null-sink sink_name=own"]);
    let running = Running::start(&mut command);
    until("PulseAudio", || client(world, "pactl", &["info"]).output().unwrap().status.success());
    running
}

/// What a host with PipeWire has, in the order in which they need each other.
const PIPEWIRE: [&str; 4] = ["dbus-daemon", "pipewire", "wireplumber", "pipewire-pulse"];

/// They end together.
const SESSION: &str = "\
DBUS_SESSION_BUS_ADDRESS=unix:path=$XDG_RUNTIME_DIR/bus
export DBUS_SESSION_BUS_ADDRESS
dbus-daemon --session --nofork --nosyslog --address=$DBUS_SESSION_BUS_ADDRESS & all=$!
trap 'kill $all' TERM
while ! [ -S \"$XDG_RUNTIME_DIR/bus\" ]; do sleep 0.1; done
pipewire & all=\"$all $!\"
while ! [ -S \"$XDG_RUNTIME_DIR/pipewire-0\" ]; do sleep 0.1; done
wireplumber & all=\"$all $!\"
pipewire-pulse & all=\"$all $!\"
wait
wait";

fn pipewire(world: &World) -> Running {
    std::fs::create_dir_all(world.path("run")).unwrap();
    for left in ["bus", "pipewire-0"] {
        let _ = std::fs::remove_file(world.path("run").join(left));
    }
    let running = Running::start(&mut client(world, "sh", &["-c", SESSION]));
    until("PipeWire", || {
        let info = said(client(world, "pactl", &["info"]).output().unwrap());
        // Without the session's manager nothing is led anywhere.
        info.out.contains("on PipeWire")
            && said(client(world, "wpctl", &["status"]).output().unwrap())
                .out
                .contains("WirePlumber")
    });
    running
}

/// The modules that are there, besides those that the test's server started with.
fn tunnels(world: &World) -> Vec<String> {
    let list = asked(world, "pactl", &["list", "short", "modules"]);
    list.lines().filter(|line| line.contains("module-tunnel")).map(str::to_owned).collect()
}

fn status(world: &World) -> (i32, serde_json::Value) {
    let said = audio(world, &["status", "--json"]);
    let told =
        serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{}{}", said.out, said.err));
    (said.status, told)
}

/// With a server that speaks PulseAudio's language: how it begins, what it says once connected, and the module
/// of a tunnel that somebody else might load.
fn by_pulse(world: &World, begin: fn(&World) -> Running, connected: &str, tunnel: &str) {
    let server = begin(world);
    assert_eq!(status(world).0, 1);
    let is_connected = connected.replacen("connected", "is connected", 1);
    let connect = |words: &str| {
        let said = audio(world, &["connect"]);
        assert_eq!(said.status, 0, "{}{}", said.out, said.err);
        assert!(
            said.out.contains(words) && said.out.contains("tcp:127.0.0.1:26313"),
            "{}",
            said.out
        );
        assert_eq!(tunnels(world).len(), 2, "{:?}", tunnels(world));
    };
    connect(connected);
    connect(&is_connected);
    until("the connection", || status(world).0 == 0);
    let (_, told) = status(world);
    assert_eq!(told["connected"], true, "{told:#}");
    // PulseAudio counts none, and PipeWire tells them on a screen alone before 1.0.
    let lists = said(client(world, "pw-top", &["-b", "-n", "1"]).output().unwrap()).status == 0;
    let counts = connected.contains("PipeWire") && lists;
    assert_eq!(told["xruns"]["host"].is_u64(), counts, "{told:#}");
    assert!(
        told["xruns"]["machine"].is_u64() && told["play"]["host-latency-us"].is_u64(),
        "{told:#}"
    );
    a_tone_comes_back(world);
    let said = audio(world, &["status", "--measure", "2s", "--json"]);
    let told: serde_json::Value =
        serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{}{}", said.out, said.err));
    let trip = &told["round-trip"];
    assert!(trip["heard"].as_u64().unwrap() > 0 && trip["most-us"].is_u64(), "{told:#}");

    // The machine's side begins anew.
    let words = ["exec", "--", "systemctl", "--user", "restart", "pipewire", "pipewire-pulse"];
    assert_eq!(world.run(&words).status, 0);
    until("the connection again", || {
        let said = audio(world, &["connect"]);
        assert_eq!(said.status, 0, "{}{}", said.out, said.err);
        status(world).0 == 0
    });
    assert_eq!(tunnels(world).len(), 2, "{:?}", tunnels(world));

    // And the host's.
    drop(server);
    let _server = begin(world);
    assert_eq!((status(world).0, tunnels(world)), (1, Vec::new()));
    connect(connected);

    // What is somebody else's stays.
    let other =
        ["load-module", tunnel, "server=tcp:127.0.0.1:26313", "sink_name=archibald-attic-play2"];
    asked(world, "pactl", &other);
    for words in ["attic: disconnected", "attic: was not connected"] {
        let said = audio(world, &["disconnect"]);
        assert!(said.status == 0 && said.out.contains(words), "{}{}", said.out, said.err);
        assert_eq!(tunnels(world).len(), 1, "{:?}", tunnels(world));
    }
}

/// Through the host's server both ways, as its programs go.
fn a_tone_comes_back(world: &World) {
    let file = tone_file(world, "tone.wav", 1000.0, 60);
    let mut play = client(world, "paplay", &["--device=archibald-attic-play", &file]);
    let _playing = Running::start(&mut play);
    let words =
        ["--raw", "--format=float32le", "--rate=48000", "--channels=2", "--latency-msec=100"];
    let words = [&words[..], &["--device=archibald-attic-record"]].concat();
    // PulseAudio's tunnel begins with the seconds that it holds while nobody records. Both channels: not all
    // servers make one of them in the same way.
    let heard = Running::start(&mut client(world, "parec", &words)).hear(2 * 15);
    let last: Vec<f32> = heard.chunks_exact(2).skip(13 * RATE as usize).map(|two| two[0]).collect();
    assert_tone(
        find_tone(&last, f64::from(RATE)),
        1000.0,
        "there and back through the host's server",
    );
}

fn jackd(world: &World, quantum: &str) -> Running {
    let name = jack_name(world);
    let words = ["--name", &name, "--no-realtime", "-d", "dummy", "-r", "48000", "-p", quantum];
    let mut command = client(world, "jackd", &words);
    let running = Running::start(command.env("JACK_NO_AUDIO_RESERVATION", "1"));
    until("jackd", || {
        let asked = client(world, "timeout", &["10", "jack_lsp"]).output().unwrap().status;
        // Over the database in /dev/shm that all of a user's servers share, once one of them was killed.
        assert_ne!(asked.code(), Some(124), "jack_lsp stands still");
        asked.success()
    });
    running
}

fn by_netjack2(world: &World) {
    let server = jackd(world, "512");
    let refused = audio(world, &["connect", "--by", "netjack2"]);
    assert_eq!(refused.status, 3, "{}{}", refused.out, refused.err);
    assert!(
        refused.err.contains("512 frames") && refused.err.contains("-p 1024"),
        "{}",
        refused.err
    );
    drop(server);

    let ports = || asked(world, "jack_lsp", &[]);
    let connect = |words: &str| {
        let said = audio(world, &["connect", "--port", MANAGER]);
        assert_eq!(said.status, 0, "{}{}", said.out, said.err);
        assert!(said.out.contains(words), "{}", said.out);
        assert_eq!(ports().matches("attic:to_slave_1").count(), 1, "{}", ports());
    };
    let server = jackd(world, "1024");
    connect("attic: connected to jackd");
    connect("attic: is connected to jackd");
    let measured = audio(world, &["status", "--measure"]);
    assert!(measured.out.contains("measure audio --here --through"), "{}", measured.out);
    let (held, told) = status(world);
    assert_eq!((held, &told["way"]), (0, &"netjack2".into()), "{told:#}");
    // Its datagrams come from the forwarded port, and from no other.
    let table = said(Command::new("ss").args(["-unH"]).output().unwrap()).out;
    assert!(table.contains(":26313"), "{table}");
    a_tone_goes_by_netjack2(world);

    // The host's jackd begins anew, while the machine's end still looks for it.
    drop(server);
    let _server = jackd(world, "1024");
    assert_eq!(status(world).0, 1);
    connect("attic: connected to jackd");
    for words in ["attic: disconnected", "attic: was not connected"] {
        let said = audio(world, &["disconnect"]);
        assert!(said.status == 0 && said.out.contains(words), "{}{}", said.out, said.err);
        assert!(!ports().contains("attic"), "{}", ports());
    }
    let left = world.run(&["exec", "--", "pgrep", "-f", "[n]etjack2.conf"]);
    assert_eq!(left.out, "", "the machine's end outlives the connection");
}

/// jack_simple_client plays 240 Hz, a table of 200 frames, at a fifth of full scale. In the machine what comes in is led out again.
fn a_tone_goes_by_netjack2(world: &World) {
    let link = ["archibald-netjack2-record:capture_1", "archibald-netjack2-play:playback_1"];
    let linked = world.run(&[&["exec", "--", "pw-link"], &link[..]].concat());
    assert_eq!(linked.status, 0, "{}{}", linked.out, linked.err);
    let _playing = Running::start(&mut client(world, "jack_simple_client", &["tone"]));
    until("the tone", || asked(world, "jack_lsp", &[]).contains("tone:output1"));
    asked(world, "jack_connect", &["tone:output1", "attic:to_slave_1"]);
    let file = world.path("work/heard.wav");
    let words = ["-f", file.to_str().unwrap(), "-d", "4", "-b", "16", "attic:from_slave_1"];
    asked(world, "jack_rec", &words);
    let (samples, rate) = read_wav(&std::fs::read(&file).unwrap()).unwrap();
    // An emulated machine loses some periods, and with them some turns.
    let turns = samples.windows(2).filter(|pair| pair[0] < 0.0 && pair[1] >= 0.0).count();
    let a_second = turns as f64 * rate / samples.len() as f64;
    let loudest = samples.iter().copied().fold(0.0, f32::max);
    assert!((100.0..260.0).contains(&a_second), "{a_second} turns a second");
    assert!((0.15..0.25).contains(&loudest), "{loudest}");
}
