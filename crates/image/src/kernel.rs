//! A kernel that is not the image's own, for comparing with it: Debian's package, unpacked and not
//! installed, kept in the cache.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::boot::{self, ModuleSource};
use crate::child::{Isolation, Watched, fresh_log, remove_tree};
use crate::digest::Key;
use crate::error::During;
use crate::{BuildError, Cache, Cancel, Contention, Progress, Recipe, Stage, Tools};

/// Raised whenever the same package would be kept in another form.
const BUILDER: &str = "1";
const NOTE: &str = "kernel.json";

/// A kernel with its modules.
#[derive(Debug, Clone)]
pub struct Kernel {
    dir: PathBuf,
    /// Stands for `/` and holds the modules.
    root: PathBuf,
    note: Note,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Note {
    schema: u32,
    id: String,
    release: String,
}

impl Kernel {
    /// Its name in the cache.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.note.id
    }

    /// Its release, as `uname -r` prints it.
    #[must_use]
    pub fn release(&self) -> &str {
        &self.note.release
    }

    /// The uncompressed kernel, which starts by PVH.
    #[must_use]
    pub fn vmlinux(&self) -> PathBuf {
        self.dir.join("vmlinux")
    }

    /// Where its modules are.
    pub(crate) fn modules<'a>(&'a self, tools: &'a Tools) -> ModuleSource<'a> {
        ModuleSource::Tree(tools, &self.root, self.release())
    }

    fn read(dir: &Path) -> Option<Self> {
        let note: Note = serde_json::from_slice(&fs::read(dir.join(NOTE)).ok()?).ok()?;
        let kernel = Self { dir: dir.to_owned(), root: dir.join("root"), note };
        (kernel.note.schema == 1 && kernel.vmlinux().is_file()).then_some(kernel)
    }
}

impl Cache {
    /// The kernel of the Debian package `package` from the archive of `recipe`: out of the cache, or
    /// fetched. `beside` is the release of the kernel that it is compared with; when that changes,
    /// it is fetched anew, so that both come from one state of the archive.
    pub fn kernel(
        &self,
        package: &str,
        recipe: &Recipe,
        beside: &str,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Kernel, BuildError> {
        let mut key = Key::new("kernel");
        key.add(BUILDER).add(recipe.suite()).add(recipe.mirror().unwrap_or_default());
        key.add(package).add(beside);
        let dir = self.root().join("kernels").join(key.name());
        if let Some(kernel) = Kernel::read(&dir) {
            return Ok(kernel);
        }
        let _guard = self.lock(Contention::Wait, progress, cancel)?;
        if let Some(kernel) = Kernel::read(&dir) {
            return Ok(kernel);
        }
        let partial = self.partial().join("kernel");
        remove_tree(&self.tools, &partial)?;
        fs::create_dir_all(&partial).during("create", &partial)?;
        let made = self.fetch_kernel(package, recipe, &key.name(), &partial, progress, cancel);
        if made.is_err() {
            remove_tree(&self.tools, &partial)?;
        }
        made?;
        let parent = dir.parent().unwrap_or(&dir);
        fs::create_dir_all(parent).during("create", parent)?;
        remove_tree(&self.tools, &dir)?;
        fs::rename(&partial, &dir).during("rename", &partial)?;
        Kernel::read(&dir).ok_or_else(|| BuildError::Initrd {
            reason: format!("the package {package} has no kernel that starts by PVH"),
        })
    }

    fn fetch_kernel(
        &self,
        package: &str,
        recipe: &Recipe,
        id: &str,
        partial: &Path,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<(), BuildError> {
        progress.stage(Stage::Packages);
        let tools = &self.tools;
        let (root, scratch) = (partial.join("unpacked"), partial.join("tmp"));
        fs::create_dir_all(&scratch).during("create", &scratch)?;
        let mut command = Isolation::detect(tools)?.command(tools, "mmdebstrap")?;
        command
            .args(["--mode=root", "--format=directory", "--variant=extract"])
            .args(["--architectures=amd64", "--components=main"])
            .arg(format!("--include={package}"))
            .env("TMPDIR", &scratch)
            .arg(recipe.suite())
            .arg(&root)
            .args(recipe.mirror());
        let log = fresh_log(&self.logs(), "kernel.log")?;
        let watched =
            Watched { action: "fetching the kernel", program: "mmdebstrap", log: &log, cancel };
        watched.run(&mut command, |line| {
            progress.detail(line);
            Ok(())
        })?;
        progress.stage(Stage::Boot);
        let missing = |what: &str| BuildError::Initrd {
            reason: format!("the package {package} has no {what}"),
        };
        let boot = root.join("boot");
        let names = fs::read_dir(&boot).during("read", &boot)?.flatten();
        let names: Vec<String> =
            names.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        let release = names.iter().filter_map(|name| name.strip_prefix("vmlinuz-")).max();
        let release = release.ok_or_else(|| missing("kernel"))?;
        let vmlinux = partial.join("vmlinux");
        let vmlinuz = boot.join(format!("vmlinuz-{release}"));
        boot::uncompress(tools, &vmlinuz, &vmlinux, &partial.join("payload"))?;
        let kept = partial.join("root/usr/lib/modules");
        fs::create_dir_all(&kept).during("create", &kept)?;
        let modules = root.join("usr/lib/modules").join(release);
        fs::rename(&modules, kept.join(release)).during("keep", &modules)?;
        for rest in [root, scratch] {
            remove_tree(tools, &rest)?;
        }
        let _ = fs::remove_file(partial.join("payload"));
        let note = Note { schema: 1, id: id.to_owned(), release: release.to_owned() };
        let path = partial.join(NOTE);
        fs::write(&path, serde_json::to_vec_pretty(&note).unwrap_or_default())
            .during("write", &path)
    }
}
