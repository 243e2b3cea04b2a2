//! The file tree that facts are read from and files are written to: `/` in the machine, a made-up
//! one in a test.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A directory that stands for `/`.
#[derive(Debug, Clone)]
pub struct Root(PathBuf);

impl Default for Root {
    fn default() -> Self {
        Self::new("/")
    }
}

impl Root {
    /// The tree below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self(root.into())
    }

    /// Where the absolute `path` really is.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        self.0.join(path.trim_start_matches('/'))
    }

    /// The whole file as text; absent or unreadable: `None`.
    #[must_use]
    pub fn read(&self, path: &str) -> Option<String> {
        fs::read(self.path(path)).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// As [`Root::read`], without the blanks and line ends around it: for one-line kernel files.
    #[must_use]
    pub fn line(&self, path: &str) -> Option<String> {
        self.read(path).map(|text| text.trim().to_owned())
    }

    /// Names in a directory, sorted; absent: none.
    #[must_use]
    pub fn names(&self, path: &str) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.path(path))
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    /// Makes `path` hold `content` with `mode`, and says whether that changed its content.
    ///
    /// The file is replaced as a whole, so that nobody ever reads half of it. What is already right
    /// is left alone: an unchanged file costs no write at every boot.
    ///
    /// # Errors
    /// What the system said.
    pub fn write(&self, path: &str, content: &[u8], mode: u32) -> io::Result<bool> {
        let target = self.path(path);
        if fs::read(&target).is_ok_and(|old| old == content) && !target.is_symlink() {
            if fs::metadata(&target)?.permissions().mode() & 0o7777 != mode {
                fs::set_permissions(&target, fs::Permissions::from_mode(mode))?;
            }
            return Ok(false);
        }
        let directory = target.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(directory)?;
        let mut name = std::ffi::OsString::from(".");
        name.push(target.file_name().unwrap_or_default());
        name.push(".archibald");
        let draft = directory.join(name);
        let _ = fs::remove_file(&draft);
        let mut file = fs::File::create_new(&draft)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(content)?;
        drop(file);
        fs::rename(&draft, &target)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_written_once_and_its_mode_kept_right() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        assert!(root.write("/etc/new/file", b"a", 0o600).unwrap());
        assert!(!root.write("/etc/new/file", b"a", 0o644).unwrap());
        assert!(root.write("/etc/new/file", b"b", 0o644).unwrap());
        let mode = fs::metadata(root.path("/etc/new/file")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
        assert_eq!(root.names("/etc/new"), ["file"]);
    }

    #[test]
    fn a_link_is_replaced_by_a_file() {
        // Debian's /etc/resolv.conf may be a link to a file of a service that does not run here.
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        root.write("/elsewhere", b"x", 0o644).unwrap();
        std::os::unix::fs::symlink("elsewhere", root.path("/resolv.conf")).unwrap();
        assert!(root.write("/resolv.conf", b"x", 0o644).unwrap());
        assert!(!root.path("/resolv.conf").is_symlink());
    }
}
