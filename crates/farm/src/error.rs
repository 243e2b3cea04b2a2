//! Why a farm's work could not be done. A task that failed is told as such, by its name.

use std::io;
use std::path::{Path, PathBuf};

/// What was tried, on what, and what came of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FarmError {
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
    /// A score that is none, or that cannot be cut as its file says.
    #[error("{score}: {what}")]
    Score {
        /// The score's file.
        score: String,
        /// What is wrong with it.
        what: String,
    },
    /// A program is not installed.
    #[error("{program} was not found")]
    Missing {
        /// Its name.
        program: String,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// A program of the system failed.
    #[error("{program} failed: {message}")]
    Program {
        /// Its name.
        program: &'static str,
        /// What it said.
        message: String,
    },
    /// A job's own files are not as they were written.
    #[error("{}: {what}", .path.display())]
    Job {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A result is not as it was written. It has been removed.
    #[error("{}: {what}; the result has been removed", .path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Two nodes gave what one and the same work cannot give.
    #[error("the results do not belong together: {what}")]
    Disagree {
        /// What differs.
        what: String,
    },
    /// Called off.
    #[error("called off")]
    Cancelled,
}

impl FarmError {
    /// What to do about it, where that is known.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        Some(match self {
            Self::Missing { package: "slurm-client", .. } | Self::Program { program: "sbatch", .. } => {
                "Slurm's commands must reach a cluster from here (`sinfo` tells), or --local uses this machine's cores."
                    .to_owned()
            }
            Self::Missing { package, .. } => format!(
                "Install it (Debian, Ubuntu: apt-get install {package}), on every node if a farm is to run it."
            ),
            Self::Job { .. } => {
                "Remove the file; what it told is made anew the next time.".to_owned()
            }
            Self::Damaged { .. } => "Run the same words again: only this is made anew.".to_owned(),
            Self::Disagree { .. } => {
                "Give every node the same release, or have only nodes that agree: --partition."
                    .to_owned()
            }
            _ => return None,
        })
    }

    /// Whether the input is wrong, so that trying again cannot help.
    #[must_use]
    pub fn is_the_inputs(&self) -> bool {
        matches!(self, Self::Score { .. })
    }
}

/// Tells on which file the system failed.
pub(crate) trait During<T> {
    fn during(self, action: &'static str, path: &Path) -> Result<T, FarmError>;
}

impl<T> During<T> for io::Result<T> {
    fn during(self, action: &'static str, path: &Path) -> Result<T, FarmError> {
        self.map_err(|source| FarmError::Io { action, path: path.to_owned(), source })
    }
}
