//! Why a verb could not do its work. A check that fails is a row, not an error.

use std::io;
use std::path::PathBuf;

/// What was tried, on what, and what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GuestError {
    /// The machine was started without its settings.
    #[error(
        "no settings: none of {tried:?} is there. Start the machine with `archibald up`, which hands \
         them over as the systemd credential archibald.settings"
    )]
    NoSettings {
        /// The files that were looked for.
        tried: Vec<PathBuf>,
    },
    /// The settings are not what this program reads.
    #[error(
        "the settings in {path} cannot be used: {reason}. Host and image may be of different versions: run `archibald image build`"
    )]
    BadSettings {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file could not be read or written.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A template names a value that no setting gives.
    #[error("the template {template} names @{placeholder}@, which no setting gives")]
    UnknownPlaceholder {
        /// The template.
        template: String,
        /// The name between the at signs.
        placeholder: String,
    },
    /// A program that is needed failed or is not there.
    #[error("{program} failed: {reason}")]
    Program {
        /// Its name.
        program: String,
        /// Its status or last words.
        reason: String,
    },
    /// A program could not be given real-time priority, or not be started.
    #[error(transparent)]
    RealTime(#[from] crate::real_time::RealTimeError),
    /// The settings hold secrets, and half of the rows are read as root.
    #[error("this needs root: run it as `sudo archibald-guest`")]
    NotRoot,
    /// /proc cannot be read.
    #[error("{0}: mount /proc")]
    NotAHost(#[from] archibald_host::facts::NotAHost),
    /// Output could not be written.
    #[error("cannot write the report: {0}")]
    Output(#[from] io::Error),
}

impl GuestError {
    /// Exit status: 2 for input that cannot be used, 3 for what the environment lacks.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::BadSettings { .. } | Self::UnknownPlaceholder { .. } | Self::NotRoot => 2,
            _ => 3,
        }
    }

    /// For `map_err`: the failed `action` on `path`.
    pub fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}
