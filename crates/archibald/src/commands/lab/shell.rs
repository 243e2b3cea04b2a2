//! `archibald lab shell`: a shell in the machine of a scenario.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;

use archibald_lab::Scenario;
use archibald_lab::shell::Shell as Request;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use super::bench::{How, ScenarioFile, Workplace, failure};
use super::init::SCENARIO_FILE;
use crate::commands::build;
use crate::failure::Failure;
use crate::terminal::Steps;

/// Open a shell in the machine of a scenario: the audio server runs, the program's folder is there.
///
/// The clock is the virtual one, and runs ahead while nobody types. `exit` ends it.
#[derive(Debug, clap::Args)]
pub(crate) struct Shell {
    /// The scenario file, or a folder with a lab.toml.
    #[arg(default_value = SCENARIO_FILE)]
    file: PathBuf,
    #[command(flatten)]
    how: How,
}

impl Shell {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        let file = ScenarioFile::read(&self.file)?;
        let cancel = build::called_off()?;
        let steps = Steps::new(self.how.quiet);
        let place = Workplace::open(&self.how, &[&file.scenario], &steps, &cancel)?;
        let prepared = place.prepare(&file.scenario, &steps, &cancel)?;
        steps.finish();
        drop(steps);
        let size = tcgetwinsize(io::stdin()).ok().filter(|size| size.ws_col > 0);
        let request = Request {
            greeting: greeting(&file.scenario),
            terminal: std::env::var("TERM").unwrap_or_else(|_| "dumb".to_owned()),
            columns: size.map_or(80, |size| size.ws_col),
            rows: size.map_or(24, |size| size.ws_row),
        };
        let _raw = io::stdin().is_terminal().then(Raw::new).transpose().ok().flatten();
        let dir = place.bench.scratch.join("shell");
        place.bench.shell(&prepared, request, &dir, talk, &cancel).map_err(failure)?;
        Ok(0)
    }
}

/// What a person has to know before the first prompt.
fn greeting(scenario: &Scenario) -> String {
    let audio = scenario.audio;
    let mut lines = vec![
        format!(
            "{} runs: {} frames at {} Hz, {} MIPS, {} kernel, virtual time. `exit` ends the machine.",
            audio.server.word(),
            audio.quantum.0,
            audio.rate.0,
            scenario.time.mips.number(),
            scenario.machine.kernel.word()
        ),
        format!("the program, in this folder: {}", scenario.program.run),
    ];
    lines.extend(scenario.load.command().map(|load| format!("the load: {load}")));
    lines.join("\n")
}

/// Carries bytes both ways, each way on a thread of its own, for as long as the console is there.
fn talk(console: UnixStream) -> io::Result<()> {
    let (mut to, mut from) = (console.try_clone()?, console);
    thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(length) = io::stdin().read(&mut bytes) {
            // The end of a file that is fed in is the end of the typing.
            let typed =
                if length == 0 { &[4][..] } else { bytes.get(..length).unwrap_or_default() };
            if to.write_all(typed).is_err() || length == 0 {
                return;
            }
        }
    });
    thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(length @ 1..) = from.read(&mut bytes) {
            let mut out = io::stdout();
            let said = out.write_all(bytes.get(..length).unwrap_or_default());
            if said.and_then(|()| out.flush()).is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// The terminal without line editing, echo and signals of its own, until the value goes.
struct Raw(Termios);

impl Raw {
    fn new() -> rustix::io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}
