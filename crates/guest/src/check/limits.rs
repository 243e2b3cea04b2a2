//! What the audio user may take, asked in a login session of that user rather than read from files.

use super::{Group, Machine, Row};

/// What rtcqs and JACK ask for at least.
const LEAST_PRIORITY: u8 = 95;

/// One line of output each; the last two are words that only appear where it worked.
const QUESTIONS: &str = "ulimit -H -r; ulimit -H -l; id -nG; \
                         chrt -f 80 true && echo fifo; test -w /dev/cpu_dma_latency && echo dma";

const REMEDY: &str = "see /etc/security/limits.d/99-archibald.conf; the user must be in the groups \
                      audio and pipewire of archibald.toml";

pub(super) fn rows(machine: Machine<'_>) -> Vec<Row> {
    let user = &machine.session.user;
    let su = crate::run::Invocation::new(&["su", "-l", user, "-c", QUESTIONS]);
    let answer = machine.programs.run(&su);
    let least = machine.settings.audio_priority.get().max(LEAST_PRIORITY);
    judge(&answer.stdout, least, groups_of(machine))
}

fn groups_of(machine: Machine<'_>) -> Vec<&str> {
    let user = machine.settings.users.first();
    user.map(|user| user.groups.iter().map(String::as_str).collect()).unwrap_or_default()
}

fn judge(text: &str, least: u8, groups: Vec<&str>) -> Vec<Row> {
    let mut lines = text.lines().map(str::trim);
    let mut next = || lines.next().unwrap_or("");
    let (priority, memory, member_of) = (next(), next(), next());
    let words: Vec<&str> = lines.collect();
    let row =
        |id: &str, title: &str, expected: String| Row::new(Group::Limits, id, title, expected);

    let missing: Vec<&str> = groups
        .iter()
        .filter(|group| !member_of.split(' ').any(|name| name == **group))
        .copied()
        .collect();
    let yes = |word: &str| words.contains(&word);
    let can = |word: &str| if yes(word) { "allowed" } else { "refused" };
    vec![
        row("limits.rtprio", "Real-time priority limit", format!("{least} or more"))
            .judge(priority, priority.parse::<u8>().is_ok_and(|found| found >= least))
            .remedy(REMEDY),
        row("limits.memlock", "Locked memory limit", "unlimited".into())
            .judge(memory, memory == "unlimited")
            .remedy(REMEDY),
        row("limits.groups", "Groups", groups.join(" "))
            .judge(
                match missing.is_empty() {
                    true => member_of.to_owned(),
                    false => format!("not in {}", missing.join(" ")),
                },
                missing.is_empty(),
            )
            .remedy("journalctl -u archibald-guest-setup; `archibald restart`"),
        row("limits.fifo", "SCHED_FIFO 80", "allowed".into())
            .judge(can("fifo"), yes("fifo"))
            .remedy(REMEDY),
        row("limits.dma-latency", "/dev/cpu_dma_latency", "allowed".into())
            .judge(can("dma"), yes("dma"))
            .remedy("see /etc/udev/rules.d/60-archibald.rules; sudo udevadm trigger /dev/cpu_dma_latency"),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::tests::failed;
    use super::*;

    #[test]
    fn limits_of_an_audio_user_pass() {
        let text = "98\nunlimited\naudio-user audio sudo\nfifo\ndma\n";
        assert_eq!(failed(&judge(text, 95, vec!["audio", "sudo"])), Vec::<&str>::new());
    }

    #[test]
    fn each_limit_that_is_too_low_fails_its_own_row() {
        let text = "0\n8192\naudio-user sudo\n";
        assert_eq!(
            failed(&judge(text, 95, vec!["audio", "sudo"])),
            [
                "limits.rtprio",
                "limits.memlock",
                "limits.groups",
                "limits.fifo",
                "limits.dma-latency"
            ]
        );
        assert_eq!(failed(&judge("94\nunlimited\nu\nfifo\ndma", 95, vec![])), ["limits.rtprio"]);
    }
}
