//! The process that stands between a command and its QEMU: it holds the lock that says "running",
//! takes QEMU down with itself, and writes how it ended.
//!
//! Until the command that started it says so, a keeper does not keep: when that command ends, by
//! Ctrl-C or kill -9, the pipe between them closes and QEMU goes. No machine is left half started.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit};

use crate::instance::{Instance, InstanceError};
use crate::relay::Relay;

/// The word that makes a keeper keep.
pub(crate) const KEEP: u8 = b'K';

/// Why a keeper gave up before QEMU ran.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeeperError {
    /// The machine runs already.
    #[error("\"{0}\" runs already")]
    Running(String),
    /// The instance's files refused.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// The ranges of ports cannot be relayed.
    #[error("the forwarded ranges cannot be relayed: {0}")]
    Relay(io::Error),
    /// QEMU would not start.
    #[error("cannot start {program}: {source}")]
    Start {
        /// QEMU's program.
        program: String,
        /// Why.
        source: io::Error,
    },
}

/// Runs QEMU with these arguments until it ends; the body of the keeper process.
///
/// `relay` has the ranges of forwarded ports; `at_end` is called when QEMU has ended, to give the host
/// back what the machine had of it. Standard input is the pipe from the command that starts the
/// machine. `stop` is raised by a signal handler when the keeper itself is asked to end.
///
/// # Errors
/// When QEMU could not be started. How it ended later is written to the instance's `exit` file.
pub fn keep(
    instance: &Instance,
    qemu: &OsString,
    arguments: &[OsString],
    relay: Relay,
    at_end: &mut dyn FnMut(),
    stop: &Arc<AtomicBool>,
) -> Result<(), KeeperError> {
    // A terminal's Ctrl-C is for the command, which then closes the pipe.
    let _ = rustix::process::setsid();
    let mut lock =
        instance.lock_running()?.ok_or_else(|| KeeperError::Running(instance.name().to_owned()))?;
    let exit = instance.file("exit");
    let _ = fs::remove_file(&exit);
    let mut child = spawn(instance, qemu, arguments)?;
    if let Err(error) = relay.run(instance.files().qmp) {
        let _ = child.kill();
        let _ = child.wait();
        return Err(KeeperError::Relay(error));
    }
    let _ = lock.note(&child.id().to_string());
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut word = [0u8; 1];
        let kept = matches!(io::stdin().read(&mut word), Ok(1)) && word[0] == KEEP;
        let _ = sender.send(kept);
    });
    let mut kept = false;
    let how = loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => break "stopped".to_owned(),
            Ok(Some(status)) => break ended(status),
            Ok(None) => {}
            Err(error) => break format!("QEMU cannot be waited for: {error}"),
        }
        let abandoned = !kept
            && match receiver.recv_timeout(Duration::from_millis(50)) {
                Ok(word) => {
                    kept = word;
                    !word
                }
                Err(mpsc::RecvTimeoutError::Timeout) => false,
                Err(mpsc::RecvTimeoutError::Disconnected) => true,
            };
        if abandoned || stop.load(Ordering::Relaxed) {
            let _ = child.kill();
            let _ = child.wait();
            break if abandoned { "its start was called off" } else { "its keeper was ended" }
                .to_owned();
        }
        if kept {
            thread::sleep(Duration::from_millis(50));
        }
    };
    // Before the lock goes, so that who waits for the machine's end finds the host as it was.
    at_end();
    let _ = fs::write(&exit, how + "\n");
    let _ = fs::remove_dir_all(instance.runtime());
    Ok(())
}

/// One socket is open for every forwarded port; the usual soft limit is 1024 files.
pub fn raise_file_limit() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(u64::MAX).min(65_536);
    let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
    let _ = rustix::process::setrlimit(Resource::Nofile, raised);
}

fn ended(status: std::process::ExitStatus) -> String {
    match status.signal() {
        Some(signal) => format!("QEMU was ended by signal {signal}"),
        None => format!("QEMU ended with status {}", status.code().unwrap_or(-1)),
    }
}

fn spawn(
    instance: &Instance,
    qemu: &OsString,
    arguments: &[OsString],
) -> Result<Child, KeeperError> {
    let failed =
        |source| KeeperError::Start { program: qemu.to_string_lossy().into_owned(), source };
    let log = File::create(instance.file("qemu.log")).map_err(failed)?;
    crate::qemu::spawn(qemu, arguments, Stdio::null(), &log).map_err(failed)
}
