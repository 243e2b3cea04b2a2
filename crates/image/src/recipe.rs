//! What an image is made from: the values a caller fills in. How they are turned into an image is
//! in `debian`, `ext4` and `boot`.

use std::path::PathBuf;

use crate::{GuestFile, Lock};

/// The distribution part of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    suite: String,
    packages: Vec<String>,
    mirror: Option<String>,
}

/// A recipe that apt could not understand.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// Not a Debian package name.
    #[error(
        "`{name}` is no package name: use lower-case letters, digits, `+`, `-` and `.`, starting with a letter or digit"
    )]
    PackageName {
        /// The word that was given.
        name: String,
    },
    /// Not a mirror address that apt takes.
    #[error(
        "mirror `{mirror}` is no address: give a URL such as http://HOST/debian, without spaces"
    )]
    Mirror {
        /// The word that was given.
        mirror: String,
    },
}

impl Recipe {
    /// Debian 13 with these packages and their dependencies over the minimal base system. The order
    /// and repetition of names do not matter. Without a mirror, apt's own configuration of the host
    /// or mmdebstrap's default decides.
    pub fn debian(
        packages: impl IntoIterator<Item = String>,
        mirror: Option<String>,
    ) -> Result<Self, RecipeError> {
        let _ = (packages.into_iter().count(), mirror);
        unimplemented_yet()
    }

    /// The Debian release's name.
    pub fn suite(&self) -> &str {
        &self.suite
    }

    /// The packages asked for, sorted, each once.
    pub fn packages(&self) -> &[String] {
        &self.packages
    }

    /// The mirror asked for.
    pub fn mirror(&self) -> Option<&str> {
        self.mirror.as_deref()
    }
}

/// Reads a package list: names separated by white space or commas, comments from `#` to the line's end.
pub fn package_list(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| line.split('#').next())
        .flat_map(|line| line.split(|c: char| c.is_whitespace() || c == ','))
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The small initrd that replaces the distribution's.
#[derive(Debug, Clone)]
pub struct Initrd {
    /// The script or program that becomes `/init`.
    pub init: PathBuf,
    /// Kernel modules by name (`virtio_blk`); their dependencies come along.
    pub modules: Vec<String>,
}

/// Everything a build needs.
#[derive(Debug, Clone)]
pub struct Request {
    /// The distribution part.
    pub recipe: Recipe,
    /// Versions to hold to, from an earlier build.
    pub lock: Option<Lock>,
    /// Refuse an outcome that differs from `lock` in any package.
    pub locked: bool,
    /// Install the packages anew although the cache has them, to get newer versions.
    pub refresh: bool,
    /// The project's own files over the distribution's, binaries included.
    pub guest: Vec<GuestFile>,
    /// The small initrd; without it only the distribution's own is provided.
    pub initrd: Option<Initrd>,
}

fn unimplemented_yet<T, E>() -> Result<T, E> {
    std::process::abort()
}
