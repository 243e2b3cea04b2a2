//! The file tree that facts are read from: `/` on a host, a made-up one in a test.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// A directory that stands for `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root(PathBuf);

/// A value, with the file that says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact<T> {
    /// What was read.
    pub value: T,
    /// The file, as the host names it.
    pub file: String,
    /// What stands in the file, without the blanks around it.
    pub text: String,
}

/// Why a finding is believed: a file and what stands in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// The file, as the host names it.
    pub file: String,
    /// What stands in it, or that it is not there.
    pub content: String,
}

impl Evidence {
    /// A file with some words of what stands in it.
    pub fn new(file: impl Into<String>, content: impl Into<String>) -> Self {
        Self { file: file.into(), content: content.into() }
    }

    /// A file that is not there.
    pub fn absent(file: impl Into<String>) -> Self {
        Self::new(file, "not there")
    }
}

/// Longest text that evidence repeats; the file itself has the rest.
const SHOWN: usize = 100;

impl<T> Fact<T> {
    /// The file with the beginning of what stands in it.
    #[must_use]
    pub fn evidence(&self) -> Evidence {
        let line = self.text.lines().next().unwrap_or_default();
        let mut shown: String = line.chars().take(SHOWN).collect();
        if shown.len() < self.text.len() {
            shown.push_str(" ...");
        }
        if shown.is_empty() {
            shown.push_str("empty");
        }
        Evidence::new(&self.file, shown)
    }
}

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

    /// Whether this is the running system itself.
    #[must_use]
    pub fn is_this_host(&self) -> bool {
        self.0 == Path::new("/")
    }

    /// The directory that stands for `/`.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.0
    }

    /// Where the absolute `path` really is.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        self.0.join(path.trim_start_matches('/'))
    }

    /// Whether something is there, a link's target included.
    #[must_use]
    pub fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// The whole file; absent or unreadable: `None`.
    #[must_use]
    pub fn bytes(&self, path: &str) -> Option<Vec<u8>> {
        fs::read(self.path(path)).ok()
    }

    /// The whole file as text without the blanks around it; absent or unreadable: `None`.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<String> {
        self.bytes(path).map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// What `parse` makes of the file's text; `None` where there is no file or it says nothing.
    pub fn fact<T>(&self, path: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<Fact<T>> {
        let text = self.text(path)?;
        let value = parse(&text)?;
        Some(Fact { value, file: path.to_owned(), text })
    }

    /// The file's text as a fact.
    #[must_use]
    pub fn line(&self, path: &str) -> Option<Fact<String>> {
        self.fact(path, |text| Some(text.to_owned()))
    }

    /// Names in a directory, those with numbers in their order; absent: none.
    #[must_use]
    pub fn names(&self, path: &str) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.path(path))
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort_by_cached_key(|name| (number_in(name), name.clone()));
        names
    }

    /// What a link says, unresolved.
    #[must_use]
    pub fn link(&self, path: &str) -> Option<String> {
        fs::read_link(self.path(path)).ok()?.into_os_string().into_string().ok()
    }

    /// The last part of what a link says: a driver's name, a group's number.
    #[must_use]
    pub fn link_name(&self, path: &str) -> Option<String> {
        self.link(path)?.rsplit('/').next().map(str::to_owned)
    }
}

/// The first number in a name: `cpu10` stands behind `cpu9`.
fn number_in(name: &str) -> Option<u64> {
    let from = name.find(|c: char| c.is_ascii_digit())?;
    let digits = &name[from..];
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fact_remembers_its_file_and_shows_its_first_line() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("value"), "32\nmore\n").unwrap();
        let root = Root::new(folder.path());
        let fact = root.fact("/value", |text| text.lines().next()?.parse::<u32>().ok()).unwrap();
        assert_eq!((fact.value, fact.evidence()), (32, Evidence::new("/value", "32 ...")));
        assert_eq!(root.fact("/value", |_| None::<u32>), None);
        assert_eq!(root.line("/nothing"), None);
    }

    #[test]
    fn names_stand_in_the_order_of_their_numbers() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["cpu10", "cpu9", "cpufreq"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        assert_eq!(Root::new(folder.path()).names("/"), ["cpufreq", "cpu9", "cpu10"]);
    }
}
