//! `archibald build`: the image of a machine file. Here lives what `up` shares with it: from the
//! machine file and the project's files to a request, and the build with its progress drawn.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use archibald_image::{
    BuildError, Cache, Cancel, Contention, GuestFile, Image, Initrd, Lock, Recipe, Request, Tools,
    guest_tree, package_list,
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
        let file = places::machine_file(self.file.as_deref())?;
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
            terminal::say(&format!(
                "image {} with {} packages, kernel {}",
                image.id(),
                manifest.packages.len(),
                manifest.kernel.as_deref().unwrap_or("none"),
            ));
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
pub(crate) fn need_tools() -> Result<(), Failure> {
    let missing = tools().missing();
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

/// The image of this machine file, built if need be.
pub(crate) fn image(
    file: &MachineFile,
    locked: bool,
    refresh: bool,
    steps: &Steps,
    cancel: &Cancel,
) -> Result<Image, Failure> {
    if file.machine.image.os == Os::NixOs {
        return Err(Failure::new(Exit::Environment, "image.os = \"nixos\" is not built yet")
            .with_remedy("Write os = \"debian\" in the machine file."));
    }
    need_tools()?;
    let request = request(file, locked, refresh)?;
    let cache = cache()?;
    let image = cache.build(&request, Contention::Wait, steps, cancel).map_err(build_failure)?;
    // Every changed guest file leaves an image of full size behind. Whoever cannot prune now, because
    // another build has the cache, prunes next time.
    let _ = cache.prune(KEPT_IMAGES, &super::image::in_use()?);
    Ok(image)
}

pub(crate) fn build_failure(error: BuildError) -> Failure {
    match error {
        BuildError::Cancelled => Failure::interrupted(),
        BuildError::Drift { .. } => Failure::new(Exit::Failed, error),
        BuildError::GuestFile { .. } | BuildError::Initrd { .. } => Failure::new(Exit::Use, error),
        _ => Failure::new(Exit::Environment, error),
    }
}
