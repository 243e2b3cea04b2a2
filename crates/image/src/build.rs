//! The way from a request to an image: what is in the cache already, what has to be made, in which
//! order, and that nothing half-made stays.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::boot::{Contents, ModuleSource};
use crate::cache::Guard;
use crate::child::{Isolation, remove_tree};
use crate::debian::{Downloads, Installer};
use crate::digest::{Key, copy_sparse};
use crate::error::During;
use crate::ext4::{Disk, Formatter};
use crate::guest_files::Overlay;
use crate::layer::Sketch;
use crate::manifest::MANIFEST_SCHEMA;
use crate::seal::{self, Durability, Unsound};
use crate::{
    BuildError, Cache, Cancel, Contention, Hold, Image, Lock, Manifest, Progress, Quiet, Request,
    Stage, boot, space,
};

/// The file system of a base.
pub(crate) const BASE_DISK: &str = "disk.raw";
/// What an image changes in it, as a layer.
pub(crate) const IMAGE_DISK: &str = "disk.qcow2";
/// Room for the boot files and the sketch of the file system.
const IMAGE_EXTRA: u64 = 384 << 20;

impl Cache {
    /// The image of `request`: from the cache if it is there and whole, else built. What is damaged
    /// is told by [`Progress::warning`] and built again.
    pub fn build(
        &self,
        request: &Request,
        contention: Contention,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Image, BuildError> {
        let build = Build::new(self, request, progress, cancel)?;
        if !request.refresh {
            if let Some(image) = build.cached_image()? {
                // What a build left that was killed after its image was in place. Whoever builds
                // right now sweeps for itself.
                if self.partial().exists() {
                    if let Ok(guard) = self.lock(Contention::Fail, progress, cancel) {
                        self.sweep(&guard)?;
                    }
                }
                return Ok(image);
            }
        }
        let guard = self.lock(contention, progress, cancel)?;
        self.sweep(&guard)?;
        let result = build.make(&guard);
        // A failed build leaves its work behind up to here; a failed removal is swept next time.
        let swept = self.sweep(&guard);
        // Where in the cache the room ran out is of no use to anybody.
        let image = result.map_err(|error| match error {
            BuildError::NoSpace { dir, needed, available } if dir.starts_with(self.root()) => {
                BuildError::NoSpace { dir: self.root().to_owned(), needed, available }
            }
            other => other,
        })?;
        swept?;
        Ok(image)
    }

    /// The id of the image that `request` stands for, which need not be built yet; `None` if not
    /// even its base is.
    pub fn id_of(&self, request: &Request) -> Result<Option<String>, BuildError> {
        let cancel = Cancel::new();
        let build = Build::new(self, request, &Quiet, &cancel)?;
        Ok(build.base_key().map(|base| build.image_id(&base)))
    }

    /// A directory for what is being made, swept when the build is over.
    pub(crate) fn partial_dir(&self, name: &str) -> Result<PathBuf, BuildError> {
        let dir = self.partial().join(name);
        fs::create_dir_all(&dir).during("create", &dir)?;
        Ok(dir)
    }

    /// Removes what a build left that did not come to its end. Only the holder of the lock may.
    pub(crate) fn sweep(&self, _: &Guard) -> Result<(), BuildError> {
        let partial = self.partial();
        let archives = partial.join("base-work/root/var/cache/apt/archives");
        if archives.is_dir() {
            // Downloads of a killed build are whole: apt renames them when they are.
            Downloads::open(self.debs())?.keep(&archives, &Cancel::new())?;
        }
        remove_tree(&self.tools, &partial)
    }
}

struct Build<'a> {
    cache: &'a Cache,
    request: &'a Request,
    overlay: Overlay,
    init: Option<Vec<u8>>,
    progress: &'a dyn Progress,
    cancel: &'a Cancel,
    /// The warnings given, since what is damaged is met again on the way to building it.
    warned: RefCell<BTreeSet<String>>,
}

impl<'a> Build<'a> {
    fn new(
        cache: &'a Cache,
        request: &'a Request,
        progress: &'a dyn Progress,
        cancel: &'a Cancel,
    ) -> Result<Self, BuildError> {
        let overlay = Overlay::load(&request.guest)?;
        let init = match &request.initrd {
            Some(initrd) => Some(fs::read(&initrd.init).during("read", &initrd.init)?),
            None => None,
        };
        let warned = RefCell::default();
        Ok(Self { cache, request, overlay, init, progress, cancel, warned })
    }

    fn make(&self, guard: &Guard) -> Result<Image, BuildError> {
        if !self.request.refresh {
            // Another process may have built it while this one waited.
            if let Some(image) = self.cached_image()? {
                return Ok(image);
            }
            if let Some(base) = self.cached_base()? {
                return self.make_image(&base, guard);
            }
        }
        let base = self.make_base(guard)?;
        self.make_image(&base, guard)
    }

    /// The base that the request names: the very one its lock lists, or what its recipe gave last.
    fn base_key(&self) -> Option<String> {
        let recipe = &self.request.recipe;
        if let Some(lock) = &self.request.lock {
            let exact = recipe.base_key(lock).name();
            if self.request.locked || self.cache.base(&exact).exists() {
                return Some(exact);
            }
        }
        let path = self.cache.recipe(&recipe.key(self.request.lock.as_ref()).name());
        let key = fs::read_to_string(path).ok()?;
        Some(key.trim().to_owned()).filter(|key| key.chars().all(|c| c.is_ascii_hexdigit()))
    }

    fn image_id(&self, base: &str) -> String {
        let mut key = Key::new("image layer");
        key.add(base);
        self.overlay.add_to(&mut key);
        if let (Some(initrd), Some(init)) = (&self.request.initrd, &self.init) {
            key.add("initrd").add(init);
            for module in &initrd.modules {
                key.add(module);
            }
        }
        key.name()
    }

    fn cached_image(&self) -> Result<Option<Image>, BuildError> {
        let Some(base) = self.base_key() else { return Ok(None) };
        let dir = self.cache.image(&self.image_id(&base));
        let hold = Hold::of(&dir).ok();
        let found = self.cache.verify(&dir, self.progress, self.cancel);
        Ok(self.sound(found)?.map(|manifest| Image::new(dir, manifest).held_by(hold)))
    }

    fn cached_base(&self) -> Result<Option<Manifest>, BuildError> {
        let Some(base) = self.base_key() else { return Ok(None) };
        self.sound(seal::verify(&self.cache.base(&base), self.progress, self.cancel))
    }

    /// The manifest of what is whole. What is damaged is as good as none, but told.
    fn sound(&self, found: Result<Manifest, Unsound>) -> Result<Option<Manifest>, BuildError> {
        match found {
            Ok(manifest) => Ok(Some(manifest)),
            Err(Unsound::Absent) => Ok(None),
            Err(Unsound::Cancelled) => Err(BuildError::Cancelled),
            Err(Unsound::Damaged { path, reason }) => {
                let path = path.display();
                let warning = format!("{path} is damaged ({reason}): building it again");
                if self.warned.borrow_mut().insert(warning.clone()) {
                    self.progress.warning(&warning);
                }
                Ok(None)
            }
        }
    }

    /// Packages, file system and kernel: the part that takes minutes and no file of the project.
    fn make_base(&self, _: &Guard) -> Result<Manifest, BuildError> {
        let Request { recipe, lock, locked, .. } = self.request;
        let (tools, cancel, progress) = (&self.cache.tools, self.cancel, self.progress);
        let logs = self.cache.logs();
        let isolation = Isolation::detect(tools)?;
        let downloads = Downloads::open(self.cache.debs())?;
        let work = self.cache.partial_dir("base-work")?;
        let partial = self.cache.partial_dir("base")?;

        let installer =
            Installer { tools, isolation, downloads: &downloads, logs: &logs, progress, cancel };
        let packages = installer.install(recipe, lock.as_ref(), *locked, &work)?;
        let key = recipe.base_key(&Lock::of(packages.clone()));

        progress.stage(Stage::Filesystem);
        let disk_path = partial.join(BASE_DISK);
        let formatter = Formatter { tools, isolation, logs: &logs, cancel };
        let root = work.join("root");
        formatter.format(&root, &disk_path, &key.bytes(), &work)?;
        // Now rather than in the end: what is gone need not be written to the disk first.
        remove_tree(tools, &root)?;
        let disk = Disk { tools, path: &disk_path };
        disk.check()?;

        progress.stage(Stage::Boot);
        let kernel = boot::extract_kernel(disk, &partial, &work)?;
        let manifest = Manifest {
            schema: MANIFEST_SCHEMA,
            id: key.name(),
            base: key.name(),
            suite: recipe.suite().to_owned(),
            kernel,
            built: 0,
            packages,
            kernel_arguments: Vec::new(),
            base_disk: None,
            artifacts: BTreeMap::new(),
        };
        let dir = self.cache.base(&key.name());
        let manifest = self.seal(&partial, &dir, manifest, Durability::Flushed)?;
        self.remember(&key.name())?;
        self.prune(&downloads)?;
        Ok(manifest)
    }

    /// The base's disk with the project's files over it, and what boots it. Nothing is run but
    /// debugfs, so that a changed file costs seconds.
    fn make_image(&self, base: &Manifest, _: &Guard) -> Result<Image, BuildError> {
        let (tools, cancel, progress) = (&self.cache.tools, self.cancel, self.progress);
        let base_dir = self.cache.base(&base.base);
        let work = self.cache.partial_dir("image-work")?;
        let partial = self.cache.partial_dir("image")?;
        space::require(&partial, self.overlay.bytes() * 3 + IMAGE_EXTRA)?;

        progress.stage(Stage::GuestFiles);
        let base_disk = base_dir.join(BASE_DISK);
        let sketch = Sketch::of(tools, &base_disk, &work, cancel)?;
        let sketched = Disk { tools, path: sketch.path() };
        sketched.overlay(&self.overlay, &work)?;
        sketched.check()?;
        // As seen from the image's place, and from this one: both are two levels down.
        let backing = format!("../../base/{}/{BASE_DISK}", base.base);
        sketch.write_layer(&partial.join(IMAGE_DISK), &backing, &work, cancel)?;
        for name in ["vmlinuz", "vmlinux"] {
            if base.artifacts.contains_key(name) {
                copy_sparse(&base_dir.join(name), &partial.join(name), cancel, |_| ())?;
            }
        }

        if let (Some(initrd), Some(init)) = (&self.request.initrd, &self.init) {
            progress.stage(Stage::Boot);
            let disk = Disk { tools, path: &base_disk };
            let kernel = base.kernel.as_deref().map(|kernel| ModuleSource::Disk(disk, kernel));
            let files = Overlay::default();
            let contents = Contents { init, modules: &initrd.modules, files: &files };
            boot::write_initrd(disk, kernel, &contents, &partial.join("initrd"), &work)?;
        }
        let manifest = Manifest {
            id: self.image_id(&base.base),
            base_disk: base.artifacts.get(BASE_DISK).map(|disk| disk.sha256.clone()),
            artifacts: BTreeMap::new(),
            ..base.clone()
        };
        let dir = self.cache.image(&manifest.id);
        let manifest = self.seal(&partial, &dir, manifest, Durability::Eventually)?;
        let hold = Hold::of(&dir).ok();
        Ok(Image::new(dir, manifest).held_by(hold))
    }

    fn seal(
        &self,
        partial: &Path,
        dir: &Path,
        manifest: Manifest,
        durability: Durability,
    ) -> Result<Manifest, BuildError> {
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        let old = self.cache.partial().join(format!("old-{name}"));
        seal::seal(partial, dir, &old, manifest, durability, self.progress, self.cancel)
    }

    /// Writes down which base this recipe gave.
    fn remember(&self, base: &str) -> Result<(), BuildError> {
        let recipe = &self.request.recipe;
        let path = self.cache.recipe(&recipe.key(self.request.lock.as_ref()).name());
        let dir = path.parent().unwrap_or(&path);
        fs::create_dir_all(dir).during("create", dir)?;
        let beside = self.cache.partial().join("recipe");
        fs::write(&beside, base).during("write", &beside)?;
        fs::rename(&beside, &path).during("write", &path)
    }

    /// Keeps the downloads of every base there is, and no others.
    fn prune(&self, downloads: &Downloads) -> Result<(), BuildError> {
        let dir = self.cache.bases();
        let mut packages = Vec::new();
        for entry in fs::read_dir(&dir).during("read", &dir)? {
            if let Ok(manifest) = seal::read(&entry.during("read", &dir)?.path()) {
                packages.extend(manifest.packages);
            }
        }
        downloads.prune(&packages)
    }
}
