//! Asking the running audio graph, whoever the server is: JACK's own tools speak to both, and they
//! answer with what is in force rather than with what a file says.

use archibald_machine::AudioServer;
use archibald_machine::units::{Frames, Hertz};

use crate::Root;
use crate::run::{Invocation, Run};

/// The audio session: whose it is and who serves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its user.
    pub user: String,
    /// That user's id.
    pub uid: u32,
    /// Who owns the graph.
    pub server: AudioServer,
}

impl Session {
    /// The session of `user` as `/etc/passwd` knows the name; unknown: `None`.
    #[must_use]
    pub fn of(root: &Root, user: &str, server: AudioServer) -> Option<Self> {
        let passwd = root.read("/etc/passwd")?;
        let line = passwd.lines().find(|line| line.split(':').next() == Some(user))?;
        let uid = line.split(':').nth(2)?.parse().ok()?;
        Some(Self { user: user.to_owned(), uid, server })
    }

    /// The unit of the session that serves the graph.
    #[must_use]
    pub fn unit(&self) -> &'static str {
        match self.server {
            AudioServer::PipeWire => "pipewire.service",
            AudioServer::Jack => "jackd.service",
        }
    }

    /// Whether the server's door is there; a client before that would only wait or fail.
    #[must_use]
    pub fn door_is_open(&self, root: &Root) -> bool {
        match self.server {
            AudioServer::PipeWire => {
                root.path(&format!("/run/user/{}/pipewire-0", self.uid)).exists()
            }
            AudioServer::Jack => {
                let prefix = format!("jack_default_{}", self.uid);
                root.names("/dev/shm").iter().any(|name| name.starts_with(&prefix))
            }
        }
    }

    /// A program of the session's user, in the session.
    #[must_use]
    pub fn program(&self, words: &[&str]) -> Invocation {
        Invocation::new(words).as_audio_user(&self.user, self.uid)
    }

    /// Period and rate that the running graph answers with.
    ///
    /// # Errors
    /// The program's last words if the graph does not answer.
    pub fn period(&self, programs: &dyn Run) -> Result<(Frames, Hertz), String> {
        let both = Invocation::new(&["sh", "-c", "jack_bufsize && jack_samplerate"])
            .as_audio_user_without_login(&self.user, self.uid);
        let answer = programs.run(&both);
        read_period(&answer.stdout).ok_or_else(|| answer.last_line().to_owned())
    }
}

/// The last two lines are the two numbers; libraries may write above them.
fn read_period(text: &str) -> Option<(Frames, Hertz)> {
    let mut lines = text.lines().rev();
    let mut number = || lines.next()?.trim().parse::<u32>().ok();
    let (rate, quantum) = (number()?, number()?);
    Some((Frames(quantum), Hertz(rate)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Answer;
    use crate::run::tests::{Canned, says};

    fn session() -> Session {
        Session { user: "audio-user".into(), uid: 1000, server: AudioServer::PipeWire }
    }

    #[test]
    fn the_graph_answers_with_period_and_rate() {
        let canned = Canned(vec![("jack_bufsize", says("32\n48000\n"))]);
        assert_eq!(session().period(&canned), Ok((Frames(32), Hertz(48000))));
    }

    #[test]
    fn no_graph_is_said_in_the_tool_s_own_words() {
        let refused = Answer { stderr: "jack server not running?\n".into(), ..Answer::default() };
        let canned = Canned(vec![("jack_bufsize", refused)]);
        assert_eq!(session().period(&canned), Err("jack server not running?".into()));
    }

    #[test]
    fn the_session_is_found_by_its_user_s_name() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        root.write("/etc/passwd", b"audio-user:x:1004:1004::/home/a:/bin/bash\n", 0o644).unwrap();
        let session = Session::of(&root, "audio-user", AudioServer::Jack).unwrap();
        assert_eq!((session.uid, session.unit()), (1004, "jackd.service"));
        assert!(!session.door_is_open(&root));
        root.write("/dev/shm/jack_default_1004_0", b"", 0o644).unwrap();
        assert!(session.door_is_open(&root));
        assert_eq!(Session::of(&root, "nobody", AudioServer::Jack), None);
    }
}
