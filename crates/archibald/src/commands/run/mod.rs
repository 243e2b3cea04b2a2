//! `archibald run`: the project of a folder, sent to the machine, built and played there, and again when
//! it changes.

mod project;
mod session;
mod sync;
mod xruns;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use self::project::Project;
use self::session::{Ended, Input, Session};
use super::build::called_off_by;
use super::exec::Remote;
use crate::failure::{Exit, Failure};
use crate::terminal;

/// How often the folder is looked at for changes, and Ctrl-C for.
const POLL: Duration = Duration::from_millis(200);

/// Send a project to the machine, build it there and play it.
///
/// The project's lab.toml says how it is built and run. Its files go to projects/NAME in the machine; what
/// its .gitignore names stays where it is on both sides. The program runs with a real-time priority and
/// locked memory, what it prints is shown as it comes, and so are the graph's xruns. Its exit status is this
/// one's.
#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    /// The project's folder, with its lab.toml.
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// The machine; the machine file's when left out.
    #[arg(short, long)]
    name: Option<String>,
    /// Begin again whenever a file changes.
    #[arg(short, long)]
    watch: bool,
    /// As an ordinary program: no priority, no locked memory.
    #[arg(long)]
    ordinary: bool,
    /// Do not show the graph's xruns, which costs the machine some work.
    #[arg(long)]
    no_xruns: bool,
}

impl Run {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        let project = Project::read(&self.folder)?;
        let remote = Remote::of(self.name.as_deref(), None)?;
        let stop = Arc::new(AtomicBool::new(false));
        called_off_by(&stop)?;
        let input = Input::new();
        if !self.watch {
            return match self.once(&project, &remote, &input, &stop, &|| false)? {
                Ended::Program(status) => Ok(status),
                Ended::Build(status) => {
                    Err(Failure::new(Exit::Failed, format!("the build ended with status {status}")))
                }
                Ended::Stopped => Err(Failure::interrupted()),
            };
        }
        self.again_and_again(project, &remote, &input, &stop)
    }

    fn again_and_again(
        &self,
        mut project: Project,
        remote: &Remote,
        input: &Input,
        stop: &AtomicBool,
    ) -> Result<u8, Failure> {
        loop {
            let before = project.state();
            let changed = || project.state() != before;
            match self.once(&project, remote, input, stop, &changed) {
                Ok(Ended::Program(status)) => {
                    terminal::complain(&format!(
                        "ended with status {status}; waiting for a change"
                    ));
                }
                Ok(Ended::Build(status)) => terminal::complain(&format!(
                    "the build ended with status {status}; waiting for a change"
                )),
                Ok(Ended::Stopped) => {}
                Err(failure) => failure.show(),
            }
            while !changed() && !stop.load(Ordering::Relaxed) {
                thread::sleep(POLL);
            }
            if stop.load(Ordering::Relaxed) {
                return Err(Failure::interrupted());
            }
            terminal::complain("changed: once more");
            // An editor writes in several steps.
            thread::sleep(POLL);
            match Project::read(&self.folder) {
                Ok(read) => project = read,
                Err(failure) => failure.show(),
            }
        }
    }

    /// Sends, builds and plays, until it ends or is to end.
    fn once(
        &self,
        project: &Project,
        remote: &Remote,
        input: &Input,
        stop: &AtomicBool,
        changed: &dyn Fn() -> bool,
    ) -> Result<Ended, Failure> {
        let sent = sync::send(project, remote)?;
        terminal::complain(&sent);
        let priority = (!self.ordinary).then(|| {
            // Below the graph, as its clients' audio threads are; they have theirs from the audio server.
            remote.machine.realtime.audio_priority.get().saturating_sub(8).max(1)
        });
        let mut session = Session::start(project, remote, priority, !self.no_xruns, input)?;
        loop {
            if let Some(ended) = session.ended()? {
                return Ok(ended);
            }
            if stop.load(Ordering::Relaxed) || changed() {
                return session.end();
            }
            thread::sleep(POLL / 4);
        }
    }
}
