//! Debian's packages in a directory, by mmdebstrap: downloading, installing, holding to a lock and
//! cleaning up. The shell scripts beside this file run at mmdebstrap's hooks. What becomes of the
//! directory is `ext4`'s work.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::child::{Isolation, Watched, fresh_log};
use crate::digest::sha256;
use crate::error::During;
use crate::{BuildError, Cancel, Lock, Package, Progress, Recipe, Stage, Tools, space};

const SETUP: &str = include_str!("debian/setup.sh");
const EXTRACT: &str = include_str!("debian/extract.sh");
const ESSENTIAL: &str = include_str!("debian/essential.sh");
const CUSTOMIZE: &str = include_str!("debian/customize.sh");
const CLEAN: &str = include_str!("debian/clean.sh");

/// Installs a recipe's packages.
pub(crate) struct Installer<'a> {
    pub(crate) tools: &'a Tools,
    pub(crate) isolation: Isolation,
    pub(crate) downloads: &'a Downloads,
    pub(crate) logs: &'a Path,
    pub(crate) progress: &'a dyn Progress,
    pub(crate) cancel: &'a Cancel,
}

impl Installer<'_> {
    /// Installs into `work/root`, which must not exist, and says what was installed.
    pub(crate) fn install(
        &self,
        recipe: &Recipe,
        lock: Option<&Lock>,
        locked: bool,
        work: &Path,
    ) -> Result<Vec<Package>, BuildError> {
        self.progress.stage(Stage::Packages);
        self.downloads.verify(self.cancel)?;
        if let Some(lock) = lock {
            let preferences = work.join("preferences");
            fs::write(&preferences, lock.preferences()).during("write", &preferences)?;
        }
        if let Some(lock) = lock.filter(|_| locked) {
            let list = work.join("locked");
            fs::write(&list, versions(lock.packages())).during("write", &list)?;
        }
        let result = self.mmdebstrap(recipe, work);
        self.downloads.keep(&work.join("root/var/cache/apt/archives"), self.cancel)?;
        if let (Err(BuildError::Command { .. }), Some(lock)) = (&result, lock) {
            early_drift(lock, work)?;
        }
        result?;

        let packages = installed(work)?;
        if let Some(lock) = lock.filter(|_| locked) {
            let drift = lock.drift(&packages);
            if !drift.is_empty() {
                return Err(BuildError::Drift { packages: drift });
            }
        }
        self.downloads.compare(&packages)?;
        self.clean(&work.join("root"))?;
        Ok(packages)
    }

    fn mmdebstrap(&self, recipe: &Recipe, work: &Path) -> Result<(), BuildError> {
        let scratch = work.join("tmp");
        fs::create_dir(&scratch).during("create", &scratch)?;
        let mut command = self.isolation.command(self.tools, "mmdebstrap")?;
        command
            .args(["--verbose", "--mode=root", "--format=directory", "--variant=minbase"])
            .args(["--architectures=amd64", "--components=main"])
            .arg("--skip=download/empty,essential/unlink,cleanup/apt/cache")
            .arg(format!("--setup-hook={SETUP}"))
            .arg(format!("--extract-hook={EXTRACT}"))
            .arg(format!("--essential-hook={ESSENTIAL}"))
            .arg(format!("--customize-hook={CUSTOMIZE}"))
            .env("TMPDIR", &scratch)
            .env("ARCHIBALD_WORK", work)
            .env("ARCHIBALD_DEBS", &self.downloads.dir);
        if !recipe.packages().is_empty() {
            command.arg(format!("--include={}", recipe.packages().join(",")));
        }
        command.arg(recipe.suite()).arg(work.join("root")).args(recipe.mirror());

        let log = fresh_log(self.logs, "packages.log")?;
        let watched = Watched {
            action: "installing the packages",
            program: "mmdebstrap",
            log: &log,
            cancel: self.cancel,
        };
        let mut steps = Steps::default();
        watched
            .run(&mut command, |line| {
                if let Some(needed) = space_needed(line) {
                    // The directory becomes a file system of its size beside it.
                    steps.needed = Some(needed);
                    space::require(work, needed * 2)?;
                }
                if let Some(done) = steps.see(line) {
                    self.progress.fraction(done);
                }
                if let Some(detail) = detail(line) {
                    self.progress.detail(detail);
                }
                Ok(())
            })
            .map_err(|error| match error {
                BuildError::NoSpace { dir, needed: None, available } => BuildError::NoSpace {
                    dir,
                    needed: steps.needed.map(|needed| needed * 2),
                    available,
                },
                other => other,
            })
    }

    fn clean(&self, root: &Path) -> Result<(), BuildError> {
        let mut command = self.isolation.command(self.tools, "sh")?;
        command.args(["-c", CLEAN, "clean"]).arg(root);
        let log = fresh_log(self.logs, "clean.log")?;
        Watched { action: "cleaning up", program: "sh", log: &log, cancel: self.cancel }
            .run(&mut command, |_| Ok(()))
    }
}

/// Lines of `name version`, sorted by byte as the hook's `sort` does.
fn versions(packages: &[Package]) -> String {
    let lines: BTreeSet<String> =
        packages.iter().map(|package| format!("{} {}\n", package.name, package.version)).collect();
    lines.into_iter().collect()
}

/// If the hook refused what apt would install: which packages they are.
fn early_drift(lock: &Lock, work: &Path) -> Result<(), BuildError> {
    let Ok(text) = fs::read_to_string(work.join("candidates")) else { return Ok(()) };
    let candidates: BTreeMap<&str, &str> =
        text.lines().filter_map(|line| line.split_once(' ')).collect();
    let packages: Vec<_> = lock
        .packages()
        .iter()
        .map(|package| crate::Drift {
            name: package.name.clone(),
            expected: Some(package.version.clone()),
            found: candidates.get(package.name.as_str()).map(|version| (*version).to_owned()),
        })
        .filter(|drift| drift.expected != drift.found)
        .collect();
    if packages.is_empty() { Ok(()) } else { Err(BuildError::Drift { packages }) }
}

/// What the customize hook wrote down.
fn installed(work: &Path) -> Result<Vec<Package>, BuildError> {
    let read = |name: &str| {
        let path = work.join(name);
        fs::read_to_string(&path).during("read", &path)
    };
    let records = read("records")?;
    let checksums = checksums(&records);
    let mut packages = Vec::new();
    for line in read("installed")?.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [name, version, architecture] = words[..] else { continue };
        let sha256 = checksums.get(&(name, version, architecture));
        let sha256 = sha256.ok_or_else(|| {
            io::Error::other(format!("apt has no checksum of {name} {version} {architecture}"))
        });
        packages.push(Package {
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: architecture.to_owned(),
            sha256: (*sha256.during("read", &work.join("records"))?).to_owned(),
        });
    }
    packages.sort();
    Ok(packages)
}

/// Name, version, architecture to SHA-256, out of `apt-cache show`. The records that come from
/// dpkg's status have no checksum and are passed over.
fn checksums(records: &str) -> BTreeMap<(&str, &str, &str), &str> {
    records
        .split("\n\n")
        .filter_map(|record| {
            let field = |name: &str| {
                record.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            };
            let key = (field("Package")?, field("Version")?, field("Architecture")?);
            Some((key, field("SHA256")?))
        })
        .collect()
}

/// How far dpkg is: every package is unpacked once and set up once.
#[derive(Default)]
struct Steps {
    total: Option<u32>,
    done: u32,
    needed: Option<u64>,
}

impl Steps {
    fn see(&mut self, line: &str) -> Option<f64> {
        if let Some(packages) = newly_installed(line) {
            (self.total, self.done) = (Some(packages * 2), 0);
        }
        if line.starts_with("Unpacking ") || line.starts_with("Setting up ") {
            self.done += 1;
            let total = self.total?;
            return Some(f64::from(self.done.min(total)) / f64::from(total.max(1)));
        }
        None
    }
}

/// `0 upgraded, 425 newly installed, ...` (apt 2) or `Upgrading: 0, Installing: 425, ...` (apt 3).
fn newly_installed(line: &str) -> Option<u32> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    words.windows(2).find_map(|pair| match pair {
        [count, "newly"] => count.parse().ok(),
        ["Installing:", count] => count.trim_end_matches(',').parse().ok(),
        _ => None,
    })
}

/// `After this operation, 2,098 MB of additional disk space will be used.` (apt 2) or
/// `Space needed: 2098 MB / 78.5 GB available` (apt 3), in bytes.
fn space_needed(line: &str) -> Option<u64> {
    let line = line.trim();
    let rest = line
        .strip_prefix("After this operation, ")
        .filter(|rest| rest.contains("additional disk space"))
        .or_else(|| line.strip_prefix("Space needed: "))?;
    let mut words = rest.split_ascii_whitespace();
    let number: f64 = words.next()?.replace(',', "").parse().ok()?;
    let unit = match words.next()? {
        "B" => 1.0,
        "kB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        _ => return None,
    };
    Some((number * unit) as u64)
}

/// The part of a line of mmdebstrap, apt or dpkg that is worth showing.
fn detail(line: &str) -> Option<&str> {
    let shown = ["Get:", "Unpacking ", "Setting up ", "Processing triggers ", "update-initramfs:"];
    line.strip_prefix("I: ")
        .filter(|text| !text.starts_with("running --"))
        .or_else(|| shown.iter().any(|start| line.starts_with(start)).then_some(line))
        .map(str::trim_end)
}

/// The .deb files that were downloaded before, with their checksums in `SHA256SUMS`. apt takes a
/// file of the right size for the right one, so they are compared before apt sees them.
pub(crate) struct Downloads {
    dir: PathBuf,
}

impl Downloads {
    pub(crate) fn open(dir: PathBuf) -> Result<Self, BuildError> {
        fs::create_dir_all(&dir).during("create", &dir)?;
        Ok(Self { dir })
    }

    /// Removes what is not as it was written down, and what was not written down.
    fn verify(&self, cancel: &Cancel) -> Result<(), BuildError> {
        let sums = self.sums();
        for (name, path) in debs(&self.dir)? {
            let known = sums.get(&name);
            if known.is_none_or(|sum| sha256(&path, cancel, |_| ()).ok().as_ref() != Some(sum)) {
                if cancel.is_cancelled() {
                    return Err(BuildError::Cancelled);
                }
                fs::remove_file(&path).during("remove", &path)?;
            }
        }
        Ok(())
    }

    /// Takes over what apt has downloaded and verified, also from a build that failed.
    pub(crate) fn keep(&self, archives: &Path, cancel: &Cancel) -> Result<(), BuildError> {
        let mut sums = self.sums();
        let known = sums.len();
        for (name, path) in debs(archives)? {
            let kept = self.dir.join(&name);
            if kept.exists() && sums.contains_key(&name) {
                continue;
            }
            sums.insert(name, sha256(&path, cancel, |_| ())?);
            match fs::hard_link(&path, &kept) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(error).during("link", &kept);
                }
                _ => {}
            }
        }
        if sums.len() == known { Ok(()) } else { self.write(&sums) }
    }

    /// Compares the files that were installed from with the archive's signed index.
    fn compare(&self, packages: &[Package]) -> Result<(), BuildError> {
        let mut sums = self.sums();
        let wrong: Vec<String> = packages
            .iter()
            .map(|package| (deb_name(package), &package.sha256))
            .filter(|(name, sum)| sums.get(name).is_some_and(|kept| kept != *sum))
            .map(|(name, _)| name)
            .collect();
        if wrong.is_empty() {
            return Ok(());
        }
        for name in &wrong {
            sums.remove(name);
            let path = self.dir.join(name);
            fs::remove_file(&path).during("remove", &path)?;
        }
        self.write(&sums)?;
        Err(BuildError::Download { files: wrong })
    }

    /// Removes what none of `packages` was installed from.
    pub(crate) fn prune(&self, packages: &[Package]) -> Result<(), BuildError> {
        let wanted: BTreeSet<String> = packages.iter().map(deb_name).collect();
        let mut sums = self.sums();
        sums.retain(|name, _| wanted.contains(name));
        for (name, path) in debs(&self.dir)? {
            if !wanted.contains(&name) {
                fs::remove_file(&path).during("remove", &path)?;
            }
        }
        self.write(&sums)
    }

    fn list(&self) -> PathBuf {
        self.dir.join("SHA256SUMS")
    }

    /// In the format of sha256sum; what cannot be read counts as not written down.
    fn sums(&self) -> BTreeMap<String, String> {
        fs::read_to_string(self.list())
            .unwrap_or_default()
            .lines()
            .filter_map(|line| line.split_once("  "))
            .map(|(sum, name)| (name.to_owned(), sum.to_owned()))
            .collect()
    }

    fn write(&self, sums: &BTreeMap<String, String>) -> Result<(), BuildError> {
        let text: String = sums.iter().map(|(name, sum)| format!("{sum}  {name}\n")).collect();
        let beside = self.dir.join("SHA256SUMS.new");
        fs::write(&beside, text).during("write", &beside)?;
        fs::rename(&beside, self.list()).during("write", &self.list())
    }
}

fn debs(dir: &Path) -> Result<Vec<(String, PathBuf)>, BuildError> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.during("read", dir)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.during("read", dir)?;
        if let Ok(name) = entry.file_name().into_string() {
            if name.ends_with(".deb") {
                found.push((name, entry.path()));
            }
        }
    }
    Ok(found)
}

/// How apt names a package's file (`QuoteString` in apt-pkg/acquire-item.cc).
fn deb_name(package: &Package) -> String {
    let version = package.version.replace(':', "%3a");
    format!("{}_{version}_{}.deb", package.name, package.architecture)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_generations_of_apt_are_understood() {
        let two = "After this operation, 2,098 MB of additional disk space will be used.";
        let three = "  Space needed: 2098 MB / 78.5 GB available";
        assert_eq!(space_needed(two), Some(2_098_000_000));
        assert_eq!(space_needed(three), Some(2_098_000_000));
        assert_eq!(space_needed("After this operation, 3 MB disk space will be freed."), None);
        let two = "0 upgraded, 425 newly installed, 0 to remove and 0 not upgraded.";
        assert_eq!(newly_installed(two), Some(425));
        assert_eq!(newly_installed("  Upgrading: 0, Installing: 425, Removing: 0"), Some(425));
    }

    #[test]
    fn progress_counts_unpacking_and_setting_up() {
        let mut steps = Steps::default();
        assert_eq!(steps.see("Setting up libc6 (2.41) ..."), None);
        steps.see("0 upgraded, 2 newly installed, 0 to remove and 0 not upgraded.");
        assert_eq!(steps.see("Unpacking git (1) ..."), Some(0.25));
        assert_eq!(steps.see("Setting up git (1) ..."), Some(0.5));
    }

    #[test]
    fn checksums_come_from_the_index_and_not_from_dpkg() {
        let records = "Package: a\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n\n\
                       Package: a\nArchitecture: all\nVersion: 1\nSHA256: 0123\n";
        assert_eq!(checksums(records)[&("a", "1", "all")], "0123");
    }

    #[test]
    fn files_are_named_as_apt_names_them() {
        let package = Package {
            name: "bsdutils".into(),
            version: "1:2.41.5-0+deb13u1".into(),
            architecture: "amd64".into(),
            sha256: String::new(),
        };
        assert_eq!(deb_name(&package), "bsdutils_1%3a2.41.5-0+deb13u1_amd64.deb");
    }

    #[test]
    fn a_download_that_changed_is_removed_and_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        let archives = dir.path().join("archives");
        fs::create_dir(&archives).unwrap();
        for name in ["good.deb", "flipped.deb"] {
            fs::write(archives.join(name), name).unwrap();
        }
        let downloads = Downloads::open(dir.path().join("debs")).unwrap();
        downloads.keep(&archives, &Cancel::new()).unwrap();
        // The archives are hard links: replace the name, as a damaged copy would.
        fs::remove_file(downloads.dir.join("flipped.deb")).unwrap();
        fs::write(downloads.dir.join("flipped.deb"), "flopped.deb").unwrap();
        fs::write(downloads.dir.join("stranger.deb"), "?").unwrap();
        downloads.verify(&Cancel::new()).unwrap();
        let left: Vec<String> =
            debs(&downloads.dir).unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(left, ["good.deb"]);
    }
}
