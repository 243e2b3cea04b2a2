//! What can go wrong, one enum for each family of operations: opening, reading, writing.
//!
//! Each message says what was tried on what; `remedy` says what to do about it. How a failure is
//! told over HTTP is in [`crate::http`].

use std::io;
use std::path::{Path, PathBuf};

use crate::Key;

/// The store could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has the store open, or this one has it open already.
    #[error("the store in {} is held by {}", dir.display(), holder(*pid))]
    Held {
        /// The store's directory.
        dir: PathBuf,
        /// The process that holds the store, where it could be told.
        pid: Option<u32>,
    },
    /// There is no store, and none was to be made.
    #[error("there is no store in {}", dir.display())]
    Missing {
        /// The directory that was looked at.
        dir: PathBuf,
    },
    /// The directory holds large values, but the index that names them is gone.
    #[error("the store in {} has content files but no index ({})", dir.display(), index.display())]
    IndexMissing {
        /// The store's directory.
        dir: PathBuf,
        /// Where the index should be.
        index: PathBuf,
    },
    /// The index is damaged beyond what can be repaired when it is opened.
    #[error("the index {} is damaged: {detail}", index.display())]
    Damaged {
        /// The index file.
        index: PathBuf,
        /// What the engine found.
        detail: String,
    },
    /// The disk has no room to open the store.
    #[error("no space left on the disk to open the store in {}", dir.display())]
    Full {
        /// The store's directory.
        dir: PathBuf,
    },
    /// The operating system refused something.
    #[error("could not {doing} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb in the infinitive.
        doing: &'static str,
        /// What it was tried on.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A value, a listing or a count could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The stored bytes are not those that were written. None of them is handed out.
    #[error("the value of {key:?} is damaged: {detail}")]
    Damaged {
        /// The value's key.
        key: Key,
        /// What differs.
        detail: String,
    },
    /// The index is damaged.
    #[error("the index is damaged: {detail}")]
    DamagedIndex {
        /// What the engine found.
        detail: String,
    },
    /// The stream that was being followed was replaced, deleted or has expired.
    #[error("the stream {key:?} was replaced or deleted before it was sealed")]
    Gone {
        /// The stream's key when it was opened.
        key: Key,
    },
    /// The operating system refused something.
    #[error("could not {doing} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb in the infinitive.
        doing: &'static str,
        /// What it was tried on.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A value could not be stored or deleted. What was stored before is unchanged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The condition given with the write does not hold.
    #[error("the condition on {key:?} does not hold: {found}")]
    Condition {
        /// The key that was to be written.
        key: Key,
        /// What is there instead.
        found: String,
    },
    /// The value is longer than this store accepts.
    #[error("the value is longer than the {limit} bytes that this store accepts")]
    TooLarge {
        /// The longest value accepted, in bytes.
        limit: u64,
    },
    /// The values would have more bytes together than their quota allows.
    #[error("the quota of {limit} bytes {} is used up", covered(prefix))]
    Quota {
        /// What the keys begin with that the quota covers; empty for all.
        prefix: String,
        /// The most bytes that their values may have together.
        limit: u64,
    },
    /// The content type cannot be carried in a header.
    #[error("the content type {given:?} is not one")]
    ContentType {
        /// What was given.
        given: String,
    },
    /// There is no value to copy or move.
    #[error("there is no value under {key:?}")]
    Missing {
        /// The key that was looked at.
        key: Key,
    },
    /// A stream that still grows cannot be copied.
    #[error("{key:?} is a stream that is still open")]
    StillOpen {
        /// The stream's key.
        key: Key,
    },
    /// A note on the value has a name or text that a header cannot carry.
    #[error("the note {name:?} on the value has a name or text that is not allowed")]
    User {
        /// The note's name.
        name: String,
    },
    /// The notes on the value are too many or too long.
    #[error("{names} notes of {bytes} bytes are too many for one value")]
    UserTooLarge {
        /// Length of names and texts together, in bytes.
        bytes: usize,
        /// How many notes.
        names: usize,
    },
    /// The disk is full, or the quota of the user who runs the store is used up.
    #[error("no space left on the disk of the store in {}", dir.display())]
    Full {
        /// The store's directory.
        dir: PathBuf,
    },
    /// The record that was to be replaced or removed is damaged, or the index is.
    #[error("the index is damaged: {detail}")]
    DamagedIndex {
        /// What was found.
        detail: String,
    },
    /// The operating system refused something.
    #[error("could not {doing} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb in the infinitive.
        doing: &'static str,
        /// What it was tried on.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A stream could not be appended to or sealed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// There is no stream under the key.
    #[error("there is no stream under {key:?}")]
    Missing {
        /// The key that was looked at.
        key: Key,
    },
    /// The value under the key is whole and grows no more.
    #[error("the value under {key:?} is no open stream")]
    Sealed {
        /// The value's key.
        key: Key,
        /// The facts about the value.
        meta: Box<crate::Meta>,
    },
    /// The stream has another length than the one expected.
    #[error("the stream {key:?} has {size} bytes, not {given}")]
    Offset {
        /// The stream's key.
        key: Key,
        /// The length expected, in bytes.
        given: u64,
        /// The length it has, in bytes.
        size: u64,
    },
    /// What the stream's file holds is not what was acknowledged.
    #[error("the stream {key:?} is damaged and cannot go on")]
    Damaged {
        /// The stream's key.
        key: Key,
    },
    /// The bytes could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// A batch could not be done; nothing of it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// One of the operations cannot be done.
    #[error("operation {at} of the batch (from 0): {error}")]
    Step {
        /// Which operation, counted from 0.
        at: usize,
        /// Why it cannot be done.
        error: WriteError,
    },
    /// There are too many operations.
    #[error("a batch of {count} operations is too long")]
    TooMany {
        /// How many there are.
        count: usize,
    },
    /// The whole could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// A backup could not be made, or a repair not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The directory holds something already.
    #[error("{} is not empty", dir.display())]
    Exists {
        /// The directory that was given.
        dir: PathBuf,
    },
    /// The store could not be read.
    #[error(transparent)]
    Read(ReadError),
    /// The store could not be changed.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The operating system refused something.
    #[error("could not {doing} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb in the infinitive.
        doing: &'static str,
        /// What it was tried on.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl BackupError {
    /// What to do about it.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::Exists { .. } => "give a directory that is not there yet, or an empty one",
            Self::Read(error) => error.remedy(),
            Self::Write(error) => error.remedy(),
            Self::Io { .. } => {
                "see that the disk has room and may be written; remove what there is of it and try again"
            }
        }
    }

    pub(crate) fn io(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }
}

impl AppendError {
    /// What to do about it.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "open the stream first, or look for its key with `streamdb ls`",
            Self::Sealed { .. } => "append to another key, or put this value anew",
            Self::Offset { .. } => {
                "go on from the length that the stream has; bytes before it were acknowledged"
            }
            Self::Damaged { .. } => {
                "seal it no more: go on under another key, and run `streamdb check` on the store"
            }
            Self::Write(error) => error.remedy(),
        }
    }
}

impl BatchError {
    /// What to do about it.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::TooMany { .. } => "split it into batches of at most 1000 operations",
            Self::Step { error, .. } | Self::Write(error) => error.remedy(),
        }
    }
}

impl OpenError {
    /// What to do about it.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::Held { .. } => {
                "reach the store through the process that holds it (streamdb ls --server ...), or stop that process first"
            }
            Self::Missing { .. } => {
                "give the directory that `streamdb serve --data` was given, or start the server once to make a store"
            }
            Self::IndexMissing { .. } => {
                "put the index back from a backup; to start empty, move the directory `blobs` away first"
            }
            Self::Damaged { .. } => {
                "restore the store from a backup; keep the damaged files until then"
            }
            Self::Full { .. } => "free space on that disk and open the store again",
            Self::Io { .. } => {
                "check that the directory exists, that its disk is well, and that this user may write there"
            }
        }
    }

    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| {
            if is_full(&source) {
                Self::Full { dir: path.to_owned() }
            } else {
                Self::Io { doing, path: path.to_owned(), source }
            }
        }
    }
}

impl ReadError {
    /// What to do about it.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::Damaged { .. } => {
                "put the value again from its source, or delete it; `streamdb check` lists every damaged value"
            }
            Self::DamagedIndex { .. } => {
                "stop the server and run `streamdb check`; restore the store from a backup if it fails"
            }
            Self::Gone { .. } => "look at what is under the key now and follow that",
            Self::Io { .. } => "check the store's disk and that this user may read it",
        }
    }

    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }
}

impl WriteError {
    /// What to do about it.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::Condition { .. } => "read the value again and decide anew",
            Self::TooLarge { .. } => {
                "split the value, or start the server with a larger --max-object"
            }
            Self::Quota { .. } => {
                "delete values that are covered by it, or start the server with a larger quota"
            }
            Self::ContentType { .. } => "give a type and subtype in ASCII, for example audio/wav",
            Self::Missing { .. } => "list what there is with `streamdb ls`",
            Self::StillOpen { .. } => "seal the stream first, or rename it instead",
            Self::User { .. } => {
                "use lower-case letters, digits, - _ and . in names, and visible ASCII in texts"
            }
            Self::UserTooLarge { .. } => {
                "keep to 32 notes and 4096 bytes, and put longer ones as values"
            }
            Self::Full { .. } => "delete values or free space on that disk, then try again",
            Self::DamagedIndex { .. } => {
                "stop the server and run `streamdb check`; restore the store from a backup if it fails"
            }
            Self::Io { .. } => "check the store's disk and that this user may write there",
        }
    }

    /// The failure of a commit, told to another who shared it.
    #[cfg(feature = "server")]
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::Full { dir } => Self::Full { dir: dir.clone() },
            Self::Io { doing, path, source } => {
                let source = match source.raw_os_error() {
                    Some(code) => io::Error::from_raw_os_error(code),
                    None => io::Error::new(source.kind(), source.to_string()),
                };
                Self::Io { doing, path: path.clone(), source }
            }
            Self::DamagedIndex { detail } => Self::DamagedIndex { detail: detail.clone() },
            other => Self::DamagedIndex { detail: other.to_string() },
        }
    }

    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| {
            if is_full(&source) {
                Self::Full { dir: path.to_owned() }
            } else {
                Self::Io { doing, path: path.to_owned(), source }
            }
        }
    }
}

/// A used-up quota is a full disk to the one who meets it.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn covered(prefix: &str) -> String {
    if prefix.is_empty() { "of the store".to_owned() } else { format!("of keys below {prefix:?}") }
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}
