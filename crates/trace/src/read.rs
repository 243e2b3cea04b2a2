//! Reading a capture from its folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::TraceError;
use crate::capture::{FORMATS, Manifest, Process};
use crate::event::{Decoder, Entry, Tid};
use crate::format::EventFormat;
use crate::page;

/// A capture that was read.
#[derive(Debug)]
pub struct Trace {
    /// What was recorded, and who was running.
    pub manifest: Manifest,
    /// Events of all rings in the order of time.
    pub entries: Vec<Entry>,
    /// Names of all threads that occur.
    pub names: BTreeMap<Tid, String>,
}

impl Trace {
    /// Reads the capture in `folder`.
    ///
    /// # Errors
    /// When a file is missing or damaged.
    pub fn read(folder: &Path) -> Result<Self, TraceError> {
        let manifest = Manifest::read(folder)?;
        let mut decoder = Decoder::new(read_formats(&folder.join(FORMATS))?);
        let mut entries = Vec::new();
        // From here on no ring has lost anything.
        let mut whole_from = manifest.begun_ns;
        for ring in &manifest.rings {
            let before = entries.len();
            let path = folder.join(&ring.file);
            let bytes = fs::read(&path).map_err(TraceError::file("read", &path))?;
            for (number, bytes) in bytes.chunks(manifest.page_bytes).enumerate() {
                let page = page::parse(bytes).map_err(|reason| TraceError::Page {
                    path: path.clone(),
                    page: number,
                    reason,
                })?;
                if page.missed && number > 0 {
                    whole_from =
                        whole_from.max(page.records.first().map_or(0, |first| first.at_ns));
                }
                entries.extend(
                    page.records
                        .iter()
                        .filter_map(|record| decoder.decode(record.at_ns, ring.cpu, record.bytes)),
                );
            }
            if ring.overrun > 0 {
                let first = entries.get(before).map_or(0, |entry: &Entry| entry.at_ns);
                whole_from = whole_from.max(first);
            }
        }
        entries.retain(|entry| (whole_from..=manifest.ended_ns).contains(&entry.at_ns));
        // Stable: within a ring the order of events with one time stamp is the kernel's.
        entries.sort_by_key(|entry| entry.at_ns);
        Ok(Self { manifest, entries, names: decoder.names })
    }

    /// The name of a thread, and of its process where that is one of the graph's and called
    /// otherwise; the idle thread is called `idle`.
    #[must_use]
    pub fn name(&self, tid: Tid) -> String {
        let name = match (tid, self.names.get(&tid)) {
            (0, _) => return "idle".to_owned(),
            (_, Some(name)) => name.clone(),
            (_, None) => return format!("thread {tid}"),
        };
        match self.process_name(tid).filter(|process| **process != name) {
            Some(process) => format!("{name} of {process}"),
            None => name,
        }
    }

    fn process_name(&self, tid: Tid) -> Option<&String> {
        let tid = u32::try_from(tid).ok()?;
        let is_own = |process: &&Process| process.threads.iter().any(|thread| thread.tid == tid);
        let process = self.manifest.processes.iter().find(is_own)?;
        self.names.get(&Tid::try_from(process.pid).ok()?).or_else(|| {
            let main = process.threads.iter().find(|thread| thread.tid == process.pid)?;
            Some(&main.name)
        })
    }
}

/// Reads every description in a folder.
///
/// # Errors
/// When the folder cannot be read, or a description has an unknown form.
pub fn read_formats(folder: &Path) -> Result<Vec<EventFormat>, TraceError> {
    let list = fs::read_dir(folder).map_err(TraceError::file("list", folder))?;
    let mut formats = Vec::new();
    for entry in list {
        let path = entry.map_err(TraceError::file("list", folder))?.path();
        let text = fs::read_to_string(&path).map_err(TraceError::file("read", &path))?;
        formats.push(EventFormat::parse(&text)?);
    }
    Ok(formats)
}
