//! What an image is made from: the values a caller fills in. How they are turned into an image is
//! in `debian`, `ext4` and `boot`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::digest::Key;
use crate::{GuestFile, Lock};

/// Raised whenever the same recipe would give another image, so that old ones are not taken for it.
const BUILDER: &str = "1";

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
        let packages: BTreeSet<String> = packages.into_iter().collect();
        if let Some(name) = packages.iter().find(|name| !is_package_name(name)) {
            return Err(RecipeError::PackageName { name: name.clone() });
        }
        if let Some(mirror) = mirror.as_ref().filter(|mirror| !is_mirror(mirror)) {
            return Err(RecipeError::Mirror { mirror: mirror.clone() });
        }
        Ok(Self { suite: "trixie".to_owned(), packages: packages.into_iter().collect(), mirror })
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

    /// A key over everything the caller decides about the distribution part. Versions are in
    /// [`Recipe::base_key`], which is known once they are.
    pub(crate) fn key(&self, lock: Option<&Lock>) -> Key {
        let mut key = Key::new("recipe");
        key.add(BUILDER).add(&self.suite).add(self.mirror.as_deref().unwrap_or_default());
        for package in &self.packages {
            key.add(package);
        }
        if let Some(lock) = lock {
            key.add("lock").add(lock.to_text());
        }
        key
    }

    /// The key of the base that this recipe and exactly these packages make: the same for a build
    /// that found them by itself and for one that was held to them.
    pub(crate) fn base_key(&self, packages: &Lock) -> Key {
        let mut key = self.key(Some(packages));
        key.add("base");
        key
    }
}

// Debian policy 5.6.1 asks for two characters; apt takes the architecture after a colon.
fn is_package_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() >= 2
        && name.starts_with(allowed)
        && name.chars().all(|c| allowed(c) || "+-.:".contains(c))
}

// mmdebstrap takes several forms; a URL is the one whose meaning does not depend on a file's
// existence.
fn is_mirror(mirror: &str) -> bool {
    mirror.split_once("://").is_some_and(|(scheme, rest)| {
        !scheme.is_empty()
            && !rest.is_empty()
            && !mirror.contains(|c: char| c.is_whitespace() || c.is_control())
    })
}

/// Reads a package list: names separated by white space or commas, comments from `#` to the line's
/// end.
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
    /// Kernel modules by name (`virtio_blk`); what they depend on by `modules.dep` comes along.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(packages: &[&str], mirror: Option<&str>) -> Result<Recipe, RecipeError> {
        Recipe::debian(packages.iter().map(|name| (*name).to_owned()), mirror.map(str::to_owned))
    }

    #[test]
    fn order_and_repetition_do_not_change_the_key() {
        let one = recipe(&["git", "curl"], None).unwrap();
        let other = recipe(&["curl", "git", "curl"], None).unwrap();
        assert_eq!(one.key(None).name(), other.key(None).name());
    }

    #[test]
    fn every_part_changes_the_key() {
        let keys = [
            recipe(&["git"], None).unwrap().key(None).name(),
            recipe(&["git", "curl"], None).unwrap().key(None).name(),
            recipe(&["git"], Some("http://mirror.example/debian")).unwrap().key(None).name(),
            recipe(&["git"], None).unwrap().key(Some(&Lock::default())).name(),
            recipe(&["git"], None).unwrap().base_key(&Lock::default()).name(),
        ];
        assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len());
    }

    #[test]
    fn words_that_apt_or_a_shell_would_misread_are_refused() {
        for name in ["", "a", "Git", "git;ls", "-o", "git curl", "../x", "git=1"] {
            assert!(recipe(&[name], None).is_err(), "{name}");
        }
        for mirror in ["", "mirror.example", "http://a b", "http://", "/etc/apt"] {
            assert!(recipe(&["git"], Some(mirror)).is_err(), "{mirror}");
        }
        assert!(recipe(&["libstdc++6", "g++", "libspa-0.2-jack"], None).is_ok());
    }

    #[test]
    fn package_lists_have_comments_commas_and_empty_lines() {
        let text = "# sound\npipewire, wireplumber # the graph\n\n  jackd2\n";
        assert_eq!(package_list(text), ["pipewire", "wireplumber", "jackd2"]);
    }
}
