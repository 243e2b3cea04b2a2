//! The QEMU program on this host: whether it is there, whether it starts, and how old it is.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use archibald_machine::SoundBackend;
use rustix::process::Signal;

/// The oldest QEMU that this project is tried with.
pub const OLDEST: (u32, u32) = (7, 2);

/// A QEMU that answered its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qemu {
    /// The program.
    pub program: PathBuf,
    /// Major and minor version.
    pub version: (u32, u32),
    /// The version in full, as it prints it.
    pub banner: String,
}

/// Why there is no QEMU to use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QemuError {
    /// No such program.
    #[error("QEMU is missing: {program} was not found")]
    Missing {
        /// What was looked for.
        program: String,
    },
    /// It would not start, or ended with an error.
    #[error("QEMU does not start: {message}")]
    Broken {
        /// What it said.
        message: String,
    },
    /// It is older than [`OLDEST`].
    #[error("QEMU is too old: {banner}; {}.{} or newer is needed", OLDEST.0, OLDEST.1)]
    TooOld {
        /// The version it has.
        banner: String,
    },
    /// It has no sound card for machines.
    #[error("this QEMU has no sound card for a machine (virtio-sound-pci): {banner}")]
    NoSoundCard {
        /// The version it has.
        banner: String,
    },
    /// It cannot play through this.
    #[error("this QEMU cannot play through \"{backend}\", only through {}", has.join(", "))]
    NoSoundBackend {
        /// What the machine file asks for.
        backend: &'static str,
        /// What it can.
        has: Vec<String>,
    },
}

impl QemuError {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Missing { .. } => {
                "Install it (Debian, Ubuntu: apt-get install qemu-system-x86), or set ARCHIBALD_QEMU to the program."
            }
            Self::Broken { .. } => {
                "Run the command by hand to see more; reinstalling the QEMU package often helps."
            }
            Self::NoSoundCard { .. } => {
                "QEMU 8.2 and newer have it (Debian 13): set ARCHIBALD_QEMU to one, or write devices.sound = \"off\"."
            }
            Self::NoSoundBackend { .. } => {
                "Install the package of QEMU's that has it (Debian: qemu-system-gui), or write another word for devices.sound."
            }
            Self::TooOld { .. } => {
                "Use a distribution with a newer QEMU (Debian 12, Ubuntu 24.04), or set ARCHIBALD_QEMU to a newer program."
            }
        }
    }
}

impl Qemu {
    /// Asks `program` (a path, or a name to look up) for its version.
    ///
    /// # Errors
    /// [`QemuError`] when it is missing, does not start, or is too old.
    pub fn find(program: OsString) -> Result<Self, QemuError> {
        let name = program.to_string_lossy().into_owned();
        let output = Command::new(&program).arg("--version").output().map_err(|error| {
            if error.kind() == std::io::ErrorKind::NotFound {
                QemuError::Missing { program: name.clone() }
            } else {
                QemuError::Broken { message: format!("{name}: {error}") }
            }
        })?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let banner = text.lines().next().unwrap_or_default().to_owned();
        let version = parse_version(&banner).filter(|_| output.status.success());
        let Some(version) = version else {
            let said = String::from_utf8_lossy(&output.stderr);
            let message = format!("{name} --version: {}, {}", output.status, said.trim());
            return Err(QemuError::Broken { message });
        };
        if version < OLDEST {
            return Err(QemuError::TooOld { banner });
        }
        Ok(Self { program: program.into(), version, banner })
    }

    /// Whether it can give a machine a sound card that it plays through this, by its own word: packages
    /// leave out what versions have.
    ///
    /// # Errors
    /// [`QemuError::NoSoundCard`], [`QemuError::NoSoundBackend`].
    pub fn plays(&self, backend: SoundBackend) -> Result<(), QemuError> {
        let ask = |words: [&str; 2]| {
            let output = Command::new(&self.program).args(words).stdin(Stdio::null()).output();
            output.map_err(|error| QemuError::Broken { message: error.to_string() })
        };
        // QEMU 7.2 ends with success for a device that it does not have; the list of options is empty then.
        let options = ask(["-device", "virtio-sound-pci,help"])?.stdout;
        if !String::from_utf8_lossy(&options).contains("audiodev=") {
            return Err(QemuError::NoSoundCard { banner: self.banner.clone() });
        }
        // One a line, after a line of words.
        let has: Vec<String> = String::from_utf8_lossy(&ask(["-audiodev", "help"])?.stdout)
            .lines()
            .filter(|line| !line.contains(' '))
            .map(str::to_owned)
            .collect();
        match has.iter().any(|word| word == backend.word()) {
            true => Ok(()),
            false => Err(QemuError::NoSoundBackend { backend: backend.word(), has }),
        }
    }
}

/// Starts QEMU with its output in `log` and `stdin` as its file descriptor 0. It is killed when the thread that called this ends, for
/// whatever reason: nobody's QEMU outlives them.
///
/// # Errors
/// What the system said.
pub fn spawn(
    program: impl AsRef<OsStr>,
    arguments: &[impl AsRef<OsStr>],
    stdin: impl Into<Stdio>,
    log: &File,
) -> io::Result<Child> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(stdin).stdout(log.try_clone()?).stderr(log.try_clone()?);
    // What a person interrupts is this program, or the debugger that it has started; QEMU would take an
    // interrupt for an order to end.
    command.process_group(0);
    // SAFETY: prctl is async-signal-safe and touches nothing of the parent.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(|| {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
                .map_err(io::Error::from)
        });
    }
    command.spawn()
}

fn parse_version(banner: &str) -> Option<(u32, u32)> {
    let mut parts = banner.split("version ").nth(1)?.split(['.', ' ', '(']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_the_banner() {
        assert_eq!(parse_version("QEMU emulator version 7.2.22 (Debian 1:7.2)"), Some((7, 2)));
        assert_eq!(parse_version("QEMU emulator version 10.0.13"), Some((10, 0)));
        assert_eq!(parse_version("something else"), None);
    }

    #[test]
    fn a_missing_qemu_is_named() {
        let error = Qemu::find("no-such-qemu".into()).unwrap_err();
        assert!(matches!(error, QemuError::Missing { .. }), "{error}");
        assert!(error.remedy().contains("install"));
    }

    #[test]
    fn a_program_that_is_no_qemu_is_broken() {
        let error = Qemu::find("true".into()).unwrap_err();
        assert!(matches!(error, QemuError::Broken { .. }), "{error}");
    }
}
