//! This program in the shared folder, so that a node needs nothing of ours: it is static, and finds its files
//! beside itself.

use std::fs;
use std::path::{Path, PathBuf};

use archibald_farm::FarmError;
use archibald_farm::job::Shared;
use archibald_farm::wave::checksum;
use archibald_image::Key;

use super::failure;
use crate::failure::{Context as _, Failure};
use crate::places;

/// What belongs together: a place below the installation, and the file that goes there.
fn files(whole: bool) -> Result<Vec<(PathBuf, PathBuf)>, Failure> {
    let mut files = vec![(PathBuf::from("bin/archibald"), places::this_program()?)];
    if whole {
        for program in places::guest_programs()? {
            let name = program.file_name().unwrap_or_default().to_owned();
            let folder = if name == "archibald-probe" { "lib/archibald" } else { "bin" };
            files.push((Path::new(folder).join(name), program));
        }
        let share = places::share()?;
        let place = PathBuf::from("share/archibald");
        files.push((place.join(places::MACHINE_FILE), share.join(places::MACHINE_FILE)));
        walk(&share, Path::new("guest"), &place, &mut files)?;
    }
    files.sort();
    Ok(files)
}

fn walk(
    root: &Path,
    inside: &Path,
    place: &Path,
    files: &mut Vec<(PathBuf, PathBuf)>,
) -> Result<(), Failure> {
    let folder = root.join(inside);
    for entry in fs::read_dir(&folder).context(folder.display())?.flatten() {
        let inside = inside.join(entry.file_name());
        // A link is one of the image's files, wherever it leads.
        if entry.file_type().context(folder.display())?.is_dir() {
            walk(root, &inside, place, files)?;
        } else {
            files.push((place.join(&inside), entry.path()));
        }
    }
    Ok(())
}

/// The name of everything of ours that decides how an experiment comes out.
pub(super) fn key(whole: bool) -> Result<String, Failure> {
    let mut key = Key::new("farm program");
    for (place, file) in files(whole)? {
        key.add(place.to_string_lossy().as_bytes());
        if file.is_symlink() {
            key.add(fs::read_link(&file).context(file.display())?.to_string_lossy().as_bytes());
        } else {
            key.add(checksum(&file).map_err(failure)?);
        }
    }
    Ok(key.name())
}

/// Puts it there once, and returns the program's path.
pub(super) fn install(shared: &Shared, whole: bool) -> Result<PathBuf, Failure> {
    let name = format!("programs/{}", key(whole)?);
    let files = files(whole)?;
    let fill = |to: &Path| -> Result<(), FarmError> {
        for (place, file) in &files {
            let to = to.join(place);
            let copied =
                fs::create_dir_all(to.parent().unwrap_or(&to)).and_then(|()| copy(file, &to));
            copied.map_err(|source| FarmError::Io {
                action: "copy",
                path: file.clone(),
                source,
            })?;
        }
        Ok(())
    };
    let folder = shared.folder(&name, fill).map_err(failure)?;
    Ok(folder.join("bin/archibald"))
}

/// Links stay links: the image has some.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    if from.is_symlink() {
        return std::os::unix::fs::symlink(fs::read_link(from)?, to);
    }
    fs::copy(from, to).map(drop)
}
