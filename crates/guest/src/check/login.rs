//! Who may come in: what sshd itself says it would do for a caller from here or there.

use std::collections::BTreeMap;

use super::{Group, Machine, Row};
use crate::run::Invocation;

/// An address that nobody has (RFC 5737): it stands for everywhere else.
const OUTSIDE: &str = "203.0.113.7";
const REMEDY: &str = "see /etc/ssh/sshd_config.d/10-archibald.conf; a file that sorts before it may \
                      say otherwise: sudo sshd -T";

pub(super) fn rows(machine: Machine<'_>) -> Vec<Row> {
    let inside = machine.settings.password_from.first();
    let inside = inside.map_or("127.0.0.1".to_owned(), |network| network.address.to_string());
    let mut rows = judge(&effective(machine, &inside), &effective(machine, OUTSIDE));
    rows.push(keys(machine));
    if machine.settings.users.first().is_some_and(|user| user.groups.iter().any(|g| g == "sudo")) {
        rows.push(sudo(machine));
    }
    rows
}

/// sshd's settings for a caller from `address`, by their names.
fn effective(machine: Machine<'_>, address: &str) -> BTreeMap<String, String> {
    let caller = format!("addr={address},user={},host={address}", machine.session.user);
    // Not in every PATH, and sshd wants to be called by its full name.
    let answer = machine.programs.run(&Invocation::new(&["/usr/sbin/sshd", "-T", "-C", &caller]));
    let pairs = answer.stdout.lines().filter_map(|line| line.split_once(' '));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn judge(inside: &BTreeMap<String, String>, outside: &BTreeMap<String, String>) -> Vec<Row> {
    let row =
        |id: &str, title: &str, from: &BTreeMap<String, String>, name: &str, expected: &str| {
            Row::new(Group::Login, id, title, expected)
                .equal(from.get(name).cloned())
                .remedy(REMEDY)
        };
    vec![
        row("login.key", "SSH by key", outside, "pubkeyauthentication", "yes"),
        row(
            "login.password-inside",
            "SSH by password from the host",
            inside,
            "passwordauthentication",
            "yes",
        ),
        row(
            "login.password-outside",
            "SSH by password from elsewhere",
            outside,
            "passwordauthentication",
            "no",
        ),
        row("login.root", "SSH as root", inside, "permitrootlogin", "no"),
    ]
}

fn keys(machine: Machine<'_>) -> Row {
    let path = format!("/run/archibald/keys/{}", machine.session.user);
    let count = machine.root.read(&path).map(|text| text.lines().count());
    let asked = machine.settings.users.first().map_or(0, |user| user.authorized_keys.len());
    Row::new(Group::Login, "login.keys", "Keys of the audio user", asked.to_string())
        .equal(count.map(|count| count.to_string()))
        .remedy("journalctl -u archibald-guest-setup; `archibald restart`")
}

fn sudo(machine: Machine<'_>) -> Row {
    let words = ["runuser", "-u", &machine.session.user, "--", "sudo", "-n", "true"];
    let answer = machine.programs.run(&Invocation::new(&words));
    let found = if answer.success { "works" } else { answer.last_line() };
    Row::new(Group::Login, "login.sudo", "sudo without password", "works")
        .judge(found, answer.success)
        .remedy("see /etc/sudoers.d/archibald; sudo visudo -c")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Made, failed};
    use super::*;
    use crate::run::tests::{Canned, says};

    const STRICT: &str =
        "pubkeyauthentication yes\npasswordauthentication no\npermitrootlogin no\n";
    const OPEN: &str = "pubkeyauthentication yes\npasswordauthentication yes\npermitrootlogin no\n";
    const KEYS: [(&str, &str); 1] = [("/run/archibald/keys/audio-user", "ssh-ed25519 AAAA a\n")];

    fn sshd(inside: &str, outside: &str) -> Canned {
        Canned(vec![
            ("addr=10.0.2.15", says(inside)),
            ("addr=203.0.113.7", says(outside)),
            ("sudo -n true", says("")),
        ])
    }

    #[test]
    fn password_from_the_host_alone_passes() {
        let made = Made::new(&KEYS, sshd(OPEN, STRICT));
        assert_eq!(failed(&rows(made.machine())), Vec::<&str>::new());
    }

    #[test]
    fn a_published_password_that_works_from_everywhere_fails() {
        let made = Made::new(&KEYS, sshd(OPEN, OPEN));
        assert_eq!(failed(&rows(made.machine())), ["login.password-outside"]);
    }

    #[test]
    fn a_strict_sshd_without_keys_and_sudo_fails_each() {
        let made = Made::new(&[], Canned(vec![("sshd -T", says(STRICT))]));
        assert_eq!(
            failed(&rows(made.machine())),
            ["login.password-inside", "login.keys", "login.sudo"]
        );
    }
}
