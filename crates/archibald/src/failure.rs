//! How a verb fails: one exit status, one message, one remedy.

use std::fmt::Display;

use archibald_machine::FileError;
use archibald_vm::instance::InstanceError;

/// The meaning of an exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// A check or a verdict failed.
    Failed = 1,
    /// Wrong use or bad input.
    Use = 2,
    /// The environment lacks something.
    Environment = 3,
    /// Called off by Ctrl-C, as shells tell it.
    Interrupted = 130,
}

/// A verb that could not do its work.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
    remedy: Option<String>,
    /// Shown in place of the message when the error can point at lines, one each.
    reports: Vec<miette::Report>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Display) -> Self {
        Self { exit, message: message.to_string(), remedy: None, reports: Vec::new() }
    }

    pub(crate) fn with_remedy(mut self, remedy: impl Display) -> Self {
        self.remedy = Some(remedy.to_string());
        self
    }

    pub(crate) fn interrupted() -> Self {
        Self::new(Exit::Interrupted, "called off; nothing is left running")
    }

    pub(crate) fn exit(&self) -> u8 {
        self.exit as u8
    }

    /// Message and remedy, for a verb that reports failures instead of failing.
    pub(crate) fn words(self) -> (String, String) {
        (self.message, self.remedy.unwrap_or_default())
    }

    pub(crate) fn show(&self) {
        for report in &self.reports {
            crate::terminal::complain(format!("{report:?}").trim_end());
        }
        if !self.reports.is_empty() {
            return;
        }
        crate::terminal::complain(&format!("error: {}", self.message));
        if let Some(remedy) = &self.remedy {
            crate::terminal::complain(&format!("  {remedy}"));
        }
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        let reports = error.problems().iter().cloned().map(Into::into).collect();
        Self { reports, ..Self::new(Exit::Use, error) }
    }
}

impl From<InstanceError> for Failure {
    fn from(error: InstanceError) -> Self {
        let busy = matches!(error, InstanceError::Busy { .. });
        let failure = Self::new(Exit::Environment, error);
        if busy { failure.with_remedy("Wait for it to end, or end it.") } else { failure }
    }
}

/// For the many system calls and processes whose failure is told with what was tried.
pub(crate) trait Context<T> {
    /// What was tried, on what.
    fn context(self, what: impl Display) -> Result<T, Failure>;
}

impl<T, E: Display> Context<T> for Result<T, E> {
    fn context(self, what: impl Display) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(Exit::Environment, format!("{what}: {error}")))
    }
}
