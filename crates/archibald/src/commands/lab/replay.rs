//! `archibald lab replay`: a recorded run again, stopped at an xrun, with a debugger.

use std::ffi::{OsStr, OsString};
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{fs, thread};

use archibald_image::Cancel;
use archibald_lab::bench::Prepared;
use archibald_lab::replay::{Recorded, Stopped};
use archibald_lab::snapshot::RECORDING;

use super::bench::{How, Workplace, failure};
use super::kept::{Kept, again};
use crate::commands::build;
use crate::commands::exec::quote;
use crate::failure::{Context as _, Exit, Failure};
use crate::places;
use crate::terminal::{self, Steps};

/// How often a wait looks whether it is over.
const GLANCE: Duration = Duration::from_millis(50);

/// Run a recorded run again, to the last instruction, and stop it at an xrun with gdb attached.
///
/// gdb sees the whole machine: `break process` and `continue` lead to the program's next callback,
/// `stepi` to the machine's next instruction. It cannot go back; --before stops earlier.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Virtual time: what gdb shows is the recorded run itself. What you change in it, it no longer is."
)]
pub(crate) struct Replay {
    /// The run: its name as `lab run` tells it, or its folder.
    run: PathBuf,
    /// Which xrun, counted from 1.
    #[arg(long, value_name = "XRUN", default_value = "1")]
    until: std::num::NonZeroUsize,
    /// Milliseconds of virtual time to stop before it.
    #[arg(long, value_name = "MS", default_value_t = 0.0)]
    before: f64,
    /// Start no debugger: say where one can attach, and wait to be interrupted.
    #[arg(long, conflicts_with = "arguments")]
    wait: bool,
    #[command(flatten)]
    how: How,
    /// Arguments for gdb, after `--`.
    #[arg(last = true, value_name = "GDB ARGUMENT")]
    arguments: Vec<OsString>,
}

impl Replay {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        let kept = Kept::find(&self.run)?;
        let xrun = kept.xrun(self.until.get())?;
        if !(0.0..=86_400_000.0).contains(&self.before) {
            let wrong = format!("--before {} is no number of milliseconds", self.before);
            return Err(Failure::new(Exit::Use, wrong).with_remedy("Write --before 0.7."));
        }
        let at_ns = xrun.saturating_sub((self.before * 1e6) as u64);
        let recording = kept.folder.join(RECORDING);
        if !recording.is_file() {
            return Err(again(&format!("{} has no recording", kept.folder.display())));
        }
        let debugger = if self.wait { None } else { Some(find_gdb()?) };
        let flag = Arc::new(AtomicBool::new(false));
        let cancel = build::called_off_by(&flag)?;
        let steps = Steps::new(self.how.quiet);
        let place = Workplace::open(&self.how, &[&kept.file.scenario], &steps, &cancel)?;
        let prepared = kept.prepare(&place, &steps, &cancel)?;
        let recorded =
            Recorded { seed: kept.seed(), recording: &recording, clocks: kept.beside.clocks };
        steps.step("lab: the same run again, to the xrun");
        let dir = place.bench.scratch.join("replay");
        let stopped = place.bench.replay(&prepared, &recorded, at_ns, &dir, &cancel);
        let mut stopped = stopped.map_err(failure)?;
        steps.finish();
        drop(steps);
        terminal::say(&where_it_stands(&kept, self.until.get(), xrun, &stopped));
        let words = gdb_arguments(&kept, &prepared, &stopped, &dir)?;
        let Some(debugger) = debugger else {
            terminal::say(&format!("gdb {}", shell_words(&words)));
            wait(&mut stopped, &cancel);
            return Ok(0);
        };
        let ended = debug(&debugger, &words, &self.arguments, &flag)?;
        Ok(ended.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
    }
}

/// Where the machine stands still, for a person.
fn where_it_stands(kept: &Kept, number: usize, xrun: u64, stopped: &Stopped) -> String {
    let window = kept.run.window.start_ns;
    let ms = |ns: u64| (ns as f64 - window as f64) / 1e6;
    let all = kept.xruns().len();
    let away = match stopped.at_ns.checked_sub(xrun) {
        Some(after) => format!("{} us after", after / 1000),
        None => format!("{} us before", (xrun - stopped.at_ns) / 1000),
    };
    format!(
        "stopped {away} xrun {number} of {all}, at {:.3} ms of the window, instruction {} (virtual time)",
        ms(stopped.at_ns),
        stopped.instruction
    )
}

fn find_gdb() -> Result<PathBuf, Failure> {
    places::find_program("gdb").ok_or_else(|| {
        Failure::new(Exit::Environment, "gdb is missing").with_remedy(
            "On Debian or Ubuntu: apt-get install gdb. With --wait another debugger can attach.",
        )
    })
}

/// What gdb is told: the program's symbols where the program lies, and the machine.
fn gdb_arguments(
    kept: &Kept,
    prepared: &Prepared,
    stopped: &Stopped,
    dir: &Path,
) -> Result<Vec<OsString>, Failure> {
    let mut commands = vec!["set confirm off".to_owned()];
    for (number, (path, address)) in kept.beside.mapped.iter().enumerate() {
        let Some(content) = prepared.folder.content(Path::new(path)) else { continue };
        let name = Path::new(path).file_name().unwrap_or(OsStr::new("program"));
        // No blank in it: gdb's commands would need quotes.
        let name: String = name.to_string_lossy().replace(char::is_whitespace, "_");
        let folder = dir.join(format!("program-{number}"));
        fs::create_dir_all(&folder).context(folder.display())?;
        let file = folder.join(name);
        fs::write(&file, content).context(file.display())?;
        commands.push(format!("add-symbol-file {} -o {address:#x}", file.display()));
    }
    commands.push(format!("target remote {}", stopped.debugger.display()));
    commands.push("set confirm on".to_owned());
    let pairs = commands.into_iter().flat_map(|line| ["-ex".into(), line.into()]);
    Ok(["-q".into()].into_iter().chain(pairs).collect())
}

/// Runs gdb in the terminal until it ends. An interrupt is meant for it.
fn debug(
    gdb: &Path,
    words: &[OsString],
    more: &[OsString],
    flag: &AtomicBool,
) -> Result<ExitStatus, Failure> {
    let mut child = Command::new(gdb).args(words).args(more).spawn().context(gdb.display())?;
    loop {
        if let Some(status) = child.try_wait().context(gdb.display())? {
            return Ok(status);
        }
        if std::io::stdin().is_terminal() {
            flag.store(false, Ordering::Relaxed);
        } else if flag.load(Ordering::Relaxed) {
            let _ = child.kill();
        }
        thread::sleep(GLANCE);
    }
}

/// Waits to be called off, or for the end of the machine, which a debugger can kill.
fn wait(stopped: &mut Stopped, cancel: &Cancel) {
    while !cancel.is_cancelled() && stopped.is_there() {
        thread::sleep(GLANCE);
    }
}

/// A command line that a shell takes apart again into these words.
fn shell_words(words: &[OsString]) -> String {
    words.iter().map(|word| quote(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
}
