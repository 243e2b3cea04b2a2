//! What the machine has with others: folders of its host, and a cluster. Nothing of it, no row.

use archibald_machine::SLURMD_PORT;
use archibald_machine::units::Transport;

use super::{Group, Machine, Row, Status};
use crate::listening::{Reach, reach};
use crate::run::Invocation;

pub(super) fn rows(machine: Machine<'_>) -> Vec<Row> {
    let mounts = machine.root.read("/proc/self/mounts").unwrap_or_default();
    let shares = machine.settings.shares.iter();
    shares.map(|(_, place, _)| folder(&mounts, place)).chain(cluster(machine)).collect()
}

/// `mounts` is as in proc_pid_mounts(5): device, place, type.
fn folder(mounts: &str, place: &str) -> Row {
    let mut types = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        (fields.next()? == place).then(|| fields.next()).flatten()
    });
    Row::new(Group::Outside, format!("outside.folder.{place}"), format!("Folder {place}"), "9p")
        .equal(types.next_back().map(str::to_owned))
        .remedy(format!("systemctl status '*.mount' says why the host's folder is not at {place}"))
}

fn cluster(machine: Machine<'_>) -> Vec<Row> {
    let Some(cluster) = &machine.settings.cluster else { return Vec::new() };
    let active = |unit| {
        let answer = machine.programs.run(&Invocation::new(&["systemctl", "is-active", unit]));
        Some(answer.stdout.trim().to_owned())
    };
    let munge = Row::new(Group::Outside, "outside.munge", "munge.service", "active")
        .equal(active("munge.service"))
        .remedy("journalctl -u munge");
    // It listens once it has had its slurm.conf from the controller.
    let joined = reach(machine.root, Transport::Tcp, SLURMD_PORT) == Reach::Network;
    let title = format!("Node of {}", cluster.controller);
    let row = Row::new(Group::Outside, "outside.node", title, "listens for work");
    let mut row = match joined {
        true => row.judge("listens for work", true),
        false => row
            .failed("waits for the controller")
            .remedy("journalctl -u archibald-node says what it hears from the controller"),
    };
    // Somebody else's to start, before or after the machine.
    if !joined && active("archibald-node.service").is_some_and(|state| state.starts_with("activ")) {
        row.status = Status::NotJudged;
    }
    vec![munge, row]
}

#[cfg(test)]
mod tests {
    use archibald_machine::SettingsCluster;
    use archibald_machine::units::Endpoint;

    use super::super::tests::{Made, failed};
    use super::*;
    use crate::run::tests::{Canned, says};

    fn made(tcp: &str, mounts: &str, node: &'static str) -> Made {
        let programs = Canned(vec![
            ("systemctl is-active munge.service", says("active\n")),
            ("systemctl is-active archibald-node.service", says(node)),
        ]);
        let mut made =
            Made::new(&[("/proc/net/tcp", tcp), ("/proc/self/mounts", mounts)], programs);
        let controller = Endpoint { host: "head".into(), port: 6817 };
        made.settings.cluster = Some(SettingsCluster { controller, munge_key: vec![1; 128] });
        made.settings.shares = vec![("share0".into(), "/srv".into(), false)];
        made
    }

    const MOUNTED: &str =
        "share0 /srv 9p rw,sync,dirsync,relatime,access=client,trans=virtio 0 0\n";

    #[test]
    fn a_machine_that_has_nothing_of_others_has_no_row() {
        assert_eq!(rows(Made::new(&[], Canned(vec![])).machine()), []);
    }

    #[test]
    fn a_node_that_takes_work_is_good() {
        // 6818 is 1AA2.
        let tcp = "  sl  local_address rem_address   st\n   0: 00000000:1AA2 00000000:0000 0A 0\n";
        let made = made(tcp, MOUNTED, "active\n");
        let rows = rows(made.machine());
        assert_eq!(failed(&rows), [""; 0], "{rows:#?}");
        assert_eq!(rows.len(), 3);
    }

    #[test]
    fn a_node_without_its_controller_waits_and_one_that_broke_is_told() {
        let waiting = made("", "", "activating\n");
        assert_eq!(failed(&rows(waiting.machine())), ["outside.folder./srv"]);
        let broken = made("", MOUNTED, "inactive\n");
        assert_eq!(failed(&rows(broken.machine())), ["outside.node"]);
    }
}
