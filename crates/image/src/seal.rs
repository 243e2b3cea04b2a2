//! Directories that are whole or not there: a build's files are summed and renamed into place
//! together with their manifest, and compared with it when they are opened again.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::digest::sha256;
use crate::error::During;
use crate::manifest::MANIFEST_SCHEMA;
use crate::{Artifact, BuildError, Cancel, Manifest, Progress, Stage};

const MANIFEST: &str = "manifest.json";
/// What the files were like when they were last compared with their checksums.
const STAMP: &str = "verified.json";

/// When a sealed directory is safe from a failing power supply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// At once: flushed before it is renamed. For what takes minutes to make.
    Flushed,
    /// When the kernel has written it, which may take longer than making it. Should the machine
    /// restart before, the next opening compares the checksums and finds out.
    Eventually,
}

/// A file's length and identity. Whoever changes its content, by whatever means the kernel sees,
/// changes the last two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    bytes: u64,
    inode: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        Ok(Self { bytes: metadata.len(), inode: metadata.ino(), changed })
    }
}

/// The stamps of a directory's files.
#[derive(Debug, Serialize, Deserialize)]
struct Stamps {
    /// The boot during which they count; all of them if the files were on the disk by then.
    boot: Option<String>,
    files: BTreeMap<String, Stamp>,
}

impl Stamps {
    fn read(dir: &Path) -> Option<Self> {
        let text = fs::read(dir.join(STAMP)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    fn count(&self) -> bool {
        self.boot.is_none() || self.boot == boot()
    }

    fn write(dir: &Path, manifest: &Manifest, boot: Option<String>) -> io::Result<()> {
        let of = |name: &String| Ok((name.clone(), Stamp::of(&dir.join(name))?));
        let files = manifest.artifacts.keys().map(of).collect::<io::Result<_>>()?;
        // Two processes may verify at once; each renames a file of its own.
        let beside = dir.join(format!("{STAMP}.{}", std::process::id()));
        fs::write(&beside, serde_json::to_vec(&Self { boot, files })?)?;
        fs::rename(&beside, dir.join(STAMP))
    }
}

/// What tells one run of the kernel from the next (random(4)).
fn boot() -> Option<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()
}

/// Why a directory is not what its manifest says.
#[derive(Debug)]
pub(crate) enum Unsound {
    /// There is nothing.
    Absent,
    /// Something is, but damaged.
    Damaged { path: PathBuf, reason: String },
    /// The comparison was called off.
    Cancelled,
}

/// Reads the manifest in `dir`.
pub(crate) fn read(dir: &Path) -> Result<Manifest, Unsound> {
    let path = dir.join(MANIFEST);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Unsound::Absent),
        Err(error) => return Err(Unsound::Damaged { path, reason: error.to_string() }),
    };
    let manifest: Manifest = serde_json::from_slice(&text)
        .map_err(|error| Unsound::Damaged { path: path.clone(), reason: error.to_string() })?;
    if manifest.schema != MANIFEST_SCHEMA {
        let reason = format!("it is of version {}, not {MANIFEST_SCHEMA}", manifest.schema);
        return Err(Unsound::Damaged { path, reason });
    }
    Ok(manifest)
}

/// Reads the manifest in `dir` and compares the files with it, except those that have not changed
/// since they were last compared.
pub(crate) fn verify(
    dir: &Path,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Manifest, Unsound> {
    let manifest = read(dir)?;
    let stamps = Stamps::read(dir);
    let counting = stamps.as_ref().filter(|stamps| stamps.count());
    let known = |name: &String| counting.and_then(|stamps| stamps.files.get(name));
    let mut changed = Vec::new();
    for (name, artifact) in &manifest.artifacts {
        let path = dir.join(name);
        let damaged = |reason: String| Unsound::Damaged { path: path.clone(), reason };
        let stamp = Stamp::of(&path).map_err(|error| damaged(error.to_string()))?;
        if stamp.bytes != artifact.bytes {
            let (found, expected) = (stamp.bytes, artifact.bytes);
            return Err(damaged(format!("it has {found} bytes instead of {expected}")));
        }
        if known(name) != Some(&stamp) {
            changed.push((path, artifact));
        }
    }
    if changed.is_empty() {
        return Ok(manifest);
    }
    progress.stage(Stage::Verifying);
    let mut meter = Meter::new(progress, changed.iter().map(|(_, a)| a.bytes).sum());
    for (path, artifact) in changed {
        let sum =
            sha256(&path, cancel, |bytes| meter.add(bytes as u64)).map_err(
                |error| match error {
                    BuildError::Cancelled => Unsound::Cancelled,
                    other => Unsound::Damaged { path: path.clone(), reason: other.to_string() },
                },
            )?;
        if sum != artifact.sha256 {
            let reason = "its checksum is not the manifest's".to_owned();
            return Err(Unsound::Damaged { path, reason });
        }
    }
    // Where the cache may not be written, every opening compares in full; that is slow, not wrong.
    let from_disk = stamps.is_some_and(|stamps| stamps.boot.is_none() || !stamps.count());
    let boot = if from_disk { None } else { boot() };
    let _ = Stamps::write(dir, &manifest, boot);
    Ok(manifest)
}

/// Sums every file in `partial`, writes the manifest beside them and renames the directory to `dir`. What is at `dir` goes to `old`.
pub(crate) fn seal(
    partial: &Path,
    dir: &Path,
    old: &Path,
    mut manifest: Manifest,
    durability: Durability,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Manifest, BuildError> {
    progress.stage(Stage::Sealing);
    let mut files = Vec::new();
    for entry in fs::read_dir(partial).during("read", partial)? {
        let path = entry.during("read", partial)?.path();
        let bytes = fs::metadata(&path).during("read", &path)?.len();
        files.push((path, bytes));
    }
    for (path, _) in &files {
        // Machines put a layer of their own over the files; nothing writes to them any more.
        fs::set_permissions(path, Permissions::from_mode(0o444)).during("protect", path)?;
    }
    let flushed = durability == Durability::Flushed;
    let flush = |path: &Path| if flushed { flush(path) } else { Ok(()) };
    let mut meter = Meter::new(progress, files.iter().map(|(_, bytes)| bytes).sum());
    // The sums are made from memory while the disk catches up.
    thread::scope(|scope| {
        let flusher = scope.spawn(|| files.iter().try_for_each(|(path, _)| flush(path)));
        for (path, bytes) in &files {
            let sha256 = sha256(path, cancel, |bytes| meter.add(bytes as u64))?;
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            manifest.artifacts.insert(name, Artifact { bytes: *bytes, sha256 });
        }
        flusher.join().unwrap_or_else(|_| {
            Err(io::Error::other("the thread panicked")).during("flush", partial)
        })
    })?;
    manifest.built =
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
    let path = partial.join(MANIFEST);
    let text = serde_json::to_vec_pretty(&manifest).map_err(io::Error::from);
    fs::write(&path, text.during("write", &path)?).during("write", &path)?;
    flush(&path)?;
    let boot = if flushed { None } else { Some(boot().unwrap_or_default()) };
    // Without stamps the next opening compares the checksums.
    let _ = Stamps::write(partial, &manifest, boot);
    flush(partial)?;
    if cancel.is_cancelled() {
        return Err(BuildError::Cancelled);
    }
    let parent = dir.parent().unwrap_or(dir);
    fs::create_dir_all(parent).during("create", parent)?;
    match fs::rename(dir, old) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).during("replace", dir);
        }
        _ => {}
    }
    fs::rename(partial, dir).during("create", dir)?;
    flush(parent)?;
    Ok(manifest)
}

fn flush(path: &Path) -> Result<(), BuildError> {
    File::open(path).and_then(|file| file.sync_all()).during("flush", path)
}

/// Bytes done of bytes in all, told as a fraction.
pub(crate) struct Meter<'a> {
    progress: &'a dyn Progress,
    total: u64,
    done: u64,
}

impl<'a> Meter<'a> {
    pub(crate) fn new(progress: &'a dyn Progress, total: u64) -> Self {
        Self { progress, total: total.max(1), done: 0 }
    }

    pub(crate) fn add(&mut self, bytes: u64) {
        self.done += bytes;
        self.progress.fraction((self.done as f64 / self.total as f64).min(1.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Quiet;
    use std::io::{Seek, SeekFrom, Write};
    use std::sync::Mutex;

    fn sealed(root: &Path, durability: Durability) -> PathBuf {
        let (partial, dir) = (root.join("partial"), root.join("images/1"));
        fs::create_dir(&partial).unwrap();
        fs::write(partial.join("disk.raw"), "content").unwrap();
        let manifest = Manifest {
            schema: MANIFEST_SCHEMA,
            id: "1".into(),
            base: "2".into(),
            suite: "trixie".into(),
            kernel: None,
            built: 0,
            packages: Vec::new(),
            kernel_arguments: Vec::new(),
            base_disk: None,
            artifacts: BTreeMap::new(),
        };
        let (old, cancel) = (root.join("old"), Cancel::new());
        seal(&partial, &dir, &old, manifest, durability, &Quiet, &cancel).unwrap();
        dir
    }

    fn write(path: &Path, at: u64, bytes: &[u8]) {
        fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
        let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(bytes).unwrap();
    }

    fn reason(dir: &Path) -> String {
        match verify(dir, &Quiet, &Cancel::new()) {
            Err(Unsound::Damaged { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_was_sealed_is_sound() {
        let root = tempfile::tempdir().unwrap();
        let dir = sealed(root.path(), Durability::Flushed);
        let manifest = verify(&dir, &Quiet, &Cancel::new()).unwrap();
        assert_eq!(manifest.artifacts["disk.raw"].bytes, 7);
        assert!(manifest.built > 0);
    }

    #[test]
    fn a_flipped_byte_a_missing_byte_and_a_missing_file_are_noticed() {
        let root = tempfile::tempdir().unwrap();
        let dir = sealed(root.path(), Durability::Flushed);
        let disk = dir.join("disk.raw");
        write(&disk, 3, b"!");
        assert!(reason(&dir).contains("checksum"));
        write(&disk, 3, b"t");
        verify(&dir, &Quiet, &Cancel::new()).unwrap();
        write(&disk, 7, b"more");
        assert!(reason(&dir).contains("11 bytes instead of 7"));
        fs::remove_file(&disk).unwrap();
        assert!(reason(&dir).contains("No such file"));
    }

    #[derive(Default)]
    struct Stages(Mutex<Vec<Stage>>);

    impl Progress for Stages {
        fn stage(&self, stage: Stage) {
            self.0.lock().unwrap().push(stage);
        }
    }

    /// Whether opening compares checksums.
    fn is_read(dir: &Path) -> bool {
        let stages = Stages::default();
        verify(dir, &stages, &Cancel::new()).unwrap();
        !stages.0.into_inner().unwrap().is_empty()
    }

    #[test]
    fn an_untouched_file_is_not_read_again() {
        let root = tempfile::tempdir().unwrap();
        let dir = sealed(root.path(), Durability::Flushed);
        assert!(!is_read(&dir));
        fs::set_permissions(dir.join("disk.raw"), Permissions::from_mode(0o400)).unwrap();
        assert!(is_read(&dir));
        assert!(!is_read(&dir));
    }

    #[test]
    fn what_was_not_flushed_is_read_after_a_restart() {
        let root = tempfile::tempdir().unwrap();
        let dir = sealed(root.path(), Durability::Eventually);
        assert!(!is_read(&dir));
        let mut stamps = Stamps::read(&dir).unwrap();
        stamps.boot = Some("another boot".to_owned());
        fs::write(dir.join(STAMP), serde_json::to_vec(&stamps).unwrap()).unwrap();
        assert!(is_read(&dir));
        assert_eq!(Stamps::read(&dir).unwrap().boot, None, "it came from the disk");
        assert!(!is_read(&dir));
    }

    #[test]
    fn a_manifest_of_another_version_or_cut_short_is_no_image() {
        let root = tempfile::tempdir().unwrap();
        let dir = sealed(root.path(), Durability::Flushed);
        let path = dir.join(MANIFEST);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("\"schema\": 1", "\"schema\": 2")).unwrap();
        assert!(reason(&dir).contains("version 2"));
        fs::write(&path, &text[..text.len() / 2]).unwrap();
        assert!(reason(&dir).contains("EOF"));
    }
}
