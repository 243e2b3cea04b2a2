//! Backups of a store in use: what they hold is the store as it was at one moment.
//!
//! The index is copied from a snapshot, and no content file goes while the backup runs. The result
//! is a store of its own, so restoring is backing up the other way. Content files come before the
//! index: one that broke off is not taken for a whole one.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use redb::{Database, ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};

use super::check::Problem;
use super::{Inner, Store};
use crate::content::{ContentId, Sums, sync_dir};
use crate::index::{COUNTERS, EXPIRES, FILES, Fault, Index, OBJECTS, OPEN, SUFFIXES, SUMS, VALUES};
use crate::record::{Place, Record};
use crate::{BackupError, Key};

/// What a backup holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Backup {
    /// Number of keys.
    pub keys: u64,
    /// Bytes of content files copied; smaller values are within the index.
    pub bytes: u64,
    /// Large values that were damaged already; they are in the backup as they are.
    pub problems: Vec<Problem>,
}

/// Where a backup goes, file by file.
trait Sink {
    fn file(&mut self, path: &str, size: u64, content: &mut dyn Read) -> io::Result<()>;
    fn finish(&mut self) -> io::Result<()>;
}

/// A content file to be copied: its name, and the value it belongs to.
struct Large {
    id: ContentId,
    key: Key,
    size: u64,
    sums: Vec<u8>,
}

impl Store {
    /// Copies the store as it is now into a directory, which becomes a store of its own. Readers and
    /// writers go on meanwhile.
    ///
    /// # Errors
    /// [`BackupError`]; the directory then holds no whole backup and cannot be opened as a store.
    pub fn backup(&self, to: &Path) -> Result<Backup, BackupError> {
        let failed = BackupError::io("write the backup to", to);
        let mut sink = match Directory::begin(to) {
            Ok(Some(sink)) => sink,
            Ok(None) => return Err(BackupError::Exists { dir: to.into() }),
            Err(error) => return Err(failed(error)),
        };
        self.inner.backup(&mut sink, to)
    }

    /// As [`Store::backup`], as a tar archive; unpacked, it is a store.
    ///
    /// # Errors
    /// [`BackupError`]; the archive is then cut short and lacks the index.
    pub fn backup_tar(&self, out: &mut dyn Write) -> Result<Backup, BackupError> {
        self.inner.backup(&mut Tar { builder: tar::Builder::new(out) }, Path::new("the archive"))
    }
}

impl Inner {
    fn backup(&self, sink: &mut dyn Sink, to: &Path) -> Result<Backup, BackupError> {
        // Held before the snapshot is taken: what it names is still there at the end.
        self.pins.hold();
        let done = match self.content.scratch() {
            Ok(snapshot) => {
                let done = self.copy_all(sink, to, &snapshot);
                let _ = fs::remove_file(&snapshot);
                done
            }
            Err(error) => Err(BackupError::io("name a copy of the index in", &self.dir)(error)),
        };
        self.pins.release(&self.content);
        done
    }

    fn copy_all(
        &self,
        sink: &mut dyn Sink,
        to: &Path,
        snapshot: &Path,
    ) -> Result<Backup, BackupError> {
        let mut backup = Backup::default();
        let large = self
            .index
            .read(|txn| {
                backup_index(txn, snapshot)?;
                let mut large = Vec::new();
                let mut keys = 0;
                for item in txn.open_table(OBJECTS)?.iter()? {
                    let (raw, record) = item?;
                    keys += 1;
                    // A record that cannot be read is copied as it is; `check` tells of it.
                    let Ok(key) = Key::from_bytes(raw.value()) else { continue };
                    let Ok(record) = Record::decode(&key, record.value()) else { continue };
                    let Some(id) = record.place.file() else { continue };
                    let sums = sums(txn, &record.place, id)?;
                    large.push(Large { id, key, size: record.meta.size, sums });
                }
                Ok((keys, large))
            })
            .map_err(|fault| BackupError::Read(self.read_fault(fault)))?;
        backup.keys = large.0;
        for Large { id, key, size, sums } in large.1 {
            let problem = |error: String| Problem {
                key: Some(key.as_str().to_owned()),
                error,
                remedy: "put the value again from its source, and back up again",
            };
            let path = self.content.path(id);
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(error) => {
                    backup.problems.push(problem(format!("it cannot be opened: {error}")));
                    continue;
                }
            };
            let there = file.metadata().map_err(BackupError::io("read", &path))?.len();
            let mut passing = Passing { from: file.take(size.min(there)), sums: Sums::default() };
            sink.file(&id.relative(), size.min(there), &mut passing)
                .map_err(BackupError::io("write the backup to", to))?;
            backup.bytes += size.min(there);
            if there < size || passing.sums.finish() != sums {
                backup.problems.push(problem("its bytes are not those written".to_owned()));
            }
        }
        let finish = |sink: &mut dyn Sink, backup: &Backup| {
            let report = serde_json::to_vec_pretty(backup).map_err(io::Error::other)?;
            sink.file("backup.json", report.len() as u64, &mut report.as_slice())?;
            let mut index = File::open(snapshot)?;
            let size = index.metadata()?.len();
            sink.file("index.redb", size, &mut index)?;
            sink.finish()
        };
        finish(sink, &backup).map_err(BackupError::io("write the backup to", to))?;
        Ok(backup)
    }
}

fn sums(txn: &ReadTransaction, place: &Place, id: ContentId) -> Result<Vec<u8>, Fault> {
    let id = id.to_bytes();
    let mut all = Vec::new();
    if matches!(place, Place::Open(_)) {
        for block in txn.open_table(SUMS)?.range((&id, 0)..=(&id, u64::MAX))? {
            all.extend_from_slice(block?.1.value());
        }
    } else if let Some(sums) = txn.open_table(FILES)?.get(&id)? {
        all.extend_from_slice(sums.value());
    }
    Ok(all)
}

fn backup_index(txn: &ReadTransaction, to: &Path) -> Result<(), Fault> {
    Index::create(to)?;
    let db = Database::builder().set_cache_size(16 << 20).open(to)?;
    let into = db.begin_write()?;
    copy(txn, &into, OBJECTS)?;
    copy(txn, &into, SUFFIXES)?;
    copy(txn, &into, VALUES)?;
    copy(txn, &into, FILES)?;
    copy(txn, &into, OPEN)?;
    copy(txn, &into, SUMS)?;
    copy(txn, &into, EXPIRES)?;
    copy(txn, &into, COUNTERS)?;
    into.commit()?;
    Ok(())
}

fn copy<K: redb::Key + 'static, V: redb::Value + 'static>(
    from: &ReadTransaction,
    into: &WriteTransaction,
    table: TableDefinition<'_, K, V>,
) -> Result<(), Fault> {
    let mut to = into.open_table(table)?;
    for item in from.open_table(table)?.iter()? {
        let (key, value) = item?;
        to.insert(key.value(), value.value())?;
    }
    Ok(())
}

/// Sums up what passes through, as the index has it.
struct Passing {
    from: io::Take<File>,
    sums: Sums,
}

impl Read for Passing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        self.sums.add(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

/// A backup as a directory.
struct Directory {
    root: PathBuf,
}

impl Directory {
    /// Takes a directory that is not there yet, or is empty.
    fn begin(root: &Path) -> io::Result<Option<Self>> {
        fs::create_dir_all(root)?;
        if fs::read_dir(root)?.next().is_some() {
            return Ok(None);
        }
        Ok(Some(Self { root: root.to_owned() }))
    }
}

impl Sink for Directory {
    fn file(&mut self, path: &str, _: u64, content: &mut dyn Read) -> io::Result<()> {
        let path = self.root.join(path);
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let mut unfinished = path.clone().into_os_string();
        unfinished.push(".part");
        let mut file = File::options().write(true).create_new(true).open(&unfinished)?;
        io::copy(content, &mut file)?;
        file.sync_all()?;
        fs::rename(unfinished, &path)?;
        path.parent().map_or(Ok(()), sync_dir)
    }

    fn finish(&mut self) -> io::Result<()> {
        let blobs = self.root.join("blobs");
        if blobs.is_dir() {
            sync_dir(&blobs)?;
        }
        sync_dir(&self.root)?;
        self.root.parent().filter(|dir| !dir.as_os_str().is_empty()).map_or(Ok(()), sync_dir)
    }
}

/// A backup as a tar archive.
struct Tar<'w> {
    builder: tar::Builder<&'w mut dyn Write>,
}

impl Sink for Tar<'_> {
    fn file(&mut self, path: &str, size: u64, content: &mut dyn Read) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o600);
        self.builder.append_data(&mut header, path, content)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.builder.finish()
    }
}
