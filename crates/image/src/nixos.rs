//! A NixOS image: Nix builds disk, kernel and initrd from the project's flake, and the cache takes them
//! over in the shape that every image has. What the machine is stands in modules/ArchibaldVM.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::build::{BASE_DISK, IMAGE_DISK};
use crate::cache::Guard;
use crate::child::{Watched, command, fresh_log};
use crate::digest::Key;
use crate::error::During;
use crate::manifest::MANIFEST_SCHEMA;
use crate::seal::{self, Durability, Unsound};
use crate::{BuildError, Cache, Cancel, Contention, Hold, Image, Manifest, Progress, Stage, Tools};

/// The expression that is built, below the flake's folder.
const EXPRESSION: &str = "modules/ArchibaldVM/build.nix";
/// What a path in a flake's address keeps as it is (RFC 3986's unreserved characters and the slash).
const IN_A_PATH: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Everything that a NixOS build needs; versions are decided by the flake and its lock.
#[derive(Debug, Clone)]
pub struct NixosRequest {
    /// The project's folder, in which flake.nix lies; absolute.
    pub flake: PathBuf,
    /// The machine file; absolute.
    pub machine_file: PathBuf,
}

impl Cache {
    /// The image that Nix gives for `request`. Nix itself decides what of it has to be built.
    ///
    /// # Errors
    /// [`BuildError::NoNix`] without Nix, [`BuildError::Command`] with its last words if it fails,
    /// [`BuildError::NixResult`] if its result is not a machine's disk; else as [`Cache::build`].
    pub fn build_nixos(
        &self,
        request: &NixosRequest,
        contention: Contention,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Image, BuildError> {
        let nix = self.tools.find("nix").map_err(|_| BuildError::NoNix)?;
        let guard = self.lock(contention, progress, cancel)?;
        self.sweep(&guard)?;
        let build = NixosBuild { cache: self, request, progress, cancel };
        let image = build.make(&nix, &guard);
        let swept = self.sweep(&guard);
        let image = image?;
        swept?;
        Ok(image)
    }
}

struct NixosBuild<'a> {
    cache: &'a Cache,
    request: &'a NixosRequest,
    progress: &'a dyn Progress,
    cancel: &'a Cancel,
}

/// The files of Nix' result.
struct Built {
    /// What the result is called in Nix' store: its name says everything that went into it.
    store: PathBuf,
    disk: PathBuf,
    kernel: PathBuf,
    initrd: PathBuf,
    arguments: Vec<String>,
    release: Option<String>,
}

impl NixosBuild<'_> {
    fn make(&self, nix: &Path, _: &Guard) -> Result<Image, BuildError> {
        let work = self.cache.partial_dir("nixos-work")?;
        let link = work.join("result");
        self.run_nix(nix, &link)?;
        let built = self.read(&link)?;

        let mut key = Key::new("nixos");
        key.add(built.store.as_os_str().as_encoded_bytes());
        let (base_id, id) = (key.add("base").name(), key.add("image").name());
        let dir = self.cache.image(&id);
        let hold = Hold::of(&dir).ok();
        match self.cache.verify(&dir, self.progress, self.cancel) {
            Ok(manifest) => return Ok(Image::new(dir, manifest).held_by(hold)),
            Err(Unsound::Cancelled) => return Err(BuildError::Cancelled),
            // Its files come out of Nix' store again.
            Err(Unsound::Absent | Unsound::Damaged { .. }) => {}
        }
        let base = self.base(&base_id, &built)?;
        self.image(&id, &base, &built)
    }

    fn run_nix(&self, nix: &Path, link: &Path) -> Result<(), BuildError> {
        self.progress.stage(Stage::Nix);
        let tools = &self.cache.tools;
        let flake = &self.request.flake;
        // With the caller's own environment, unlike the other builders: Nix knows its daemon, its
        // certificates and its user's settings by it, and keeps them out of what it builds by itself.
        let mut command = Command::new(tools.find("setpriv")?);
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(nix)
            .args(["build", "--extra-experimental-features", "nix-command flakes"])
            .args(["--impure", "--print-build-logs", "--file"])
            .arg(flake.join(EXPRESSION))
            .args(["--argstr", "flake", &address(flake), "--argstr", "machineFile"])
            .arg(&self.request.machine_file)
            .arg("--out-link")
            .arg(link)
            .process_group(0)
            .stdin(Stdio::null())
            .env("PATH", tools.path());
        let log = fresh_log(&self.cache.logs(), "nix.log")?;
        Watched { action: "building with Nix", program: "nix", log: &log, cancel: self.cancel }.run(
            &mut command,
            |line| {
                self.progress.detail(line);
                Ok(())
            },
        )
    }

    fn read(&self, link: &Path) -> Result<Built, BuildError> {
        let wrong =
            |reason: String| BuildError::NixResult { flake: self.request.flake.clone(), reason };
        let store = fs::read_link(link).map_err(|_| wrong("there is no result".to_owned()))?;
        let file = |name: &str| {
            let path = link.join(name);
            path.is_file().then_some(path).ok_or_else(|| wrong(format!("it has no `{name}`")))
        };
        let text = |name: &str| {
            let path = file(name)?;
            fs::read_to_string(&path).during("read", &path)
        };
        let release = text("kernel-release")?.trim().to_owned();
        let arguments: Vec<String> =
            text("kernel-arguments")?.split_whitespace().map(str::to_owned).collect();
        if !arguments.iter().any(|argument| argument.starts_with("init=")) {
            return Err(wrong("its kernel arguments do not say where the system lies".to_owned()));
        }
        Ok(Built {
            store,
            disk: file("nixos.qcow2")?,
            kernel: file("kernel")?,
            initrd: file("initrd")?,
            arguments,
            release: Some(release).filter(|release| !release.is_empty()),
        })
    }

    /// The disk as a raw file, as machines of every system stand on.
    fn base(&self, id: &str, built: &Built) -> Result<Manifest, BuildError> {
        let dir = self.cache.base(id);
        match seal::verify(&dir, self.progress, self.cancel) {
            Ok(manifest) => return Ok(manifest),
            Err(Unsound::Cancelled) => return Err(BuildError::Cancelled),
            Err(Unsound::Absent | Unsound::Damaged { .. }) => {}
        }
        self.progress.stage(Stage::Filesystem);
        let partial = self.cache.partial_dir("nixos-base")?;
        let mut convert = command(&self.cache.tools, "qemu-img")?;
        convert.args(["convert", "-f", "qcow2", "-O", "raw"]);
        convert.arg(&built.disk).arg(partial.join(BASE_DISK));
        self.qemu_img(&mut convert)?;
        let manifest = Manifest {
            schema: MANIFEST_SCHEMA,
            id: id.to_owned(),
            base: id.to_owned(),
            suite: "nixos".to_owned(),
            kernel: built.release.clone(),
            built: 0,
            packages: Vec::new(),
            kernel_arguments: built.arguments.clone(),
            base_disk: None,
            artifacts: BTreeMap::new(),
        };
        self.seal(&partial, &dir, manifest, Durability::Flushed)
    }

    /// An empty layer over the base, and what boots it.
    fn image(&self, id: &str, base: &Manifest, built: &Built) -> Result<Image, BuildError> {
        let partial = self.cache.partial_dir("nixos-image")?;
        let disk = partial.join(IMAGE_DISK);
        let backing = format!("../../base/{}/{BASE_DISK}", base.base);
        let mut create = command(&self.cache.tools, "qemu-img")?;
        // Seen from the image's place; from this one it is as many levels up.
        create.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b", &backing]).arg(&disk);
        self.qemu_img(&mut create)?;
        for (from, name) in [(&built.kernel, "vmlinuz"), (&built.initrd, "initrd")] {
            fs::copy(from, partial.join(name)).during("copy", from)?;
        }
        let manifest = Manifest {
            id: id.to_owned(),
            base_disk: base.artifacts.get(BASE_DISK).map(|disk| disk.sha256.clone()),
            artifacts: BTreeMap::new(),
            ..base.clone()
        };
        let dir = self.cache.image(id);
        let manifest = self.seal(&partial, &dir, manifest, Durability::Eventually)?;
        let hold = Hold::of(&dir).ok();
        Ok(Image::new(dir, manifest).held_by(hold))
    }

    fn qemu_img(&self, command: &mut Command) -> Result<(), BuildError> {
        let log = fresh_log(&self.cache.logs(), "nixos-disk.log")?;
        let action = "taking over the disk that Nix built";
        Watched { action, program: "qemu-img", log: &log, cancel: self.cancel }
            .run(command, |_| Ok(()))
    }

    fn seal(
        &self,
        partial: &Path,
        dir: &Path,
        manifest: Manifest,
        durability: Durability,
    ) -> Result<Manifest, BuildError> {
        let old = self.cache.partial().join(format!("old-{}", manifest.id));
        seal::seal(partial, dir, &old, manifest, durability, self.progress, self.cancel)
    }
}

/// The flake's address. By git where there is a repository: `path:` would copy everything that lies in
/// the folder into Nix' store, build results too.
fn address(flake: &Path) -> String {
    let path = flake.to_string_lossy();
    let path = utf8_percent_encode(&path, IN_A_PATH);
    if flake.join(".git").exists() { format!("git+file://{path}") } else { format!("path:{path}") }
}

/// Which of the programs that builds run are needed beside Nix.
pub(crate) const NEEDED: [&str; 2] = ["setpriv", "qemu-img"];

impl Tools {
    /// The programs besides Nix that a NixOS image needs and that are not there.
    pub fn missing_for_nixos(&self) -> Vec<crate::Tool> {
        self.missing().into_iter().filter(|tool| NEEDED.contains(&tool.program)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_is_named_by_git_and_spaces_are_encoded() {
        let folder = tempfile::Builder::new().prefix("a b").tempdir().unwrap();
        let plain = address(folder.path());
        assert!(plain.starts_with("path:/") && plain.contains("a%20b"), "{plain}");
        fs::create_dir(folder.path().join(".git")).unwrap();
        assert!(address(folder.path()).starts_with("git+file:///"));
    }
}
