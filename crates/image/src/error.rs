//! Why a build fails. Errors of the other operations stand beside them.

use std::io;
use std::path::{Path, PathBuf};

use crate::Drift;

/// A build that failed. Nothing half-made stays in the cache.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Another process is building.
    #[error(
        "another build is using {} ({}); wait for it or stop it",
        .cache.display(),
        .pid.map_or_else(|| "its process is unknown".to_owned(), |pid| format!("process {pid}"))
    )]
    Busy {
        /// The cache directory.
        cache: PathBuf,
        /// The other process, if it has told.
        pid: Option<u32>,
    },
    /// Called off.
    #[error("the build was called off")]
    Cancelled,
    /// The packages are not those of the lock.
    #[error("the packages differ from the lock:{}\nbuild without --locked and write the lock again, or use a mirror that still has them", list(.packages))]
    Drift {
        /// Every package that differs.
        packages: Vec<Drift>,
    },
    /// A program of the system is not installed.
    #[error("`{program}` is not installed; install the package {package}")]
    MissingTool {
        /// The program.
        program: String,
        /// The Debian and Ubuntu package that has it.
        package: String,
    },
    /// A NixOS image is wanted, and Nix is not there.
    #[error("Nix is not installed on this host, and NixOS images are built by it")]
    NoNix,
    /// Nix built something else than the machine's disk.
    #[error(
        "Nix did not build the machine's disk from {}: {reason}; the folder must be the project's own",
        .flake.display()
    )]
    NixResult {
        /// The folder of the flake.
        flake: PathBuf,
        /// What is missing in the result.
        reason: String,
    },
    /// An ordinary user may not create user namespaces here.
    #[error(
        "cannot build as an ordinary user: {message}; give the user a range in /etc/subuid and /etc/subgid and allow unprivileged user namespaces, or build as root"
    )]
    NoUserNamespace {
        /// What `unshare` said.
        message: String,
    },
    /// A program of the system failed.
    #[error("{action} failed: `{program}` ended with {status}\n{last_lines}\nthe whole log: {}", .log.display())]
    Command {
        /// What was being done.
        action: &'static str,
        /// The program.
        program: &'static str,
        /// Its exit status.
        status: String,
        /// The end of its output.
        last_lines: String,
        /// The log file with all of its output.
        log: PathBuf,
    },
    /// The disk is full or would become so.
    #[error(
        "no space left in {}: {}{} MB are free; free some or choose another cache directory",
        .dir.display(),
        .needed.map_or_else(String::new, |bytes| format!("about {} MB are needed, ", bytes.div_ceil(1_000_000))),
        .available / 1_000_000
    )]
    NoSpace {
        /// The directory on the full file system.
        dir: PathBuf,
        /// Bytes needed, where that is known.
        needed: Option<u64>,
        /// Bytes free.
        available: u64,
    },
    /// Downloaded packages are not what the archive's signed index says.
    #[error("damaged downloads, now removed: {}; build again", .files.join(", "))]
    Download {
        /// The .deb files.
        files: Vec<String>,
    },
    /// A guest file that cannot be laid into the image.
    #[error("cannot put {path} into the image: {reason}")]
    GuestFile {
        /// Its path in the guest.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// Kernel or modules that the initrd needs are not in the image.
    #[error("cannot make the initrd: {reason}")]
    Initrd {
        /// What is wrong.
        reason: String,
    },
    /// The base's file system could not be read or written as expected.
    #[error("{} is not the file system that was expected: {reason}; remove {} and build again", .disk.display(), .disk.display())]
    Filesystem {
        /// The disk.
        disk: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file could not be read or written.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

fn list(drifts: &[Drift]) -> String {
    drifts.iter().map(|drift| format!("\n  {drift}")).collect()
}

/// Says what was being done to which file when an I/O call failed.
pub(crate) trait During<T> {
    fn during(self, action: &'static str, path: &Path) -> Result<T, BuildError>;
}

impl<T, E: Into<io::Error>> During<T> for Result<T, E> {
    fn during(self, action: &'static str, path: &Path) -> Result<T, BuildError> {
        self.map_err(|source| {
            let source = source.into();
            if source.kind() == io::ErrorKind::StorageFull {
                let dir = path.parent().unwrap_or(path).to_owned();
                let available = crate::space::available(&dir);
                return BuildError::NoSpace { dir, needed: None, available };
            }
            BuildError::Io { action, path: path.to_owned(), source }
        })
    }
}
