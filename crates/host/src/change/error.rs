//! Why a host could not be changed.

use std::io;
use std::path::PathBuf;

/// What was tried, on what, and what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// Another apply or revert is at work.
    #[error(
        "another `archibald host` is at work on this host, or a command that a killed one started: wait for it to end"
    )]
    Busy,
    /// A file is neither as it was found nor as it was made.
    #[error(
        "{path} was edited by somebody else since, and nothing was touched: put your change into a file \
         of your own and undo it here, or take what is there with --force"
    )]
    Edited {
        /// The file.
        path: String,
    },
    /// A link or a directory where a file should be.
    #[error(
        "{path} is not a plain file, and nothing was touched: `archibald host plan` needs one there"
    )]
    NotAFile {
        /// Its path.
        path: String,
    },
    /// The kernel took the value and does not act on it.
    #[error(
        "{path}: {wanted} was written and the kernel answers {answer:?}; `archibald host revert` takes back what was done"
    )]
    NotInForce {
        /// The kernel's file.
        path: String,
        /// What was written.
        wanted: String,
        /// What it says now.
        answer: String,
    },
    /// A command failed.
    #[error("{command}: {reason}; the files are changed, and the same again goes on from here")]
    Command {
        /// The command.
        command: String,
        /// What it said.
        reason: String,
    },
    /// The journal cannot be read.
    #[error(
        "{path} is damaged ({reason}): what was changed is listed there as far as it can be read"
    )]
    Journal {
        /// The journal.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The system refused.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl ChangeError {
    /// For `map_err`.
    pub(super) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    /// Whether it is the host's state, and not its means, that stands in the way.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Edited { .. } | Self::NotAFile { .. } | Self::NotInForce { .. })
    }
}
