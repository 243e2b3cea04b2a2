//! A network namespace of a test's own: it ends with the value, and with it all that was made in it.
// Each test file uses some of it; a failed call here is a failed test.
#![allow(dead_code, clippy::unwrap_used, clippy::print_stdout)]

use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

pub(crate) struct Namespace {
    /// Waits in the namespace for its standard input to end.
    keeper: Child,
}

impl Namespace {
    pub(crate) fn new() -> Option<Self> {
        let mut keeper = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo; read end"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        // Its line says that it is inside.
        let mut line = [0u8; 1];
        let inside = keeper.stdout.take()?.read_exact(&mut line);
        let namespace = Self { keeper };
        inside.ok().map(|()| namespace)
    }

    /// One for this test, with all that a machine on a bridge needs; else says why the test is skipped.
    pub(crate) fn or_skipped(test: &str) -> Option<Self> {
        let mut path = std::env::var_os("PATH").unwrap_or_default();
        path.push(":/usr/sbin:/sbin");
        for (program, version) in [("ip", "-V"), ("nft", "--version")] {
            if Command::new(program).arg(version).env("PATH", &path).output().is_err() {
                println!("SKIPPED {test}: there is no program {program}");
                return None;
            }
        }
        if !Path::new("/dev/net/tun").exists() {
            println!("SKIPPED {test}: there is no /dev/net/tun");
            return None;
        }
        let namespace = Self::new();
        if namespace.is_none() {
            println!("SKIPPED {test}: no network namespace can be had (unshare --net needs root)");
        }
        namespace
    }

    pub(crate) fn pid(&self) -> u32 {
        self.keeper.id()
    }

    /// Runs this in the namespace; what it starts is in there too, threads and processes.
    pub(crate) fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let file = File::open(format!("/proc/{}/ns/net", self.pid())).unwrap();
        let inside = || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        };
        thread::scope(|scope| scope.spawn(inside).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}
