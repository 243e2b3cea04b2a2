//! Work of the lab itself while audio runs: the runner stands above the audio graph, so that overload
//! cannot keep it from ending an experiment, and anything that it did up there would itself make
//! periods late.

use std::io;

/// How the lab does such work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manners {
    /// As an ordinary thread.
    Ordinary,
    /// At the runner's own priority: the program fills the processor, so that an ordinary thread would
    /// take minutes, and there is no period left to be made late.
    Insistent,
}

impl Manners {
    /// Does `work` in this way.
    ///
    /// # Errors
    /// What the kernel said when it refused another priority.
    pub(super) fn work<T>(self, work: impl FnOnce() -> T) -> io::Result<T> {
        match self {
            Self::Ordinary => ordinarily(work),
            Self::Insistent => Ok(work()),
        }
    }
}

/// Does `work` as an ordinary thread, then goes back to the real-time priority that it had.
fn ordinarily<T>(work: impl FnOnce() -> T) -> io::Result<T> {
    let before = Scheduling::current()?;
    Scheduling { policy: libc::SCHED_OTHER, priority: 0 }.apply()?;
    let result = work();
    before.apply()?;
    Ok(result)
}

/// A thread's policy and real-time priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Scheduling {
    policy: i32,
    priority: i32,
}

impl Scheduling {
    // rustix has no sched_getscheduler, sched_getparam and sched_setscheduler.
    #[allow(unsafe_code)]
    fn current() -> io::Result<Self> {
        // SAFETY: takes a number and gives one.
        let policy = unsafe { libc::sched_getscheduler(0) };
        if policy < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut parameter = libc::sched_param { sched_priority: 0 };
        // SAFETY: the parameter outlives the call, which writes nothing else.
        if unsafe { libc::sched_getparam(0, &raw mut parameter) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { policy, priority: parameter.sched_priority })
    }

    #[allow(unsafe_code)]
    fn apply(self) -> io::Result<()> {
        let parameter = libc::sched_param { sched_priority: self.priority };
        // SAFETY: the parameter outlives the call, which only reads it; 0 is the calling thread.
        match unsafe { libc::sched_setscheduler(0, self.policy, &raw const parameter) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_work_is_ordinary_and_what_was_before_comes_back() {
        let before = Scheduling::current().unwrap();
        let during = ordinarily(Scheduling::current).unwrap().unwrap();
        assert_eq!(during.policy, libc::SCHED_OTHER);
        assert_eq!(Scheduling::current().unwrap(), before);
    }
}
