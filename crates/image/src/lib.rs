//! From a recipe to a disk image that QEMU boots: built once, kept by content, checked when opened.
//!
//! [`Cache::build`] is the whole way; everything else is a value that goes in ([`Request`]) or comes
//! out ([`Image`], [`Manifest`], [`Lock`]). Nothing here reads the environment, knows the home
//! directory or writes to the terminal: the caller passes paths and a [`Progress`], and may call a
//! build off through [`Cancel`].

mod cache;
mod export;
mod guest_files;
mod lock;
mod manifest;
mod progress;
mod recipe;
mod tools;

pub use cache::{BuildError, Cache, CacheError, Contention, Image, OpenError, RemoveError};
pub use export::{ExportError, Format, export};
pub use guest_files::{Content, GuestFile, GuestTreeError, guest_tree};
pub use lock::{Drift, Lock, LockError, Pin};
pub use manifest::{Artifact, Manifest, Package};
pub use progress::{Cancel, Progress, Quiet, Stage};
pub use recipe::{Initrd, Recipe, RecipeError, Request, package_list};
pub use tools::{Tool, Tools, required_tools};
