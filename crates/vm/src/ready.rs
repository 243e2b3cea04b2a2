//! The guest's own word on how far it is: lines of JSON that archibald-guest writes to a virtio-serial
//! port, which QEMU appends to a file.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use serde::Deserialize;

/// One line of the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// It has come this far.
    Phase(String),
    /// Everything that the machine is for is up.
    Ready,
    /// Something that it cannot be ready without has failed.
    Failed {
        /// What failed.
        what: String,
        /// Its last words.
        log: String,
    },
}

#[derive(Deserialize)]
struct Line {
    phase: Option<String>,
    #[serde(default)]
    ready: bool,
    failed: Option<String>,
    #[serde(default)]
    log: Log,
}

/// The journal's last lines, as one text or as a list.
#[derive(Deserialize, Default)]
#[serde(untagged)]
enum Log {
    #[default]
    None,
    Text(String),
    Lines(Vec<String>),
}

/// Reads the signals as they come.
#[derive(Debug)]
pub struct Signals {
    path: PathBuf,
    read: u64,
    rest: String,
}

impl Signals {
    /// The signals in this file, from its beginning; the file need not be there yet.
    #[must_use]
    pub fn of(path: PathBuf) -> Self {
        Self { path, read: 0, rest: String::new() }
    }

    /// The signals that have come since the last call. Lines that are no signal are passed over: the
    /// port is the guest's to write to.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn poll(&mut self) -> io::Result<Vec<Signal>> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        file.seek(SeekFrom::Start(self.read))?;
        let mut bytes = Vec::new();
        self.read += file.take(1 << 20).read_to_end(&mut bytes)? as u64;
        self.rest.push_str(&String::from_utf8_lossy(&bytes));
        let mut signals = Vec::new();
        while let Some(end) = self.rest.find('\n') {
            let line: String = self.rest.drain(..=end).collect();
            signals.extend(signal(&line));
        }
        Ok(signals)
    }
}

fn signal(line: &str) -> Option<Signal> {
    let line: Line = serde_json::from_str(line).ok()?;
    if let Some(what) = line.failed {
        let log = match line.log {
            Log::None => String::new(),
            Log::Text(text) => text,
            Log::Lines(lines) => lines.join("\n"),
        };
        return Some(Signal::Failed { what, log });
    }
    if line.ready {
        return Some(Signal::Ready);
    }
    line.phase.map(Signal::Phase)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_line_counts_when_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ready");
        let mut signals = Signals::of(path.clone());
        assert_eq!(signals.poll().unwrap(), []);
        let mut file = File::create(&path).unwrap();
        file.write_all(b"noise\n{\"phase\":\"audio\"}\n{\"rea").unwrap();
        assert_eq!(signals.poll().unwrap(), [Signal::Phase("audio".to_owned())]);
        file.write_all(b"dy\":true}\n{\"failed\":\"sshd\",\"log\":[\"a\",\"b\"]}\n").unwrap();
        let failed = Signal::Failed { what: "sshd".to_owned(), log: "a\nb".to_owned() };
        assert_eq!(signals.poll().unwrap(), [Signal::Ready, failed]);
    }
}
