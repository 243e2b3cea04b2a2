//! The programs of the system that a build runs, and where they come from. How a run is watched is
//! in `child`.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::BuildError;

/// A program that must be installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tool {
    /// Its name, or the path of a file that must exist.
    pub program: &'static str,
    /// The Debian and Ubuntu package that has it.
    pub package: &'static str,
    /// What the build does with it.
    pub purpose: &'static str,
    /// Whether only builds by an ordinary user need it.
    pub rootless_only: bool,
}

const fn tool(program: &'static str, package: &'static str, purpose: &'static str) -> Tool {
    Tool { program, package, purpose, rootless_only: false }
}

const TOOLS: &[Tool] = &[
    tool("mmdebstrap", "mmdebstrap", "installs the distribution's packages into a directory"),
    tool("apt-get", "apt", "downloads and verifies packages"),
    tool("gpgv", "gpgv", "checks the archive's signatures"),
    tool(
        "/usr/share/keyrings/debian-archive-keyring.gpg",
        "debian-archive-keyring",
        "the keys that Debian signs its archive with",
    ),
    tool("mke2fs", "e2fsprogs", "writes the root file system"),
    tool("debugfs", "e2fsprogs", "reads and writes files of the image without mounting it"),
    tool("dumpe2fs", "e2fsprogs", "lists the inodes whose times are made reproducible"),
    tool("e2fsck", "e2fsprogs", "checks the finished file system"),
    tool("e2image", "e2fsprogs", "takes out the metadata that debugfs works on"),
    tool("setpriv", "util-linux", "ends child processes together with the build"),
    tool("unshare", "util-linux", "keeps mounts and processes of the build to itself"),
    tool("xz", "xz-utils", "unpacks kernel modules"),
    tool("zstd", "zstd", "unpacks the kernel"),
    tool("gzip", "gzip", "unpacks kernels of other releases"),
    tool("qemu-img", "qemu-utils", "makes and exports the image's disk"),
    tool("qemu-io", "qemu-utils", "writes the image's disk"),
    Tool {
        rootless_only: true,
        ..tool("newuidmap", "uidmap", "gives an ordinary user the guest's user ids")
    },
    Tool {
        rootless_only: true,
        ..tool("newgidmap", "uidmap", "gives an ordinary user the guest's group ids")
    },
];

/// The programs that builds and exports run.
pub fn required_tools() -> &'static [Tool] {
    TOOLS
}

/// Where the programs are looked for.
#[derive(Debug, Clone)]
pub struct Tools {
    path: OsString,
}

impl Tools {
    /// Looks in the directories of `path` (the value of `PATH`) and in the system's sbin
    /// directories, which an ordinary user's `PATH` lacks although mke2fs lives there.
    pub fn in_path(path: &OsStr) -> Self {
        let mut directories: Vec<PathBuf> = env::split_paths(path).collect();
        for system in ["/usr/sbin", "/usr/bin", "/sbin", "/bin"] {
            if !directories.iter().any(|dir| dir == Path::new(system)) {
                directories.push(system.into());
            }
        }
        // What came out of splitting joins again; only a made-up directory with a colon would not.
        Self { path: env::join_paths(directories).unwrap_or_else(|_| path.to_owned()) }
    }

    /// The required tools that are not there, for the user who runs this process.
    pub fn missing(&self) -> Vec<Tool> {
        let root = rustix::process::geteuid().is_root();
        TOOLS
            .iter()
            .filter(|tool| !(root && tool.rootless_only))
            .filter(|tool| self.find(tool.program).is_err())
            .copied()
            .collect()
    }

    /// The directories to look in, as a value of `PATH`.
    pub(crate) fn path(&self) -> &OsStr {
        &self.path
    }

    /// Where `program` is.
    pub(crate) fn find(&self, program: &str) -> Result<PathBuf, BuildError> {
        env::split_paths(&self.path)
            .map(|dir| dir.join(program))
            .find(|candidate| candidate.is_file())
            .ok_or_else(|| BuildError::MissingTool {
                program: program.to_owned(),
                package: TOOLS
                    .iter()
                    .find(|tool| tool.program == program)
                    .map_or(program, |tool| tool.package)
                    .to_owned(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sbin_is_searched_although_path_lacks_it() {
        let tools = Tools::in_path(OsStr::new("/nowhere"));
        let path = tools.path().to_string_lossy().into_owned();
        assert_eq!(path, "/nowhere:/usr/sbin:/usr/bin:/sbin:/bin");
        assert!(tools.find("sh").is_ok());
    }

    #[test]
    fn a_missing_tool_names_its_package() {
        let error = Tools { path: "/nowhere".into() }.find("newuidmap").unwrap_err();
        assert!(error.to_string().contains("uidmap"), "{error}");
    }
}
