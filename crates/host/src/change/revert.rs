//! Taking the changes back.

use std::fs;
use std::io::ErrorKind;

use super::apply::{lock, run};
use super::files::{self, draft_of};
use super::journal::{Entry, Journal, Phase};
use super::{Activate, ChangeError, Steps, kernel};
use crate::Root;

/// What a revert did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reverted {
    /// What was changed back; none: there was nothing.
    pub restored: Vec<String>,
    /// Files of the kernel that somebody else has set since; they were left alone.
    pub left: Vec<String>,
}

/// Gives back every byte. `force` takes what somebody else wrote into a file meanwhile with it.
///
/// # Errors
/// [`ChangeError::Edited`] before anything is touched when somebody else edited one of the files.
pub fn revert(
    root: &Root,
    force: bool,
    activate: &mut dyn Activate,
    steps: &mut dyn Steps,
) -> Result<Reverted, ChangeError> {
    let _lock = lock(root)?;
    revert_locked(root, force, activate, steps)
}

pub(super) fn revert_locked(
    root: &Root,
    force: bool,
    activate: &mut dyn Activate,
    steps: &mut dyn Steps,
) -> Result<Reverted, ChangeError> {
    let mut reverted = Reverted::default();
    let Some(mut journal) = Journal::read(root)? else {
        // A first journal that was broken off before it had its name.
        Journal::forget(root, steps)?;
        return Ok(reverted);
    };
    if journal.is_gone(root) {
        Journal::forget(root, steps)?;
        return Ok(reverted);
    }
    if !force {
        unedited(root, &journal)?;
    }
    journal.write(root, Phase::Reverting, steps)?;
    for entry in journal.entries.iter().rev() {
        restore(root, entry, &mut reverted, steps)?;
    }
    for directory in journal.made.iter().rev() {
        steps.step(&format!("remove {directory}"));
        // Whoever put something of their own there keeps it.
        let _ = fs::remove_dir(root.path(directory));
    }
    for activation in journal.activations.iter().rev() {
        run(&activation.undo, activate, steps)?;
    }
    Journal::forget(root, steps)?;
    Ok(reverted)
}

/// Every file is as it was made or as it was found.
fn unedited(root: &Root, journal: &Journal) -> Result<(), ChangeError> {
    for entry in &journal.entries {
        let Entry::File { path, before, after } = entry else { continue };
        let now = files::look(&root.path(path), path)?.map(|now| now.bytes);
        let was = before.as_ref().map(|was| &was.bytes);
        // A file of this project's own that is gone is where a revert leads anyway.
        if now.as_ref() != Some(after) && now.as_ref() != was {
            return Err(ChangeError::Edited { path: path.clone() });
        }
    }
    Ok(())
}

fn restore(
    root: &Root,
    entry: &Entry,
    reverted: &mut Reverted,
    steps: &mut dyn Steps,
) -> Result<(), ChangeError> {
    let at = root.path(entry.path());
    match entry {
        Entry::File { path, before, .. } => {
            files::remove(&draft_of(&at), steps)?;
            let now = files::look(&at, path)?;
            if now == *before {
                return Ok(());
            }
            match before {
                Some(was) => files::replace(&at, was, steps)?,
                None => files::remove(&at, steps)?,
            }
        }
        Entry::Directory { path } => {
            steps.step(&format!("remove {path}"));
            match fs::remove_dir(&at) {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                result => result.map_err(ChangeError::file("remove", &at))?,
            }
        }
        Entry::Kernel { path, knob } => {
            let Some(undo) = &knob.undo else {
                // The kernel takes it away with its directory; in a made-up tree it is a file.
                let _ = fs::remove_file(&at);
                return Ok(());
            };
            let back = crate::plan::Knob { reads: undo.clone(), ..knob.clone() };
            if kernel::is_in_force(&at, &back) || !at.exists() {
                return Ok(());
            }
            // What may fail may also have come about in part: fewer pages than were asked for.
            if !kernel::is_in_force(&at, knob) && !knob.may_fail {
                reverted.left.push(path.clone());
                return Ok(());
            }
            steps.step(&format!("write {undo} to {path}"));
            if kernel::write(&at, undo, false).is_err() {
                reverted.left.push(path.clone());
                return Ok(());
            }
        }
    }
    reverted.restored.push(entry.path().to_owned());
    Ok(())
}
