use archibald_machine::HostLimits;

use super::*;

fn machine(toml: &str) -> Machine {
    let toml = format!("name = \"studio\"\n[network]\nmode = \"bridge\"\n{toml}");
    Machine::parse("archibald.toml", &toml, &HostLimits::default()).unwrap()
}

fn host() -> Facts {
    Facts {
        links: vec![
            Link { name: "lo".into(), addresses: vec![net("127.0.0.1/8")], ..Link::default() },
            Link { name: "eth0".into(), addresses: vec![net("10.1.2.3/16")], ..Link::default() },
        ],
        may_change: true,
        tun: true,
        name_server: Some(Ipv4Addr::new(9, 9, 9, 9)),
        ..Facts::default()
    }
}

fn net(text: &str) -> Network4 {
    let (address, prefix) = text.split_once('/').unwrap();
    Network4 { address: address.parse().unwrap(), prefix: prefix.parse().unwrap() }
}

fn bridge(name: &str, alias: Option<&str>, address: Option<&str>) -> Link {
    Link {
        name: name.into(),
        kind: Some("bridge".into()),
        alias: alias.map(str::to_owned),
        addresses: address.map(net).into_iter().collect(),
        ..Link::default()
    }
}

fn other_machine() -> Link {
    Link {
        name: "ar-other".into(),
        kind: Some("tun".into()),
        alias: Some("archibald:other:192.168.122.3:forwarding-was-off".into()),
        master: Some("br0".into()),
        ..Link::default()
    }
}

fn text(steps: &[Step]) -> String {
    steps.iter().map(|step| format!("{step}\n")).collect()
}

fn planned(toml: &str, facts: &Facts) -> Plan {
    plan(&machine(toml), facts).unwrap().unwrap()
}

fn refused(toml: &str, facts: &Facts) -> String {
    let refused = plan(&machine(toml), facts).unwrap_err();
    format!("{refused}\n{}", refused.remedy())
}

#[test]
fn a_host_with_nothing() {
    let plan = planned("", &host());
    insta::assert_snapshot!(text(&plan.steps));
    assert_eq!(plan.name_server, Ipv4Addr::new(9, 9, 9, 9));
    assert!(plan.notes.iter().any(|note| note.contains("modprobe vhost_net")) && !plan.vhost);
}

#[test]
fn opened_to_others_with_few_ports() {
    let toml = "bind = \"0.0.0.0\"\nforward = [\"2222:22\", \"8080\", \"9000-9002:8000-8002\"]\n\
                [[users]]\nname = \"ada\"\n";
    insta::assert_snapshot!(text(&planned(toml, &host()).steps));
    let toml = toml.replace("0.0.0.0", "10.1.2.3");
    let steps = text(&planned(&toml, &host()).steps);
    assert!(steps.contains("ip daddr 10.1.2.3 tcp dport 2222 dnat ip to 192.168.122.2:22"));
}

#[test]
fn a_firewall_that_drops_is_told() {
    let mut facts = host();
    assert!(!planned("", &facts).notes.iter().any(|note| note.contains("firewall")));
    facts.dropping = vec!["table ip filter, chain FORWARD".into()];
    let notes = planned("", &facts).notes;
    assert!(notes.iter().any(|note| note.contains("chain FORWARD")), "{notes:?}");
}

#[test]
fn user_mode_asks_for_nothing() {
    let machine = Machine::parse("", "", &HostLimits::default()).unwrap();
    assert_eq!(plan(&machine, &Facts::default()), Ok(None));
}

#[test]
fn libvirts_network_is_joined_and_left_as_it_is() {
    let mut facts = host();
    facts.links.push(bridge("virbr0", None, Some("192.168.122.1/24")));
    facts.forwarding = true;
    let plan = planned("", &facts);
    let steps = text(&plan.steps);
    assert!(!steps.contains("link add") && !steps.contains("address add"), "{steps}");
    assert!(steps.contains("link set dev ar-studio master virbr0 up"), "{steps}");
    assert!(!steps.contains("ip_forward"), "{steps}");
    assert_eq!(plan.name_server, Ipv4Addr::new(192, 168, 122, 1));
    assert!(plan.notes.iter().any(|note| note.contains("virbr0")), "{:?}", plan.notes);
    facts.links.push(Link {
        name: "ar-studio".into(),
        master: Some("virbr0".into()),
        ..Link::default()
    });
    let undone = text(&undo(&plan.made, &facts));
    assert!(!undone.contains("virbr0") && !undone.contains("ip_forward"), "{undone}");

    facts.links.retain(|link| link.name != "ar-studio");
    facts.leased = vec![Ipv4Addr::new(192, 168, 122, 2)];
    assert!(refused("", &facts).contains("by a lease"));
}

#[test]
fn the_last_machine_takes_away_what_they_shared() {
    let mut facts = host();
    facts
        .links
        .extend([bridge("br0", Some("archibald"), Some("192.168.122.1/24")), other_machine()]);
    facts.forwarding = true;
    let plan = planned("", &facts);
    assert!(plan.made.forwarding_was_off, "the other machine's card tells it");
    let steps = text(&plan.steps);
    assert!(!steps.contains("link add") && steps.contains("forwarding-was-off"), "{steps}");

    let mine = Link { name: "ar-studio".into(), master: Some("br0".into()), ..other_machine() };
    facts.links.push(mine);
    let undone = text(&undo(&plan.made, &facts));
    assert!(undone.contains("link delete dev ar-studio"), "{undone}");
    assert!(!undone.contains("br0") && !undone.contains("ip_forward"), "{undone}");
    facts.links.retain(|link| link.name != "ar-other");
    insta::assert_snapshot!(text(&undo(&plan.made, &facts)));
}

#[test]
fn what_is_somebody_elses_stays() {
    let mut facts = host();
    facts.links.push(bridge("br0", None, Some("192.168.122.1/24")));
    let plan = planned("", &facts);
    assert!(!plan.made.bridge_is_new);
    assert!(!text(&undo(&plan.made, &facts)).contains("link delete dev br0"));
}

#[test]
fn a_bridge_that_was_broken_off_before_anything_stood_on_it_is_known_by_the_journal() {
    let mut facts = host();
    let made = planned("", &facts).made;
    facts.links.push(bridge("br0", None, None));
    assert!(text(&undo(&made, &facts)).contains("link delete dev br0"));
    facts.links[2].addresses.push(net("172.16.0.1/24"));
    assert!(!text(&undo(&made, &facts)).contains("link delete dev br0"), "somebody has taken it");
}

#[test]
fn refusals_and_their_remedies() {
    let with = |link: Link| Facts { links: vec![link], ..host() };
    let card = |name: &str, address: &str| Link {
        name: name.into(),
        addresses: vec![net(address)],
        ..Link::default()
    };
    let text = [
        refused("", &Facts { missing: vec!["ip".into(), "nft".into()], ..host() }),
        refused("", &Facts { may_change: false, ..host() }),
        refused("", &Facts { tun: false, ..host() }),
        refused("", &with(card("br0", "10.0.0.1/8"))),
        refused("", &with(bridge("br0", None, Some("10.0.0.1/8")))),
        refused("", &with(bridge("br0", None, None))),
        refused("", &with(card("eth0", "192.168.122.1/24"))),
        refused("", &with(card("eth0", "192.168.122.50/24"))),
        refused("", &with(card("wlan0", "192.168.0.7/16"))),
        refused("", &with(card("eth0", "192.168.122.2/32"))),
        refused("guest-address = \"192.168.122.3/24\"", &{
            let mut facts = with(bridge("br0", Some("archibald"), Some("192.168.122.1/24")));
            facts.links.push(other_machine());
            facts
        }),
        refused("", &with(card("ar-studio", "10.0.0.1/8"))),
        refused("bind = \"2001:db8::1\"\n[[users]]\nname = \"ada\"", &host()),
    ];
    insta::assert_snapshot!(text.join("\n\n"));
}

#[test]
fn names_of_cards_fit_and_differ() {
    assert_eq!(card("studio"), "ar-studio");
    assert_eq!(card("twelve-chars"), "ar-twelve-chars");
    let (a, b) = (card("a-machine-with-a-long-name-1"), card("a-machine-with-a-long-name-2"));
    assert!(a.len() == 15 && b.len() == 15 && a != b, "{a} {b}");
}
