//! A machine on a bridge, end to end: the real image in a network namespace that this test makes, reached
//! from the host, from a second namespace on the bridge and from one outside, and taken away again. One
//! boot for all of it. Needs root; where no namespace can be had the test says so.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

#[path = "../../vm/tests/namespace/mod.rs"]
mod namespace;
mod world;

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use namespace::Namespace;
use world::{Said, World};

const FILE: &str = "name = \"studio\"\n[network]\nmode = \"bridge\"\n";

#[test]
fn without_the_right_or_the_programs_the_remedy_is_told() {
    let world = World::new();
    world.write("archibald.toml", FILE);
    let root = rustix::process::geteuid().is_root();
    let qemu = world.script("qemu", "#!/bin/sh\necho 'QEMU emulator version 9.9.9'\n");
    let up = |words: &[&str]| {
        let mut command = world::under(words, &world.command(&["up"]));
        command.env("ARCHIBALD_QEMU", &qemu);
        world::said(command.output().unwrap())
    };
    if root {
        // The right alone is given up: the files of this world are still root's to write.
        let said = up(&["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"]);
        assert_eq!(said.status, 3, "{}", said.err);
        assert!(said.err.contains("CAP_NET_ADMIN") && said.err.contains("sudo"), "{}", said.err);
    } else {
        let said = up(&["env"]);
        assert!(said.status == 3 && said.err.contains("mode = \"user\""), "{}", said.err);
    }
    assert!(!world.state("studio").exists(), "nothing was made");
}

#[test]
fn an_address_that_another_link_has_is_refused_before_anything_is_touched() {
    let test = "an_address_that_another_link_has_is_refused_before_anything_is_touched";
    let Some(host) = Namespace::or_skipped(test) else { return };
    let world = World::new();
    world.write("archibald.toml", FILE);
    let qemu = world.script("qemu", "#!/bin/sh\necho 'QEMU emulator version 9.9.9'\n");
    host.enter(|| {
        run("ip link add lan type veth peer name wire");
        run("ip address add 192.168.122.1/24 dev lan");
        let before = state();
        let said =
            world::said(world.command(&["up"]).env("ARCHIBALD_QEMU", &qemu).output().unwrap());
        assert_eq!(said.status, 3, "{}", said.err);
        assert!(said.err.contains("\"lan\" has 192.168.122.1/24"), "{}", said.err);
        assert!(said.err.contains("host-address = "), "{}", said.err);
        assert_eq!(state(), before);
    });
}

#[test]
#[ignore = "boots the real image; run by ./archibald test"]
fn a_machine_on_a_bridge() {
    let Some(host) = Namespace::or_skipped("a_machine_on_a_bridge") else { return };
    let world = World::new();
    world.write("archibald.toml", FILE);
    // In the namespace there is no way to where packages come from.
    let built = world.run_with_image(&["build"]);
    assert_eq!(built.status, 0, "{}", built.err);
    let outside = Namespace::new().unwrap();
    host.enter(|| {
        run("ip link set lo up");
        run(&format!("ip link add outside type veth peer name eth0 netns {}", outside.pid()));
        run("ip address add 10.9.0.1/24 dev outside");
        run("ip link set outside up");
        outside.enter(|| {
            run("ip link set lo up");
            run("ip address add 10.9.0.2/24 dev eth0");
            run("ip link set eth0 up");
            run("ip route add 192.168.122.0/24 via 10.9.0.1");
        });
        let before = state();
        up_ends_with_every_check_of_the_network_held(&world);
        let peer = join_the_bridge();
        open_ports_alone_are_reached(&world, &peer, &outside);
        the_store_wants_its_token(&world, &peer);
        the_machine_reaches_outwards_under_the_host_s_address(&world, &outside);
        status_says_where_it_is_and_how_its_store_is_used(&world);
        run("ip link delete dev peer");
        stop_leaves_nothing(&world, &before);
        a_killed_start_is_mended(&world, &before);
    });
}

/// Of all checks those that the bridge has a part in; the rest is as on any machine, and tried there.
fn up_ends_with_every_check_of_the_network_held(world: &World) {
    let said = world.run_with_image(&["up", "--json"]);
    let report: serde_json::Value =
        serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{}{}", said.out, said.err));
    let rows: Vec<_> = report["rows"].as_array().unwrap().iter().collect();
    let id = |row: &serde_json::Value| row["id"].as_str().unwrap().to_owned();
    let groups = ["host.", "network.", "login.", "store."];
    let mine: Vec<_> =
        rows.iter().filter(|row| groups.iter().any(|group| id(row).starts_with(group))).collect();
    let failed: Vec<_> = mine.iter().filter(|row| row["status"] != "ok").collect();
    assert!(failed.is_empty(), "{failed:#?}\n{}", said.err);
    let ids: Vec<_> = mine.iter().map(|row| id(row)).collect();
    for wanted in [
        "host.ssh-key",
        "host.ssh-password",
        "host.bridge",
        "host.streamdb",
        "network.address",
        "network.gateway",
        "login.password-outside",
        "store.round-trip",
    ] {
        assert!(ids.iter().any(|id| id == wanted), "no {wanted} in {ids:?}");
    }
}

/// A second machine on the bridge.
fn join_the_bridge() -> Namespace {
    let peer = Namespace::new().unwrap();
    run(&format!("ip link add peer type veth peer name eth0 netns {}", peer.pid()));
    run("ip link set dev peer master br0 up");
    peer.enter(|| {
        run("ip address add 192.168.122.9/24 dev eth0");
        run("ip link set eth0 up");
    });
    peer
}

fn open_ports_alone_are_reached(world: &World, peer: &Namespace, outside: &Namespace) {
    // Two servers in the machine, of which one stands behind a port that is not open.
    for port in ["8000", "9001"] {
        let server =
            format!("cd /tmp; setsid python3 -m http.server {port} >/dev/null 2>&1 </dev/null &");
        assert_eq!(world.run(&["exec", "--", "sh", "-c", &server]).status, 0);
    }
    let listens = "for i in $(seq 100); do ss -Hltn | grep -q :8000 && ss -Hltn | grep -q :9001 && exit; sleep 1; done; exit 1";
    assert_eq!(world.run(&["exec", "--", "sh", "-c", listens]).status, 0);
    for port in [22, 8080, 8000] {
        assert!(connects(port), "port {port} from the host");
        assert!(peer.enter(|| connects(port)), "port {port} from the bridge");
        assert!(!outside.enter(|| connects(port)), "port {port} from outside");
    }
    assert!(!connects(9001), "a port that is not open, from the host");
    assert!(!peer.enter(|| connects(9001)), "a port that is not open, from the bridge");
}

/// Whether a connection to this port of the machine comes about.
fn connects(port: u16) -> bool {
    let address: SocketAddr = ([192, 168, 122, 2], port).into();
    TcpStream::connect_timeout(&address, Duration::from_secs(5)).is_ok()
}

fn the_store_wants_its_token(world: &World, peer: &Namespace) {
    let url = "http://192.168.122.2:8080/v1/objects";
    let ask = |words: &[&str]| {
        let output = Command::new("curl")
            .args(["-sS", "-m", "20", "-o", "/dev/null", "-w", "%{http_code}"])
            .args(words)
            .arg(url)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let file = world.state("studio").join("streamdb-token");
    let token = std::fs::read_to_string(&file).unwrap();
    let header = format!("Authorization: Bearer {}", token.trim());
    assert_eq!(ask(&[]), "401");
    assert_eq!(peer.enter(|| ask(&[])), "401");
    assert_eq!(peer.enter(|| ask(&["-H", &header])), "200");
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}

fn the_machine_reaches_outwards_under_the_host_s_address(world: &World, outside: &Namespace) {
    let listener = outside.enter(|| TcpListener::bind("10.9.0.2:7777").unwrap());
    let seen = thread::spawn(move || listener.accept().map(|(_, from)| from.ip().to_string()));
    let said = world.run(&["exec", "--", "bash", "-c", "exec 3<>/dev/tcp/10.9.0.2/7777"]);
    assert_eq!(said.status, 0, "{}", said.err);
    assert_eq!(seen.join().unwrap().unwrap(), "10.9.0.1");
}

fn status_says_where_it_is_and_how_its_store_is_used(world: &World) {
    let said = world.run(&["status"]);
    assert!(said.out.contains("192.168.122.2, for host and bridge: 22/tcp"), "{}", said.out);
    let json: serde_json::Value =
        serde_json::from_str(&world.run(&["status", "--json"]).out).unwrap();
    assert_eq!(json["network"]["address"], "192.168.122.2");
    assert_eq!(json["network"]["streamdb"], "http://192.168.122.2:8080");
    // The very command that it prints.
    let line = said.out.lines().find(|line| line.starts_with("StreamDB")).unwrap();
    let command =
        line.split_once("curl").map(|(_, rest)| format!("curl -sS --fail{rest}")).unwrap();
    let output = Command::new("sh").args(["-c", &command]).output().unwrap();
    assert!(output.status.success(), "{command}: {output:?}");
}

fn stop_leaves_nothing(world: &World, before: &str) {
    let said = world.run(&["stop"]);
    assert_eq!(said.out.trim(), "studio: stopped", "{}", said.err);
    assert_eq!(state(), before);
    assert!(world.is_quiet(), "{:?}", world.processes());
}

/// Ctrl-C and kill -9 of `up`: its keeper takes all away. Of the keeper as well: the next command does.
fn a_killed_start_is_mended(world: &World, before: &str) {
    for (signal, next) in
        [("-INT", None), ("-KILL", None), ("-KILL", Some("stop")), ("-KILL", Some("delete"))]
    {
        let console = world.state("studio").join("console.log");
        let _ = std::fs::remove_file(&console);
        let mut up = world
            .command_with_image(&["up", "--accel", "tcg"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        for _ in 0..1200 {
            if console.exists() {
                break;
            }
            thread::sleep(Duration::from_millis(50));
        }
        assert!(state().contains("ar-studio"), "{}", state());
        let mut victims = vec![up.id().to_string()];
        if next.is_some() {
            // In one go, so that neither finds time to mend; the keeper first.
            let keepers = world.processes();
            let keepers = keepers.iter().filter(|pid| words(**pid).contains(" keep studio"));
            victims.splice(0..0, keepers.map(u32::to_string));
            assert_eq!(victims.len(), 2);
        }
        assert!(Command::new("kill").arg(signal).args(victims).status().unwrap().success());
        up.wait().unwrap();
        assert!(world.is_quiet(), "{:?}", world.processes());
        if let Some(verb) = next {
            assert!(state().contains("ar-studio"), "nobody was there to take it away");
            let said: Said = world.run(&[verb]);
            assert_eq!(said.status, 0, "{}", said.err);
            assert!(said.err.contains("what was left of its network"), "{}", said.err);
        }
        assert_eq!(state(), before, "after {signal}, {next:?}");
    }
    assert!(!world.state("studio").exists());
}

fn words(pid: u32) -> String {
    let mut text = Vec::new();
    if let Ok(mut file) = std::fs::File::open(format!("/proc/{pid}/cmdline")) {
        let _ = file.read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).replace('\0', " ")
}

fn run(words: &str) -> String {
    let mut words = words.split(' ');
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    let mut command = Command::new(words.next().unwrap());
    let output = command.args(words).env("PATH", path).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Links, addresses, rules and forwarding of this namespace.
fn state() -> String {
    let links = run("ip -o link show");
    let names: Vec<&str> =
        links.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    let forwarding = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
    let (addresses, rules) = (run("ip -4 -o address show"), run("nft list ruleset"));
    // Without the links' numbers, which go on counting.
    let addresses: Vec<&str> =
        addresses.lines().filter_map(|line| line.split_once(": ")).map(|(_, rest)| rest).collect();
    format!("{names:?}\n{addresses:?}\n{rules}forwarding {forwarding}")
}
