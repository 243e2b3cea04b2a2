//! Files that are replaced as a whole: whoever reads one sees the old bytes or the new ones.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use super::journal::Saved;
use super::{ChangeError, Steps};

/// Mode of a file that was not there before.
pub(super) const MODE: u32 = 0o644;

/// What is at a path: the file with its mode and owner, or nothing.
pub(super) fn look(path: &Path, shown: &str) -> Result<Option<Saved>, ChangeError> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(ChangeError::file("read", path)(error)),
    };
    if !metadata.is_file() {
        return Err(ChangeError::NotAFile { path: shown.to_owned() });
    }
    let bytes = fs::read(path).map_err(ChangeError::file("read", path))?;
    Ok(Some(Saved {
        bytes,
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
    }))
}

/// Where a file is written before it takes its name. The dot keeps it from every program that reads
/// the directory: they take `*.conf`, `*.cfg` or `*.rules`, and none of them hidden files.
pub(super) fn draft_of(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.archibald"))
}

/// Makes the file hold this, directories included.
pub(super) fn replace(
    path: &Path,
    saved: &Saved,
    steps: &mut dyn Steps,
) -> Result<(), ChangeError> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    if !directory.is_dir() {
        steps.step(&format!("make {}", directory.display()));
        fs::create_dir_all(directory).map_err(ChangeError::file("make", directory))?;
    }
    let draft = draft_of(path);
    steps.step(&format!("draft {}", path.display()));
    let write = || {
        let mut file = File::create(&draft)?;
        file.write_all(&saved.bytes)?;
        file.set_permissions(fs::Permissions::from_mode(saved.mode))?;
        let metadata = file.metadata()?;
        if (metadata.uid(), metadata.gid()) != (saved.uid, saved.gid) {
            chown(&draft, Some(saved.uid), Some(saved.gid))?;
        }
        file.sync_all()
    };
    write().map_err(ChangeError::file("write", &draft))?;
    steps.step(&format!("write {}", path.display()));
    fs::rename(&draft, path).map_err(ChangeError::file("write", path))?;
    sync(directory);
    Ok(())
}

/// Takes a file away; one that is gone already is good as well.
pub(super) fn remove(path: &Path, steps: &mut dyn Steps) -> Result<(), ChangeError> {
    if fs::symlink_metadata(path).is_err() {
        return Ok(());
    }
    steps.step(&format!("remove {}", path.display()));
    fs::remove_file(path).map_err(ChangeError::file("remove", path))?;
    sync(path.parent().unwrap_or(Path::new("/")));
    Ok(())
}

/// A name is on the disk when its directory is.
fn sync(directory: &Path) {
    // Some file systems cannot, and are none the worse for it.
    let _ = File::open(directory).and_then(|directory| directory.sync_all());
}
