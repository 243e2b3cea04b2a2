//! Why the lab could not give an answer. A verdict that fails is an answer.

use std::io;
use std::path::{Path, PathBuf};

use archibald_image::BuildError;
use archibald_mailbox::{ParcelError, Problem, Stage};
use archibald_vm::qmp::QmpError;

/// What was tried, on what, and what came of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// A file could not be read or written.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The image lacks something, or its initrd could not be made.
    #[error("the lab's machine cannot be made: {0}")]
    Image(#[from] BuildError),
    /// The image's kernel or disk is none that the lab can start.
    #[error("the lab cannot start this image: {0}")]
    Unsuitable(String),
    /// QEMU ended or refused something.
    #[error("QEMU failed: {message}{}", after(.log))]
    Qemu {
        /// What happened.
        message: String,
        /// The last lines of what it wrote.
        log: String,
    },
    /// The machine did not reach its snapshot.
    #[error("the lab's machine did not come up: {message}{}", after(.console))]
    Boot {
        /// What happened.
        message: String,
        /// The console's last lines.
        console: String,
    },
    /// No answer within the host's patience.
    #[error("no answer from the experiment after {seconds} s of the host's time{}", after(.console))]
    Hung {
        /// How long it was waited.
        seconds: u64,
        /// The console's last lines.
        console: String,
    },
    /// The machine ended instead of answering.
    #[error("the lab's machine ended in the middle of an experiment{}", after(.console))]
    Died {
        /// The console's last lines.
        console: String,
    },
    /// There is a reply, but it cannot be read.
    #[error("the experiment's reply cannot be read: {0}")]
    Reply(String),
    /// The program, its build or the load failed: the scenario is wrong, not the machine.
    #[error("{}{}", .problem.message, after(.log))]
    Scenario {
        /// What the guest said.
        problem: Problem,
        /// The last lines of the output that belongs to it.
        log: String,
    },
    /// The program's folder is too large to be handed over.
    #[error("the folder {} holds more than {} MiB; put the scenario into a folder with nothing but the program", .folder.display(), .limit >> 20)]
    TooLarge {
        /// The folder.
        folder: PathBuf,
        /// Bytes that may be handed over.
        limit: u64,
    },
    /// Called off.
    #[error("called off")]
    Cancelled,
}

fn after(lines: &str) -> String {
    if lines.is_empty() { String::new() } else { format!("\n{lines}") }
}

impl LabError {
    /// Whether the scenario is to blame, not the host or the lab.
    #[must_use]
    pub fn is_the_scenarios(&self) -> bool {
        match self {
            Self::TooLarge { .. } => true,
            Self::Scenario { problem, .. } => {
                matches!(problem.stage, Stage::Build | Stage::Program | Stage::Load)
            }
            _ => false,
        }
    }

    /// Whether the audio server did not come up, which a processor that is too slow for it does.
    #[must_use]
    pub fn is_the_servers(&self) -> bool {
        matches!(self, Self::Scenario { problem, .. } if problem.stage == Stage::Server)
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Scenario { problem, .. } => Some(match problem.stage {
                Stage::Build => {
                    "The build runs inside the machine, in the scenario's folder; its output stands above."
                }
                Stage::Program => {
                    "A program under test connects to the audio server by itself and runs until it is ended; its last lines stand above."
                }
                Stage::Load => "Check load.command; it runs as nobody, in an empty folder.",
                _ => "Another quantum or rate may be one that the audio server does not take.",
            }),
            Self::Hung { .. } => Some("A slow or busy host needs more: --timeout SECONDS."),
            Self::Qemu { .. } | Self::Boot { .. } | Self::Died { .. } => {
                Some("`archibald lab doctor` tries the lab on this host.")
            }
            _ => None,
        }
    }
}

impl From<ParcelError> for LabError {
    fn from(error: ParcelError) -> Self {
        Self::Reply(error.to_string())
    }
}

impl From<QmpError> for LabError {
    fn from(error: QmpError) -> Self {
        Self::Qemu { message: error.to_string(), log: String::new() }
    }
}

/// Says what was being done to which file when a call failed.
pub(crate) trait During<T> {
    fn during(self, action: &'static str, path: &Path) -> Result<T, LabError>;
}

impl<T, E: Into<io::Error>> During<T> for Result<T, E> {
    fn during(self, action: &'static str, path: &Path) -> Result<T, LabError> {
        self.map_err(|source| LabError::Io { action, path: path.to_owned(), source: source.into() })
    }
}

/// The last lines of a log, indented, for an error.
pub(crate) fn last_lines(text: &str) -> String {
    const LINES: usize = 15;
    let lines: Vec<&str> =
        text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let last = lines.iter().skip(lines.len().saturating_sub(LINES));
    last.map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}
