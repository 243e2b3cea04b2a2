//! The checks that Linux audio people know, with the verdicts that their tools give: rtcqs 0.6.7 and
//! realtimeconfigquickscan. Where the two judge differently, each has a row of its own.
//!
//! A scan compares; it does not judge this project's machine. What must hold there is the list of
//! `archibald check`, and what a host is ready for is told by [`crate::readiness`]: rtcqs wants the
//! processor's protections off, for one, and this project does not.

mod devices;
mod kernel;
mod rights;

use serde::{Deserialize, Serialize};

use crate::Root;
use crate::facts::{Facts, NotAHost};

/// A tool whose check a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tool {
    /// rtcqs, the Python one.
    Rtcqs,
    /// realtimeconfigquickscan, the Perl one that rtcqs came from.
    QuickScan,
}

impl Tool {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rtcqs => "rtcqs",
            Self::QuickScan => "quickscan",
        }
    }
}

/// What a tool says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// `[ OK ]`, "good".
    Good,
    /// `[ WARNING ]`, "not good".
    Warning,
    /// It says nothing, because there is nothing to look at.
    Nothing,
}

/// A check with its verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// rtcqs's own name of the check, where it has it: `swappiness`.
    pub id: String,
    /// For people.
    pub title: String,
    /// Whose check this is.
    pub tools: Vec<Tool>,
    /// What they say.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// The file that says so.
    pub file: String,
    /// What to do about a warning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

const RTCQS: &[Tool] = &[Tool::Rtcqs];
const QUICKSCAN: &[Tool] = &[Tool::QuickScan];
const BOTH: &[Tool] = &[Tool::Rtcqs, Tool::QuickScan];

impl Row {
    fn new(id: &str, title: &str, tools: &[Tool], file: impl Into<String>) -> Self {
        Self {
            id: id.to_owned(),
            title: title.to_owned(),
            tools: tools.to_vec(),
            verdict: Verdict::Nothing,
            found: "nothing to look at".to_owned(),
            file: file.into(),
            remedy: None,
        }
    }

    /// What was found, whether that is good, and what to do where it is not.
    fn judge(self, found: impl Into<String>, good: bool, remedy: &str) -> Self {
        Self {
            verdict: if good { Verdict::Good } else { Verdict::Warning },
            found: found.into(),
            remedy: (!good).then(|| remedy.to_owned()),
            ..self
        }
    }
}

/// Every check of both tools, in rtcqs's order.
///
/// # Errors
/// [`NotAHost`] as [`Facts::read`].
pub fn scan(root: &Root) -> Result<Vec<Row>, NotAHost> {
    let facts = Facts::read(root)?;
    let mut rows = rights::rows(root, &facts);
    rows.extend(kernel::rows(root, &facts));
    rows.extend(devices::rows(root, &facts));
    Ok(rows)
}
