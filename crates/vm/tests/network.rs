//! A machine's network, made and taken away for real, in a network namespace of the test's own, by the
//! host's programs: broken off after every step, and tried by connecting. Where no such namespace can be
//! had (no root), the tests say so.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

#[path = "../../host/tests/broken_off/mod.rs"]
mod broken_off;
mod namespace;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use archibald_machine::{HostLimits, Machine};
use archibald_vm::instance::{Directories, Instance};
use archibald_vm::network::{NetworkError, Programs as _, System, bring_up, lacks, take_down};
use broken_off::broken_off;
use namespace::Namespace;

fn path() -> std::ffi::OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    path
}

fn system() -> System {
    System { path: path() }
}

fn machine(name: &str, guest: &str) -> Machine {
    let toml = format!(
        "name = \"{name}\"\n[network]\nmode = \"bridge\"\nguest-address = \"{guest}/24\"\n"
    );
    Machine::parse("archibald.toml", &toml, &HostLimits::default()).unwrap()
}

struct World {
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn instance(&self, name: &str) -> Instance {
        let state = self.dir.path().join("state");
        let runtime = self.dir.path().join("run");
        let instance = Directories { state, runtime }.instance(name);
        std::fs::create_dir_all(instance.directory()).unwrap();
        instance
    }
}

/// Links, rules and forwarding of this namespace.
fn state() -> String {
    let mut system = system();
    let links = system.run(&["ip", "-o", "link", "show"], None).unwrap();
    let addresses = system.run(&["ip", "-4", "-o", "address", "show"], None).unwrap();
    let rules = system.run(&["nft", "list", "ruleset"], None).unwrap();
    let names: Vec<&str> =
        links.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    // Without the links' numbers, which go on counting.
    let addresses: Vec<&str> =
        addresses.lines().filter_map(|line| line.split_once(": ")).map(|(_, rest)| rest).collect();
    format!("{names:?}\n{addresses:?}\n{rules}forwarding {}", forwarding())
}

fn forwarding() -> String {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap().trim().to_owned()
}

fn up(instance: &Instance, machine: &Machine) -> Result<(), NetworkError> {
    bring_up(instance, machine, Path::new("/"), &mut system(), &mut |_| ()).map(drop)
}

fn down(instance: &Instance) -> bool {
    take_down(instance, Path::new("/"), &mut system(), &mut |_| ()).unwrap()
}

#[test]
fn made_read_back_and_taken_away() {
    let Some(host) = Namespace::or_skipped("made_read_back_and_taken_away") else { return };
    host.enter(|| {
        let before = state();
        let (world, machine) = (World::new(), machine("studio", "192.168.122.2"));
        let instance = world.instance("studio");
        assert_ne!(lacks(&instance, Path::new("/"), &mut system()).unwrap(), Vec::<String>::new());
        up(&instance, &machine).unwrap();
        assert_eq!(lacks(&instance, Path::new("/"), &mut system()).unwrap(), Vec::<String>::new());
        let made = state();
        assert!(made.contains("ar-studio") && made.contains("192.168.122.1/24"), "{made}");
        assert_eq!(forwarding(), "1");
        // The same again gives the same.
        up(&instance, &machine).unwrap();
        assert_eq!(state(), made);
        // A lost table is told.
        system().run(&["nft", "delete", "table", "bridge", "archibald-studio"], None).unwrap();
        let lost = lacks(&instance, Path::new("/"), &mut system()).unwrap();
        assert!(lost.len() == 1 && lost[0].contains("table bridge archibald-studio"), "{lost:?}");

        assert!(down(&instance));
        assert_eq!(state(), before);
        assert!(!down(&instance), "there is nothing left to take away");
    });
}

#[test]
fn broken_off_after_every_step_and_mended() {
    let Some(host) = Namespace::or_skipped("broken_off_after_every_step_and_mended") else {
        return;
    };
    host.enter(|| {
        let before = state();
        let machine = machine("studio", "192.168.122.2");
        for next in ["stop", "up"] {
            let mut steps = 0;
            loop {
                let world = World::new();
                let instance = world.instance("studio");
                let killed = broken_off(steps, |step| {
                    bring_up(&instance, &machine, Path::new("/"), &mut system(), step).unwrap();
                });
                match next {
                    "stop" => {
                        down(&instance);
                    }
                    _ => {
                        up(&instance, &machine).unwrap();
                        let lacking = lacks(&instance, Path::new("/"), &mut system()).unwrap();
                        assert_eq!(lacking, Vec::<String>::new(), "after {steps} steps");
                        assert!(down(&instance));
                    }
                }
                assert_eq!(state(), before, "after {steps} steps");
                if !killed {
                    break;
                }
                steps += 1;
            }
            assert!(steps > 8, "only {steps} steps");
        }
        // The taking away, broken off.
        let mut steps = 0;
        loop {
            let world = World::new();
            let instance = world.instance("studio");
            up(&instance, &machine).unwrap();
            let killed = broken_off(steps, |step| {
                take_down(&instance, Path::new("/"), &mut system(), step).unwrap();
            });
            down(&instance);
            assert_eq!(state(), before, "after {steps} steps");
            if !killed {
                break;
            }
            steps += 1;
        }
        assert!(steps > 3, "only {steps} steps");
    });
}

#[test]
fn two_machines_share_a_bridge_and_the_last_one_takes_it_away() {
    let Some(host) =
        Namespace::or_skipped("two_machines_share_a_bridge_and_the_last_one_takes_it_away")
    else {
        return;
    };
    host.enter(|| {
        let before = state();
        let world = World::new();
        let (one, two) = (world.instance("one"), world.instance("two"));
        up(&one, &machine("one", "192.168.122.2")).unwrap();
        let clash = up(&two, &machine("two", "192.168.122.2")).unwrap_err();
        assert!(clash.to_string().contains("the machine \"one\""), "{clash}");
        up(&two, &machine("two", "192.168.122.3")).unwrap();
        assert!(down(&one));
        assert_eq!(forwarding(), "1");
        assert_eq!(lacks(&two, Path::new("/"), &mut system()).unwrap(), Vec::<String>::new());
        assert!(down(&two));
        assert_eq!(state(), before);
    });
}

#[test]
fn beside_libvirts_network_nothing_of_it_changes() {
    let Some(host) = Namespace::or_skipped("beside_libvirts_network_nothing_of_it_changes") else {
        return;
    };
    host.enter(|| {
        // As libvirt makes it: bridge, address, forwarding, tables of its own.
        for words in [
            "ip link add name virbr0 type bridge",
            "ip address add 192.168.122.1/24 dev virbr0",
            "ip link set dev virbr0 up",
            "nft add table ip libvirt_network",
        ] {
            let words: Vec<&str> = words.split(' ').collect();
            system().run(&words, None).unwrap();
        }
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        let before = state();
        let world = World::new();
        let instance = world.instance("studio");
        up(&instance, &machine("studio", "192.168.122.2")).unwrap();
        let links = system().run(&["ip", "-o", "link", "show", "master", "virbr0"], None).unwrap();
        assert!(links.contains("ar-studio"), "{links}");
        assert!(down(&instance));
        assert_eq!(state(), before);
    });
}

#[test]
fn a_step_that_fails_leaves_nothing() {
    let Some(host) = Namespace::or_skipped("a_step_that_fails_leaves_nothing") else { return };
    host.enter(|| {
        /// A host whose `ip` fails once it is asked to join the card.
        struct Failing(System);
        impl archibald_vm::network::Programs for Failing {
            fn run(&mut self, words: &[&str], input: Option<&str>) -> Result<String, NetworkError> {
                match words.contains(&"master") {
                    true => self.0.run(&["false"], None),
                    false => self.0.run(words, input),
                }
            }
        }
        let before = state();
        let world = World::new();
        let instance = world.instance("studio");
        let machine = machine("studio", "192.168.122.2");
        let mut programs = Failing(system());
        let error =
            bring_up(&instance, &machine, Path::new("/"), &mut programs, &mut |_| ()).unwrap_err();
        assert!(error.to_string().contains("`false` failed"), "{error}");
        assert_eq!(state(), before);
        assert!(!down(&instance));
    });
}

/// A server in this namespace that says who has come, until the process ends.
fn serve(port: u16) {
    let listener = TcpListener::bind(("0.0.0.0", port)).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream: TcpStream = stream;
            let _ = write!(
                stream,
                "{}",
                stream.peer_addr().map_or(String::new(), |a| a.ip().to_string())
            );
        }
    });
}

/// Whom the server at this address sees; absent: nobody is let in.
fn seen(address: &str) -> Option<String> {
    let address: SocketAddr = address.parse().unwrap();
    let mut stream = match TcpStream::connect_timeout(&address, Duration::from_secs(2)) {
        Ok(stream) => stream,
        Err(error) => {
            // Anything else would be a fault of the test.
            let turned_away = [
                ErrorKind::ConnectionRefused,
                ErrorKind::TimedOut,
                ErrorKind::HostUnreachable,
                ErrorKind::PermissionDenied,
            ];
            assert!(turned_away.contains(&error.kind()), "{address}: {error:?}");
            return None;
        }
    };
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    Some(said)
}

/// [`seen`] from one place.
type Caller<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// The machine's place is taken by a namespace behind a veth of the card's name: the rules cannot tell.
fn reach(toml: &str, check: impl Fn(&Caller<'_>, &Caller<'_>)) {
    let run = |words: &str| {
        let words: Vec<&str> = words.split(' ').collect();
        system().run(&words, None).unwrap()
    };
    run("ip link set lo up");
    let before = state();
    let world = World::new();
    let instance = world.instance("studio");
    let toml = format!("name = \"studio\"\n[network]\nmode = \"bridge\"\n{toml}");
    let machine = Machine::parse("", &toml, &HostLimits::default()).unwrap();
    up(&instance, &machine).unwrap();
    run("ip link delete dev ar-studio");
    let [guest, peer, outside] = [(); 3].map(|()| Namespace::new().unwrap());
    for (name, other) in [("ar-studio", &guest), ("peer", &peer), ("outside", &outside)] {
        run(&format!("ip link add {name} type veth peer name eth0 netns {}", other.pid()));
        match name {
            "outside" => run("ip address add 10.9.0.1/24 dev outside"),
            _ => run(&format!("ip link set dev {name} master br0")),
        };
        run(&format!("ip link set dev {name} up"));
    }
    for (namespace, address, route) in [
        (&guest, "192.168.122.2/24", "default via 192.168.122.1"),
        (&peer, "192.168.122.9/24", "default via 192.168.122.1"),
        (&outside, "10.9.0.2/24", "192.168.122.0/24 via 10.9.0.1"),
    ] {
        namespace.enter(|| {
            run("ip link set lo up");
            run(&format!("ip address add {address} dev eth0"));
            run("ip link set eth0 up");
            run(&format!("ip route add {route}"));
        });
    }
    guest.enter(|| [22, 8000, 8001, 8080, 9001].map(serve));
    peer.enter(|| serve(80));
    outside.enter(|| serve(80));
    // All of them are there, whoever is let in.
    for port in [22, 8000, 8001, 8080, 9001] {
        assert!(guest.enter(|| seen(&format!("127.0.0.1:{port}"))).is_some());
    }
    for port in [22, 8000, 8001, 8080] {
        assert_eq!(seen(&format!("192.168.122.2:{port}")).as_deref(), Some("192.168.122.1"));
        let from_peer = peer.enter(|| seen(&format!("192.168.122.2:{port}")));
        assert_eq!(from_peer.as_deref(), Some("192.168.122.9"));
    }
    assert_eq!(seen("192.168.122.2:9001"), None);
    assert_eq!(peer.enter(|| seen("192.168.122.2:9001")), None);
    // Outwards under the host's address, on the bridge under its own.
    assert_eq!(guest.enter(|| seen("10.9.0.2:80")).as_deref(), Some("10.9.0.1"));
    assert_eq!(guest.enter(|| seen("192.168.122.9:80")).as_deref(), Some("192.168.122.2"));
    check(&|address| outside.enter(|| seen(address)), &|address| peer.enter(|| seen(address)));
    // Somebody else is still on the bridge, so it stays.
    assert!(down(&instance));
    assert!(system().run(&["ip", "link", "show", "br0"], None).is_ok());
    for name in ["peer", "outside", "br0"] {
        run(&format!("ip link delete dev {name}"));
    }
    assert_eq!(state(), before);
}

#[test]
fn only_open_ports_are_reached_and_only_from_the_bridge() {
    let test = "only_open_ports_are_reached_and_only_from_the_bridge";
    let Some(host) = Namespace::or_skipped(test) else { return };
    host.enter(|| {
        reach("", |outside, _| {
            for port in [22, 2222, 8000, 8080, 9001] {
                assert_eq!(outside(&format!("192.168.122.2:{port}")), None, "port {port}");
                assert_eq!(outside(&format!("10.9.0.1:{port}")), None, "port {port} of the host");
            }
        });
    });
}

#[test]
fn what_the_machine_file_opens_is_reached_from_outside_by_the_host_s_ports_too() {
    let test = "what_the_machine_file_opens_is_reached_from_outside_by_the_host_s_ports_too";
    let Some(host) = Namespace::or_skipped(test) else { return };
    let toml = "bind = \"0.0.0.0\"\nforward = [\"2222:22\", \"8080\", \"9000-9001:8000-8001\"]\n\
                [[users]]\nname = \"ada\"\n";
    host.enter(|| {
        reach(toml, |outside, peer| {
            for to in ["192.168.122.2:22", "192.168.122.2:8001", "10.9.0.1:2222", "10.9.0.1:8080"] {
                assert_eq!(outside(to).as_deref(), Some("10.9.0.2"), "{to}");
            }
            assert_eq!(outside("10.9.0.1:9001").as_deref(), Some("10.9.0.2"));
            for to in ["192.168.122.2:9001", "10.9.0.1:22", "10.9.0.1:8000"] {
                assert_eq!(outside(to), None, "{to}");
            }
            assert_eq!(peer("192.168.122.2:8001").as_deref(), Some("192.168.122.9"));
        });
    });
}
