//! A program's folder: what of it goes into the guest, and what its build makes of it. A build is an
//! experiment of its own, done once and kept by what went in.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use archibald_image::{Cancel, FileLock, Key};
use archibald_machine::Settings;
use archibald_mailbox::{Reply, Request, Task};

use crate::LabError;
use crate::error::During;
use crate::experiment::{self, Patience};
use crate::mailbox::FolderFile;
use crate::snapshot::Snapshot;

/// Bytes that a folder may have: half of what the mailbox has room for.
const LIMIT: u64 = 128 << 20;
/// What no program needs while it runs, and what every run would change.
const LEFT_OUT: [&str; 3] = [".git", "target", "node_modules"];

/// The files of a program, in order of their paths.
#[derive(Debug, Clone, Default)]
pub struct Folder {
    pub(crate) files: Vec<FolderFile>,
}

impl Folder {
    /// What the file of this path in the folder holds.
    #[must_use]
    pub fn content(&self, path: &Path) -> Option<&[u8]> {
        let file = self.files.iter().find(|file| file.path == path);
        file.map(|file| file.content.as_slice())
    }

    /// Reads a folder. `.git`, `target` and `node_modules` are left out; symbolic links are followed.
    ///
    /// # Errors
    /// [`LabError::TooLarge`], or what the system said.
    pub fn read(folder: &Path) -> Result<Self, LabError> {
        let mut files = Vec::new();
        let mut left = LIMIT;
        walk(folder, Path::new(""), &mut files, &mut left)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { files })
    }

    /// Writes its files below another folder.
    ///
    /// # Errors
    /// What the system said.
    pub fn write(&self, to: &Path) -> Result<(), LabError> {
        for file in &self.files {
            let path = to.join(&file.path);
            let folder = path.parent().unwrap_or(to);
            fs::create_dir_all(folder).during("create", folder)?;
            fs::write(&path, &file.content).during("write", &path)?;
            let mode = if file.executable { 0o755 } else { 0o644 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).during("write", &path)?;
        }
        Ok(())
    }

    /// Its content in one name.
    #[must_use]
    pub fn key(&self) -> String {
        let mut key = Key::new("lab folder");
        for file in &self.files {
            key.add(file.path.to_string_lossy().as_bytes());
            key.add([u8::from(file.executable)]).add(&file.content);
        }
        key.name()
    }
}

fn walk(
    root: &Path,
    inside: &Path,
    files: &mut Vec<FolderFile>,
    left: &mut u64,
) -> Result<(), LabError> {
    let dir = root.join(inside);
    for entry in fs::read_dir(&dir).during("read", &dir)? {
        let entry = entry.during("read", &dir)?;
        let (name, from) = (entry.file_name(), entry.path());
        if LEFT_OUT.iter().any(|left_out| name == *left_out) {
            continue;
        }
        let metadata = fs::metadata(&from).during("read", &from)?;
        let path = inside.join(&name);
        if metadata.is_dir() {
            walk(root, &path, files, left)?;
        } else if metadata.is_file() {
            let too_large = || LabError::TooLarge { folder: root.to_owned(), limit: LIMIT };
            *left = left.checked_sub(metadata.len()).ok_or_else(too_large)?;
            let content = fs::read(&from).during("read", &from)?;
            let executable = metadata.permissions().mode() & 0o100 != 0;
            files.push(FolderFile { path, executable, content });
        }
    }
    Ok(())
}

/// Builds a folder inside the machine, or takes what the same build made before.
#[derive(Debug, Clone, Copy)]
pub struct Builder<'a> {
    /// The machine.
    pub snapshot: &'a Snapshot,
    /// What it is told.
    pub settings: &'a Settings,
    /// Where built folders are kept.
    pub cache: &'a Path,
    /// Where the machine's files lie while it runs.
    pub scratch: &'a Path,
}

impl Builder<'_> {
    /// The folder after `command` has run in it; `building` is called when it must.
    ///
    /// # Errors
    /// [`LabError::Scenario`] with the last lines of a build that failed.
    pub fn build(
        &self,
        folder: &Folder,
        command: &str,
        building: impl FnOnce(),
        patience: Patience,
        cancel: &Cancel,
    ) -> Result<Folder, LabError> {
        let mut key = Key::new("lab build");
        key.add(self.snapshot.key()).add(folder.key()).add(command);
        let root = self.cache.join("builds");
        fs::create_dir_all(&root).during("create", &root)?;
        let built = root.join(key.name());
        if built.is_dir() {
            return Folder::read(&built);
        }
        let lock = root.join(format!("{}.lock", key.name()));
        let held = FileLock::take(&lock, cancel, |_| ()).during("lock", &lock)?;
        let _held = held.ok_or(LabError::Cancelled)?;
        if built.is_dir() {
            return Folder::read(&built);
        }
        building();
        let request = Request {
            settings: self.settings.clone(),
            tuned: true,
            seed: 0,
            task: Task::Build { command: command.to_owned() },
        };
        let collected = self.scratch.join(format!("build-{}", key.name()));
        let done = experiment::run(self.snapshot, &request, folder, &collected, patience, cancel)?;
        done.whole(&collected)?;
        let made = collected.join(Reply::FOLDER);
        let partial = root.join(format!("{}.partial", key.name()));
        let _ = fs::remove_dir_all(&partial);
        copy_tree(&made, &partial)?;
        fs::rename(&partial, &built).during("rename", &partial)?;
        let _ = fs::remove_file(&lock);
        Folder::read(&built)
    }
}

/// Scratch and cache may lie on different file systems.
fn copy_tree(from: &Path, to: &Path) -> Result<(), LabError> {
    fs::create_dir_all(to).during("create", to)?;
    for entry in fs::read_dir(from).during("read", from)? {
        let entry = entry.during("read", from)?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type().during("read", from)?;
        if kind.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target).during("copy", &entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_its_content_and_not_its_place() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for dir in [one.path(), other.path()] {
            fs::create_dir(dir.join("sub")).unwrap();
            fs::write(dir.join("sub/a.c"), "int main;").unwrap();
            fs::write(dir.join("run"), "#!/bin/sh").unwrap();
        }
        fs::create_dir(other.path().join(".git")).unwrap();
        fs::write(other.path().join(".git/index"), "x").unwrap();
        let key = |dir: &Path| Folder::read(dir).unwrap().key();
        assert_eq!(key(one.path()), key(other.path()));
        let copy = tempfile::tempdir().unwrap();
        Folder::read(one.path()).unwrap().write(copy.path()).unwrap();
        assert_eq!(key(one.path()), key(copy.path()));
        fs::set_permissions(one.path().join("run"), fs::Permissions::from_mode(0o755)).unwrap();
        assert_ne!(key(one.path()), key(other.path()));
        let files = Folder::read(one.path()).unwrap().files;
        let paths: Vec<&str> = files.iter().filter_map(|file| file.path.to_str()).collect();
        assert_eq!(paths, ["run", "sub/a.c"]);
    }

    #[test]
    fn a_folder_that_is_too_large_is_told_with_its_name() {
        let dir = tempfile::tempdir().unwrap();
        fs::File::create(dir.path().join("samples")).unwrap().set_len(LIMIT + 1).unwrap();
        let error = Folder::read(dir.path()).unwrap_err();
        assert!(matches!(error, LabError::TooLarge { .. }) && error.is_the_scenarios(), "{error}");
    }
}
