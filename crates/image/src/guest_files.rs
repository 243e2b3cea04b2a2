//! The project's own files in the guest: where each goes, with which mode and owner. Laying them
//! into a file system is `ext4`'s work.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::BuildError;
use crate::digest::Key;
use crate::error::During;

/// One file of the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestFile {
    /// Absolute path in the guest.
    pub path: String,
    /// Permission bits, such as `0o644`; without meaning for a symbolic link.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// What it is.
    pub content: Content,
}

/// What stands at a [`GuestFile`]'s path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A copy of this file of the host.
    File(PathBuf),
    /// These bytes.
    Bytes(Vec<u8>),
    /// A symbolic link to this target.
    Symlink(String),
    /// A directory; one that exists gets the mode and owner given here.
    Directory,
}

/// A `guest/root` directory that could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GuestTreeError {
    /// The directory or something in it could not be read.
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        /// What was read.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A name that cannot be written into the image.
    #[error("{}: {reason}; rename or remove it", .path.display())]
    Name {
        /// The offending path.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// The files under `root` as they should stand in the guest: owned by root, 0755 if the owner may
/// execute them and 0644 otherwise (what git records), symbolic links as they are. Directories are
/// made as needed; those of the distribution keep their mode and owner.
pub fn guest_tree(root: &Path) -> Result<Vec<GuestFile>, GuestTreeError> {
    let mut files = Vec::new();
    walk(root, "", &mut files)?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn walk(dir: &Path, inside: &str, files: &mut Vec<GuestFile>) -> Result<(), GuestTreeError> {
    let read = |path: &Path| {
        let path = path.to_owned();
        move |source| GuestTreeError::Read { path, source }
    };
    for entry in fs::read_dir(dir).map_err(read(dir))? {
        let entry = entry.map_err(read(dir))?;
        let from = entry.path();
        let wrong = |reason| GuestTreeError::Name { path: entry.path(), reason };
        let name = entry.file_name().into_string().map_err(|_| wrong("its name is not UTF-8"))?;
        let path = format!("{inside}/{name}");
        let metadata = fs::symlink_metadata(&from).map_err(read(&from))?;
        let content = if metadata.is_dir() {
            walk(&from, &path, files)?;
            continue;
        } else if metadata.is_symlink() {
            let target = fs::read_link(&from).map_err(read(&from))?;
            let target = target.into_os_string().into_string();
            Content::Symlink(target.map_err(|_| wrong("its target is not UTF-8"))?)
        } else if metadata.is_file() {
            Content::File(from)
        } else {
            return Err(wrong("it is neither file, directory nor symbolic link"));
        };
        let mode = if metadata.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 };
        files.push(GuestFile { path, mode, uid: 0, gid: 0, content });
    }
    Ok(())
}

impl GuestFile {
    /// A program of the host at `from` that the guest runs as `to`.
    pub fn program(from: impl Into<PathBuf>, to: impl Into<String>) -> Self {
        let content = Content::File(from.into());
        Self { path: to.into(), mode: 0o755, uid: 0, gid: 0, content }
    }
}

/// Guest files with their content read: what is hashed is what is written, even if a file changes
/// in between. In order of path, so that directories come before what is in them.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    pub(crate) entries: Vec<Entry>,
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) path: String,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) kind: Kind,
}

#[derive(Debug)]
pub(crate) enum Kind {
    File(Vec<u8>),
    Symlink(String),
    Directory,
}

impl Overlay {
    /// Of two files with one path the later one counts.
    pub(crate) fn load(files: &[GuestFile]) -> Result<Self, BuildError> {
        let mut entries = Vec::new();
        for file in files {
            check_path(&file.path)?;
            let kind = match &file.content {
                Content::File(from) => Kind::File(fs::read(from).during("read", from)?),
                Content::Bytes(bytes) => Kind::File(bytes.clone()),
                Content::Symlink(target) => Kind::Symlink(target.clone()),
                Content::Directory => Kind::Directory,
            };
            if let Kind::Symlink(target) = &kind {
                check_words(&file.path, target)?;
            }
            entries.retain(|entry: &Entry| entry.path != file.path);
            let GuestFile { path, mode, uid, gid, .. } = file.clone();
            entries.push(Entry { path, mode: mode & 0o7777, uid, gid, kind });
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { entries })
    }

    pub(crate) fn add_to(&self, key: &mut Key) {
        for entry in &self.entries {
            key.add(&entry.path).add(format!("{:o} {} {}", entry.mode, entry.uid, entry.gid));
            match &entry.kind {
                Kind::File(bytes) => key.add("file").add(bytes),
                Kind::Symlink(target) => key.add("symlink").add(target),
                Kind::Directory => key.add("directory"),
            };
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.entries
            .iter()
            .map(|entry| match &entry.kind {
                Kind::File(bytes) => bytes.len() as u64,
                _ => 0,
            })
            .sum()
    }
}

fn check_path(path: &str) -> Result<(), BuildError> {
    let components_are_plain = path
        .strip_prefix('/')
        .is_some_and(|rest| rest.split('/').all(|part| !matches!(part, "" | "." | "..")));
    if !components_are_plain {
        let reason = "its path must be absolute, without empty parts, `.` and `..`".to_owned();
        return Err(BuildError::GuestFile { path: path.to_owned(), reason });
    }
    check_words(path, path)
}

/// debugfs reads its script line by line and its words in double quotes.
fn check_words(path: &str, words: &str) -> Result<(), BuildError> {
    if words.is_empty() || words.contains(|c: char| c.is_control() || c == '"') {
        let reason = "double quotes and control characters cannot be written".to_owned();
        return Err(BuildError::GuestFile { path: path.to_owned(), reason });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(path: &str, content: &str, mode: u32) -> GuestFile {
        let content = Content::Bytes(content.into());
        GuestFile { path: path.to_owned(), mode, uid: 0, gid: 0, content }
    }

    fn key(files: &[GuestFile]) -> String {
        let mut key = Key::new("test");
        Overlay::load(files).unwrap().add_to(&mut key);
        key.name()
    }

    #[test]
    fn a_tree_keeps_the_executable_bit_and_links_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let etc = root.path().join("etc");
        fs::create_dir(&etc).unwrap();
        fs::write(etc.join("plain"), "a").unwrap();
        fs::write(etc.join("run"), "b").unwrap();
        fs::set_permissions(etc.join("plain"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(etc.join("run"), fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::symlink("../dev/null", etc.join("gone")).unwrap();
        let files = guest_tree(root.path()).unwrap();
        let seen: Vec<_> = files.iter().map(|file| (file.path.as_str(), file.mode)).collect();
        assert_eq!(seen[1..], [("/etc/plain", 0o644), ("/etc/run", 0o755)]);
        assert_eq!(files[0].content, Content::Symlink("../dev/null".into()));
    }

    #[test]
    fn content_and_mode_change_the_key_and_order_does_not() {
        let (a, b) = (bytes("/a", "1", 0o644), bytes("/b", "2", 0o644));
        assert_eq!(key(&[a.clone(), b.clone()]), key(&[b.clone(), a.clone()]));
        assert_ne!(key(std::slice::from_ref(&a)), key(&[bytes("/a", "2", 0o644)]));
        assert_ne!(key(&[a]), key(&[bytes("/a", "1", 0o755)]));
    }

    #[test]
    fn paths_that_would_leave_the_script_are_refused() {
        for path in ["etc/a", "/", "/etc/../a", "/a//b", "/a\"b", "/a\nb", ""] {
            assert!(Overlay::load(&[bytes(path, "", 0o644)]).is_err(), "{path:?}");
        }
    }

    #[test]
    fn the_later_of_two_wins() {
        let overlay = Overlay::load(&[bytes("/a", "1", 0o644), bytes("/a", "2", 0o644)]).unwrap();
        assert!(matches!(&overlay.entries[..], [Entry { kind: Kind::File(b), .. }] if b == b"2"));
    }
}
