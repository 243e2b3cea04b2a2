//! How much room a directory's file system has.

use std::path::Path;

use crate::BuildError;

/// Bytes an ordinary user may still write below `dir`; 0 if that cannot be found out.
pub(crate) fn available(dir: &Path) -> u64 {
    rustix::fs::statvfs(dir).map_or(0, |fs| fs.f_bavail.saturating_mul(fs.f_frsize))
}

/// Refuses to start what will not fit: better told before than after minutes of work.
pub(crate) fn require(dir: &Path, needed: u64) -> Result<(), BuildError> {
    let available = available(dir);
    if available < needed {
        return Err(BuildError::NoSpace { dir: dir.to_owned(), needed: Some(needed), available });
    }
    Ok(())
}
