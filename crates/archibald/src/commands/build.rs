//! `archibald build`: the image of a machine file. Here lives what `up` shares with it: from the
//! machine file and the project's files to a request, and the build with its progress drawn.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use archibald_image::{
    BuildError, Cache, Cancel, Contention, GuestFile, Image, Initrd, Lock, NixosRequest, Recipe,
    Request, Tools, guest_tree, package_list,
};
use archibald_machine::Os;

use crate::failure::{Context as _, Exit, Failure};
use crate::places::{self, MachineFile};
use crate::terminal::{self, Steps};

/// Build the machine's image, or find it in the cache.
#[derive(Debug, clap::Args)]
pub(crate) struct Build {
    /// The machine file; ./archibald.toml or the default one when left out.
    #[arg(short, long)]
    file: Option<PathBuf>,
    /// The system to build instead of the one that the machine file names.
    #[arg(long)]
    os: Option<System>,
    #[command(flatten)]
    how: How,
    /// Write archibald.lock beside the machine file: the versions of every package, held to from now on.
    #[arg(long)]
    lock: bool,
    /// Install the packages anew although the cache has them, to get newer versions.
    #[arg(long, conflicts_with = "locked")]
    refresh: bool,
    /// For programs.
    #[arg(long)]
    json: bool,
}

/// The words of `image.os`.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum System {
    /// Debian 13, built anywhere.
    Debian,
    /// NixOS, built by Nix.
    Nixos,
}

impl From<System> for Os {
    fn from(system: System) -> Self {
        match system {
            System::Debian => Self::Debian,
            System::Nixos => Self::NixOs,
        }
    }
}

/// How `build` and `up` build.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct How {
    /// Refuse packages that differ from archibald.lock.
    #[arg(long)]
    pub(crate) locked: bool,
    /// No progress.
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

impl Build {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        let mut file = places::machine_file(self.file.as_deref())?;
        if let Some(os) = self.os {
            file.machine.image.os = os.into();
        }
        if self.lock && file.machine.image.os == Os::NixOs {
            return Err(of_debian("--lock"));
        }
        let cancel = called_off()?;
        let steps = Steps::new(self.how.quiet);
        let image = image(&file, self.how.locked, self.refresh, &steps, &cancel)?;
        steps.finish();
        drop(steps);
        if self.lock {
            let path = lock_file(&file.path);
            Lock::from_manifest(image.manifest()).write(&path).context("lock")?;
            terminal::complain(&format!("{} written", path.display()));
        }
        let manifest = image.manifest();
        if self.json {
            terminal::say_json(&serde_json::json!({
                "schema": 1, "image": image.id(), "directory": image.dir(), "manifest": manifest,
            }));
        } else {
            let what = match file.machine.image.os {
                Os::Debian => format!("with {} packages", manifest.packages.len()),
                Os::NixOs => "by Nix".to_owned(),
            };
            let kernel = manifest.kernel.as_deref().unwrap_or("none");
            terminal::say(&format!("image {} {what}, kernel {kernel}", image.id()));
            terminal::say(&image.dir().display().to_string());
        }
        Ok(0)
    }
}

/// How many images stay that no machine stands on: enough to go back and forth between a few states
/// of the guest's files without building.
const KEPT_IMAGES: usize = 4;

/// A flag that Ctrl-C and SIGTERM raise; a second Ctrl-C ends the program at once.
pub(crate) fn called_off() -> Result<Cancel, Failure> {
    called_off_by(&Arc::new(AtomicBool::new(false)))
}

/// The same, with the flag itself at hand.
pub(crate) fn called_off_by(flag: &Arc<AtomicBool>) -> Result<Cancel, Failure> {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(flag))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(flag)))
            .context("signal handler")?;
    }
    Ok(Cancel::from(Arc::clone(flag)))
}

/// The image cache of this user.
pub(crate) fn cache() -> Result<Cache, Failure> {
    Cache::open(&places::cache(), tools()).context("image cache")
}

/// The programs of this host.
pub(crate) fn tools() -> Tools {
    Tools::in_path(&places::search_path())
}

/// Fails with the packages to install when a program is missing.
pub(crate) fn need_tools(os: Os) -> Result<(), Failure> {
    let missing = match os {
        Os::Debian => tools().missing(),
        Os::NixOs => tools().missing_for_nixos(),
    };
    if missing.is_empty() {
        return Ok(());
    }
    let programs: Vec<&str> = missing.iter().map(|tool| tool.program).collect();
    let mut packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    packages.sort_unstable();
    packages.dedup();
    Err(Failure::new(Exit::Environment, format!("missing on this host: {}", programs.join(", ")))
        .with_remedy(format!("Debian, Ubuntu: apt-get install {}", packages.join(" "))))
}

/// archibald.lock beside the machine file.
fn lock_file(machine_file: &Path) -> PathBuf {
    machine_file.with_file_name("archibald.lock")
}

/// Everything that the image of this machine is made from.
fn request(file: &MachineFile, locked: bool, refresh: bool) -> Result<Request, Failure> {
    let guest = places::share()?.join("guest");
    let read = |name: &str| -> Result<Vec<String>, Failure> {
        let path = guest.join(name);
        Ok(package_list(&fs::read_to_string(&path).context(path.display())?))
    };
    let mut packages = read("packages")?;
    packages.extend(file.machine.image.packages.iter().cloned());
    let bad = |error: &dyn std::fmt::Display| Failure::new(Exit::Use, error);
    let recipe =
        Recipe::debian(packages, file.machine.image.mirror.clone()).map_err(|e| bad(&e))?;
    let path = lock_file(&file.path);
    let lock = if path.exists() { Some(Lock::read(&path).map_err(|e| bad(&e))?) } else { None };
    if locked && lock.is_none() {
        return Err(Failure::new(
            Exit::Use,
            format!("--locked, but there is no {}", path.display()),
        )
        .with_remedy("`archibald build --lock` writes it."));
    }
    let mut files = guest_tree(&guest.join("root")).context("guest files")?;
    for program in places::guest_programs()? {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        files.push(GuestFile::program(program, format!("/usr/bin/{name}")));
    }
    let initrd = Initrd { init: guest.join("initrd/init"), modules: read("initrd/modules")? };
    Ok(Request { recipe, lock, locked, refresh, guest: files, initrd: Some(initrd) })
}

/// What Nix is asked for.
fn nixos_request(file: &MachineFile) -> Result<NixosRequest, Failure> {
    let absolute = |path: &Path| fs::canonicalize(path).context(path.display());
    let flake = absolute(&places::share()?)?;
    if !flake.join("flake.nix").is_file() {
        return Err(Failure::new(
            Exit::Environment,
            format!("there is no flake.nix in {}", flake.display()),
        )
        .with_remedy("Run ./archibald in a clone of the project, or set ARCHIBALD_SHARE to it."));
    }
    Ok(NixosRequest { flake, machine_file: absolute(&file.path)? })
}

/// An option that means nothing to Nix.
fn of_debian(option: &str) -> Failure {
    Failure::new(Exit::Use, format!("{option} is for Debian's packages")).with_remedy(
        "NixOS is held to versions by flake.lock: `nix flake lock`, `nix flake update`.",
    )
}

/// The image of this machine file, built if need be.
pub(crate) fn image(
    file: &MachineFile,
    locked: bool,
    refresh: bool,
    steps: &Steps,
    cancel: &Cancel,
) -> Result<Image, Failure> {
    need_tools(file.machine.image.os)?;
    let cache = cache()?;
    let image = match file.machine.image.os {
        Os::Debian => {
            let request = request(file, locked, refresh)?;
            cache.build(&request, Contention::Wait, steps, cancel)
        }
        Os::NixOs => {
            if locked || refresh {
                return Err(of_debian(if locked { "--locked" } else { "--refresh" }));
            }
            cache.build_nixos(&nixos_request(file)?, Contention::Wait, steps, cancel)
        }
    }
    .map_err(build_failure)?;
    // Every changed guest file leaves an image behind. Whoever cannot prune now, because another build
    // has the cache, prunes next time.
    let _ = cache.prune(KEPT_IMAGES, &super::image::in_use()?);
    Ok(image)
}

/// Whether this machine file would now give another image than `id`. What cannot be found out is no
/// reason to keep a machine from starting.
pub(crate) fn is_outdated(id: &str, file: &MachineFile) -> bool {
    // Only Nix could tell, by evaluating it all.
    if file.machine.image.os == Os::NixOs {
        return false;
    }
    let current = || -> Result<Option<String>, Failure> {
        cache()?.id_of(&request(file, false, false)?).map_err(build_failure)
    };
    matches!(current(), Ok(Some(current)) if current != id)
}

pub(crate) fn build_failure(error: BuildError) -> Failure {
    match error {
        BuildError::Cancelled => Failure::interrupted(),
        BuildError::Drift { .. } => Failure::new(Exit::Failed, error),
        BuildError::NoNix => Failure::new(Exit::Environment, error).with_remedy(
            "Install Nix (nixos.org/download), or write os = \"debian\" in the machine file.",
        ),
        BuildError::GuestFile { .. } | BuildError::Initrd { .. } => Failure::new(Exit::Use, error),
        _ => Failure::new(Exit::Environment, error),
    }
}
