//! The machine, booted once: from an image to a state from which every experiment goes on. Kept by
//! what it depends on; whole or not there.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use archibald_image::{Cancel, FileLock, GuestFile, Image, Key, Tools};
use archibald_machine::Settings;
use archibald_vm::qemu::Qemu;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::LabError;
use crate::emulator::{Emulator, Waited};
use crate::error::During;
use crate::machine::{CPU, Console, DISK_ALIGNMENT, Files, Hardware, Start};
use crate::recording::{self, Layout, Recorder};

/// Raised whenever the same inputs would give another state.
const BUILDER: &str = "2";
/// How long a boot may take on the host's clock; it takes ten seconds on an idle one.
const PATIENCE: Duration = Duration::from_secs(600);
/// Snapshots that stay besides the one in use: a few speeds and kernels.
const KEPT: usize = 8;

/// The recording's name among a run's files.
pub const RECORDING: &str = "recording";

/// Everything that a snapshot is made from.
#[derive(Debug, Clone)]
pub struct Recipe<'a> {
    /// The image with the root file system.
    pub image: &'a Image,
    /// The kernel that runs, if it is not the image's own.
    pub kernel: Option<&'a archibald_image::Kernel>,
    /// The machine.
    pub hardware: Hardware,
    /// The emulator, by its path.
    pub qemu: &'a Qemu,
    /// The lab's initrd: its `/init`.
    pub init: Vec<u8>,
    /// Its kernel modules.
    pub modules: Vec<String>,
    /// Files laid over the image's root, programs included.
    pub files: Vec<GuestFile>,
    /// What the machine is told before the snapshot.
    pub settings: &'a Settings,
}

/// A machine that waits to go on.
#[derive(Debug, Clone)]
pub struct Snapshot {
    key: String,
    dir: PathBuf,
    disk: PathBuf,
    disk_bytes: u64,
    kernel: PathBuf,
    hardware: Hardware,
    qemu: Qemu,
}

/// What is written beside a state.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    schema: u32,
    state_bytes: u64,
    recorder: Recorder,
    image: String,
    mips: u32,
}

/// What the making of a snapshot tells.
pub trait Progress: Sync {
    /// Another process makes this very snapshot.
    fn waiting(&self, pid: Option<u32>);
    /// The machine boots.
    fn booting(&self);
}

impl Recipe<'_> {
    /// The snapshot's name: everything that could make another machine of it goes in.
    fn key(&self) -> Result<String, LabError> {
        let mut key = Key::new("lab snapshot");
        key.add(BUILDER).add(self.image.id()).add(CPU);
        key.add(self.kernel.map_or("", |kernel| kernel.id()));
        key.add(self.hardware.mips.shift().to_string()).add(self.hardware.memory.0.to_string());
        for argument in &self.hardware.kernel_arguments {
            key.add(argument);
        }
        key.add(&self.qemu.banner).add(checksum(&self.qemu.program)?);
        key.add(&self.init);
        for module in &self.modules {
            key.add(module);
        }
        for file in &self.files {
            key.add(&file.path).add(format!("{:o}", file.mode));
            match &file.content {
                archibald_image::Content::File(path) => key.add(checksum(path)?),
                archibald_image::Content::Bytes(bytes) => key.add(bytes),
                archibald_image::Content::Symlink(target) => key.add(target),
                archibald_image::Content::Directory => key.add("directory"),
            };
        }
        key.add(self.told()?);
        Ok(key.name())
    }

    fn told(&self) -> Result<Vec<u8>, LabError> {
        serde_json::to_vec(self.settings).map_err(|error| LabError::Unsuitable(error.to_string()))
    }

    /// The snapshot below `cache`: there already, or made now. Two processes that want the same one
    /// make it once.
    ///
    /// # Errors
    /// [`LabError`]: the image does not fit, the machine does not boot, the disk is full.
    pub fn snapshot(
        &self,
        cache: &Path,
        tools: &Tools,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Snapshot, LabError> {
        let key = self.key()?;
        let root = cache.join("snapshots");
        fs::create_dir_all(&root).during("create", &root)?;
        let snapshot = self.open(&key, root.join(&key))?;
        if snapshot.is_whole() {
            return Ok(snapshot);
        }
        let lock = root.join(format!("{key}.lock"));
        let held =
            FileLock::take(&lock, cancel, |pid| progress.waiting(pid)).during("lock", &lock)?;
        let _held = held.ok_or(LabError::Cancelled)?;
        if snapshot.is_whole() {
            return Ok(snapshot);
        }
        progress.booting();
        let partial = root.join(format!("{key}.partial"));
        clear(&partial)?;
        let made = self.make(&snapshot, &partial, tools, cancel);
        if made.is_err() {
            clear(&partial)?;
        }
        made?;
        clear(&snapshot.dir)?;
        fs::rename(&partial, &snapshot.dir).during("rename", &partial)?;
        forget_old(&root, &key)?;
        Ok(snapshot)
    }

    fn open(&self, key: &str, dir: PathBuf) -> Result<Snapshot, LabError> {
        let disk = self.image.base_disk();
        let disk_bytes = fs::metadata(&disk).during("read", &disk)?.len();
        if disk_bytes % DISK_ALIGNMENT != 0 {
            return Err(LabError::Unsuitable(format!(
                "its disk has {disk_bytes} bytes, which is no multiple of {} MiB",
                DISK_ALIGNMENT >> 20
            )));
        }
        let own = || {
            self.image
                .vmlinux()
                .ok_or_else(|| LabError::Unsuitable("its kernel does not start by PVH".to_owned()))
        };
        let kernel = self.kernel.map_or_else(own, |kernel| Ok(kernel.vmlinux()))?;
        let (hardware, qemu) = (self.hardware.clone(), self.qemu.clone());
        Ok(Snapshot { key: key.to_owned(), dir, disk, disk_bytes, kernel, hardware, qemu })
    }

    fn make(
        &self,
        snapshot: &Snapshot,
        dir: &Path,
        tools: &Tools,
        cancel: &Cancel,
    ) -> Result<(), LabError> {
        let work = dir.join("work");
        fs::create_dir_all(&work).during("create", &work)?;
        let mut files: Vec<GuestFile> = self
            .files
            .iter()
            .map(|file| GuestFile { path: format!("/lab{}", file.path), ..file.clone() })
            .collect();
        files.push(GuestFile {
            path: "/lab/usr/share/archibald/lab/settings.json".to_owned(),
            mode: 0o600,
            uid: 0,
            gid: 0,
            content: archibald_image::Content::Bytes(self.told()?),
        });
        let initrd = dir.join("initrd");
        let (init, modules) = (&self.init, &self.modules);
        self.image.write_initrd(self.kernel, tools, init, modules, &files, &initrd, &work)?;
        let mailbox = work.join("mailbox");
        empty_mailbox(&mailbox)?;
        let console = Console::File(dir.join("console.log"));
        let files = snapshot.files(&initrd, &mailbox, console);
        let log = dir.join("qemu.log");
        let mut emulator =
            Emulator::start(&self.qemu.clone(), &self.hardware, &files, &Start::Boot, &log)?;
        let told = |message: &str, emulator: &Emulator| LabError::Boot {
            message: message.to_owned(),
            console: emulator.console(),
        };
        match emulator.wait(PATIENCE, cancel)? {
            Waited::Paused => {}
            Waited::Ended => return Err(told("it ended before it was ready", &emulator)),
            Waited::Late => return Err(told("it was not ready after ten minutes", &emulator)),
        }
        let state = dir.join("state");
        emulator.save(&state, cancel)?;
        drop(emulator);
        let note = Note {
            schema: 2,
            state_bytes: fs::metadata(&state).during("read", &state)?.len(),
            recorder: snapshot.try_recorder(dir, &work, cancel)?,
            image: self.image.id().to_owned(),
            mips: self.hardware.mips.number(),
        };
        fs::remove_dir_all(&work).during("remove", &work)?;
        let path = dir.join("snapshot.json");
        let text = serde_json::to_vec_pretty(&note).unwrap_or_default();
        fs::write(&path, text).during("write", &path)
    }
}

impl Snapshot {
    /// Its name: the same inputs give the same one.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The machine.
    #[must_use]
    pub fn hardware(&self) -> &Hardware {
        &self.hardware
    }

    /// Where this state stands: instructions counted so far, and nanoseconds of the virtual clock.
    pub(crate) fn origin(&self) -> Result<(u64, u64), LabError> {
        let Recorder { instructions, skipped_ns, .. } = self.recorder()?;
        Ok((instructions, skipped_ns + (instructions << self.hardware.mips.shift())))
    }

    /// The emulator's version in full.
    #[must_use]
    pub fn qemu(&self) -> &str {
        &self.qemu.banner
    }

    /// A machine in this state, paused, with its mailbox in `dir`. What happens from then on is written
    /// to [`RECORDING`] there.
    pub(crate) fn start(
        &self,
        dir: &Path,
        console: Console,
        cancel: &Cancel,
    ) -> Result<Emulator, LabError> {
        let recorder = self.recorder()?;
        let start = Start::Record(dir.join(RECORDING));
        self.restored(&self.dir, dir, console, &start, Some((recorder, 0)), cancel)
    }

    /// The same without a recording, for a person at the console: what is typed reaches no machine that
    /// is recorded without its idle time.
    pub(crate) fn start_unrecorded(
        &self,
        dir: &Path,
        console: Console,
        cancel: &Cancel,
    ) -> Result<Emulator, LabError> {
        self.restored(&self.dir, dir, console, &Start::Restore, None, cancel)
    }

    /// The machine of a recording, paused before its first instruction, with its mailbox in `dir`.
    /// A debugger can come to the socket `debugger`.
    pub(crate) fn replay(
        &self,
        dir: &Path,
        recording: &Path,
        debugger: &Path,
        cancel: &Cancel,
    ) -> Result<Emulator, LabError> {
        let position = recording::resumed_at(recording).during("replay", recording)?;
        let recorder = self.recorder()?;
        let (recording, debugger) = (recording.to_owned(), debugger.to_owned());
        let start = Start::Replay { recording, debugger };
        let console = Console::File(dir.join("console.log"));
        self.restored(&self.dir, dir, console, &start, Some((recorder, position)), cancel)
    }

    /// The state in `from`, with the recorder's section if there is a recorder.
    fn restored(
        &self,
        from: &Path,
        dir: &Path,
        console: Console,
        start: &Start,
        recorder: Option<(Recorder, u64)>,
        cancel: &Cancel,
    ) -> Result<Emulator, LabError> {
        let files = self.files(&from.join("initrd"), &dir.join("mailbox"), console);
        let path = dir.join("recorder");
        if let Some((recorder, position)) = recorder {
            fs::write(&path, recorder.section(position)).during("write", &path)?;
        }
        let log = dir.join("qemu.log");
        let mut emulator = Emulator::start(&self.qemu, &self.hardware, &files, start, &log)?;
        let section = recorder.map(|(recorder, _)| (recorder.at, path.as_path()));
        emulator.restore(&from.join("state"), section, cancel)?;
        Ok(emulator)
    }

    /// Which recorder this QEMU has: found by trying, on the new state in `from`.
    fn try_recorder(
        &self,
        from: &Path,
        work: &Path,
        cancel: &Cancel,
    ) -> Result<Recorder, LabError> {
        let state = from.join("state");
        let attempt = |layout: Layout| {
            let recorder = Recorder::of(&state, layout).during("read", &state)?;
            let start = Start::Record(work.join(RECORDING));
            let console = Console::File(work.join("console.log"));
            self.restored(from, work, console, &start, Some((recorder, 0)), cancel)?.finish()?;
            Ok(recorder)
        };
        attempt(Layout::Three).or_else(|error| match error {
            LabError::Qemu { .. } => attempt(Layout::Two),
            _ => Err(error),
        })
    }

    /// What a recording needs to begin with this state.
    fn recorder(&self) -> Result<Recorder, LabError> {
        let note = self.note().map(|note| note.recorder);
        note.ok_or_else(|| LabError::Unsuitable("its snapshot has just been removed".to_owned()))
    }

    fn files(&self, initrd: &Path, mailbox: &Path, console: Console) -> Files {
        Files {
            disk: self.disk.clone(),
            disk_bytes: self.disk_bytes,
            kernel: self.kernel.clone(),
            initrd: initrd.to_owned(),
            mailbox: mailbox.to_owned(),
            console,
        }
    }

    /// Whether everything is there in its full length. What a crash of the host cut short is not.
    fn is_whole(&self) -> bool {
        let bytes = fs::metadata(self.dir.join("state")).map(|state| state.len()).ok();
        self.note().is_some_and(|note| note.schema == 2 && Some(note.state_bytes) == bytes)
    }

    fn note(&self) -> Option<Note> {
        let text = fs::read(self.dir.join("snapshot.json")).ok()?;
        serde_json::from_slice(&text).ok()
    }
}

/// A mailbox with nothing in it, at `path`.
pub(crate) fn empty_mailbox(path: &Path) -> Result<File, LabError> {
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .during("create", path)?;
    file.set_len(archibald_mailbox::SIZE).during("create", path)?;
    Ok(file)
}

fn clear(dir: &Path) -> Result<(), LabError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).during("remove", dir)
        }
        _ => Ok(()),
    }
}

/// Removes all but the newest snapshots. One that an experiment has just opened may go too: it holds
/// the state's file open, and makes the snapshot again next time.
fn forget_old(root: &Path, keep: &str) -> Result<(), LabError> {
    let mut dirs = Vec::new();
    for entry in fs::read_dir(root).during("read", root)?.flatten() {
        let made = entry.metadata().and_then(|metadata| metadata.modified());
        if let (Ok(made), true) = (made, entry.path().is_dir()) {
            dirs.push((made, entry.path()));
        }
    }
    dirs.sort_unstable_by(|a, b| b.cmp(a));
    for (_, dir) in dirs.iter().skip(KEPT) {
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        // A half one belongs to somebody who is making it, or who was killed at it.
        let key = name.trim_end_matches(".partial");
        if key == keep {
            continue;
        }
        let lock = root.join(format!("{key}.lock"));
        if let Ok(_free) = FileLock::try_take(&lock).during("lock", &lock)? {
            clear(dir)?;
            let _ = fs::remove_file(&lock);
        }
    }
    Ok(())
}

fn checksum(path: &Path) -> Result<Vec<u8>, LabError> {
    let mut file = File::open(path).during("read", path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let length = file.read(&mut buffer).during("read", path)?;
        match buffer.get(..length) {
            Some(piece) if !piece.is_empty() => hash.update(piece),
            _ => return Ok(hash.finalize().to_vec()),
        }
    }
}
