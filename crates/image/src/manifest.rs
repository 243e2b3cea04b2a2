//! `manifest.json`: what an image holds and how to recognise it. Written beside every image.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The version of the schema that this program writes and the only one it reads: an image of
/// another version is built again.
pub const MANIFEST_SCHEMA: u32 = 1;

/// What one image is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this schema, [`MANIFEST_SCHEMA`].
    pub schema: u32,
    /// The image's name in the cache.
    pub id: String,
    /// Key of the base it stands on.
    pub base: String,
    /// Debian release, or `nixos`.
    pub suite: String,
    /// Release of the guest's kernel, as `uname -r` gives it; `None` if the recipe has no kernel.
    pub kernel: Option<String>,
    /// When it was built, seconds since 1970.
    pub built: u64,
    /// Every installed Debian package, sorted by name; Nix keeps its own account.
    pub packages: Vec<Package>,
    /// What the kernel must be told to find the system on the disk, besides what every machine's
    /// is told; only NixOS asks for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kernel_arguments: Vec<String>,
    /// SHA-256 of the base's disk, over which the image's is a layer; `None` for a base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_disk: Option<String>,
    /// The files beside this one, by name (`disk.qcow2`, `vmlinuz` ...).
    pub artifacts: BTreeMap<String, Artifact>,
}

/// An installed package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Package {
    /// Package name.
    pub name: String,
    /// Debian version.
    pub version: String,
    /// Debian architecture (`amd64`, `all`).
    pub architecture: String,
    /// SHA-256 of the .deb in hex, from the archive's signed index.
    pub sha256: String,
}

/// A file of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256 in hex.
    pub sha256: String,
}
