//! What a capture is: a folder with `capture.json` (this module), the kernel's raw ring pages
//! (`raw/INSTANCE.cpuN`) and the descriptions of the recorded events (`formats/SYSTEM.EVENT`).
//! archibald-guest writes it in the machine, the reader takes it in on the host.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::TraceError;

/// The version of the folder's form.
pub const SCHEMA: &str = "archibald.trace/1";
/// Name of the description in the folder.
pub const MANIFEST: &str = "capture.json";
/// Folder of the raw pages.
pub const RAW: &str = "raw";
/// Folder of the event descriptions.
pub const FORMATS: &str = "formats";

/// What was recorded, and who was running.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema: String,
    /// The kernel's release.
    pub kernel: String,
    /// The kernel's trace clock; `mono` is CLOCK_MONOTONIC, which the xruns are stamped with.
    pub clock: String,
    /// Size of a ring page in bytes.
    pub page_bytes: usize,
    /// CLOCK_MONOTONIC when recording began, in ns.
    pub begun_ns: u64,
    /// CLOCK_MONOTONIC when recording ended, in ns.
    pub ended_ns: u64,
    /// One a CPU and instance.
    pub rings: Vec<Ring>,
    /// The processes of the audio graph.
    pub processes: Vec<Process>,
    /// Counters of the kernel's memory management (`/proc/vmstat`) that moved: their increase.
    pub memory: BTreeMap<String, u64>,
    /// Names of the kernel's addresses that occur in recorded stacks.
    pub symbols: BTreeMap<u64, String>,
}

/// One ring of raw pages.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ring {
    /// File below the folder.
    pub file: String,
    /// CPU that it was recorded on.
    pub cpu: u32,
    /// Events that were overwritten because the ring was full.
    pub overrun: u64,
    /// Events that were not recorded for another reason.
    pub dropped: u64,
}

/// What a process does in the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// jackd or PipeWire, which drives the graph.
    Server,
    /// The program on trial, and what it started.
    Program,
    /// What watches the graph from the inside.
    Probe,
}

/// A process of the graph when recording ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// What it is in the graph.
    pub role: Role,
    /// Its command line.
    pub command: String,
    /// Its threads.
    pub threads: Vec<Thread>,
    /// Memory that is locked, in KiB.
    pub locked_kib: u64,
    /// Memory that is swapped out, in KiB.
    pub swapped_kib: u64,
    /// Open files by number, as `/proc/PID/fd` names them.
    pub files: BTreeMap<u32, String>,
    /// What is mapped where.
    pub maps: Vec<Mapping>,
}

/// One thread.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Thread {
    /// Its number.
    pub tid: u32,
    /// Its name.
    pub name: String,
    /// Its scheduling policy as sched(7) names it.
    pub policy: String,
    /// Real-time priority, 1 to 99; 0 without.
    pub priority: u32,
    /// Page faults that needed no input, in the time of the recording.
    pub minor_faults: u64,
    /// Page faults that waited for input, in the time of the recording.
    pub major_faults: u64,
}

/// A mapped file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// Address behind the last.
    pub end: u64,
    /// Where in the file it begins.
    pub offset: u64,
    /// The file, or the kernel's name in square brackets; empty for anonymous memory.
    pub path: String,
}

impl Manifest {
    /// Reads the description in `folder`.
    ///
    /// # Errors
    /// When it is not there or is of another form.
    pub fn read(folder: &Path) -> Result<Self, TraceError> {
        let path = folder.join(MANIFEST);
        let bytes = fs::read(&path).map_err(TraceError::file("read", &path))?;
        let unusable = |reason: String| TraceError::Manifest { path: path.clone(), reason };
        let manifest: Self =
            serde_json::from_slice(&bytes).map_err(|error| unusable(error.to_string()))?;
        if manifest.schema != SCHEMA {
            return Err(unusable(format!("its schema is {}, not {SCHEMA}", manifest.schema)));
        }
        if manifest.page_bytes < 64 || manifest.page_bytes > 1 << 20 {
            return Err(unusable(format!("a ring page of {} bytes", manifest.page_bytes)));
        }
        Ok(manifest)
    }

    /// Writes the description into `folder`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), TraceError> {
        let path = folder.join(MANIFEST);
        let text = serde_json::to_vec_pretty(self).map_err(|error| TraceError::Manifest {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        fs::write(&path, text).map_err(TraceError::file("write", &path))
    }

    /// Events that the rings could not keep.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.rings.iter().map(|ring| ring.overrun.saturating_add(ring.dropped)).sum()
    }
}

/// Reads the text of `/proc/PID/maps`; lines of another form are left out.
#[must_use]
pub fn parse_maps(text: &str) -> Vec<Mapping> {
    text.lines().filter_map(parse_mapping).collect()
}

fn parse_mapping(line: &str) -> Option<Mapping> {
    // start-end perms offset dev inode path, as proc_pid_maps(5) has it.
    let mut rest = line;
    let mut word = || {
        let trimmed = rest.trim_start();
        let (word, after) = trimmed.split_once(' ').unwrap_or((trimmed, ""));
        rest = after;
        word.to_owned()
    };
    let (range, _, offset, _, _) = (word(), word(), word(), word(), word());
    let (start, end) = range.split_once('-')?;
    Some(Mapping {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        offset: u64::from_str_radix(&offset, 16).ok()?,
        path: rest.trim_start().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_keep_blanks_in_names_and_anonymous_memory() {
        let maps = parse_maps(
            "5600-5700 r-xp 00001000 00:12 34   /srv/my client\n7f00-7f10 rw-p 0 00:00 0 \nnonsense\n",
        );
        assert_eq!(maps.len(), 2);
        assert_eq!((maps[0].start, maps[0].offset), (0x5600, 0x1000));
        assert_eq!((maps[0].path.as_str(), maps[1].path.as_str()), ("/srv/my client", ""));
    }
}
