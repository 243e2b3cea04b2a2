//! The one list of what must hold in a running machine. A file a group; each has the judging apart
//! from the asking, so that a test can give it any answer.

mod audio;
mod cpus;
mod kernel;
mod limits;
mod login;
mod network;
mod outside;
mod row;
mod store;
mod tools;

use std::thread;

use archibald_machine::Settings;
pub use row::{Group, Report, Row, Status};

use crate::Root;
use crate::graph::Session;
use crate::run::Run;

/// What every group looks at.
#[derive(Clone, Copy)]
struct Machine<'a> {
    root: &'a Root,
    settings: &'a Settings,
    session: &'a Session,
    programs: &'a dyn Run,
}

/// Checks everything, in about the time that the tone takes: it needs the audio CPUs and waits most
/// of the time, the others need the housekeeping CPUs.
#[must_use]
pub fn check(root: &Root, settings: &Settings, programs: &dyn Run) -> Report {
    let user = settings.users.first().map_or("", |user| user.name.as_str());
    let Some(session) = Session::of(root, user, settings.server) else {
        let row = Row::new(Group::Audio, "audio.user", "Audio user", "an account")
            .failed(format!("no account {user:?}"))
            .remedy("journalctl -u archibald-guest-setup says why it was not made");
        return Report::new(settings.judged, vec![row]);
    };
    let machine = Machine { root, settings, session: &session, programs };
    let rows = thread::scope(|scope| {
        let audio = scope.spawn(move || audio::rows(machine));
        let mut rows = kernel::rows(machine);
        rows.extend(cpus::rows(machine));
        rows.extend(limits::rows(machine));
        rows.extend(login::rows(machine));
        rows.extend(store::rows(machine));
        rows.extend(network::rows(machine));
        rows.extend(outside::rows(machine));
        rows.extend(tools::rows(machine));
        // Last on this side: at the end of a boot it may still be at work.
        rows.push(kernel::rtirq(machine));
        rows.extend(audio.join().unwrap_or_else(|_| {
            vec![
                Row::new(Group::Audio, "audio", "Audio", "checked")
                    .failed("the check itself broke"),
            ]
        }));
        rows
    });
    Report::new(settings.judged, rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::tests::Canned;
    use crate::settings::tests::example;

    /// A made-up machine.
    pub(super) struct Made {
        pub(super) root: Root,
        pub(super) settings: Settings,
        pub(super) session: Session,
        pub(super) programs: Canned,
        _folder: tempfile::TempDir,
    }

    impl Made {
        pub(super) fn new(files: &[(&str, &str)], programs: Canned) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let root = Root::new(folder.path());
            for (path, text) in files {
                root.write(path, text.as_bytes(), 0o644).unwrap();
            }
            let settings = example();
            let session = Session { user: "audio-user".into(), uid: 1000, server: settings.server };
            Self { root, settings, session, programs, _folder: folder }
        }

        pub(super) fn machine(&self) -> Machine<'_> {
            Machine {
                root: &self.root,
                settings: &self.settings,
                session: &self.session,
                programs: &self.programs,
            }
        }
    }

    /// The ids of the rows that failed.
    pub(super) fn failed(rows: &[Row]) -> Vec<&str> {
        rows.iter().filter(|row| row.status == Status::Failed).map(|row| row.id.as_str()).collect()
    }

    #[test]
    fn a_machine_without_its_user_says_so_in_one_row() {
        let made = Made::new(&[], Canned(vec![]));
        let report = check(&made.root, &made.settings, &made.programs);
        assert_eq!(failed(&report.rows), ["audio.user"]);
    }

    #[test]
    fn an_empty_machine_fails_nearly_everything_and_each_failed_row_has_a_remedy() {
        let made = Made::new(&[("/etc/passwd", "audio-user:x:1000:1000:::\n")], Canned(vec![]));
        let report = check(&made.root, &made.settings, &made.programs);
        assert!(failed(&report.rows).len() > 20);
        for row in report.rows.iter().filter(|row| row.status == Status::Failed) {
            assert!(row.remedy.is_some(), "{} has no remedy", row.id);
        }
        let mut ids: Vec<&str> = report.rows.iter().map(|row| row.id.as_str()).collect();
        let all = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all, "an id stands for one row");
    }
}
