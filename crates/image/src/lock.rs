//! `archibald.lock`: the package versions of one build, so that another gives the same image.
//! Holding apt to them is `debian`'s work.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::fs;
use std::path::{Path, PathBuf};

use crate::{Manifest, Package};

const HEADER: &str = "# archibald.lock 1: name version architecture sha256\n";

/// The packages of an image at their versions, sorted by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lock {
    packages: Vec<Package>,
}

/// A package that is not what the lock says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// Package name.
    pub name: String,
    /// What the lock says; `None` if it does not have the package.
    pub expected: Option<String>,
    /// What apt would install; `None` if nothing.
    pub found: Option<String>,
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".to_owned());
        write!(f, "{}: expected {}, found {}", self.name, word(&self.expected), word(&self.found))
    }
}

/// A lock file that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// The file could not be read.
    #[error("cannot read the lock {}: {source}", .path.display())]
    Read {
        /// The lock file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The file could not be written.
    #[error("cannot write the lock {}: {source}", .path.display())]
    Write {
        /// The lock file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A line that is no pin.
    #[error("{}:{line}: {reason}; write the lock again from a built image", .path.display())]
    Line {
        /// The lock file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl Lock {
    /// The versions of a built image.
    pub fn from_manifest(manifest: &Manifest) -> Self {
        Self::of(manifest.packages.clone())
    }

    pub(crate) fn of(mut packages: Vec<Package>) -> Self {
        packages.sort();
        packages.dedup();
        Self { packages }
    }

    /// Reads a lock file.
    pub fn read(path: &Path) -> Result<Self, LockError> {
        let text = fs::read_to_string(path)
            .map_err(|source| LockError::Read { path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|(line, reason)| LockError::Line {
            path: path.to_owned(),
            line,
            reason,
        })
    }

    /// Writes a lock file, replacing an old one in one step.
    pub fn write(&self, path: &Path) -> Result<(), LockError> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        fs::write(&beside, self.to_text())
            .and_then(|()| fs::rename(&beside, path))
            .map_err(|source| LockError::Write { path: path.to_owned(), source })
    }

    /// The packages, sorted by name.
    pub fn packages(&self) -> &[Package] {
        &self.packages
    }

    pub(crate) fn to_text(&self) -> String {
        let mut text = HEADER.to_owned();
        for Package { name, version, architecture, sha256 } in &self.packages {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name} {version} {architecture} {sha256}");
        }
        text
    }

    fn parse(text: &str) -> Result<Self, (usize, &'static str)> {
        if !text.starts_with(HEADER) {
            return Err((1, "this is no lock of a version that this program knows"));
        }
        let mut packages = Vec::new();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.starts_with('#')) {
            let at = |reason| (index + 1, reason);
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let [name, version, architecture, sha256] = words[..] else {
                return Err(at("expected name, version, architecture and checksum"));
            };
            if sha256.len() != 64 || !sha256.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(at("the checksum is no SHA-256 in hex"));
            }
            packages.push(Package {
                name: name.to_owned(),
                version: version.to_owned(),
                architecture: architecture.to_owned(),
                sha256: sha256.to_owned(),
            });
        }
        Ok(Self::of(packages))
    }

    /// An apt preferences file that holds every package to its version. 1001 is the priority from
    /// which on apt downgrades too (apt_preferences(5)).
    pub(crate) fn preferences(&self) -> String {
        self.packages
            .iter()
            .map(|Package { name, version, .. }| {
                format!("Package: {name}\nPin: version {version}\nPin-Priority: 1001\n\n")
            })
            .collect()
    }

    /// How `found` differs from this lock.
    pub(crate) fn drift(&self, found: &[Package]) -> Vec<Drift> {
        let mut both: BTreeMap<&str, [Option<&Package>; 2]> = BTreeMap::new();
        for package in &self.packages {
            both.entry(&package.name).or_default()[0] = Some(package);
        }
        for package in found {
            both.entry(&package.name).or_default()[1] = Some(package);
        }
        both.into_iter()
            .filter(|(_, [expected, found])| expected != found)
            .map(|(name, [expected, found])| Drift {
                name: name.to_owned(),
                expected: expected.map(|package| describe(package, found)),
                found: found.map(|package| describe(package, expected)),
            })
            .collect()
    }
}

/// The version, and what else tells it from `other` if that has the same one.
fn describe(package: &Package, other: Option<&Package>) -> String {
    match other {
        Some(other) if other.version == package.version => {
            format!("{} ({}, sha256 {})", package.version, package.architecture, package.sha256)
        }
        _ => package.version.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, version: &str) -> Package {
        Package {
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: "amd64".to_owned(),
            sha256: "0".repeat(64),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let lock = Lock::of(vec![package("zsh", "5.9-8"), package("apt", "1:3.0~rc+1")]);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("archibald.lock");
        lock.write(&path).unwrap();
        assert_eq!(Lock::read(&path).unwrap(), lock);
        assert_eq!(lock.packages()[0].name, "apt");
    }

    #[test]
    fn errors_name_the_line() {
        let wrong = |text: &str| Lock::parse(text).unwrap_err().0;
        assert_eq!(wrong("apt 3\n"), 1);
        assert_eq!(wrong(&format!("{HEADER}apt 3 amd64\n")), 2);
        assert_eq!(wrong(&format!("{HEADER}# why\napt 3 amd64 {}\n", "g".repeat(64))), 3);
    }

    #[test]
    fn drift_names_every_package() {
        let lock = Lock::of(vec![package("a", "1"), package("b", "1"), package("c", "1")]);
        let mut other = package("c", "1");
        other.sha256 = "1".repeat(64);
        let drift = lock.drift(&[package("b", "2"), other, package("d", "1")]);
        let lines: Vec<String> = drift.iter().map(ToString::to_string).collect();
        assert_eq!(lines[0], "a: expected 1, found nothing");
        assert_eq!(lines[1], "b: expected 1, found 2");
        assert!(lines[2].starts_with("c: expected 1 (amd64, sha256 000"), "{}", lines[2]);
        assert_eq!(lines[3], "d: expected nothing, found 1");
        assert!(lock.drift(lock.packages()).is_empty());
    }
}
