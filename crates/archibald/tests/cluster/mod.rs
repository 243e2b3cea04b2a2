//! A Slurm cluster for a test: tests/slurm/cluster, which ends with the value, also when a test has failed or
//! was killed, because its standard input ends then.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub(crate) struct Cluster {
    child: Child,
    folder: tempfile::TempDir,
}

/// Why there can be no cluster here, if so.
pub(crate) fn lacks() -> Option<String> {
    for program in ["slurmctld", "slurmd", "munged", "sbatch", "unshare"] {
        if !has(program) {
            return Some(format!("{program} is not installed"));
        }
    }
    let root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    (!root).then(|| "a cluster of its own needs root".to_owned())
}

pub(crate) fn has(program: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&folders).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.into_iter().any(|folder| folder.join(program).is_file())
}

impl Cluster {
    /// So many nodes; ports from `port` on.
    pub(crate) fn start(nodes: u32, port: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/slurm/cluster");
        let mut child = Command::new(script)
            .arg(folder.path())
            .args([nodes.to_string(), port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut said).unwrap();
        if said.trim() != "ready" {
            std::io::Read::read_to_string(&mut out, &mut said).unwrap();
            let _ = child.wait();
            panic!("{said}");
        }
        Self { child, folder }
    }

    pub(crate) fn conf(&self) -> PathBuf {
        self.folder.path().join("slurm.conf")
    }

    /// One of Slurm's own commands, and what it says.
    pub(crate) fn ask(&self, words: &[&str]) -> String {
        let said = Command::new(words[0]).args(&words[1..]).env("SLURM_CONF", self.conf()).output();
        String::from_utf8_lossy(&said.unwrap().stdout).into_owned()
    }

    /// Takes a node's power away: its daemon and all that runs on it end at once.
    pub(crate) fn kill(&self, node: &str) {
        let pid = std::fs::read_to_string(self.folder.path().join(format!("{node}.pid"))).unwrap();
        assert!(Command::new("kill").args(["-9", pid.trim()]).status().unwrap().success());
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
