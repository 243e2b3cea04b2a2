//! Starting programs: the trait through which every other module does it, and the real one.

use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// A program with its arguments and how long it may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// Program and arguments.
    pub words: Vec<String>,
    /// After this it is stopped, together with everything it started.
    pub limit: Duration,
}

impl Invocation {
    /// `words`, with 30 seconds: many times what any program here needs on an emulated CPU.
    pub fn new(words: &[&str]) -> Self {
        Self {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            limit: Duration::from_secs(30),
        }
    }

    /// The same within another time.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The same as the user who owns the audio session, with that session's environment and, through
    /// PAM, that user's limits.
    #[must_use]
    pub fn as_audio_user(self, user: &str, uid: u32) -> Self {
        self.in_session(&["runuser", "-u", user, "--"], uid)
    }

    /// The same without a log-in: no limits, but a tenth of the work. For questions to the graph.
    #[must_use]
    pub fn as_audio_user_without_login(self, user: &str, uid: u32) -> Self {
        self.in_session(&["setpriv", "--reuid", user, "--regid", user, "--init-groups"], uid)
    }

    /// Starts it in a process group of its own, its standard output to be read.
    pub(crate) fn spawn(&self) -> Result<Child, String> {
        let (program, arguments) = self.words.split_first().ok_or("nothing to start")?;
        Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|error| format!("{program}: {error}"))
    }

    fn in_session(self, become_user: &[&str], uid: u32) -> Self {
        let mut words: Vec<String> = become_user.iter().map(|word| (*word).to_owned()).collect();
        words.push("env".to_owned());
        words.push(format!("XDG_RUNTIME_DIR=/run/user/{uid}"));
        words.push(format!("DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/{uid}/bus"));
        words.push("QT_QPA_PLATFORM=offscreen".to_owned());
        words.extend(self.words);
        Self { words, limit: self.limit }
    }
}

/// What a program said and how it ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// Whether it ended with status 0.
    pub success: bool,
    /// Both streams, as text.
    pub stdout: String,
    /// The error stream.
    pub stderr: String,
}

impl Answer {
    /// The first line that is not empty, of either stream: enough to show a person.
    #[must_use]
    pub fn first_line(&self) -> &str {
        let mut lines = self.stdout.lines().chain(self.stderr.lines());
        lines.find(|line| !line.trim().is_empty()).unwrap_or("").trim()
    }

    /// The last line that is not empty, of either stream: where programs say why they failed.
    #[must_use]
    pub fn last_line(&self) -> &str {
        let mut lines = self.stdout.lines().chain(self.stderr.lines()).rev();
        lines.find(|line| !line.trim().is_empty()).unwrap_or("").trim()
    }
}

/// Starts programs.
pub trait Run: Sync {
    /// Runs to the end. A program that is not there, or that was stopped at its limit, is an answer
    /// without success whose error stream says so.
    fn run(&self, invocation: &Invocation) -> Answer;

    /// Starts one that keeps running, and returns as soon as it has written a line with `sign`.
    ///
    /// # Errors
    /// What it wrote, if it ended or its limit passed before that.
    fn start(&self, invocation: &Invocation, sign: &str) -> Result<Started, String>;
}

/// A program that keeps running; stopped with its group when dropped.
#[derive(Debug)]
pub struct Started(Option<Child>);

impl Started {
    /// Waits for its own end; after `limit` it is stopped.
    pub fn wait(mut self, limit: Duration) {
        let deadline = Instant::now() + limit;
        while let Some(child) = &mut self.0 {
            if child.try_wait().is_ok_and(|status| status.is_some()) {
                self.0 = None;
            } else if Instant::now() >= deadline {
                return;
            } else {
                thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            stop_group(child);
            let _ = child.wait();
        }
    }
}

pub(crate) fn stop_group(child: &Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// The programs of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Programs;

impl Run for Programs {
    fn run(&self, invocation: &Invocation) -> Answer {
        attempt(invocation).unwrap_or_else(|error| Answer {
            success: false,
            stdout: String::new(),
            stderr: format!("{}: {error}", invocation.words.first().map_or("", String::as_str)),
        })
    }

    fn start(&self, invocation: &Invocation, sign: &str) -> Result<Started, String> {
        let mut child = invocation.spawn()?;
        let stdout = child.stdout.take();
        let started = Started(Some(child));
        // Read on after the sign: a full pipe would stop the program.
        let (lines, heard) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout?).lines() {
                let _ = lines.send(line.ok()?);
            }
            Some(())
        });
        let deadline = Instant::now() + invocation.limit;
        let mut last = String::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match heard.recv_timeout(left) {
                Ok(line) if line.contains(sign) => return Ok(started),
                Ok(line) if line.trim().is_empty() => {}
                Ok(line) => last = line,
                Err(RecvTimeoutError::Timeout) => {
                    return Err(format!("not ready after {:?}: {last}", invocation.limit));
                }
                Err(RecvTimeoutError::Disconnected) => return Err(format!("ended: {last}")),
            }
        }
    }
}

fn attempt(invocation: &Invocation) -> io::Result<Answer> {
    let (program, arguments) = invocation.words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own: whatever it starts can be stopped with it.
        .process_group(0)
        .spawn()?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let deadline = Instant::now() + invocation.limit;
    let mut late = false;
    let (status, stdout, stderr) = thread::scope(|scope| {
        let stdout = scope.spawn(move || text_of(stdout));
        let stderr = scope.spawn(move || text_of(stderr));
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if Instant::now() >= deadline {
                late = true;
                stop_group(&child);
                break child.wait()?;
            }
            thread::sleep(Duration::from_millis(5));
        };
        io::Result::Ok((
            status,
            stdout.join().unwrap_or_default(),
            stderr.join().unwrap_or_default(),
        ))
    })?;
    let mut answer = Answer { success: status.success() && !late, stdout, stderr };
    if late {
        answer.stderr.push_str(&format!("\n{program}: no end after {:?}", invocation.limit));
    }
    Ok(answer)
}

fn text_of(stream: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        let _ = stream.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Answers by the first entry whose text occurs in the command line.
    pub(crate) struct Canned(pub(crate) Vec<(&'static str, Answer)>);

    impl Run for Canned {
        fn run(&self, invocation: &Invocation) -> Answer {
            let line = invocation.words.join(" ");
            let found = self.0.iter().find(|(part, _)| line.contains(part));
            found.map(|(_, answer)| answer.clone()).unwrap_or_else(|| Answer {
                stderr: format!("{line}: not there"),
                ..Answer::default()
            })
        }

        fn start(&self, invocation: &Invocation, _: &str) -> Result<Started, String> {
            let answer = self.run(invocation);
            if answer.success { Ok(Started(None)) } else { Err(answer.last_line().to_owned()) }
        }
    }

    /// A good end with this output.
    pub(crate) fn says(stdout: &str) -> Answer {
        Answer { success: true, stdout: stdout.to_owned(), stderr: String::new() }
    }

    #[test]
    fn both_streams_and_the_status_arrive() {
        let answer =
            Programs.run(&Invocation::new(&["sh", "-c", "echo out; echo err >&2; exit 3"]));
        assert!(!answer.success);
        assert_eq!((answer.first_line(), answer.last_line()), ("out", "err"));
    }

    #[test]
    fn a_program_that_does_not_end_is_stopped_with_its_children() {
        let words = Invocation::new(&["sh", "-c", "sleep 60 & sleep 60"]);
        let begun = Instant::now();
        let answer = Programs.run(&words.within(Duration::from_millis(100)));
        assert!(!answer.success && answer.stderr.contains("no end after"));
        assert!(begun.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_program_that_keeps_running_is_waited_for_by_its_sign() {
        let words = ["sh", "-c", "echo one; echo the sign; sleep 60"];
        let begun = Instant::now();
        let started = Programs.start(&Invocation::new(&words), "sign").unwrap();
        started.wait(Duration::from_millis(50));
        assert!(begun.elapsed() < Duration::from_secs(20));
        let error = Programs.start(&Invocation::new(&["echo", "last words"]), "sign").unwrap_err();
        assert_eq!(error, "ended: last words");
    }

    #[test]
    fn a_missing_program_is_an_answer() {
        assert!(!Programs.run(&Invocation::new(&["/no/such/program"])).success);
    }
}
