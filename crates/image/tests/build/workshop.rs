//! What the tests build in: caches that start with the downloads, or with the base, of an earlier
//! one, and what a build may leave behind in them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use archibald_image::{
    BuildError, Cache, Cancel, Contention, Format, GuestFile, Image, Initrd, Progress, Recipe,
    Request, Stage, Tools, export,
};
use tempfile::TempDir;

const PACKAGES: &str = "busybox-static";

/// Collects what a build tells.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) stages: Mutex<Vec<Stage>>,
    pub(crate) warnings: Mutex<Vec<String>>,
    pub(crate) cancel: Cancel,
    /// Call the build off when this stage begins.
    pub(crate) cancel_at: Option<Stage>,
}

impl Progress for Told {
    fn stage(&self, stage: Stage) {
        self.stages.lock().unwrap().push(stage);
        if self.cancel_at == Some(stage) {
            self.cancel.cancel();
        }
    }

    fn warning(&self, line: &str) {
        self.warnings.lock().unwrap().push(line.to_owned());
    }
}

pub(crate) fn tools() -> Tools {
    let tools = Tools::in_path(&std::env::var_os("PATH").unwrap_or_default());
    assert_eq!(tools.missing(), [], "these tests need all of them");
    tools
}

pub(crate) fn request(guest: Vec<GuestFile>) -> Request {
    Request {
        recipe: Recipe::debian([PACKAGES.to_owned()], None).unwrap(),
        lock: None,
        locked: false,
        refresh: false,
        guest,
        initrd: None,
    }
}

/// A cache in a directory that goes with the value.
pub(crate) struct Workshop {
    pub(crate) dir: TempDir,
    pub(crate) cache: Cache,
}

impl Workshop {
    /// With the downloads of earlier runs, so that only packages are installed, not fetched.
    pub(crate) fn with_downloads() -> Self {
        let dir = tempfile::tempdir_in(ground()).unwrap();
        copy(&ground().join("debs"), &dir.path().join("debs"));
        Self::open(dir)
    }

    /// With a finished base, so that a build takes a second or two.
    pub(crate) fn with_base() -> Self {
        let dir = tempfile::tempdir_in(ground()).unwrap();
        for part in ["base", "recipes"] {
            copy(&base().join(part), &dir.path().join(part));
        }
        Self::open(dir)
    }

    fn open(dir: TempDir) -> Self {
        let cache = Cache::open(dir.path(), tools()).unwrap();
        Self { dir, cache }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn build(&self, request: &Request, told: &Told) -> Result<Image, BuildError> {
        self.cache.build(request, Contention::Fail, told, &told.cancel)
    }

    /// Nothing of a build that ended or was ended is left running, mounted or half-made.
    pub(crate) fn assert_nothing_left(&self) {
        assert_no_process(self.path());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.path().to_str().unwrap()), "{mounts}");
        assert!(!self.path().join("partial").exists());
    }
}

/// Waits for the processes that mention `path` to be gone; being killed takes a moment.
pub(crate) fn assert_no_process(path: &Path) {
    let path = path.to_str().unwrap();
    let since = Instant::now();
    loop {
        let left: Vec<String> = fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|entry| fs::read_to_string(entry.path().join("cmdline")).ok())
            .filter(|words| words.contains(path))
            .collect();
        if left.is_empty() {
            return;
        }
        assert!(since.elapsed() < Duration::from_secs(10), "still running: {left:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Where test caches lie: one file system, so that downloads can be linked.
fn ground() -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("images");
    fs::create_dir_all(dir.join("debs")).unwrap();
    dir
}

/// A cache with a base that all tests share; built anew by every run, with the downloads of earlier
/// ones.
pub(crate) fn base() -> &'static Path {
    static BASE: OnceLock<PathBuf> = OnceLock::new();
    BASE.get_or_init(|| {
        let dir = ground().join("shared");
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        copy(&ground().join("debs"), &dir.join("debs"));
        let cache = Cache::open(&dir, tools()).unwrap();
        let told = Told::default();
        cache.build(&request(Vec::new()), Contention::Fail, &told, &told.cancel).unwrap();
        copy(&dir.join("debs"), &ground().join("debs"));
        dir
    })
}

/// Copies a tree, sparse files as such.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    let status = Command::new("cp")
        .args(["-a", "--sparse=always", "--reflink=auto"])
        .arg(from.join("."))
        .arg(to)
        .status()
        .unwrap();
    assert!(status.success());
}

pub(crate) fn disk_sum(image: &Image) -> String {
    image.manifest().artifacts["disk.qcow2"].sha256.clone()
}

/// The image's disk as one raw file in `dir`, for debugfs and e2fsck.
pub(crate) fn raw(image: &Image, dir: &Path) -> PathBuf {
    let path = dir.join("exported.raw");
    export(image, Format::Raw, &path, &tools(), &Cancel::new()).unwrap();
    path
}

/// An initrd without modules: the small recipe has no kernel.
pub(crate) fn initrd(dir: &Path) -> Initrd {
    let init = dir.join("init");
    fs::write(&init, "#!/bin/busybox sh\n").unwrap();
    Initrd { init, modules: Vec::new() }
}

pub(crate) fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout == b"0\n"
}
