//! An image that was found whole: where its files are, what is in it, and who keeps it there.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::boot::{self, Contents, ModuleSource};
use crate::build::{BASE_DISK, IMAGE_DISK};
use crate::error::During;
use crate::ext4::Disk;
use crate::guest_files::Overlay;
use crate::{BuildError, Cancel, ExportError, Format, GuestFile, Kernel, Manifest, Tools, export};

/// An image that was found whole. Its files are read-only by agreement: a machine puts its own
/// copy-on-write layer over them.
#[derive(Debug, Clone)]
pub struct Image {
    dir: PathBuf,
    manifest: Manifest,
    hold: Option<Hold>,
}

/// Held or not, an image is the same.
impl PartialEq for Image {
    fn eq(&self, other: &Self) -> bool {
        self.dir == other.dir && self.manifest == other.manifest
    }
}

impl Eq for Image {}

/// Keeps an image from being removed as long as the value lives, whichever process would do it and
/// whatever that knows of machines: a shared lock on the image's directory, which ends with the process.
#[derive(Debug, Clone)]
pub struct Hold {
    _dir: Arc<File>,
}

impl Hold {
    /// Takes hold of the image in this directory.
    ///
    /// # Errors
    /// What the system said of the directory: that there is none, for one.
    pub fn of(dir: &Path) -> io::Result<Self> {
        let file = File::open(dir)?;
        flock(&file, FlockOperation::LockShared)?;
        Ok(Self { _dir: Arc::new(file) })
    }

    /// The directory for oneself, to remove it; `None` while somebody holds it.
    pub(crate) fn alone(dir: &Path) -> io::Result<Option<File>> {
        let file = File::open(dir)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Something in an image that belongs to one machine or person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Impurity {
    /// Its path in the guest.
    pub path: String,
    /// What it is.
    pub reason: &'static str,
}

impl Image {
    pub(crate) fn new(dir: PathBuf, manifest: Manifest) -> Self {
        Self { dir, manifest, hold: None }
    }

    /// The same with the hold that was taken before it was looked at.
    pub(crate) fn held_by(self, hold: Option<Hold>) -> Self {
        Self { hold, ..self }
    }

    /// Whether this value keeps the image from being removed.
    pub fn is_held(&self) -> bool {
        self.hold.is_some()
    }

    /// Its name in the cache.
    pub fn id(&self) -> &str {
        &self.manifest.id
    }

    /// Everything known about it.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The directory of its files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The root file system, ext4 without a partition table, label `archibald`: a qcow2 file over
    /// the disk of the base, which it names relative to itself.
    pub fn disk(&self) -> PathBuf {
        self.dir.join(IMAGE_DISK)
    }

    /// The file system of the base, raw: the packages without the project's files.
    pub fn base_disk(&self) -> PathBuf {
        let root = self.dir.parent().and_then(Path::parent).unwrap_or(&self.dir);
        root.join("base").join(&self.manifest.base).join(BASE_DISK)
    }

    /// The uncompressed kernel for direct boot by PVH; `None` if this kernel cannot.
    pub fn vmlinux(&self) -> Option<PathBuf> {
        self.artifact("vmlinux")
    }

    /// The distribution's kernel as packaged.
    pub fn vmlinuz(&self) -> Option<PathBuf> {
        self.artifact("vmlinuz")
    }

    /// The initrd: the project's small one, or NixOS' own.
    pub fn initrd(&self) -> Option<PathBuf> {
        self.artifact("initrd")
    }

    /// What the kernel must be told besides what every machine's is told.
    pub fn kernel_arguments(&self) -> &[String] {
        &self.manifest.kernel_arguments
    }

    fn artifact(&self, name: &str) -> Option<PathBuf> {
        self.manifest.artifacts.contains_key(name).then(|| self.dir.join(name))
    }

    /// Writes to `to` an initrd of its own kind for `kernel`, or for the image's own: the script or
    /// program `init` as `/init`, the image's busybox, the kernel modules `modules` with what they
    /// need, and `files`. `work` is a directory for files in between.
    #[allow(clippy::too_many_arguments)]
    pub fn write_initrd(
        &self,
        kernel: Option<&Kernel>,
        tools: &Tools,
        init: &[u8],
        modules: &[String],
        files: &[GuestFile],
        to: &Path,
        work: &Path,
    ) -> Result<(), BuildError> {
        fs::create_dir_all(work).during("create", work)?;
        let path = self.base_disk();
        let disk = Disk { tools, path: &path };
        let own = || self.manifest.kernel.as_deref().map(|r| ModuleSource::Disk(disk, r));
        let kernel = kernel.map(|kernel| kernel.modules(tools)).or_else(own);
        let files = &Overlay::load(files)?;
        boot::write_initrd(disk, kernel, &Contents { init, modules, files }, to, work)
    }

    /// What is in the image although a generic one must not have it: host keys, authorized keys,
    /// an identity, passwords. `scratch` is a directory for files in between.
    pub fn impurities(&self, tools: &Tools, scratch: &Path) -> Result<Vec<Impurity>, ExportError> {
        fs::create_dir_all(scratch).during("create", scratch)?;
        let path = scratch.join("disk.raw");
        export(self, Format::Raw, &path, tools, &Cancel::new())?;
        let disk = Disk { tools, path: &path };
        let mut found = Vec::new();
        let mut tell = |path: String, reason| found.push(Impurity { path, reason });
        let filled = |path: &str| -> Result<bool, BuildError> {
            Ok(disk.read(path, scratch)?.is_some_and(|content| !content.is_empty()))
        };
        for name in disk.list("/etc/ssh")? {
            if name.starts_with("ssh_host_") {
                tell(format!("/etc/ssh/{name}"), "a host key");
            }
        }
        let homes = disk.list("/home")?;
        for home in homes.iter().map(|name| format!("/home/{name}")).chain(["/root".to_owned()]) {
            for name in disk.list(&format!("{home}/.ssh"))? {
                tell(format!("{home}/.ssh/{name}"), "a user's keys");
            }
        }
        for (path, reason) in [
            ("/etc/machine-id", "a machine's identity"),
            ("/var/lib/dbus/machine-id", "a machine's identity"),
            ("/etc/hostname", "a machine's name"),
            ("/var/lib/systemd/random-seed", "a machine's random seed"),
            ("/var/lib/systemd/credential.secret", "a machine's secret"),
            ("/etc/ssl/private/ssl-cert-snakeoil.key", "a machine's private key"),
            ("/etc/munge/munge.key", "a cluster's key"),
        ] {
            if filled(path)? {
                tell(path.to_owned(), reason);
            }
        }
        for path in ["/etc/shadow", "/etc/shadow-", "/etc/gshadow"] {
            let content = disk.read(path, scratch)?.unwrap_or_default();
            if String::from_utf8_lossy(&content).lines().any(has_password) {
                tell(path.to_owned(), "a password");
            }
        }
        Ok(found)
    }
}

/// Whether a line of shadow(5) lets anybody in: `*` and `!` are what no password turns into.
fn has_password(line: &str) -> bool {
    line.split(':').nth(1).is_some_and(|hash| !hash.starts_with(['*', '!']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_password_is_one_too() {
        assert!(!has_password("root:*:20000:0:99999:7:::"));
        assert!(!has_password("systemd-network:!*:20000::::::"));
        assert!(has_password("root::20000:0:99999:7:::"));
        assert!(has_password("user:$y$j9T$salt$hash:20000:0:99999:7:::"));
    }
}
