//! The machine of a scenario with a shell on its console, for a person.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use archibald_image::Cancel;
pub use archibald_mailbox::Shell;
use archibald_mailbox::{Request, Task};

use crate::LabError;
use crate::bench::{Bench, Prepared};
use crate::emulator::Waited;
use crate::error::During;
use crate::machine::Console;
use crate::mailbox;

/// Longer than anybody sits before one shell.
const PATIENCE: Duration = Duration::from_secs(30 * 24 * 3600);

impl Bench {
    /// Starts the scenario's machine from its snapshot, gives the console to `talk`, which returns at
    /// once, and waits for the shell's end. What is typed arrives when it is typed: such a run repeats
    /// nothing.
    ///
    /// # Errors
    /// [`LabError`]: no such machine, or the audio server does not start.
    pub fn shell(
        &self,
        prepared: &Prepared,
        shell: Shell,
        dir: &Path,
        talk: impl FnOnce(UnixStream) -> std::io::Result<()>,
        cancel: &Cancel,
    ) -> Result<(), LabError> {
        fs::create_dir_all(dir).during("create", dir)?;
        let scenario = &prepared.scenario;
        let seed = scenario.time.seeds.first().copied().unwrap_or(1);
        let request = Request { task: Task::Shell(shell), ..self.request(scenario, seed, false) };
        let mailbox = dir.join("mailbox");
        mailbox::post(&mailbox, &request, &prepared.folder.files)?;
        let door = dir.join("console");
        let mut emulator =
            prepared.snapshot.start_unrecorded(dir, Console::Socket(door.clone()), cancel)?;
        let stream = UnixStream::connect(&door).during("connect to", &door)?;
        talk(stream).during("talk to", &door)?;
        emulator.go_on()?;
        let patience = self.patience.unwrap_or(PATIENCE);
        match emulator.wait(patience, cancel)? {
            Waited::Paused => {}
            Waited::Late => {
                let (seconds, console) = (patience.as_secs(), String::new());
                return Err(LabError::Hung { seconds, console });
            }
            Waited::Ended => return Err(LabError::Died { console: String::new() }),
        }
        let reply = mailbox::collect(&mailbox, dir)?;
        crate::experiment::Done { reply, cpu_s: None, wall_s: 0.0 }.whole(dir)
    }
}
