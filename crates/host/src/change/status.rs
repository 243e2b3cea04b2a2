//! How a host stands: what was changed, and whether it is in force.

use serde::Serialize;

use super::files;
use super::journal::{Entry, Journal, Phase};
use super::{ChangeError, kernel};
use crate::Root;
use crate::plan::Way;

/// How a host stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "state")]
pub enum Standing {
    /// Nothing was changed.
    Untouched,
    /// It was changed for one boot, and that is over.
    Gone,
    /// It was changed.
    Changed {
        /// By files or by the running kernel.
        way: Way,
        /// How far it went.
        phase: Phase,
        /// Each change.
        places: Vec<Place>,
    },
}

/// A changed place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Where.
    pub path: String,
    /// How it stands.
    pub status: Status,
}

/// How a changed place stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it was made.
    Made,
    /// As it was before.
    Before,
    /// Somebody else changed it.
    Edited,
}

impl Status {
    /// For people.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Made => "as made",
            Self::Before => "as before",
            Self::Edited => "EDITED",
        }
    }
}

/// Looks, and changes nothing.
///
/// # Errors
/// A journal or a file that cannot be read.
pub fn status(root: &Root) -> Result<Standing, ChangeError> {
    let Some(journal) = Journal::read(root)? else { return Ok(Standing::Untouched) };
    if journal.is_gone(root) {
        return Ok(Standing::Gone);
    }
    let place =
        |entry: &Entry| Ok(Place { path: entry.path().to_owned(), status: standing(root, entry)? });
    let places = journal.entries.iter().map(place).collect::<Result<_, ChangeError>>()?;
    Ok(Standing::Changed { way: journal.way, phase: journal.phase, places })
}

fn standing(root: &Root, entry: &Entry) -> Result<Status, ChangeError> {
    let at = root.path(entry.path());
    Ok(match entry {
        Entry::File { path, before, after } => {
            let now = files::look(&at, path)?.map(|now| now.bytes);
            if now.as_ref() == Some(after) {
                Status::Made
            } else if now.as_ref() == before.as_ref().map(|was| &was.bytes) {
                Status::Before
            } else {
                Status::Edited
            }
        }
        Entry::Directory { .. } if at.is_dir() => Status::Made,
        Entry::Directory { .. } => Status::Before,
        Entry::Kernel { knob, .. } if kernel::is_in_force(&at, knob) => Status::Made,
        Entry::Kernel { knob, .. } => match &knob.undo {
            Some(undo) => {
                let back = crate::plan::Knob { reads: undo.clone(), ..knob.clone() };
                if kernel::is_in_force(&at, &back) { Status::Before } else { Status::Edited }
            }
            None => Status::Before,
        },
    })
}
