//! `archibald run` on a running machine, as a person uses it: sent, built, played, changed, ended.
// Used by machine.rs, which has the machine.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::world::World;

const SCENARIO: &str = "\
[program]
build = \"echo built >> log && cc -o speaker speaker.c\"
run = \"./speaker\"
";

/// Says what it is, repeats what it is told, and ends with status 5 at the word `end`.
const SPEAKER: &str = r#"
#include <stdio.h>
#include <string.h>
#include <unistd.h>
int main(void)
{
	char line[80];
	FILE *status = fopen("/proc/self/status", "r");
	printf("speaker WORD is %d\n", getpid());
	while (fgets(line, sizeof line, status))
		if (!strncmp(line, "VmLck", 5))
			fputs(line, stdout);
	fflush(stdout);
	while (fgets(line, sizeof line, stdin)) {
		if (!strcmp(line, "end\n"))
			return 5;
		fprintf(stderr, "told %s", line);
	}
	return 0;
}
"#;

/// How long an emulated machine may take to send, build and start it.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn all(world: &World) {
    let folder = world.path("work/speaker");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("lab.toml"), SCENARIO).unwrap();
    fs::write(folder.join(".gitignore"), "/speaker\n/log\n").unwrap();
    write(world, "one");
    is_sent_built_and_played_and_its_status_is_passed_on(world);
    only_what_changed_is_sent_and_builds_stay(world);
    is_played_again_when_it_changes_and_ended_with_ctrl_c(world);
    a_build_that_fails_is_told(world);
}

fn write(world: &World, word: &str) {
    fs::write(world.path("work/speaker/speaker.c"), SPEAKER.replace("WORD", word)).unwrap();
}

fn in_machine(world: &World, command: &str) -> String {
    world.run(&["exec", "--", "sh", "-c", command]).out
}

/// A `run` that goes on, and what it says, line by line.
struct Playing {
    child: Child,
    lines: Receiver<String>,
}

impl Playing {
    fn start(world: &World, words: &[&str]) -> Self {
        let mut command = world.command(&[&["run"], words].concat());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (sender, lines) = channel();
        let out: [Box<dyn std::io::Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for stream in out {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        Self { child, lines }
    }

    /// Waits for a line with these words in it.
    fn says(&self, words: &str) -> String {
        let mut said = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(words) => return line,
                Ok(line) => said.push(line),
                Err(error) => panic!("not said: {words:?} ({error}); said: {said:#?}"),
            }
        }
    }

    fn tell(&mut self, words: &str) {
        self.child.stdin.as_mut().unwrap().write_all(words.as_bytes()).unwrap();
    }

    fn interrupt(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    }

    fn status(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

fn is_sent_built_and_played_and_its_status_is_passed_on(world: &World) {
    let mut playing = Playing::start(world, &["speaker"]);
    playing.says("sent: ");
    playing.says("building: ");
    playing.says("running: ./speaker (FIFO 80)");
    let line = playing.says("speaker one is ");
    let pid = line.rsplit(' ').next().unwrap().to_owned();
    assert!(!playing.says("VmLck").contains("\t       0 kB"), "its memory is not locked");
    let scheduling = in_machine(world, &format!("chrt -p {pid}; taskset -cp {pid}"));
    assert!(
        scheduling.contains("SCHED_FIFO") && scheduling.contains("priority: 80"),
        "{scheduling}"
    );
    playing.tell("a word\n");
    playing.says("told a word");
    playing.tell("end\n");
    assert_eq!(playing.status(), Some(5));
}

fn only_what_changed_is_sent_and_builds_stay(world: &World) {
    write(world, "two");
    let mut playing = Playing::start(world, &["speaker", "--ordinary", "--no-xruns"]);
    assert_eq!(playing.says("sent: "), "sent: speaker.c");
    playing.says("speaker two is ");
    assert!(playing.says("VmLck").contains(" 0 kB"), "its memory is locked");
    playing.tell("end\n");
    assert_eq!(playing.status(), Some(5));
    assert_eq!(in_machine(world, "cat projects/speaker/log"), "built\nbuilt\n");
}

fn is_played_again_when_it_changes_and_ended_with_ctrl_c(world: &World) {
    let playing = Playing::start(world, &["--watch", "speaker"]);
    playing.says("speaker two is ");
    write(world, "three");
    playing.says("changed");
    let line = playing.says("speaker three is ");
    assert_eq!(in_machine(world, "pgrep -c -x speaker").trim(), "1", "the one before has ended");
    playing.interrupt();
    playing.says("nothing is left running");
    assert_eq!(playing.status(), Some(130));
    let pid = line.rsplit(' ').next().unwrap();
    let left = in_machine(world, &format!("ls -d /proc/{pid}; pgrep -x 'speaker|pw-top'"));
    assert_eq!(left, "", "Ctrl-C ends the program there too");
}

fn a_build_that_fails_is_told(world: &World) {
    fs::write(world.path("work/speaker/speaker.c"), "int main(void) { return word; }\n").unwrap();
    let playing = Playing::start(world, &["speaker"]);
    playing.says("error: ‘word’ undeclared");
    playing.says("the build ended with status 1");
    assert_eq!(playing.status(), Some(1));
}
