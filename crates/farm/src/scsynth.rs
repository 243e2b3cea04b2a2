//! SuperCollider's server and language on this host: one piece of a score to samples, a program to a score.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use archibald_image::Cancel;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};

use crate::FarmError;
use crate::error::During;

/// The server, and the version that it says it is: part of every result's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scsynth {
    program: PathBuf,
    /// As it prints it.
    pub version: String,
}

/// What the server renders for one task, and what of it is kept. Paths are those of every node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// The piece's score.
    pub score: PathBuf,
    /// Where the files that it names are.
    pub folder: PathBuf,
    /// Frames a second.
    pub rate: u32,
    /// Frames of a control block.
    pub block: u32,
    /// Channels.
    pub channels: u16,
    /// The server's memory in KiB.
    pub memory_kib: u64,
    /// Frames that are dropped at the beginning.
    pub dropped: u64,
    /// Frames that are kept.
    pub kept: u64,
    /// The server that the piece is to be rendered by.
    pub version: String,
}

/// What a rendered piece's folder says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rendered {
    /// SHA-256 of the samples.
    pub sha256: String,
    /// Frames.
    pub frames: u64,
    /// What the server complained of without failing.
    pub notes: Vec<String>,
}

/// Samples of a piece: 32-bit floats, little-endian, channels interleaved.
pub const SAMPLES: &str = "samples.f32";
/// Beside them, a [`Rendered`].
pub const ABOUT: &str = "rendered.json";

impl Scsynth {
    /// The server of this name.
    ///
    /// # Errors
    /// It is not there, or does not say its version.
    pub fn find(program: &Path) -> Result<Self, FarmError> {
        let said = Command::new(program)
            .arg("-v")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| missing(&error, program, "supercollider-server"))?;
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        let version = text.lines().find(|line| line.contains("scsynth")).map(str::trim);
        let version =
            version.filter(|_| said.status.success()).ok_or_else(|| FarmError::Program {
                program: "scsynth",
                message: format!("it does not tell its version: {}", text.trim()),
            })?;
        Ok(Self { program: program.to_owned(), version: version.to_owned() })
    }

    /// Renders a piece into `dir`.
    ///
    /// # Errors
    /// [`FarmError::Program`] with what the server said: also when it only said that something failed, because a
    /// render with a missing instrument is silent where it should not be.
    pub fn render(
        &self,
        piece: &Piece,
        dir: &Path,
        cancel: &Cancel,
    ) -> Result<Rendered, FarmError> {
        if self.version != piece.version {
            return Err(FarmError::Disagree {
                what: format!(
                    "the render was begun with {}, this node has {}",
                    piece.version, self.version
                ),
            });
        }
        let raw = dir.join("all.f32");
        let mut command = Command::new(&self.program);
        command
            .arg("-N")
            .arg(&piece.score)
            .arg("_")
            .arg(&raw)
            .args([&piece.rate.to_string(), "RAW", "float"])
            // Nothing of this user's definitions: the score says all, on every node.
            .args(["-D", "0", "-V", "-1"])
            .args(["-i", "0", "-o", &piece.channels.to_string()])
            .args(["-z", &piece.block.to_string(), "-m", &piece.memory_kib.to_string()])
            // Its defaults are those of an instrument that is played; a score may have more of everything.
            .args([
                "-n", "65536", "-d", "16384", "-w", "1024", "-b", "16384", "-a", "4096", "-c",
                "65536",
            ])
            .current_dir(&piece.folder);
        let said = watched(command, "scsynth", &dir.join("said.txt"), cancel)?;
        let (notes, faults) = complaints(&said);
        if !faults.is_empty() {
            return Err(FarmError::Program { program: "scsynth", message: faults.join("; ") });
        }
        let frame = u64::from(piece.channels) * 4;
        let length = raw.metadata().during("read", &raw)?.len();
        let whole = (piece.dropped + piece.kept) * frame;
        if length != whole {
            return Err(FarmError::Program {
                program: "scsynth",
                message: format!(
                    "{} frames were to be rendered, {} were",
                    whole / frame,
                    length / frame
                ),
            });
        }
        let samples = dir.join(SAMPLES);
        let mut file = File::open(&raw).during("open", &raw)?;
        file.seek(SeekFrom::Start(piece.dropped * frame)).during("read", &raw)?;
        let mut out = File::create(&samples).during("create", &samples)?;
        std::io::copy(&mut file, &mut out).during("write", &samples)?;
        out.sync_all().during("write", &samples)?;
        std::fs::remove_file(&raw).during("remove", &raw)?;
        let rendered =
            Rendered { sha256: crate::wave::checksum(&samples)?, frames: piece.kept, notes };
        let about = dir.join(ABOUT);
        let text = serde_json::to_vec_pretty(&rendered).unwrap_or_default();
        std::fs::write(&about, text).during("write", &about)?;
        Ok(rendered)
    }
}

/// What the server said, as notes and as faults. A node that has ended before it was freed is the score's own
/// affair and as common as harmless.
fn complaints(said: &str) -> (Vec<String>, Vec<String>) {
    let (mut notes, mut faults) = (Vec::new(), Vec::new());
    for line in said.lines().map(str::trim) {
        let lower = line.to_lowercase();
        let harmless =
            lower.contains("warning") || (lower.contains("node") && lower.contains("not found"));
        if lower.contains("failure in server")
            || lower.contains("error")
            || lower.contains("exception")
        {
            let list = if harmless { &mut notes } else { &mut faults };
            if !list.iter().any(|told| told == line) {
                list.push(line.to_owned());
            }
        } else if harmless && !notes.iter().any(|told| told == line) {
            notes.push(line.to_owned());
        }
    }
    notes.truncate(20);
    faults.truncate(5);
    (notes, faults)
}

fn missing(error: &std::io::Error, program: &Path, package: &'static str) -> FarmError {
    if error.kind() == std::io::ErrorKind::NotFound {
        return FarmError::Missing { program: program.display().to_string(), package };
    }
    FarmError::Program { program: "a program", message: format!("{}: {error}", program.display()) }
}

/// Runs a command in a process group of its own, so that Ctrl-C takes its children along, and returns what it
/// wrote, which lies in `log` meanwhile.
fn watched(
    mut command: Command,
    program: &'static str,
    log: &Path,
    cancel: &Cancel,
) -> Result<String, FarmError> {
    use std::os::unix::process::CommandExt as _;
    let failed = |message: String| FarmError::Program { program, message };
    let out = File::create(log).during("create", log)?;
    let err = out.try_clone().during("create", log)?;
    command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
    let name = PathBuf::from(command.get_program());
    let package =
        if program == "sclang" { "supercollider-language" } else { "supercollider-server" };
    let mut child = command.spawn().map_err(|error| missing(&error, &name, package))?;
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let status = loop {
        match child.try_wait().map_err(|error| failed(error.to_string()))? {
            Some(status) => break status,
            None if cancel.is_cancelled() => {
                if let Some(group) = group {
                    let _ = kill_process_group(group, Signal::KILL);
                }
                let _ = child.wait();
                return Err(FarmError::Cancelled);
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let said = std::fs::read(log).during("read", log)?;
    let _ = std::fs::remove_file(log);
    let said = String::from_utf8_lossy(&said).into_owned();
    if status.success() {
        return Ok(said);
    }
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    let tail = lines.get(lines.len().saturating_sub(8)..).unwrap_or_default().join("\n");
    Err(failed(format!("{status}\n{tail}")))
}

/// The language's program that makes a score of one of its files: the file's value is a Score, or a list of its
/// bundles.
const WRITER: &str = include_str!("score.scd");

/// Has sclang make the score of a `.scd` file.
///
/// # Errors
/// [`FarmError::Score`] with what sclang said: an error in the file, or a value that is no score.
pub fn write_score(
    sclang: &Path,
    scd: &Path,
    scratch: &Path,
    cancel: &Cancel,
) -> Result<Vec<u8>, FarmError> {
    let out = scratch.join("score.osc");
    let writer = scratch.join("score.scd");
    let mut file = File::create(&writer).during("create", &writer)?;
    file.write_all(WRITER.as_bytes()).during("write", &writer)?;
    let mut command = Command::new(sclang);
    command.arg(&writer).args([scd.as_os_str(), out.as_os_str()]);
    // It is built with Qt, and would otherwise want a screen.
    command.env("QT_QPA_PLATFORM", "offscreen").env("XDG_RUNTIME_DIR", scratch);
    command.env("QTWEBENGINE_DISABLE_SANDBOX", OsStr::new("1"));
    command.current_dir(
        scd.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")),
    );
    let said = watched(command, "sclang", &scratch.join("said.txt"), cancel);
    match said {
        Ok(_) => {}
        Err(FarmError::Program { message, .. }) => {
            return Err(FarmError::Score { score: scd.display().to_string(), what: message });
        }
        Err(error) => return Err(error),
    }
    std::fs::read(&out).during("read", &out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_instrument_is_a_fault_and_an_ended_note_is_none() {
        let said = "start time 0\n*** ERROR: SynthDef pong not found\nFAILURE IN SERVER /s_new SynthDef not found\n\
                    FAILURE IN SERVER /n_free Node 1000 not found\nFAILURE IN SERVER /n_free Node 1000 not found\n";
        let (notes, faults) = complaints(said);
        assert_eq!(notes, ["FAILURE IN SERVER /n_free Node 1000 not found"]);
        assert_eq!(faults.len(), 2, "{faults:?}");
    }

    #[test]
    fn a_server_that_is_not_there_is_named_with_its_package() {
        let error = Scsynth::find(Path::new("/nowhere/scsynth")).unwrap_err();
        assert!(error.to_string().contains("/nowhere/scsynth"), "{error}");
        assert!(error.remedy().unwrap().contains("supercollider-server"));
    }
}
