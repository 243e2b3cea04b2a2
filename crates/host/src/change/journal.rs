//! The journal: what was there before anything was changed, in /var/lib/archibald/host/journal.json.

use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::files::{self, draft_of};
use super::{ChangeError, Steps};
use crate::Root;
use crate::plan::{Activation, Knob, Originals, Plan, Target, Way};

/// Version of the journal's form.
const SCHEMA: u32 = 1;

const DIRECTORY: &str = "/var/lib/archibald/host";
const FILE: &str = "/var/lib/archibald/host/journal.json";

/// How far it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Changes are being made, or their making was broken off.
    Applying,
    /// All changes are made.
    Applied,
    /// Changes are being taken back, or that was broken off.
    Reverting,
}

/// A file as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// All of it.
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    pub bytes: Vec<u8>,
    /// Its permissions.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Entry {
    /// A file.
    File {
        /// Where.
        path: String,
        /// As it was; `None`: it was not there.
        before: Option<Saved>,
        /// As it is made.
        #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
        after: Vec<u8>,
    },
    /// A file of the kernel.
    Kernel {
        /// Where.
        path: String,
        /// What is written there and back.
        knob: Knob,
    },
    /// A directory that was not there.
    Directory {
        /// Where.
        path: String,
    },
}

impl Entry {
    /// Where.
    #[must_use]
    pub fn path(&self) -> &str {
        match self {
            Self::File { path, .. } | Self::Kernel { path, .. } | Self::Directory { path } => path,
        }
    }
}

/// What was changed on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// Version of this form.
    pub schema: u32,
    /// By files or by the running kernel.
    pub way: Way,
    /// How far it went.
    pub phase: Phase,
    /// The boot in which it was written: what the kernel was told is gone in the next one.
    pub boot: String,
    /// Directories that were made for files, outermost first.
    pub made: Vec<String>,
    /// The changes, in the order in which they are made.
    pub entries: Vec<Entry>,
    /// The commands after them.
    pub activations: Vec<Activation>,
}

impl Journal {
    /// The journal of this host, if anything was changed.
    ///
    /// # Errors
    /// [`ChangeError::Journal`] when it cannot be read.
    pub fn read(root: &Root) -> Result<Option<Self>, ChangeError> {
        let Some(bytes) = root.bytes(FILE) else { return Ok(None) };
        let path = root.path(FILE);
        let damaged = |reason: String| ChangeError::Journal { path: path.clone(), reason };
        let journal: Self =
            serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        match journal.schema {
            SCHEMA => Ok(Some(journal)),
            other => Err(damaged(format!("its form is {other}, and this program knows {SCHEMA}"))),
        }
    }

    /// The journal for a plan, with what is on the host now as what was before.
    pub(super) fn of(root: &Root, plan: &Plan) -> Result<Self, ChangeError> {
        let mut entries = Vec::new();
        let mut made: Vec<String> = Vec::new();
        for change in &plan.changes {
            let path = change.path.clone();
            entries.push(match &change.target {
                Target::File { after, .. } => {
                    for directory in missing_above(root, &path) {
                        if !made.contains(&directory) {
                            made.push(directory);
                        }
                    }
                    let before = files::look(&root.path(&path), &path)?;
                    Entry::File { path, before, after: after.clone() }
                }
                Target::Kernel(knob) => Entry::Kernel { path, knob: knob.clone() },
                Target::Directory => Entry::Directory { path },
            });
        }
        Ok(Self {
            schema: SCHEMA,
            way: plan.way,
            phase: Phase::Applying,
            boot: boot_of(root),
            made,
            entries,
            activations: plan.activations.clone(),
        })
    }

    /// Whether this plan is the one that the journal tells of.
    pub(super) fn is_of(&self, plan: &Plan) -> bool {
        let same = |(entry, change): (&Entry, &crate::plan::Change)| {
            entry.path() == change.path
                && match (entry, &change.target) {
                    (Entry::File { after, .. }, Target::File { after: planned, .. }) => {
                        after == planned
                    }
                    (Entry::Kernel { knob, .. }, Target::Kernel(planned)) => knob == planned,
                    (Entry::Directory { .. }, Target::Directory) => true,
                    _ => false,
                }
        };
        self.way == plan.way
            // irqbalance was stopped by the first apply, so a second plan does not find it running.
            && plan.activations.iter().all(|activation| self.activations.contains(activation))
            && self.entries.len() == plan.changes.len()
            && self.entries.iter().zip(&plan.changes).all(same)
    }

    /// Whether the host was booted since, and with it all is gone that the kernel was told.
    #[must_use]
    pub fn is_gone(&self, root: &Root) -> bool {
        self.way == Way::Live && self.boot != boot_of(root)
    }

    /// Writes it down in this phase.
    pub(super) fn write(
        &mut self,
        root: &Root,
        phase: Phase,
        steps: &mut dyn Steps,
    ) -> Result<(), ChangeError> {
        self.phase = phase;
        let bytes = serde_json::to_vec_pretty(self).map_err(|error| ChangeError::Journal {
            path: root.path(FILE),
            reason: error.to_string(),
        })?;
        // It holds what root alone may have been able to read.
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        files::replace(&root.path(FILE), &Saved { bytes, mode: 0o600, uid, gid }, steps)
    }

    /// Takes the journal away, and the directories that were made for it.
    pub(super) fn forget(root: &Root, steps: &mut dyn Steps) -> Result<(), ChangeError> {
        files::remove(&draft_of(&root.path(FILE)), steps)?;
        files::remove(&root.path(FILE), steps)?;
        for directory in [DIRECTORY, "/var/lib/archibald"] {
            // Not empty, or not there: both are as they should be.
            let _ = fs::remove_dir(root.path(directory));
        }
        Ok(())
    }
}

fn boot_of(root: &Root) -> String {
    root.text("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

/// The directories above a path that are not there, outermost first.
fn missing_above(root: &Root, path: &str) -> Vec<String> {
    let mut missing: Vec<String> = PathBuf::from(path)
        .ancestors()
        .skip(1)
        .map(|above| above.display().to_string())
        .take_while(|above| !root.path(above).is_dir())
        .collect();
    missing.reverse();
    missing
}

/// A host as it was before the journal's changes.
#[derive(Debug, Clone, Copy)]
pub struct WithJournal<'a> {
    /// The host.
    pub root: &'a Root,
    /// What was changed on it.
    pub journal: Option<&'a Journal>,
}

impl Originals for WithJournal<'_> {
    fn read(&self, path: &str) -> Option<Vec<u8>> {
        let journal = self.journal.filter(|journal| !journal.is_gone(self.root));
        let entries = journal.into_iter().flat_map(|journal| &journal.entries);
        match entries.into_iter().find(|entry| entry.path() == path) {
            Some(Entry::File { before, .. }) => before.as_ref().map(|saved| saved.bytes.clone()),
            Some(Entry::Kernel { knob, .. }) => knob.undo.clone().map(String::into_bytes),
            _ => self.root.bytes(path),
        }
    }
}

fn to_base64<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(bytes))
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    STANDARD.decode(text).map_err(serde::de::Error::custom)
}
