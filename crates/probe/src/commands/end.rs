//! When a verb ends: at a signal, at the end of standard input, or when its time is over.

use std::io::Read;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};

use crate::ProbeError;
use crate::callback::now_ns;

/// What ends a verb.
pub(super) struct End {
    signalled: Arc<AtomicBool>,
    /// Whether standard input can end at all: /dev/null, which services have there, says nothing.
    reads: bool,
}

impl End {
    pub(super) fn new() -> Result<Self, ProbeError> {
        let signalled = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
            signal_hook::flag::register(signal, Arc::clone(&signalled))
                .map_err(|source| ProbeError::System { what: "catch signals", source })?;
        }
        let stdin = std::io::stdin();
        let kind = fstat(&stdin).map(|stat| FileType::from_raw_mode(stat.st_mode));
        let is_device = matches!(kind, Ok(FileType::CharacterDevice));
        let reads = kind.is_ok() && (!is_device || rustix::termios::isatty(&stdin));
        Ok(Self { signalled, reads })
    }

    pub(super) fn has_come(&self) -> Result<bool, ProbeError> {
        if self.signalled.load(Ordering::Relaxed) {
            return Ok(true);
        }
        let mut stdin = std::io::stdin();
        while self.reads && is_readable(&stdin, 0)? {
            let mut rest = [0; 4096];
            match stdin.read(&mut rest) {
                Ok(0) => return Ok(true),
                Err(source) if source.kind() != std::io::ErrorKind::Interrupted => {
                    return Err(ProbeError::System { what: "read standard input", source });
                }
                _ => {}
            }
        }
        Ok(false)
    }

    /// Until this moment, or until a signal or something on standard input comes.
    pub(super) fn wait(&self, until_ns: u64) -> Result<(), ProbeError> {
        let left = until_ns.saturating_sub(now_ns());
        if self.reads {
            return is_readable(&std::io::stdin(), left).map(drop);
        }
        wait_for(&mut [], left).map(drop)
    }
}

fn is_readable(stdin: &std::io::Stdin, for_ns: u64) -> Result<bool, ProbeError> {
    wait_for(&mut [PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN)], for_ns)
}

fn wait_for(fds: &mut [PollFd<'_>], for_ns: u64) -> Result<bool, ProbeError> {
    let nanoseconds = i64::try_from(for_ns % 1_000_000_000).unwrap_or(0);
    let seconds = i64::try_from(for_ns / 1_000_000_000).unwrap_or(0);
    let timeout = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    match poll(fds, Some(&timeout)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(errno) => {
            Err(ProbeError::System { what: "wait on standard input", source: errno.into() })
        }
    }
}
