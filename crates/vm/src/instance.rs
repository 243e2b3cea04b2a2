//! An instance on disk: its directory, what it holds, who is at work on it, and whether it runs.
//!
//! Whether a machine runs is decided by a lock that its keeper holds, not by what a file says: after
//! a crash or a restart of the host the lock is free, whatever was written before.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::argv::{Accelerator, BootFiles, InstanceFiles};
use crate::ssh::{Door, Identity};

/// Where instances live.
#[derive(Debug, Clone)]
pub struct Directories {
    /// Holds one directory an instance; survives a restart of the host.
    pub state: PathBuf,
    /// Sockets, one directory an instance; short, because socket paths are limited to 107 bytes.
    pub runtime: PathBuf,
}

/// One instance, made or not yet.
#[derive(Debug, Clone)]
pub struct Instance {
    name: String,
    state: PathBuf,
    runtime: PathBuf,
}

/// What is remembered about an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Version of this schema.
    pub schema: u32,
    /// The machine file's text at the last start.
    pub machine: String,
    /// Identity of the image that the disk stands on.
    pub image: String,
    /// The image's files.
    pub boot: BootFiles,
    /// What the last start ran under.
    pub accelerator: Accelerator,
    /// Why that one.
    pub because: String,
    /// QEMU's version banner at the last start.
    pub qemu: String,
    /// When the last start was, milliseconds since 1970.
    pub started_ms: u64,
    /// Where its SSH server is reached; absent when no port leads there.
    pub door: Option<Door>,
}

/// Schema version of [`Record`].
pub const RECORD_SCHEMA: u32 = 1;

/// How an instance stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum Status {
    /// There is no such instance.
    Absent,
    /// Its QEMU runs.
    Running {
        /// QEMU's process.
        pid: u32,
    },
    /// It was shut down.
    Stopped,
    /// It ended without being asked to: QEMU died, or the host was restarted.
    Ended {
        /// What is known about it.
        how: String,
    },
}

/// Something went wrong with an instance's directory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstanceError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path} is damaged ({message}); `archibald delete {name}` removes the instance")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// The instance.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// Another command is at work on the instance.
    #[error("another command is at work on \"{name}\": {holder}")]
    Busy {
        /// The instance.
        name: String,
        /// Who, with its pid.
        holder: String,
    },
}

impl Directories {
    /// The instance of this name, which need not exist.
    #[must_use]
    pub fn instance(&self, name: &str) -> Instance {
        Instance {
            name: name.to_owned(),
            state: self.state.join(name),
            runtime: self.runtime.join(name),
        }
    }

    /// Every instance there is, by name.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn instances(&self) -> Result<Vec<Instance>, InstanceError> {
        let entries = match fs::read_dir(&self.state) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(InstanceError::File { path: self.state.clone(), source }),
        };
        let mut names: Vec<String> = entries
            .flatten()
            .filter(|entry| entry.path().join("instance.json").exists())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        Ok(names.iter().map(|name| self.instance(name)).collect())
    }
}

impl Instance {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.state
    }

    /// Its directory for sockets.
    #[must_use]
    pub fn runtime(&self) -> &Path {
        &self.runtime
    }

    /// A file in its directory.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.state.join(name)
    }

    /// The files that QEMU is given.
    #[must_use]
    pub fn files(&self) -> InstanceFiles {
        InstanceFiles {
            disk: self.file("disk.qcow2"),
            credentials: self.file("credentials"),
            console: self.file("console.log"),
            ready: self.runtime.join("ready"),
            qmp: self.runtime.join("qmp"),
        }
    }

    /// Its SSH identity.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity::at(&self.file("ssh"))
    }

    /// What is remembered about it; absent when there is no such instance.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn record(&self) -> Result<Option<Record>, InstanceError> {
        let path = self.file("instance.json");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(InstanceError::File { path, source }),
        };
        serde_json::from_str(&text).map(Some).map_err(|error| InstanceError::Damaged {
            path,
            name: self.name.clone(),
            message: error.to_string(),
        })
    }

    /// Remembers, atomically: a full disk or a kill leaves the old record.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn remember(&self, record: &Record) -> Result<(), InstanceError> {
        let json = serde_json::to_vec_pretty(record).unwrap_or_default();
        self.write("instance.json", &json, 0o644)
    }

    /// Writes a file of the instance atomically, with these permission bits.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&self, name: &str, content: &[u8], mode: u32) -> Result<(), InstanceError> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let path = self.file(name);
        let partial = self.file(&format!("{name}.partial"));
        let write = || -> io::Result<()> {
            let _ = fs::remove_file(&partial);
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(mode).open(&partial)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&partial, &path)
        };
        write().map_err(|source| InstanceError::File { path: path.clone(), source })
    }

    /// The file of the token that the machine's store asks for on a bridge.
    #[must_use]
    pub fn store_token_file(&self) -> PathBuf {
        self.file("streamdb-token")
    }

    /// The token that the machine's store asks for on a bridge; made when it is first asked for, kept as
    /// long as the instance, readable by the owner alone.
    ///
    /// # Errors
    /// When the disk or the system's random numbers refuse.
    pub fn store_token(&self) -> Result<String, InstanceError> {
        let path = self.store_token_file();
        match fs::read_to_string(&path) {
            Ok(token) if !token.trim().is_empty() => return Ok(token.trim().to_owned()),
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(InstanceError::File { path, source });
            }
            _ => {}
        }
        let mut bytes = [0u8; 24];
        let source = PathBuf::from("/dev/urandom");
        File::open(&source)
            .and_then(|mut file| file.read_exact(&mut bytes))
            .map_err(|error| InstanceError::File { path: source, source: error })?;
        let token = URL_SAFE_NO_PAD.encode(bytes);
        self.write("streamdb-token", format!("{token}\n").as_bytes(), 0o600)?;
        Ok(token)
    }

    /// Locks the instance for one command. The lock goes with the value, or with the process.
    ///
    /// # Errors
    /// [`InstanceError::Busy`] when another command has it.
    pub fn lock(&self, purpose: &str) -> Result<Lock, InstanceError> {
        let purpose = format!("{purpose} (pid {})", std::process::id());
        let mut lock = Lock::take(&self.lock_file("command"), &purpose)?.ok_or_else(|| {
            InstanceError::Busy { name: self.name.clone(), holder: self.holder("command") }
        })?;
        lock.of = Some(self.clone());
        Ok(lock)
    }

    /// The lock that says that the machine runs; absent when another keeper has it.
    pub(crate) fn lock_running(&self) -> Result<Option<Lock>, InstanceError> {
        // Whoever asks for the status holds the lock for an instant, which must not look like a
        // keeper.
        for _ in 0..20 {
            if let Some(lock) = Lock::take(&self.lock_file("running"), "")? {
                return Ok(Some(lock));
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        Ok(None)
    }

    /// Lock files stand beside the directory, so that deleting it does not take them away from
    /// under whoever waits.
    fn lock_file(&self, kind: &str) -> PathBuf {
        self.state.with_file_name(format!(".{}.{kind}.lock", self.name))
    }

    fn holder(&self, kind: &str) -> String {
        fs::read_to_string(self.lock_file(kind)).unwrap_or_default().trim().to_owned()
    }

    /// How it stands now.
    ///
    /// # Errors
    /// When its files cannot be read.
    pub fn status(&self) -> Result<Status, InstanceError> {
        if let Ok(file) = File::open(self.lock_file("running")) {
            if flock(&file, FlockOperation::NonBlockingLockShared).is_err() {
                let pid = self.holder("running").parse().unwrap_or(0);
                return Ok(Status::Running { pid });
            }
        }
        if self.record()?.is_none() {
            return Ok(Status::Absent);
        }
        let path = self.file("exit");
        match fs::read_to_string(&path) {
            Ok(how) if how.trim() == "stopped" => Ok(Status::Stopped),
            Ok(how) => Ok(Status::Ended { how: how.trim().to_owned() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Status::Ended {
                how: "without a word: the host was restarted, or its keeper was killed".to_owned(),
            }),
            Err(source) => Err(InstanceError::File { path, source }),
        }
    }

    /// Removes everything that the instance left on the host, its directories and locks included.
    /// The caller holds the lock and has stopped the machine.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn remove(&self) -> Result<(), InstanceError> {
        // The record first: what a kill leaves behind is then no instance any more.
        for path in [self.file("instance.json"), self.state.clone(), self.runtime.clone()] {
            let result =
                if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            match result {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(InstanceError::File { path, source });
                }
                _ => {}
            }
        }
        for kind in ["running", "command"] {
            let _ = fs::remove_file(self.lock_file(kind));
        }
        Ok(())
    }
}

/// A lock held through an open file.
#[derive(Debug)]
pub struct Lock {
    file: File,
    /// A command's: its file goes with it where no instance came of the command.
    of: Option<Instance>,
}

impl Drop for Lock {
    fn drop(&mut self) {
        let Some(instance) = self.of.take().filter(|instance| !instance.state.exists()) else {
            return;
        };
        // Held until after this, so that nobody else has removed or can take it.
        let path = instance.lock_file("command");
        if is_at(&self.file, &path) {
            let _ = fs::remove_file(path);
        }
    }
}

/// Whether the file is still the one of this name.
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let known = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata().map(known), fs::metadata(path).map(known)) {
        (Ok(file), Ok(named)) => file == named,
        _ => false,
    }
}

impl Lock {
    fn take(path: &Path, holder: &str) -> Result<Option<Self>, InstanceError> {
        let failed = |source| InstanceError::File { path: path.to_owned(), source };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        let file = loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)
                .map_err(failed)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                // One that was removed in between locks nobody out.
                Ok(()) if is_at(&file, path) => break file,
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                Err(errno) => return Err(failed(errno.into())),
            }
        };
        let mut lock = Self { file, of: None };
        lock.note(holder).map_err(failed)?;
        Ok(Some(lock))
    }

    /// Writes who holds it, for those who find it taken.
    pub(crate) fn note(&mut self, holder: &str) -> io::Result<()> {
        use std::os::unix::fs::FileExt as _;
        self.file.set_len(0)?;
        self.file.write_all_at(holder.as_bytes(), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directories(dir: &tempfile::TempDir) -> Directories {
        Directories { state: dir.path().join("state"), runtime: dir.path().join("run") }
    }

    fn record() -> Record {
        Record {
            schema: RECORD_SCHEMA,
            machine: String::new(),
            image: "abc".to_owned(),
            boot: BootFiles {
                disk: "d".into(),
                kernel: "k".into(),
                initrd: "i".into(),
                arguments: Vec::new(),
            },
            accelerator: Accelerator::Tcg,
            because: "test".to_owned(),
            qemu: "QEMU".to_owned(),
            started_ms: 1,
            door: None,
        }
    }

    #[test]
    fn the_second_command_learns_who_holds_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let instance = directories(&dir).instance("studio");
        let held = instance.lock("up").unwrap();
        let error = instance.lock("stop").unwrap_err();
        assert!(error.to_string().contains(&format!("up (pid {})", std::process::id())), "{error}");
        drop(held);
        instance.lock("stop").unwrap();
    }

    #[test]
    fn a_command_of_which_no_instance_came_leaves_no_lock_and_takes_nobody_s() {
        let dir = tempfile::tempdir().unwrap();
        let instance = directories(&dir).instance("studio");
        let file = instance.lock_file("command");
        drop(instance.lock("up").unwrap());
        assert!(!file.exists());
        let held = instance.lock("up").unwrap();
        fs::remove_file(&file).unwrap();
        let other = instance.lock("up").unwrap();
        drop(held);
        assert!(file.exists() && instance.lock("stop").is_err());
        fs::create_dir_all(instance.directory()).unwrap();
        drop(other);
        assert!(file.exists());
    }

    #[test]
    fn a_record_without_a_keeper_is_no_running_machine() {
        let dir = tempfile::tempdir().unwrap();
        let instance = directories(&dir).instance("studio");
        assert_eq!(instance.status().unwrap(), Status::Absent);
        fs::create_dir_all(instance.directory()).unwrap();
        instance.remember(&record()).unwrap();
        assert!(matches!(instance.status().unwrap(), Status::Ended { .. }));
        let mut keeper = instance.lock_running().unwrap().unwrap();
        keeper.note("77").unwrap();
        assert_eq!(instance.status().unwrap(), Status::Running { pid: 77 });
        assert!(instance.lock_running().unwrap().is_none());
        drop(keeper);
        fs::write(instance.file("exit"), "stopped\n").unwrap();
        assert_eq!(instance.status().unwrap(), Status::Stopped);
    }

    #[test]
    fn the_store_s_token_is_made_once_and_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let instance = directories(&dir).instance("studio");
        fs::create_dir_all(instance.directory()).unwrap();
        let token = instance.store_token().unwrap();
        assert!(token.len() == 32 && token.bytes().all(|b| b.is_ascii_graphic()), "{token}");
        assert_eq!(instance.store_token().unwrap(), token);
        let mode = fs::metadata(instance.store_token_file()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn removing_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let directories = directories(&dir);
        let instance = directories.instance("studio");
        let _lock = instance.lock("delete").unwrap();
        fs::create_dir_all(instance.directory()).unwrap();
        fs::create_dir_all(instance.runtime()).unwrap();
        instance.remember(&record()).unwrap();
        assert_eq!(directories.instances().unwrap().len(), 1);
        instance.remove().unwrap();
        assert!(fs::read_dir(&directories.state).unwrap().next().is_none());
        assert!(fs::read_dir(&directories.runtime).unwrap().next().is_none());
    }

    #[test]
    fn a_damaged_record_says_how_to_get_rid_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let instance = directories(&dir).instance("studio");
        fs::create_dir_all(instance.directory()).unwrap();
        fs::write(instance.file("instance.json"), "{").unwrap();
        let error = instance.record().unwrap_err().to_string();
        assert!(error.contains("archibald delete studio"), "{error}");
    }
}
