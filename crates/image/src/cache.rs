//! The directory in which bases, images and downloads are kept: opening, listing, removing, and
//! keeping two builds apart. What a build does is in `build`; what makes a directory whole in
//! `seal`.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::build::{BASE_DISK, IMAGE_DISK};
use crate::error::During;
use crate::seal::{self, Unsound};
use crate::{BuildError, Cancel, FileLock, Hold, Image, Manifest, Progress, Quiet, Stage, Tools};

/// An image cache: `debs/`, `base/<key>/`, `images/<id>/`, and `recipes/<key>`, which names the base
/// that a recipe gave last.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
    pub(crate) tools: Tools,
}

/// What to do when another process is building in the same cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contention {
    /// Wait until it is done ([`crate::Stage::Waiting`]).
    Wait,
    /// Give up with [`BuildError::Busy`].
    Fail,
}

/// A cache directory that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// It could not be created or read.
    #[error("cannot use the cache {}: {source}; choose a directory you may write to", .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// apt and debugfs cannot be told its name.
    #[error("cannot use the cache {}: its path has a double quote or a control character in it; choose another", .path.display())]
    Name {
        /// The directory.
        path: PathBuf,
    },
}

/// An image that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No such image.
    #[error("there is no image `{id}` in {}; list those that are, or build one", .cache.display())]
    Unknown {
        /// The id or its beginning.
        id: String,
        /// The cache directory.
        cache: PathBuf,
    },
    /// Several images begin like this.
    #[error("several images begin with `{id}`: {}; give more of it", .candidates.join(", "))]
    Ambiguous {
        /// The beginning of an id.
        id: String,
        /// The images that begin with it.
        candidates: Vec<String>,
    },
    /// A file is not what the manifest says.
    #[error("{} is damaged: {reason}; build the image again", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The cache could not be read.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// Called off.
    #[error("opening the image was called off")]
    Cancelled,
}

/// An image that was not removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoveError {
    /// A machine stands on it, or a process works with it.
    #[error(
        "image {id} is in use; delete the machine that stands on it, or wait for the command that works with it"
    )]
    InUse {
        /// The image.
        id: String,
    },
    /// There is no such image.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A build is running or the files could not be removed.
    #[error(transparent)]
    Cache(#[from] BuildError),
}

/// The right to change the cache; it ends with the value, also when the process is killed.
pub(crate) struct Guard {
    _lock: FileLock,
}

impl Cache {
    /// The cache in `root`, which is created if need be.
    pub fn open(root: &Path, tools: Tools) -> Result<Self, CacheError> {
        let wrong = |source| CacheError::Directory { path: root.to_owned(), source };
        fs::create_dir_all(root).map_err(wrong)?;
        let root = fs::canonicalize(root).map_err(wrong)?;
        let name = root.to_str();
        if name.is_none_or(|name| name.contains(|c: char| c == '"' || c.is_control())) {
            return Err(CacheError::Name { path: root });
        }
        Ok(Self { root, tools })
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The images of the cache, newest first. Their checksums are not compared, and what has no
    /// readable manifest is left out.
    pub fn list(&self) -> Result<Vec<Image>, CacheError> {
        let dir = self.images();
        let wrong = |source| CacheError::Directory { path: dir.clone(), source };
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(wrong)?,
        };
        let mut images = Vec::new();
        for entry in entries {
            let dir = entry.map_err(wrong)?.path();
            if let Ok(manifest) = seal::read(&dir) {
                images.push(Image::new(dir, manifest));
            }
        }
        images.sort_by(|a, b| {
            let order = |image: &Image| (image.manifest().built, image.id().to_owned());
            order(b).cmp(&order(a))
        });
        Ok(images)
    }

    /// Opens an image by its id or an unambiguous beginning of it, and compares its files with
    /// their checksums unless they have not changed since that was last done.
    pub fn inspect(
        &self,
        id: &str,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Image, OpenError> {
        let found = self.resolve(id)?;
        let hold = Hold::of(found.dir()).ok();
        match self.verify(found.dir(), progress, cancel) {
            Ok(manifest) => Ok(Image::new(found.dir().to_owned(), manifest).held_by(hold)),
            Err(Unsound::Absent) => {
                Err(OpenError::Unknown { id: id.to_owned(), cache: self.root.clone() })
            }
            Err(Unsound::Damaged { path, reason }) => Err(OpenError::Damaged { path, reason }),
            Err(Unsound::Cancelled) => Err(OpenError::Cancelled),
        }
    }

    /// The manifest of the image in `dir` if its files and the base under them are whole.
    pub(crate) fn verify(
        &self,
        dir: &Path,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Manifest, Unsound> {
        let manifest = seal::verify(dir, progress, cancel)?;
        let layer = |reason: &str| {
            let (path, reason) = (dir.join(IMAGE_DISK), reason.to_owned());
            Unsound::Damaged { path, reason }
        };
        let base = match seal::verify(&self.base(&manifest.base), progress, cancel) {
            Err(Unsound::Absent) => return Err(layer("the base that it is a layer over is gone")),
            result => result?,
        };
        let found = base.artifacts.get(BASE_DISK).map(|disk| &disk.sha256);
        if found.is_none() || found != manifest.base_disk.as_ref() {
            return Err(layer("it is a layer over another base"));
        }
        Ok(manifest)
    }

    /// Removes an image that is not among those in use nor held by a process, and bases that no image stands on any more;
    /// says how many bytes that freed.
    pub fn remove(&self, id: &str, in_use: &BTreeSet<String>) -> Result<u64, RemoveError> {
        let image = self.resolve(id)?;
        if in_use.contains(image.id()) {
            return Err(RemoveError::InUse { id: image.id().to_owned() });
        }
        let _guard = self.lock(Contention::Fail, &Quiet, &Cancel::new())?;
        match self.discard_image(image.dir())? {
            Some(freed) => Ok(freed + self.discard_idle_bases()?),
            None => Err(RemoveError::InUse { id: image.id().to_owned() }),
        }
    }

    /// Removes all images but the `keep` newest, those in use and those that a process holds
    /// ([`Hold`]), and bases that no image stands on any more; says how many bytes that freed. Every change of a guest file leaves an image
    /// behind.
    pub fn prune(&self, keep: usize, in_use: &BTreeSet<String>) -> Result<u64, RemoveError> {
        let _guard = self.lock(Contention::Fail, &Quiet, &Cancel::new())?;
        let mut freed = 0;
        for image in self.list().map_err(OpenError::from)?.iter().skip(keep) {
            if !in_use.contains(image.id()) {
                freed += self.discard_image(image.dir())?.unwrap_or(0);
            }
        }
        Ok(freed + self.discard_idle_bases()?)
    }

    /// Removes an image unless a process holds it. Who comes for it meanwhile waits, and finds it gone.
    fn discard_image(&self, dir: &Path) -> Result<Option<u64>, BuildError> {
        match Hold::alone(dir) {
            Ok(Some(_alone)) => self.discard(dir).map(Some),
            Ok(None) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Some(0)),
            Err(error) => Err(error).during("lock", dir),
        }
    }

    fn discard_idle_bases(&self) -> Result<u64, RemoveError> {
        let images = self.list().map_err(OpenError::from)?;
        let bases = self.bases();
        let mut freed = 0;
        for entry in fs::read_dir(&bases).during("read", &bases)? {
            let entry = entry.during("read", &bases)?;
            let key = entry.file_name();
            if !images.iter().any(|image| image.manifest().base.as_str() == key) {
                freed += self.discard(&entry.path())?;
            }
        }
        Ok(freed)
    }

    fn resolve(&self, id: &str) -> Result<Image, OpenError> {
        let mut found: Vec<Image> =
            self.list()?.into_iter().filter(|image| image.id().starts_with(id)).collect();
        match (found.pop(), found.is_empty()) {
            (Some(image), true) if !id.is_empty() => Ok(image),
            (Some(image), _) => {
                let rest = found.iter().map(Image::id);
                let candidates = rest.chain([image.id()]).map(str::to_owned).collect();
                Err(OpenError::Ambiguous { id: id.to_owned(), candidates })
            }
            (None, _) => Err(OpenError::Unknown { id: id.to_owned(), cache: self.root.clone() }),
        }
    }

    /// Moves a directory out of sight in one step, then removes it: what is killed in between is
    /// swept by the next build and never taken for an image.
    fn discard(&self, dir: &Path) -> Result<u64, BuildError> {
        let bytes = allocated(dir);
        let partial = self.partial();
        fs::create_dir_all(&partial).during("create", &partial)?;
        let gone = partial.join(format!("removed-{}", std::process::id()));
        match fs::rename(dir, &gone) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            result => result.during("remove", dir)?,
        }
        fs::remove_dir_all(&gone).during("remove", &gone)?;
        Ok(bytes)
    }

    /// Takes the cache for this process alone.
    pub(crate) fn lock(
        &self,
        contention: Contention,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Guard, BuildError> {
        let path = self.root.join("lock");
        if contention == Contention::Fail {
            return match FileLock::try_take(&path).during("lock", &path)? {
                Ok(lock) => Ok(Guard { _lock: lock }),
                Err(pid) => Err(BuildError::Busy { cache: self.root.clone(), pid }),
            };
        }
        let waiting = |holder: Option<u32>| {
            progress.stage(Stage::Waiting);
            if let Some(pid) = holder {
                progress.detail(&format!("process {pid}"));
            }
        };
        let lock = FileLock::take(&path, cancel, waiting).during("lock", &path)?;
        Ok(Guard { _lock: lock.ok_or(BuildError::Cancelled)? })
    }

    pub(crate) fn debs(&self) -> PathBuf {
        self.root.join("debs")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.root.join("log")
    }

    pub(crate) fn partial(&self) -> PathBuf {
        self.root.join("partial")
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    pub(crate) fn image(&self, id: &str) -> PathBuf {
        self.images().join(id)
    }

    pub(crate) fn bases(&self) -> PathBuf {
        self.root.join("base")
    }

    pub(crate) fn base(&self, key: &str) -> PathBuf {
        self.bases().join(key)
    }

    pub(crate) fn recipe(&self, key: &str) -> PathBuf {
        self.root.join("recipes").join(key)
    }
}

/// Bytes on disk of the files in a flat directory.
fn allocated(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .filter_map(|entry| entry.metadata().ok())
        .map(|file| file.blocks() * 512)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    fn cache(dir: &Path) -> Cache {
        Cache::open(dir, Tools::in_path(OsStr::new(""))).unwrap()
    }

    #[test]
    fn the_second_is_told_who_was_first() {
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(dir.path());
        let held = cache.lock(Contention::Wait, &Quiet, &Cancel::new()).unwrap();
        match cache.lock(Contention::Fail, &Quiet, &Cancel::new()) {
            Err(BuildError::Busy { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
            _ => panic!("two at once"),
        }
        let cancel = Cancel::new();
        cancel.cancel();
        let waiting = cache.lock(Contention::Wait, &Quiet, &cancel);
        assert!(matches!(waiting, Err(BuildError::Cancelled)));
        drop(held);
        cache.lock(Contention::Fail, &Quiet, &Cancel::new()).unwrap();
    }

    #[test]
    fn an_empty_cache_has_no_images() {
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(dir.path());
        assert!(cache.list().unwrap().is_empty());
        let opened = cache.inspect("1", &Quiet, &Cancel::new());
        assert!(matches!(opened, Err(OpenError::Unknown { .. })));
    }

    /// An image as far as the cache looks at it without reading its disk.
    fn image(cache: &Cache, id: &str, built: u64) -> PathBuf {
        let dir = cache.image(id);
        fs::create_dir_all(&dir).unwrap();
        fs::create_dir_all(cache.base("base")).unwrap();
        let manifest = serde_json::json!({
            "schema": crate::MANIFEST_SCHEMA, "id": id, "base": "base", "suite": "trixie",
            "kernel": null, "built": built, "packages": [], "artifacts": {},
        });
        fs::write(dir.join("manifest.json"), manifest.to_string()).unwrap();
        dir
    }

    /// Two checkouts have one cache, and each knows only its own machines: the one pruned the image that
    /// the other had a machine on, whose next run found no vmlinux.
    #[test]
    fn what_another_process_holds_is_not_pruned() {
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(dir.path());
        let (held, idle) = (image(&cache, "aaaa", 1), image(&cache, "bbbb", 2));
        let newest = image(&cache, "cccc", 3);
        // util-linux's flock, another program altogether.
        let mut other = std::process::Command::new("flock")
            .args(["--shared", "--no-fork"])
            .arg(&held)
            .args(["sh", "-c", "echo held; exec sleep 600"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let out = other.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).unwrap();
        assert_eq!(line, "held\n");

        cache.prune(1, &BTreeSet::new()).unwrap();
        assert!(held.is_dir() && !idle.exists() && newest.is_dir());
        let removed = cache.remove("aaaa", &BTreeSet::new());
        assert!(matches!(removed, Err(RemoveError::InUse { .. })), "{removed:?}");

        other.kill().unwrap();
        other.wait().unwrap();
        cache.prune(1, &BTreeSet::new()).unwrap();
        assert!(!held.exists() && newest.is_dir());
    }

    #[test]
    fn an_opened_image_is_held_until_its_value_goes() {
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(dir.path());
        let path = image(&cache, "aaaa", 1);
        let hold = Hold::of(&path).unwrap();
        let twin = hold.clone();
        drop(hold);
        assert_eq!(cache.prune(0, &BTreeSet::new()).unwrap(), 0);
        assert!(path.is_dir());
        drop(twin);
        cache.prune(0, &BTreeSet::new()).unwrap();
        assert!(!path.exists());
        assert!(Hold::of(&path).is_err());
    }

    #[test]
    fn a_directory_that_debugfs_cannot_name_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let opened = Cache::open(&dir.path().join("a\"b"), Tools::in_path(OsStr::new("")));
        assert!(matches!(opened, Err(CacheError::Name { .. })));
    }
}
