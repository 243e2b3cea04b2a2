//! Becoming a program that runs with real-time priority, on given CPUs, with its memory locked.
//!
//! Policy, priority, CPUs and limits survive execve(2); memory locks do not (mlockall(2), NOTES). The
//! new program must therefore lock its memory itself. A second process watches this one through ptrace,
//! and at the new program's first instruction has it call mlockall once. From then on nobody watches:
//! same process number, same terminal, and every page that it maps later is locked too.

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use archibald_machine::units::{CpuSet, RtPriority};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, setrlimit};

/// What goes wrong before the program runs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RealTimeError {
    /// The CPUs are not there or not this process's.
    #[error(
        "cannot run on CPUs {cpus}: {source}. `cat /sys/devices/system/cpu/online` lists what there is"
    )]
    Cpus {
        /// What was asked for.
        cpus: CpuSet,
        /// What the system said.
        source: io::Error,
    },
    /// No right to that priority.
    #[error(
        "cannot have SCHED_FIFO priority {priority}: {source}. `ulimit -r` shows how high this user may go; /etc/security/limits.d says so from the next log-in on"
    )]
    Priority {
        /// What was asked for.
        priority: RtPriority,
        /// What the system said.
        source: io::Error,
    },
    /// No right to lock memory.
    #[error(
        "cannot lock memory: {source}. `ulimit -l` must say unlimited; /etc/security/limits.d says so from the next log-in on"
    )]
    Lock {
        /// What the system said.
        source: io::Error,
    },
    /// The helper that has the program lock its memory could not be started.
    #[error(
        "cannot watch the program start: {source}. Something forbids ptrace: see /proc/sys/kernel/yama/ptrace_scope"
    )]
    Watch {
        /// What the system said.
        source: io::Error,
    },
    /// The program itself could not be started.
    #[error("cannot run {program}: {source}")]
    Program {
        /// Its name.
        program: String,
        /// What the system said.
        source: io::Error,
    },
}

/// How a program is to run.
#[derive(Debug, Clone)]
pub struct RealTime {
    /// SCHED_FIFO priority.
    pub priority: RtPriority,
    /// CPUs that it may run on; none named: those of this process.
    pub cpus: CpuSet,
}

impl RealTime {
    /// Turns this process into `program`. Comes back only with an error.
    #[must_use]
    pub fn become_program(&self, program: &OsString, arguments: &[OsString]) -> RealTimeError {
        self.try_become(program, arguments).map_or_else(|error| error, |never| match never {})
    }

    fn try_become(
        &self,
        program: &OsString,
        arguments: &[OsString],
    ) -> Result<std::convert::Infallible, RealTimeError> {
        // As far as this user may go.
        let limit = getrlimit(Resource::Memlock).maximum;
        let _ = setrlimit(Resource::Memlock, Rlimit { current: limit, maximum: limit });
        may_lock().map_err(|source| RealTimeError::Lock { source })?;
        if !self.cpus.is_empty() {
            let mut set = rustix::thread::CpuSet::new();
            // What the mask has no place for cannot be online either; an empty mask is refused.
            for cpu in
                self.cpus.iter().filter(|cpu| (*cpu as usize) < rustix::thread::CpuSet::MAX_CPU)
            {
                set.set(cpu as usize);
            }
            rustix::thread::sched_setaffinity(None, &set).map_err(|error| RealTimeError::Cpus {
                cpus: self.cpus.clone(),
                source: error.into(),
            })?;
        }
        watch().map_err(|source| RealTimeError::Watch { source })?;
        // Last, so that the watcher is an ordinary process.
        set_fifo(self.priority)
            .map_err(|source| RealTimeError::Priority { priority: self.priority, source })?;
        let source = Command::new(program).args(arguments).exec();
        Err(RealTimeError::Program { program: program.to_string_lossy().into_owned(), source })
    }
}

/// Whether this process may lock all that it has.
#[allow(unsafe_code)]
fn may_lock() -> io::Result<()> {
    // SAFETY: changes no memory, only whether it may be swapped.
    let locked = check(unsafe { libc::mlockall(libc::MCL_CURRENT) });
    // SAFETY: as above.
    unsafe { libc::munlockall() };
    locked
}

// rustix has no sched_setscheduler.
#[allow(unsafe_code)]
fn set_fifo(priority: RtPriority) -> io::Result<()> {
    let parameter = libc::sched_param { sched_priority: i32::from(priority.get()) };
    // SAFETY: the parameter outlives the call, which only reads it; 0 is the calling thread.
    check(unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameter) })
}

/// Starts the watcher of this process and waits until it watches.
#[allow(unsafe_code)]
fn watch() -> io::Result<()> {
    let target = rustix::process::getpid();
    let (mut ours, mut theirs) = UnixStream::pair()?;
    // SAFETY: this program has one thread.
    match unsafe { libc::fork() } {
        -1 => return Err(io::Error::last_os_error()),
        0 => {
            // The watcher is a grandchild: the program that this process becomes must not find a child
            // that it never started.
            // SAFETY: as above.
            match unsafe { libc::fork() } {
                0 => {
                    drop(ours);
                    let ended = watcher(target, theirs);
                    std::process::exit(i32::from(ended.is_err()));
                }
                -1 => std::process::exit(1),
                child => {
                    let _ = theirs.write_all(&child.to_ne_bytes());
                    std::process::exit(0);
                }
            }
        }
        child => {
            drop(theirs);
            let mut status = 0;
            // SAFETY: `status` outlives the call.
            check(unsafe { libc::waitpid(child, &raw mut status, 0) })?;
        }
    }
    let mut number = [0; 4];
    ours.read_exact(&mut number)?;
    // Yama lets a process be watched by whom it names (Documentation/admin-guide/LSM/Yama.rst). Where
    // there is no Yama there is nothing to allow.
    // SAFETY: takes numbers.
    unsafe { libc::prctl(libc::PR_SET_PTRACER, libc::c_ulong::from(u32::from_ne_bytes(number))) };
    ours.write_all(&[1])?;
    let mut said = [0; 4];
    ours.read_exact(&mut said)?;
    match i32::from_ne_bytes(said) {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Watches `target` until it is a new program, and has that lock its memory.
#[allow(unsafe_code)]
fn watcher(target: Pid, mut asker: UnixStream) -> io::Result<()> {
    asker.read_exact(&mut [0])?;
    let pid = target.as_raw_nonzero().get();
    // SAFETY: watches a process, takes numbers.
    let seized = check(unsafe {
        libc::ptrace(libc::PTRACE_SEIZE, pid, 0_usize, libc::PTRACE_O_TRACEEXEC as usize)
    } as i32);
    let number = seized.as_ref().map_or_else(|e| e.raw_os_error().unwrap_or(libc::EPERM), |()| 0);
    asker.write_all(&number.to_ne_bytes())?;
    seized?;
    drop(asker);
    loop {
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        check(unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) })?;
        if !libc::WIFSTOPPED(status) {
            // It could not become a program, and has said so itself.
            return Ok(());
        }
        if status >> 8 == libc::SIGTRAP | (libc::PTRACE_EVENT_EXEC << 8) {
            break;
        }
        // Any other signal is the program's own business.
        let signal = if status >> 16 == 0 { libc::WSTOPSIG(status) } else { 0 };
        // SAFETY: lets the stopped process go on.
        check(unsafe { libc::ptrace(libc::PTRACE_CONT, pid, 0_usize, signal as usize) } as i32)?;
    }
    let locked = lock_all(pid);
    if let Err(error) = &locked {
        complain(&format!("the program could not lock its memory and is ended: {error}"));
        // SAFETY: takes numbers.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
    // SAFETY: lets the stopped process go on, unwatched.
    check(unsafe { libc::ptrace(libc::PTRACE_DETACH, pid, 0_usize, 0_usize) } as i32)?;
    locked
}

/// Has the stopped process call `mlockall(MCL_CURRENT | MCL_FUTURE)`, and leaves no trace of it: the
/// two bytes of a `syscall` instruction stand at its first instruction for the length of one step.
fn lock_all(pid: i32) -> io::Result<()> {
    /// `syscall`.
    const SYSCALL: [u8; 2] = [0x0f, 0x05];
    // The stop is inside execve, which has its own result to write yet: on to the first instruction.
    step(pid)?;
    let before = registers(pid)?;
    let mut memory =
        std::fs::File::options().read(true).write(true).open(format!("/proc/{pid}/mem"))?;
    let original = swap(&mut memory, before.rip, SYSCALL)?;
    let mut call = before;
    call.rax = libc::SYS_mlockall as u64;
    call.rdi = (libc::MCL_CURRENT | libc::MCL_FUTURE) as u64;
    // No system call that the kernel would take up again.
    call.orig_rax = u64::MAX;
    set_registers(pid, &call)?;
    step(pid)?;
    let after = registers(pid)?;
    swap(&mut memory, before.rip, original)?;
    set_registers(pid, &before)?;
    if after.rip != before.rip + SYSCALL.len() as u64 {
        return Err(io::Error::other("it did not come to its system call"));
    }
    match i64::from_ne_bytes(after.rax.to_ne_bytes()) {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(i32::try_from(-error).unwrap_or(libc::EIO))),
    }
}

/// One instruction of a stopped process, or what is left of the system call that it is in.
#[allow(unsafe_code)]
fn step(pid: i32) -> io::Result<()> {
    // SAFETY: lets the stopped process go on, takes numbers.
    check(unsafe { libc::ptrace(libc::PTRACE_SINGLESTEP, pid, 0_usize, 0_usize) } as i32)?;
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    check(unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) })?;
    match libc::WIFSTOPPED(status) && libc::WSTOPSIG(status) == libc::SIGTRAP {
        true => Ok(()),
        false => Err(io::Error::other("a signal came between")),
    }
}

#[allow(unsafe_code)]
fn registers(pid: i32) -> io::Result<libc::user_regs_struct> {
    // SAFETY: all fields are numbers, for which zero is a value.
    let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
    // SAFETY: `registers` outlives the call, which fills it.
    check(unsafe { libc::ptrace(libc::PTRACE_GETREGS, pid, 0_usize, &raw mut registers) } as i32)?;
    Ok(registers)
}

#[allow(unsafe_code)]
fn set_registers(pid: i32, registers: &libc::user_regs_struct) -> io::Result<()> {
    // SAFETY: `registers` outlives the call, which reads it.
    check(unsafe { libc::ptrace(libc::PTRACE_SETREGS, pid, 0_usize, registers) } as i32)
}

/// Puts two bytes at an address of another process's memory and gives back what stood there.
fn swap(memory: &mut std::fs::File, address: u64, bytes: [u8; 2]) -> io::Result<[u8; 2]> {
    use std::os::unix::fs::FileExt as _;
    let mut before = [0; 2];
    memory.read_exact_at(&mut before, address)?;
    memory.write_all_at(&bytes, address)?;
    Ok(before)
}

/// The watcher has nobody to hand an error to: the program's own process is somebody else by then.
fn complain(words: &str) {
    let _ = writeln!(io::stderr(), "archibald-guest: {words}");
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
