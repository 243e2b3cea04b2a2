//! One experiment: a machine in the state of its snapshot gets a request and is watched until it has
//! answered.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use archibald_image::Cancel;
use archibald_mailbox::{Reply, Request, Stage};

use crate::LabError;
use crate::emulator::Waited;
use crate::error::{During, last_lines};
use crate::machine::Console;
use crate::mailbox;
use crate::program::Folder;
use crate::snapshot::Snapshot;

/// How long an experiment may take on the host's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience(pub Duration);

impl Patience {
    /// For so much virtual time: many times what a full load takes (3 s a virtual second on one core),
    /// because the host may have other work.
    #[must_use]
    pub fn for_virtual(time: Duration) -> Self {
        Self(Duration::from_secs(300) + time * 40)
    }
}

/// What came of an experiment.
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    /// The guest's answer.
    pub reply: Reply,
    /// Processor seconds of QEMU.
    pub cpu_s: Option<f64>,
    /// Seconds on the host's clock, from QEMU's start.
    pub wall_s: f64,
}

/// Runs a request with a program's folder on a machine of its own. What the guest collected lies in
/// `dir` afterwards, under the names of [`Reply`], with the console's log.
///
/// # Errors
/// [`LabError`]: the host cannot run the machine, or there is no answer. An answer that tells a
/// problem is one, see [`Done::whole`].
pub fn run(
    snapshot: &Snapshot,
    request: &Request,
    folder: &Folder,
    dir: &Path,
    patience: Patience,
    cancel: &Cancel,
) -> Result<Done, LabError> {
    fs::create_dir_all(dir).during("create", dir)?;
    let mailbox = dir.join("mailbox");
    let done = attempt(snapshot, request, folder, dir, &mailbox, patience, cancel);
    // Up to a gigabyte, and all of it is in other files by now.
    let _ = fs::remove_file(&mailbox);
    done
}

fn attempt(
    snapshot: &Snapshot,
    request: &Request,
    folder: &Folder,
    dir: &Path,
    mailbox: &Path,
    patience: Patience,
    cancel: &Cancel,
) -> Result<Done, LabError> {
    mailbox::post(mailbox, request, &folder.files)?;
    let begun = Instant::now();
    let console = Console::File(dir.join("console.log"));
    let mut emulator = snapshot.start(dir, console, cancel)?;
    emulator.go_on()?;
    match emulator.wait(patience.0, cancel)? {
        Waited::Paused => {}
        Waited::Ended => return Err(LabError::Died { console: emulator.console() }),
        Waited::Late => {
            let seconds = patience.0.as_secs();
            return Err(LabError::Hung { seconds, console: emulator.console() });
        }
    }
    let (cpu_s, wall_s) = (emulator.processor_seconds(), begun.elapsed().as_secs_f64());
    emulator.finish()?;
    Ok(Done { reply: mailbox::collect(mailbox, dir)?, cpu_s, wall_s })
}

impl Done {
    /// Fails when the guest did not come to its end, with the lines that tell why out of `dir`.
    ///
    /// # Errors
    /// [`LabError::Scenario`].
    pub fn whole(&self, dir: &Path) -> Result<(), LabError> {
        let Some(problem) = &self.reply.problem else { return Ok(()) };
        let names: &[&str] = match problem.stage {
            Stage::Server => &[Reply::SERVER_LOG],
            Stage::Load => &[Reply::LOAD_LOG],
            Stage::Build | Stage::Program => &[Reply::PROGRAM_LOG],
            _ => &["probe.log", "console.log"],
        };
        let read = |name: &&str| fs::read(dir.join(name)).unwrap_or_default();
        let text: Vec<u8> = names.iter().flat_map(read).collect();
        let log = last_lines(&String::from_utf8_lossy(&text));
        Err(LabError::Scenario { problem: problem.clone(), log })
    }
}
