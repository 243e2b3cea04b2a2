//! Where things are on this host: the only place that reads the environment.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use archibald_machine::{HostLimits, Machine};
use archibald_vm::instance::{Directories, Instance};

use crate::failure::{Context as _, Exit, Failure};

/// The machine file's name in a folder.
pub(crate) const MACHINE_FILE: &str = "archibald.toml";

/// A machine file that was found and read.
#[derive(Debug)]
pub(crate) struct MachineFile {
    /// Where.
    pub(crate) path: PathBuf,
    /// Its text, kept with the instance.
    pub(crate) text: String,
    /// What it says.
    pub(crate) machine: Machine,
}

fn variable(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn home() -> PathBuf {
    variable("HOME").unwrap_or_else(|| PathBuf::from("/"))
}

/// The instances' directories, after the XDG base directory specification.
pub(crate) fn directories() -> Directories {
    let state = variable("XDG_STATE_HOME").unwrap_or_else(|| home().join(".local/state"));
    let runtime = variable("XDG_RUNTIME_DIR").unwrap_or_else(|| {
        // root often has none, and /run is root's alone.
        let uid = rustix::process::getuid();
        if uid.is_root() {
            "/run".into()
        } else {
            format!("/tmp/archibald-{}", uid.as_raw()).into()
        }
    });
    Directories { state: state.join("archibald"), runtime: runtime.join("archibald") }
}

/// What people want to keep after the machine is gone: runs of meters.
pub(crate) fn data() -> PathBuf {
    variable("XDG_DATA_HOME").unwrap_or_else(|| home().join(".local/share")).join("archibald")
}

/// The images' cache.
pub(crate) fn cache() -> PathBuf {
    variable("XDG_CACHE_HOME").unwrap_or_else(|| home().join(".cache")).join("archibald")
}

/// The project's own files: `guest/` and the default machine file.
pub(crate) fn share() -> Result<PathBuf, Failure> {
    let beside = env::current_exe()
        .ok()
        .and_then(|program| Some(program.parent()?.parent()?.join("share/archibald")));
    [variable("ARCHIBALD_SHARE"), beside]
        .into_iter()
        .flatten()
        .find(|place| place.join("guest").is_dir())
        .ok_or_else(|| {
            Failure::new(Exit::Environment, "the folder guest/ of the project was not found")
                .with_remedy(
                    "Run ./archibald in a clone of the project, or set ARCHIBALD_SHARE to it.",
                )
        })
}

/// The programs of the project that go into the image. Those that are static stand beside this one.
pub(crate) fn guest_programs() -> Result<[PathBuf; 3], Failure> {
    let here = programs_folder()?;
    Ok([find_built("archibald-guest", &[&here])?, find_built("streamdb", &[&here])?, probe()?])
}

/// The probe, which is not static (see crates/probe/cargo), and must not be taken from beside this
/// program, where `cargo build --workspace` leaves one that is static and so of no use.
pub(crate) fn probe() -> Result<PathBuf, Failure> {
    let here = programs_folder()?;
    let dynamic = here.join("../../dynamic/x86_64-unknown-linux-gnu/release");
    find_built("archibald-probe", &[&dynamic, &here.join("../lib/archibald")])
}

fn programs_folder() -> Result<PathBuf, Failure> {
    Ok(this_program()?.parent().map(Path::to_owned).unwrap_or_default())
}

fn find_built(name: &str, places: &[&Path]) -> Result<PathBuf, Failure> {
    let found = places.iter().map(|place| place.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| {
        let near = places.first().map(|place| place.display().to_string()).unwrap_or_default();
        Failure::new(Exit::Environment, format!("the program {name} is not in {near}"))
            .with_remedy("Run ./archibald, which builds it.")
    })
}

/// QEMU's program: `ARCHIBALD_QEMU`, or the usual name.
pub(crate) fn qemu() -> OsString {
    variable("ARCHIBALD_QEMU").map_or_else(|| "qemu-system-x86_64".into(), OsString::from)
}

/// The same by its path, for who must know the very file.
pub(crate) fn qemu_path() -> OsString {
    let program = PathBuf::from(qemu());
    if program.components().count() > 1 {
        return program.into();
    }
    find_program(&program).unwrap_or(program).into()
}

/// The program of this name in [`search_path`].
pub(crate) fn find_program(name: impl AsRef<Path>) -> Option<PathBuf> {
    let folders = search_path();
    env::split_paths(&folders).map(|folder| folder.join(name.as_ref())).find(|path| path.is_file())
}

/// What people type to call this program.
pub(crate) fn called() -> String {
    env::var("ARCHIBALD_CALLED").unwrap_or_else(|_| "archibald".to_owned())
}

/// How often Slurm has begun this very task again, because its node failed.
pub(crate) fn restarts() -> u32 {
    let count = env::var("SLURM_RESTART_COUNT").ok().and_then(|count| count.parse().ok());
    count.unwrap_or(0)
}

/// The program search path.
pub(crate) fn search_path() -> OsString {
    let mut path = env::var_os("PATH").unwrap_or_default();
    // mke2fs, debugfs and mmdebstrap's helpers lie where a user's PATH often does not reach.
    path.push(":/usr/local/sbin:/usr/sbin:/sbin");
    path
}

/// The machine file: the one given, else the folder's, else the project's default.
pub(crate) fn machine_file(given: Option<&Path>) -> Result<MachineFile, Failure> {
    machine_file_for(given, &host_limits())
}

/// As [`machine_file`], checked against these limits: those of another host, or none.
pub(crate) fn machine_file_for(
    given: Option<&Path>,
    limits: &HostLimits,
) -> Result<MachineFile, Failure> {
    let path = match given {
        Some(path) => path.to_owned(),
        None if Path::new(MACHINE_FILE).exists() => MACHINE_FILE.into(),
        None => share()?.join(MACHINE_FILE),
    };
    let text = fs::read_to_string(&path).map_err(|error| {
        Failure::new(Exit::Use, format!("{}: {error}", path.display()))
            .with_remedy("`archibald init` writes a machine file into this folder.")
    })?;
    let machine = Machine::parse(&path.display().to_string(), &text, limits)?;
    Ok(MachineFile { path, text, machine })
}

/// What of this host a machine file is checked against.
pub(crate) fn host_limits() -> HostLimits {
    let online = fs::read_to_string("/sys/devices/system/cpu/online");
    HostLimits { cpus: online.ok().and_then(|text| text.trim().parse().ok()) }
}

/// The instance of this name, else of the machine file's.
pub(crate) fn instance(name: Option<&str>) -> Result<Instance, Failure> {
    let name = match name {
        Some(name) => {
            // A name is a file name too.
            if name.is_empty() || name.starts_with('.') || name.contains('/') {
                return Err(Failure::new(
                    Exit::Use,
                    format!("\"{name}\" cannot be a machine's name"),
                ));
            }
            name.to_owned()
        }
        None => machine_file(None)?.machine.name,
    };
    Ok(directories().instance(&name))
}

/// This program, for the processes that it starts of itself.
pub(crate) fn this_program() -> Result<PathBuf, Failure> {
    env::current_exe().context("this program's own path")
}
