//! Programs that the machine promises: each must start and name itself.

use super::{Group, Machine, Row};
use crate::run::{Answer, Invocation};

/// The program, the word that makes it name its version, and what part of the answer counts: some
/// have no such word, and say it above their usage, with the status of a wrong use.
const TOOLS: [(&str, &str, &str); 19] = [
    ("gcc", "--version", "gcc"),
    ("g++", "--version", "g++"),
    ("cmake", "--version", "cmake version"),
    ("git", "--version", "git version"),
    ("python3", "--version", "Python 3"),
    ("emacs", "--version", "GNU Emacs"),
    ("nvim", "--version", "NVIM"),
    ("sclang", "-v", "sclang"),
    ("scsynth", "-v", "scsynth"),
    ("jackd", "--version", "jackdmp version"),
    ("pw-top", "--version", "pw-top"),
    ("pw-jack", "-h", "pw-jack"),
    ("cyclictest", "--help", "cyclictest"),
    ("rtla", "--help", "rtla"),
    ("stress-ng", "--version", "stress-ng"),
    ("cpupower", "--version", "cpupower"),
    ("trace-cmd", "version", "trace-cmd"),
    ("gdb", "--version", "GNU gdb"),
    ("archibald-probe", "--version", "archibald-probe"),
];

pub(super) fn rows(machine: Machine<'_>) -> Vec<Row> {
    let ask = |(tool, word, sign): &(&str, &str, &str)| {
        judge(tool, sign, &machine.programs.run(&Invocation::new(&[tool, word])))
    };
    TOOLS.iter().map(ask).collect()
}

fn judge(tool: &str, sign: &str, answer: &Answer) -> Row {
    let mut lines = answer.stdout.lines().chain(answer.stderr.lines());
    let line = lines.find(|line| line.contains(sign)).map(str::trim);
    // The runner's own words for a program that is not there begin with its name.
    let missing = answer.stdout.is_empty() && answer.stderr.contains("os error");
    let good = line.is_some() && !missing;
    let found = match line {
        Some(line) if good => line.to_owned(),
        _ => answer.last_line().to_owned(),
    };
    Row::new(Group::Tools, format!("tools.{tool}"), tool, "answers")
        .judge(found.chars().take(80).collect::<String>(), good)
        .remedy("the image lacks its package or a library of it: `archibald image build`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Status;
    use crate::run::tests::says;

    #[test]
    fn a_tool_that_names_itself_passes() {
        let answer = says("gcc (Debian 14.2.0-19) 14.2.0\nCopyright\n");
        let row = judge("gcc", "gcc", &answer);
        assert_eq!((row.status, row.found.as_str()), (Status::Ok, "gcc (Debian 14.2.0-19) 14.2.0"));
        // cyclictest writes its version above its usage and ends with an error.
        let usage = Answer { stderr: "cyclictest V 2.80\nUsage:".into(), ..Answer::default() };
        assert_eq!(judge("cyclictest", "cyclictest", &usage).status, Status::Ok);
    }

    #[test]
    fn a_missing_tool_or_library_fails_in_the_system_s_words() {
        let gone = Answer {
            stderr: "rtla: No such file or directory (os error 2)".into(),
            ..Answer::default()
        };
        assert_eq!(judge("rtla", "rtla", &gone).status, Status::Failed);
        let broken = Answer {
            stderr: "error while loading shared libraries: libscsynth.so.1".into(),
            ..Answer::default()
        };
        assert!(judge("sclang", "sclang 3", &broken).found.contains("shared libraries"));
    }
}
