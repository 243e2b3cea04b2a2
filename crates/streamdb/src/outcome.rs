//! How a verb ends when it does not succeed: a message, a remedy, and the exit status they mean.

use std::io::{self, Write};
use std::process::ExitCode;

use streamdb::{BackupError, KeyError, OpenError, ReadError};

/// A verb that did not succeed.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: Kind,
    error: String,
    remedy: String,
}

/// What a failure means to a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A check failed, a condition did not hold, or the key is not there: status 1.
    No,
    /// Wrong use or bad input: status 2.
    Wrong,
    /// The environment lacks something: status 3.
    Lacking,
}

impl Failure {
    pub(crate) fn new(kind: Kind, error: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { kind, error: error.into(), remedy: remedy.into() }
    }

    /// A failure of writing the output, which mostly means that whoever read it has gone.
    pub(crate) fn output(error: &io::Error) -> Self {
        Self::new(
            Kind::Lacking,
            format!("could not write the output: {error}"),
            "see that the disk has room and that the next program in the pipe reads to the end",
        )
    }

    pub(crate) const fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn print(&self) {
        let mut out = io::stderr().lock();
        // With the error output gone too there is nobody left to tell.
        let _ = writeln!(out, "streamdb: {}", self.error);
        if !self.remedy.is_empty() {
            let _ = writeln!(out, "  {}", self.remedy);
        }
    }

    pub(crate) fn status(&self) -> ExitCode {
        ExitCode::from(match self.kind {
            Kind::No => 1,
            Kind::Wrong => 2,
            Kind::Lacking => 3,
        })
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        let kind = match error {
            OpenError::Missing { .. } => Kind::Wrong,
            OpenError::Damaged { .. } | OpenError::IndexMissing { .. } => Kind::No,
            _ => Kind::Lacking,
        };
        Self::new(kind, error.to_string(), error.remedy())
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        Self::new(Kind::No, error.to_string(), error.remedy())
    }
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        let kind = match error {
            BackupError::Exists { .. } => Kind::Wrong,
            BackupError::Read(_) => Kind::No,
            _ => Kind::Lacking,
        };
        Self::new(kind, error.to_string(), error.remedy())
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        Self::new(Kind::Wrong, error.to_string(), "")
    }
}
