//! Making the changes of a plan.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;

use rustix::fs::{FlockOperation, Mode, OFlags, flock};

use super::files::{self, MODE, draft_of};
use super::journal::{Entry, Journal, Phase, Saved};
use super::revert::revert_locked;
use super::{Activate, ChangeError, Steps, kernel};
use crate::Root;
use crate::plan::Plan;

/// What an apply did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Applied {
    /// Changes that were made now; none: all was in place.
    pub changed: Vec<String>,
    /// Files of the kernel that refused, as they may.
    pub refused: Vec<String>,
}

/// Held while a host is changed. It is given up by name: a process that another thread started
/// meanwhile has a copy of the descriptor, and would keep the lock for as long as it runs.
pub(super) struct Lock(OwnedFd);

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

/// Only one at a time changes a host. The lock is on the root directory itself, so that nothing of it
/// is left behind.
///
/// The commands that bring changes into force have a copy of the descriptor (no `O_CLOEXEC`), and the
/// lock is free when the last copy is closed: an update-grub that outlives a killed apply is not met by
/// a second one, and does not write its menu over that of the revert after it.
pub(super) fn lock(root: &Root) -> Result<Lock, ChangeError> {
    let at = root.directory();
    let failed = |error: rustix::io::Errno| ChangeError::file("lock", at)(error.into());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let fd = rustix::fs::open(at, flags, Mode::empty()).map_err(failed)?;
    match flock(&fd, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Lock(fd)),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(ChangeError::Busy),
        Err(error) => Err(failed(error)),
    }
}

/// Makes the changes of a plan, or what is left of them. A host that was changed by another plan is
/// changed back first.
///
/// # Errors
/// [`ChangeError::Edited`] before anything is touched when somebody else edited one of the files.
pub fn apply(
    root: &Root,
    plan: &Plan,
    activate: &mut dyn Activate,
    steps: &mut dyn Steps,
) -> Result<Applied, ChangeError> {
    let _lock = lock(root)?;
    let journal = match Journal::read(root)? {
        Some(journal)
            if journal.is_of(plan)
                && journal.phase != Phase::Reverting
                && !journal.is_gone(root) =>
        {
            Some(journal)
        }
        Some(_) => {
            revert_locked(root, false, activate, steps)?;
            None
        }
        None => None,
    };
    let fresh = journal.is_none();
    let mut journal = match journal {
        Some(journal) => journal,
        None => Journal::of(root, plan)?,
    };
    unedited(root, &journal)?;
    let done = journal.phase == Phase::Applied;
    if fresh {
        journal.write(root, Phase::Applying, steps)?;
    }
    let mut applied = Applied::default();
    for entry in &journal.entries {
        make(root, entry, &mut applied, steps)?;
    }
    if done && applied.changed.is_empty() {
        return Ok(applied);
    }
    for activation in &journal.activations {
        run(&activation.run, activate, steps)?;
    }
    journal.write(root, Phase::Applied, steps)?;
    Ok(applied)
}

/// Runs a command.
pub(super) fn run(
    command: &[String],
    activate: &mut dyn Activate,
    steps: &mut dyn Steps,
) -> Result<(), ChangeError> {
    let words = command.join(" ");
    steps.step(&format!("run {words}"));
    activate.run(command).map_err(|reason| ChangeError::Command { command: words, reason })
}

/// Every file is as it was found or as it was made, and nothing in between was somebody else's.
fn unedited(root: &Root, journal: &Journal) -> Result<(), ChangeError> {
    for entry in &journal.entries {
        let Entry::File { path, before, after } = entry else { continue };
        let now = files::look(&root.path(path), path)?;
        let is_made = now.as_ref().is_some_and(|now| now.bytes == *after);
        if !is_made && now.as_ref().map(|now| &now.bytes) != before.as_ref().map(|was| &was.bytes) {
            return Err(ChangeError::Edited { path: path.clone() });
        }
        // Made once and gone since is somebody's edit too.
        if journal.phase == Phase::Applied && !is_made {
            return Err(ChangeError::Edited { path: path.clone() });
        }
    }
    Ok(())
}

fn make(
    root: &Root,
    entry: &Entry,
    applied: &mut Applied,
    steps: &mut dyn Steps,
) -> Result<(), ChangeError> {
    let at = root.path(entry.path());
    match entry {
        Entry::File { path, before, after } => {
            files::remove(&draft_of(&at), steps)?;
            if files::look(&at, path)?.is_some_and(|now| now.bytes == *after) {
                return Ok(());
            }
            let (uid, gid) =
                (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
            let new = Saved { bytes: after.clone(), mode: MODE, uid, gid };
            let saved = match before {
                Some(was) => Saved { bytes: after.clone(), ..was.clone() },
                None => new,
            };
            files::replace(&at, &saved, steps)?;
        }
        Entry::Directory { path } => {
            steps.step(&format!("make {path}"));
            match fs::create_dir(&at) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
                result => result.map_err(ChangeError::file("make", &at))?,
            }
        }
        Entry::Kernel { path, knob } => {
            if kernel::is_in_force(&at, knob) {
                return Ok(());
            }
            steps.step(&format!("write {} to {path}", knob.write));
            let written = kernel::write(&at, &knob.write, knob.undo.is_none());
            // Read back, not assumed: an invalid partition is told only there.
            if written.is_err() || !kernel::is_in_force(&at, knob) {
                if knob.may_fail {
                    applied.refused.push(path.clone());
                    return Ok(());
                }
                written.map_err(ChangeError::file("write", &at))?;
                return Err(ChangeError::NotInForce {
                    path: path.clone(),
                    wanted: knob.write.clone(),
                    answer: kernel::answer(&at),
                });
            }
        }
    }
    applied.changed.push(entry.path().to_owned());
    Ok(())
}
