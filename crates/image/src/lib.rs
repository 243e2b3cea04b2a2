//! From a recipe to a disk image that QEMU boots: built once, kept by content, checked when opened.
//!
//! [`Cache::build`] is the whole way; everything else is a value that goes in ([`Request`]) or comes
//! out ([`Image`], [`Manifest`], [`Lock`]). Nothing here reads the environment, knows the home
//! directory or writes to the terminal: the caller passes paths and a [`Progress`], and may call a
//! build off through [`Cancel`].

mod boot;
mod build;
mod cache;
mod child;
mod cpio;
mod debian;
mod digest;
mod error;
mod export;
mod ext4;
mod file_lock;
mod guest_files;
mod image;
mod kernel;
mod layer;
mod lock;
mod manifest;
mod nixos;
mod progress;
mod recipe;
mod seal;
mod space;
mod tools;

pub use cache::{Cache, CacheError, Contention, OpenError, RemoveError};
pub use digest::Key;
pub use error::BuildError;
pub use export::{ExportError, Format, export};
pub use file_lock::FileLock;
pub use guest_files::{Content, GuestFile, GuestTreeError, guest_tree};
pub use image::{Hold, Image, Impurity};
pub use kernel::Kernel;
pub use lock::{Drift, Lock, LockError};
pub use manifest::{Artifact, MANIFEST_SCHEMA, Manifest, Package};
pub use nixos::NixosRequest;
pub use progress::{Cancel, Progress, Quiet, Stage};
pub use recipe::{Initrd, Recipe, RecipeError, Request, package_list};
pub use tools::{Tool, Tools, required_tools};
