//! A small world for the program under test: directories of its own, so that no test sees another's
//! machines or the user's. The image cache is the user's own where a test needs a real image.
// Each test file uses some of it; a failed call here is a failed test.
#![allow(dead_code, clippy::unwrap_used)]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
}

pub(crate) struct Said {
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("work")).unwrap();
        Self { dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file into the folder in which the program runs.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path("work").join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Writes an executable script.
    pub(crate) fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path("work").join(name);
        executable(&path, text);
        path
    }

    /// The program with an empty cache.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_archibald"));
        command
            .args(words)
            .current_dir(self.path("work"))
            .env("XDG_DATA_HOME", self.path("data"))
            .env("XDG_STATE_HOME", self.path("state"))
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env("ARCHIBALD_SHARE", project())
            .env_remove("ARCHIBALD_QEMU")
            .stdin(Stdio::null());
        command
    }

    /// The program with the user's own cache, where the real image is.
    pub(crate) fn command_with_image(&self, words: &[&str]) -> Command {
        let mut command = self.command(words);
        match std::env::var_os("XDG_CACHE_HOME") {
            Some(cache) => command.env("XDG_CACHE_HOME", cache),
            None => command.env_remove("XDG_CACHE_HOME"),
        };
        command
    }

    pub(crate) fn run(&self, words: &[&str]) -> Said {
        said(self.command(words).output().unwrap())
    }

    pub(crate) fn run_with_image(&self, words: &[&str]) -> Said {
        said(self.command_with_image(words).output().unwrap())
    }

    pub(crate) fn state(&self, name: &str) -> PathBuf {
        self.path("state/archibald").join(name)
    }

    /// The processes that have this world's directory in their arguments.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let mine = self.dir.path().to_str().unwrap();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
            let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if pid != std::process::id() && String::from_utf8_lossy(&words).contains(mine) {
                found.push(pid);
            }
        }
        found
    }

    /// Waits until no process of this world is left.
    pub(crate) fn is_quiet(&self) -> bool {
        for _ in 0..200 {
            if self.processes().is_empty() {
                return true;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        false
    }
}

/// A world that goes takes its machines along, also when the test has failed.
impl Drop for World {
    fn drop(&mut self) {
        for entry in std::fs::read_dir(self.path("state/archibald")).into_iter().flatten().flatten()
        {
            if entry.path().is_dir() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let _ = self.command(&["delete", "--force", &name]).output();
            }
        }
    }
}

/// Writes a script that is to be run. Another process writes it: a program that another test's thread starts
/// just then keeps what this process has open for a moment, and what is open for writing does not run
/// ("Text file busy").
pub(crate) fn executable(path: &Path, text: &str) {
    let mut write = Command::new("sh")
        .args(["-c", "cat > \"$1\" && chmod 755 \"$1\"", "sh"])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    write.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(write.wait().unwrap().success(), "{} cannot be written", path.display());
}

/// The same command, started by another one that takes it as its last words.
pub(crate) fn under(words: &[&str], command: &Command) -> Command {
    let mut outer = beside(words, command);
    outer.arg(command.get_program()).args(command.get_args());
    outer
}

/// Another command where this one would run: in its folder, with its environment.
pub(crate) fn beside(words: &[&str], command: &Command) -> Command {
    let mut other = Command::new(words[0]);
    other.args(&words[1..]).stdin(Stdio::null());
    other.current_dir(command.get_current_dir().unwrap());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => other.env(key, value),
            None => other.env_remove(key),
        };
    }
    other
}

pub(crate) fn said(output: Output) -> Said {
    Said {
        status: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The project's root.
pub(crate) fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// A machine file with ports that no other test uses.
pub(crate) fn machine_file(name: &str, ports: &[&str]) -> String {
    let ports: Vec<String> = ports.iter().map(|port| format!("\"{port}\"")).collect();
    format!("name = \"{name}\"\n[network]\nforward = [{}]\n", ports.join(", "))
}
