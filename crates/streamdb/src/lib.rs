//! StreamDB: a small durable store for binary streams, as a library and behind an HTTP door.
//!
//! A [`Store`] is a directory. Acknowledged means on disk: when a put or a delete returns, a killed
//! process or a power cut no longer takes it back, and no reader ever sees half a value. What is
//! read is verified first; damage is told, never served. Nothing runs in the background.
//!
//! ```
//! use streamdb::{Key, Options, Put, Query, Store};
//!
//! let dir = tempfile::tempdir()?;
//! let store = Store::open(dir.path(), &Options::default())?;
//! let key = Key::new("takes/one.wav")?;
//! store.put(&key, b"RIFF", &Put::default())?;
//! assert_eq!(store.get(&key)?.map(|object| object.meta().size), Some(4));
//! let wavs = store.list(&Query { suffix: ".wav".into(), ..Query::default() })?;
//! assert_eq!(wavs.entries.len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! This file only names what is public. On the disk, under the store's directory: `index.redb` (the
//! index), `blobs/` (values over 64 KiB), `staging/` (unfinished uploads), `quarantine/` (what a repair took
//! out), `lock` and `reserve`.

mod amount;
mod async_store;
mod checksum;
mod content;
mod disk;
mod error;
#[cfg(feature = "server")]
pub mod http;
mod index;
mod key;
mod record;
mod space;
mod store;

pub use amount::{Amount, AmountError};
pub use async_store::{AsyncStore, Broken, PutError};
pub use checksum::{Checksum, ChecksumError};
pub use error::{AppendError, BackupError, BatchError, OpenError, ReadError, WriteError};
pub use key::{Key, KeyError};
pub use record::Meta;
pub use store::{
    Backup, Check, Conditions, Counts, Entry, Object, ObjectReader, Operation, Options, Page,
    Problem, Put, Quarantined, Query, Quota, Repair, Store, Stored, Tags, Tail, Tailed, Transfer,
    Upload,
};
