//! Snapshots of a running machine: its memory and devices in a file, its disk as an internal snapshot
//! of its qcow2 file, both of one moment. Whole or not there.
//!
//! A snapshot is a directory of the instance's, made beside its final name and renamed at the end. What
//! a kill leaves behind, the next verb sweeps: the directory with another name, and the snapshot inside
//! the disk that belongs to it.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::instance::{Instance, InstanceError, Record, Status};
use crate::qmp::{Qmp, QmpError};

/// Between two looks at how far QEMU is.
const GLANCE: Duration = Duration::from_millis(10);
/// What is written at once.
const PIECE: usize = 1 << 20;
/// The disk's id in QEMU, see [`crate::argv`].
const DISK: &str = "disk";
/// What names of snapshots inside the disk begin with, so that nobody else's is taken for a leftover.
const MARK: &str = "archibald:";
/// Free space below which a failed write is told as a full disk.
const FULL: u64 = 16 << 20;
/// The word by which a save tells its guard that it is done.
const DONE: u8 = b'D';

/// A snapshot that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its name.
    pub name: String,
    /// What is known of it.
    pub note: Note,
    directory: PathBuf,
}

/// What is written beside the memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Version of this schema.
    pub schema: u32,
    /// When it was made, milliseconds since 1970.
    pub made_ms: u64,
    /// Size of the memory's file in bytes.
    pub state_bytes: u64,
    /// Name of the snapshot inside the disk.
    pub disk: String,
    /// How the machine was started that it is of.
    pub record: Record,
}

/// Version of [`Note`].
const SCHEMA: u32 = 1;

/// Why a snapshot could not be made, found or removed. The machine runs on in every case.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// A file refused.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The name cannot be a file's.
    #[error(
        "\"{0}\" cannot be a snapshot's name: letters, digits, dots, dashes and underscores are, at most 64"
    )]
    Name(String),
    /// There is one of this name.
    #[error("there is a snapshot \"{0}\" already")]
    Exists(String),
    /// There is none of this name.
    #[error("there is no snapshot \"{name}\"")]
    Missing {
        /// The name.
        name: String,
        /// Those that there are.
        there: Vec<String>,
    },
    /// It is not what was written.
    #[error("snapshot \"{name}\" is damaged: {message}")]
    Damaged {
        /// Its name.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// The disk would not hold it.
    #[error("no space left in {path}: the machine's memory takes up to {needed} MB")]
    Full {
        /// Where.
        path: PathBuf,
        /// The most that it can take.
        needed: u64,
    },
    /// QEMU could not write or read the machine's state.
    #[error("QEMU cannot save this machine: {0}")]
    State(String),
    /// QEMU did not answer as it should.
    #[error(transparent)]
    Qmp(#[from] QmpError),
    /// The disk's own snapshots could not be changed.
    #[error("the snapshots inside {path} cannot be changed: {message}")]
    Disk {
        /// The disk.
        path: PathBuf,
        /// qemu-img's words.
        message: String,
    },
    /// The instance's files refused.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// The caller called it off.
    #[error("called off")]
    Cancelled,
}

impl Snapshot {
    /// The file of its memory.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.directory.join("state")
    }

    /// Bytes of the host's disk that its memory takes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.note.state_bytes
    }

    /// Puts the machine's disk back to what it was. The machine does not run.
    ///
    /// # Errors
    /// When qemu-img refuses; the disk is then as it was.
    pub fn put_back_disk(&self, instance: &Instance) -> Result<(), SnapshotError> {
        qemu_img(instance, &["snapshot", "-a", &self.note.disk]).map(drop)
    }
}

/// Whether this can be a snapshot's name.
///
/// # Errors
/// [`SnapshotError::Name`].
pub fn check_name(name: &str) -> Result<(), SnapshotError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let good = !name.is_empty()
        && name.len() <= 64
        && name.chars().all(plain)
        && !name.starts_with(['.', '-'])
        && !name.ends_with(".partial");
    if good { Ok(()) } else { Err(SnapshotError::Name(name.to_owned())) }
}

/// Every whole snapshot of the machine, the oldest first.
///
/// # Errors
/// When the directory cannot be read.
pub fn list(instance: &Instance) -> Result<Vec<Snapshot>, SnapshotError> {
    let root = root(instance);
    let entries = match fs::read_dir(&root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(SnapshotError::File { path: root, source }),
    };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut found: Vec<Snapshot> = names
        .filter(|name| check_name(name).is_ok())
        .filter_map(|name| open(instance, &name).ok())
        .collect();
    found.sort_by_key(|snapshot| snapshot.note.made_ms);
    Ok(found)
}

/// The snapshot of this name.
///
/// # Errors
/// [`SnapshotError::Missing`], [`SnapshotError::Damaged`].
pub fn find(instance: &Instance, name: &str) -> Result<Snapshot, SnapshotError> {
    check_name(name)?;
    if !root(instance).join(name).is_dir() {
        let there = list(instance)?.into_iter().map(|snapshot| snapshot.name).collect();
        return Err(SnapshotError::Missing { name: name.to_owned(), there });
    }
    open(instance, name)
}

fn open(instance: &Instance, name: &str) -> Result<Snapshot, SnapshotError> {
    let directory = root(instance).join(name);
    let damaged = |message: String| SnapshotError::Damaged { name: name.to_owned(), message };
    let text = fs::read(directory.join("snapshot.json")).map_err(|e| damaged(e.to_string()))?;
    let note: Note = serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))?;
    if note.schema != SCHEMA {
        return Err(damaged(format!("its version {} is not known", note.schema)));
    }
    let length = fs::metadata(directory.join("state")).map_err(|e| damaged(e.to_string()))?.len();
    if length != note.state_bytes {
        let written = note.state_bytes;
        return Err(damaged(format!("its memory has {length} bytes of {written}")));
    }
    Ok(Snapshot { name: name.to_owned(), note, directory })
}

/// Saves the running machine. It pauses for as long as its memory is written, and then goes on. With
/// `replace` one of that name gives way once the new one is whole.
///
/// `guard` is a program that calls [`guard`] for this instance: it lets the machine go on when this
/// process is killed meanwhile. The caller holds the instance's lock.
///
/// # Errors
/// [`SnapshotError`]; nothing of it is left then.
pub fn save(
    instance: &Instance,
    name: &str,
    replace: bool,
    guard: &mut Command,
    cancel: &AtomicBool,
) -> Result<Snapshot, SnapshotError> {
    check_name(name)?;
    let directory = root(instance).join(name);
    if directory.exists() && !replace {
        return Err(SnapshotError::Exists(name.to_owned()));
    }
    let record = instance.record()?.ok_or_else(|| {
        SnapshotError::State(format!("\"{}\" has no record of its start", instance.name()))
    })?;
    sweep(instance)?;
    let partial = root(instance).join(format!("{name}.partial"));
    let file = |path: &Path| {
        let path = path.to_owned();
        move |source| SnapshotError::File { path, source }
    };
    fs::create_dir_all(&partial).map_err(file(&partial))?;
    let made_ms = now_ms();
    let disk = format!("{MARK}{name}:{made_ms}");
    let saved = paused(instance, &disk, &partial.join("state"), guard, cancel).and_then(|bytes| {
        let note = Note { schema: SCHEMA, made_ms, state_bytes: bytes, disk, record };
        let path = partial.join("snapshot.json");
        let text = serde_json::to_vec_pretty(&note).unwrap_or_default();
        let write = || -> io::Result<()> {
            let mut written = File::create(&path)?;
            written.write_all(&text)?;
            written.sync_all()?;
            File::open(&partial)?.sync_all()?;
            if directory.exists() {
                use rustix::fs::{CWD, RenameFlags, renameat_with};
                renameat_with(CWD, &partial, CWD, &directory, RenameFlags::EXCHANGE)?;
            } else {
                fs::rename(&partial, &directory)?;
            }
            File::open(root(instance))?.sync_all()
        };
        write().map_err(|source| SnapshotError::File { path: path.clone(), source })
    });
    let saved = saved.map_err(|error| explained(error, instance));
    // Of a failed one everything, of one that was replaced what it had.
    let swept = sweep(instance);
    saved.and(swept)?;
    open(instance, name)
}

/// A write that failed on a full disk says so.
fn explained(error: SnapshotError, instance: &Instance) -> SnapshotError {
    let path = root(instance);
    let free = rustix::fs::statvfs(&path).map(|s| s.f_bavail.saturating_mul(s.f_frsize));
    let is_full = matches!(&error, SnapshotError::File { source, .. } if source.kind() == io::ErrorKind::StorageFull)
        || matches!((&error, free), (SnapshotError::State(_), Ok(free)) if free < FULL);
    if !is_full {
        return error;
    }
    let machine = instance.record().ok().flatten().and_then(|record| {
        archibald_machine::Machine::parse("instance", &record.machine, &Default::default()).ok()
    });
    let needed = machine.map_or(0, |machine| machine.memory.0 / 1_000_000);
    SnapshotError::Full { path, needed }
}

/// Pauses the machine, marks its disk, writes its state to `state`, and lets it go on.
fn paused(
    instance: &Instance,
    disk: &str,
    state: &Path,
    guard: &mut Command,
    cancel: &AtomicBool,
) -> Result<u64, SnapshotError> {
    let mut qmp = Qmp::connect(&instance.files().qmp)?;
    let guard = Guard::post(guard)?;
    let outcome = qmp
        .execute("stop", json!({}))
        .and_then(|_| {
            let arguments = json!({ "device": DISK, "name": disk });
            qmp.execute("blockdev-snapshot-internal-sync", arguments)
        })
        .map_err(SnapshotError::from)
        .and_then(|_| {
            let saved = write_state(instance, &mut qmp, state, cancel);
            if saved.is_err() {
                let _ = fs::remove_file(state);
            }
            saved
        });
    let went_on = go_on(&mut qmp);
    if went_on.is_ok() {
        guard.relieve();
    }
    let file = outcome?;
    went_on?;
    // The machine need not wait for the disk.
    let failed = |source| SnapshotError::File { path: state.to_owned(), source };
    file.sync_all().map_err(failed)?;
    file.metadata().map_err(failed).map(|metadata| metadata.len())
}

fn go_on(qmp: &mut Qmp) -> Result<(), QmpError> {
    let status = qmp.execute("query-status", json!({}))?;
    if status.get("running").and_then(Value::as_bool) == Some(true) {
        return Ok(());
    }
    qmp.execute("cont", json!({})).map(drop)
}

/// Has QEMU send the paused machine's state over a socket, and writes it down.
fn write_state(
    instance: &Instance,
    qmp: &mut Qmp,
    state: &Path,
    cancel: &AtomicBool,
) -> Result<File, SnapshotError> {
    let socket = instance.runtime().join("state");
    let _ = fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket)
        .map_err(|source| SnapshotError::File { path: socket.clone(), source })?;
    // A terabyte a second: no limit.
    qmp.execute("migrate-set-parameters", json!({ "max-bandwidth": 1_u64 << 40 }))?;
    qmp.execute("migrate", json!({ "uri": format!("unix:{}", socket.display()) }))?;
    let written = first_client(&listener, qmp, cancel).and_then(|mut stream| {
        let mut file = File::create(state)?;
        let mut piece = vec![0; PIECE];
        loop {
            if cancel.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            match stream.read(&mut piece)? {
                0 => return Ok(file),
                count => file.write_all(piece.get(..count).unwrap_or_default())?,
            }
        }
    });
    let _ = fs::remove_file(&socket);
    match written {
        Ok(file) => settled(qmp).map(|()| file),
        Err(error) => {
            let _ = qmp.execute("migrate_cancel", json!({}));
            // It must have ended before the machine may go on.
            let _ = settled(qmp);
            match error.kind() {
                io::ErrorKind::Interrupted => Err(SnapshotError::Cancelled),
                _ => Err(SnapshotError::File { path: state.to_owned(), source: error }),
            }
        }
    }
}

/// Waits for QEMU to come to the socket; it has given up when its sending has.
fn first_client(
    listener: &UnixListener,
    qmp: &mut Qmp,
    cancel: &AtomicBool,
) -> io::Result<UnixStream> {
    listener.set_nonblocking(true)?;
    loop {
        match listener.accept() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
        }
        match migration(qmp) {
            _ if cancel.load(Ordering::Relaxed) => return Err(io::ErrorKind::Interrupted.into()),
            Ok(Migration::UnderWay) => thread::sleep(GLANCE),
            Ok(other) => return Err(io::Error::other(format!("QEMU sends nothing: {other:?}"))),
            Err(error) => return Err(io::Error::other(error.to_string())),
        }
    }
}

/// Waits until QEMU has sent or read all, or has given up.
fn settled(qmp: &mut Qmp) -> Result<(), SnapshotError> {
    loop {
        match migration(qmp)? {
            Migration::Completed => return Ok(()),
            Migration::Failed(why) => return Err(SnapshotError::State(why)),
            Migration::UnderWay => thread::sleep(GLANCE),
        }
    }
}

/// How QEMU's sending or reading of a state stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Migration {
    UnderWay,
    Completed,
    Failed(String),
}

pub(crate) fn migration(qmp: &mut Qmp) -> Result<Migration, QmpError> {
    let told = qmp.execute("query-migrate", json!({}))?;
    Ok(match told.get("status").and_then(Value::as_str) {
        Some("completed") => Migration::Completed,
        Some(word @ ("failed" | "cancelled" | "none")) => {
            let why = told.get("error-desc").and_then(Value::as_str);
            Migration::Failed(why.unwrap_or(word).to_owned())
        }
        _ => Migration::UnderWay,
    })
}

/// Sends a state to a QEMU that was started with `-incoming defer`. It has read it when
/// [`migration`] says so.
pub(crate) fn send(
    qmp: &mut Qmp,
    instance: &Instance,
    state: &Path,
) -> Result<thread::JoinHandle<io::Result<u64>>, SnapshotError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| SnapshotError::File { path, source }
    };
    let mut file = File::open(state).map_err(failed(state))?;
    let socket = instance.runtime().join("state");
    let _ = fs::remove_file(&socket);
    qmp.execute("migrate-incoming", json!({ "uri": format!("unix:{}", socket.display()) }))?;
    let mut stream = UnixStream::connect(&socket).map_err(failed(&socket))?;
    let _ = fs::remove_file(&socket);
    Ok(thread::spawn(move || io::copy(&mut file, &mut stream)))
}

/// The port that tells the guest that it goes on from a snapshot.
const NEWS: &str = "resumed";

/// Plugs in a port whose name the guest knows: nothing in its memory says that time has passed.
pub(crate) fn announce(qmp: &mut Qmp) -> Result<(), QmpError> {
    let nowhere = json!({ "type": "null", "data": {} });
    qmp.execute("chardev-add", json!({ "id": NEWS, "backend": nowhere }))?;
    let port = json!({
        "driver": "virtserialport", "id": NEWS, "chardev": NEWS, "name": "org.archibald.resumed"
    });
    qmp.execute("device_add", port).map(drop)
}

/// Takes it away again, so that the next snapshot is of the machine that [`crate::argv`] describes.
pub(crate) fn withdraw(qmp: &mut Qmp) -> Result<(), QmpError> {
    qmp.execute("device_del", json!({ "id": NEWS }))?;
    // The port lets go of it in its own time.
    let mut tries = 0;
    loop {
        match qmp.execute("chardev-remove", json!({ "id": NEWS })) {
            Err(QmpError::Refused { .. }) if tries < 100 => {
                tries += 1;
                thread::sleep(GLANCE);
            }
            outcome => return outcome.map(drop),
        }
    }
}

/// Removes a snapshot, a damaged one too, and gives its space back. The caller holds the instance's
/// lock.
///
/// # Errors
/// [`SnapshotError`]; it is then there as a whole, or is swept later.
pub fn delete(instance: &Instance, name: &str) -> Result<(), SnapshotError> {
    match find(instance, name) {
        Ok(_) | Err(SnapshotError::Damaged { .. }) => {}
        Err(error) => return Err(error),
    }
    let directory = root(instance).join(name);
    sweep(instance)?;
    let gone = root(instance).join(format!("{name}.partial"));
    fs::rename(&directory, &gone)
        .map_err(|source| SnapshotError::File { path: directory, source })?;
    sweep(instance)
}

/// Removes every snapshot's memory, when the disk with the rest of them goes.
///
/// # Errors
/// When a file cannot be removed.
pub fn forget_all(instance: &Instance) -> Result<(), SnapshotError> {
    remove(&root(instance))
}

/// Removes what saves and deletions left that were broken off. A snapshot inside the disk goes only with
/// the directory that says so: one whose directory is merely not to be seen now is not a leftover.
///
/// # Errors
/// When it cannot be removed.
pub fn sweep(instance: &Instance) -> Result<(), SnapshotError> {
    let root = root(instance);
    let entries = match fs::read_dir(&root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(SnapshotError::File { path: root, source }),
    };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let left = names.filter_map(|name| name.strip_suffix(".partial").map(str::to_owned));
    for name in left.collect::<Vec<_>>() {
        let whole = open(instance, &name).map(|snapshot| snapshot.note.disk);
        // What is damaged keeps its part inside the disk: nobody has said that it may go.
        let is_damaged = whole.is_err() && root.join(&name).exists();
        let mark = format!("{MARK}{name}:");
        for tag in inside(instance)?.iter().filter(|tag| tag.starts_with(&mark) && !is_damaged) {
            if whole.as_ref().is_ok_and(|whole| whole == tag) {
                continue;
            }
            remove_inside(instance, tag)?;
        }
        // Last, so that what is broken off here is found again.
        remove(&root.join(format!("{name}.partial")))?;
    }
    Ok(())
}

fn remove_inside(instance: &Instance, tag: &str) -> Result<(), SnapshotError> {
    if matches!(instance.status()?, Status::Running { .. }) {
        let mut qmp = Qmp::connect(&instance.files().qmp)?;
        let arguments = json!({ "device": DISK, "name": tag });
        qmp.execute("blockdev-snapshot-delete-internal-sync", arguments)?;
        return Ok(());
    }
    qemu_img(instance, &["snapshot", "-d", tag]).map(drop)
}

/// Our snapshots inside the disk.
fn inside(instance: &Instance) -> Result<Vec<String>, SnapshotError> {
    if !instance.files().disk.exists() {
        return Ok(Vec::new());
    }
    // Forced, because a running QEMU holds the disk; only its list of snapshots is read.
    let told = qemu_img(instance, &["info", "-U", "--output=json"])?;
    let told: Value = serde_json::from_slice(&told).unwrap_or_default();
    let snapshots = told.get("snapshots").and_then(Value::as_array).cloned().unwrap_or_default();
    let names = snapshots.iter().filter_map(|snapshot| snapshot.get("name")?.as_str());
    Ok(names.filter(|name| name.starts_with(MARK)).map(str::to_owned).collect())
}

fn qemu_img(instance: &Instance, words: &[&str]) -> Result<Vec<u8>, SnapshotError> {
    let path = instance.files().disk;
    let failed = |message: String| SnapshotError::Disk { path: path.clone(), message };
    let output = Command::new("qemu-img")
        .args(words)
        .arg(&path)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(format!("qemu-img: {error}")))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

fn remove(directory: &Path) -> Result<(), SnapshotError> {
    match fs::remove_dir_all(directory) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(SnapshotError::File { path: directory.to_owned(), source })
        }
        _ => Ok(()),
    }
}

fn root(instance: &Instance) -> PathBuf {
    instance.file("snapshots")
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// A process that lets the paused machine go on when this one is killed.
struct Guard(Child);

impl Guard {
    fn post(command: &mut Command) -> Result<Self, SnapshotError> {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map(Self)
            .map_err(|source| SnapshotError::File {
                path: command.get_program().to_owned().into(),
                source,
            })
    }

    fn relieve(mut self) {
        if let Some(mut pipe) = self.0.stdin.take() {
            let _ = pipe.write_all(&[DONE]);
        }
        let _ = self.0.wait();
    }
}

/// The body of the guard's process: waits for the word that all is done. When the pipe ends without
/// it, the machine is let go on.
pub fn guard(instance: &Instance) {
    // A terminal's Ctrl-C is for the command.
    let _ = rustix::process::setsid();
    let mut word = [0u8; 1];
    if matches!(io::stdin().read(&mut word), Ok(1)) && word[0] == DONE {
        return;
    }
    // QEMU has one monitor client at a time; another one is soon gone.
    for _ in 0..600 {
        if let Ok(mut qmp) = Qmp::connect(&instance.files().qmp) {
            let _ = qmp.execute("migrate_cancel", json!({}));
            let _ = settled(&mut qmp);
            if go_on(&mut qmp).is_ok() {
                return;
            }
        }
        thread::sleep(Duration::from_millis(100));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_file_names_that_cannot_be_taken_for_leftovers() {
        for name in ["a", "before-mix", "v1.2_x", &"x".repeat(64)] {
            check_name(name).unwrap();
        }
        for name in ["", ".hidden", "-x", "a/b", "a b", "half.partial", "é", &"x".repeat(65)] {
            assert!(matches!(check_name(name), Err(SnapshotError::Name(_))), "{name}");
        }
    }
}
