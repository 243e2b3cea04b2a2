//! The audio server of an experiment, as the machine's session starts it, and what it counts itself.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, thread};

use archibald_latency::pw_top;
use archibald_machine::{AudioServer, Settings};

use super::process::{self, Process};
use crate::Root;
use crate::graph::Session;
use crate::run::{Invocation, Programs, Run as _};

/// How long a server may take to answer, in the guest's own time.
const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);
/// How long the question for its ports may take: an overloaded one does not answer it at all.
const QUESTION: Duration = Duration::from_secs(3);
/// Takes the graph's real-time priority away, for the control that must fail.
const NO_PRIORITY: &str = "/etc/pipewire/pipewire.conf.d/99-archibald-lab.conf";

/// A server that answers with the rate and quantum that were asked for.
pub(super) struct Server {
    processes: Vec<Process>,
    session: Session,
}

impl Server {
    /// Starts it and waits until it answers.
    pub(super) fn start(
        session: &Session,
        settings: &Settings,
        realtime: bool,
        log: &Path,
    ) -> Result<Self, String> {
        let (rate, quantum) = (settings.rate, settings.quantum);
        let commands = match settings.server {
            AudioServer::Jack => {
                let how = if realtime {
                    format!("--realtime --realtime-priority {}", settings.audio_priority.get())
                } else {
                    "--no-realtime".to_owned()
                };
                // The dummy driver: its clock is a timer, as exact as the kernel lets it be.
                vec![format!(
                    "JACK_NO_AUDIO_RESERVATION=1 exec jackd {how} -d dummy -r {} -p {}",
                    rate.0, quantum.0
                )]
            }
            AudioServer::PipeWire => {
                if !realtime {
                    let text = "context.properties = { module.rt = false }\n";
                    fs::write(NO_PRIORITY, text)
                        .map_err(|error| format!("{NO_PRIORITY}: {error}"))?;
                }
                vec!["exec pipewire".to_owned(), "exec wireplumber".to_owned()]
            }
        };
        let start = |command: &String| {
            Process::start(&process::as_user(session, command), Path::new("/"), log)
        };
        let processes = commands.iter().map(start).collect::<Result<Vec<_>, _>>()?;
        let mut server = Self { processes, session: session.clone() };
        let found = server.answer()?;
        if found != (quantum, rate) {
            return Err(format!(
                "it runs {} frames at {} Hz, asked for were {} at {}",
                found.0.0, found.1.0, quantum.0, rate.0
            ));
        }
        Ok(server)
    }

    fn answer(
        &mut self,
    ) -> Result<(archibald_machine::units::Frames, archibald_machine::units::Hertz), String> {
        let root = Root::default();
        let deadline = Instant::now() + PATIENCE;
        let mut said = "its door does not open".to_owned();
        while Instant::now() < deadline {
            if let Some(status) = self.processes.iter_mut().find_map(Process::ended) {
                return Err(process::how(status));
            }
            if self.session.door_is_open(&root) {
                match self.session.period(&Programs) {
                    Ok(period) => return Ok(period),
                    Err(message) => said = message,
                }
            }
            thread::sleep(POLL);
        }
        Err(format!("no answer within {PATIENCE:?}: {said}"))
    }

    /// Process groups.
    pub(super) fn groups(&self) -> Vec<u32> {
        self.processes.iter().map(Process::group).collect()
    }

    /// Ends it at once.
    pub(super) fn kill(&mut self) {
        self.processes.iter_mut().for_each(Process::kill);
    }

    /// Whether a part of it has ended, and how.
    pub(super) fn ended(&mut self) -> Option<String> {
        self.processes.iter_mut().find_map(Process::ended).map(process::how)
    }

    /// The graph's ports, sorted.
    pub(super) fn ports(&self) -> Vec<String> {
        let question = Invocation::new(&["jack_lsp"])
            .as_audio_user_without_login(&self.session.user, self.session.uid)
            .within(QUESTION);
        let mut ports: Vec<String> = Programs
            .run(&question)
            .stdout
            .lines()
            .filter(|line| line.contains(':'))
            .map(str::to_owned)
            .collect();
        ports.sort();
        ports
    }

    /// What the server itself has counted since it started, by what it counts.
    pub(super) fn counters(&self) -> BTreeMap<String, u64> {
        match self.session.server {
            // jackd tells each error on a line of its log instead.
            AudioServer::Jack => BTreeMap::new(),
            AudioServer::PipeWire => {
                let question = Invocation::new(&["pw-top", "-b", "-n", "2"])
                    .as_audio_user_without_login(&self.session.user, self.session.uid);
                errors(&Programs.run(&question).stdout)
            }
        }
    }
}

/// What pw-top(1) printed, as counters of the lab.
fn errors(text: &str) -> BTreeMap<String, u64> {
    let errors = pw_top::errors(text).into_iter();
    errors.map(|(name, count)| (format!("pw-top ERR: {name}"), count)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_table_counts() {
        let text = "\
S   ID  QUANT   RATE    WAIT    BUSY   W/Q   B/Q  ERR FORMAT           NAME
R   33      0      0   0.0us   0.0us  0.00  0.00    9                  archibald-null
S   ID  QUANT   RATE    WAIT    BUSY   W/Q   B/Q  ERR FORMAT           NAME
R   33     32  48000   1.0us   2.0us  0.00  0.00    2    F32P 2 48000 archibald-null
R   50     32  48000   1.0us   2.0us  0.00  0.00   60    F32P 1 48000  + client
";
        let expected = [("pw-top ERR: archibald-null", 2), ("pw-top ERR: client", 60)];
        let expected = expected.map(|(name, count)| (name.to_owned(), count));
        assert_eq!(errors(text), BTreeMap::from(expected));
    }
}
