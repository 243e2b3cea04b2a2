//! Which host CPU each of QEMU's threads may run on, and at which priority: a plan, its application,
//! and what is in force afterwards, read back from the kernel.

use std::io;

use archibald_machine::Machine;
use archibald_machine::units::CpuSet;
use rustix::thread::{CpuSet as KernelCpuSet, Pid, sched_getaffinity, sched_setaffinity};
use serde::Serialize;
use serde_json::{Value, json};

use crate::qmp::{Qmp, QmpError};

/// SCHED_FIFO priority of a vCPU thread: above every ordinary task, below the host's interrupts.
const VCPU_PRIORITY: i32 = 1;

/// Where one thread should run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Wanted {
    /// What the thread is: `vcpu 0`, or `emulator`.
    pub thread: String,
    /// Kernel thread id.
    pub tid: i32,
    /// Host CPUs that it may run on.
    pub cpus: CpuSet,
    /// SCHED_FIFO priority; absent: ordinary scheduling.
    pub fifo: Option<i32>,
}

/// What one thread got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Placed {
    /// What was wanted.
    #[serde(flatten)]
    pub wanted: Wanted,
    /// Whether it is in force, read back.
    pub in_force: bool,
    /// What is missing, with the remedy.
    pub missing: Option<String>,
}

/// How a thread of QEMU runs at this moment, by the kernel's own word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// What the thread is: `vcpu 0`, or `emulator`.
    pub thread: String,
    /// Its name in the kernel.
    pub name: String,
    /// Kernel thread id.
    pub tid: i32,
    /// Host CPUs that it may run on.
    pub cpus: CpuSet,
    /// By its name in sched(7) without `SCHED_`.
    pub policy: &'static str,
    /// Real-time priority, 1 to 99; 0 under a policy that has none.
    pub priority: i32,
    /// What was asked for; absent: nothing was.
    pub wanted: Option<Wanted>,
    /// Whether that is so; true where nothing was asked for.
    pub in_force: bool,
}

/// Every thread of the running QEMU `pid`, the vCPUs first, held against what `machine` asks for.
///
/// # Errors
/// /proc does not show the process.
pub fn standing(
    machine: &Machine,
    online: &CpuSet,
    pid: u32,
    vcpus: &[i32],
) -> io::Result<Vec<Standing>> {
    let emulator = other_threads(pid, vcpus)?;
    let plan = plan(machine, online, vcpus, &emulator);
    let named = |tid: &i32| match vcpus.iter().position(|vcpu| vcpu == tid) {
        Some(number) => format!("vcpu {number}"),
        None => "emulator".to_owned(),
    };
    let threads = vcpus.iter().chain(&emulator).filter_map(|tid| {
        let wanted = plan.iter().find(|wanted| wanted.tid == *tid).cloned();
        let name = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/comm")).ok()?;
        Some(Standing {
            thread: named(tid),
            name: name.trim().to_owned(),
            tid: *tid,
            cpus: cpus_of(*tid)?,
            policy: match policy(*tid) {
                libc::SCHED_OTHER => "OTHER",
                libc::SCHED_FIFO => "FIFO",
                libc::SCHED_RR => "RR",
                libc::SCHED_BATCH => "BATCH",
                libc::SCHED_IDLE => "IDLE",
                _ => "unknown",
            },
            priority: priority(*tid),
            in_force: wanted.as_ref().is_none_or(holds),
            wanted,
        })
    });
    Ok(threads.collect())
}

/// The threads of process `pid` that are none of `vcpus`.
///
/// # Errors
/// /proc does not show the process.
pub fn other_threads(pid: u32, vcpus: &[i32]) -> io::Result<Vec<i32>> {
    let mut threads: Vec<i32> = std::fs::read_dir(format!("/proc/{pid}/task"))?
        .flatten()
        .filter_map(|task| task.file_name().to_string_lossy().parse().ok())
        .filter(|tid| !vcpus.contains(tid))
        .collect();
    threads.sort_unstable();
    Ok(threads)
}

/// QEMU's vCPU threads in the order of their numbers, from QEMU itself.
///
/// # Errors
/// When QEMU does not answer.
pub fn vcpu_threads(qmp: &mut Qmp) -> Result<Vec<i32>, QmpError> {
    let cpus = qmp.execute("query-cpus-fast", json!({}))?;
    let mut threads: Vec<(i64, i32)> = cpus
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|cpu| {
            let number = |key| cpu.get(key).and_then(Value::as_i64);
            Some((number("cpu-index")?, i32::try_from(number("thread-id")?).ok()?))
        })
        .collect();
    threads.sort_unstable();
    Ok(threads.into_iter().map(|(_, tid)| tid).collect())
}

/// Where vCPU `vcpu` of `machine` belongs, `rest` being the host CPUs that are nobody's own, and its
/// SCHED_FIFO priority.
///
/// An isolated vCPU runs alone on its host CPU at a real-time priority. A vCPU of the guest's
/// housekeeping has no such priority, because one that never yields would starve its host CPU; where
/// it has no host CPU of its own it shares those of QEMU's other threads, as OpenStack Nova's
/// `hw:cpu_realtime_mask` has it.
#[must_use]
pub fn place_of(machine: &Machine, vcpu: u32, rest: &CpuSet) -> (CpuSet, Option<i32>) {
    let own = machine.own_host_cpu(vcpu).map(|cpu| std::iter::once(cpu).collect());
    let fifo = machine.realtime.isolated.contains(vcpu).then_some(VCPU_PRIORITY);
    (own.unwrap_or_else(|| rest.clone()), fifo)
}

/// The plan: every vCPU in [its place](place_of), QEMU's other threads on the host CPUs that are
/// nobody's own. Empty when the machine has no CPUs of its own.
#[must_use]
pub fn plan(machine: &Machine, online: &CpuSet, vcpus: &[i32], emulator: &[i32]) -> Vec<Wanted> {
    if machine.realtime.host_cpus.is_empty() {
        return Vec::new();
    }
    let rest = online.without(&machine.realtime.host_cpus);
    let vcpus = (0..machine.vcpus).zip(vcpus).map(|(vcpu, tid)| {
        let (cpus, fifo) = place_of(machine, vcpu, &rest);
        Wanted { thread: format!("vcpu {vcpu}"), tid: *tid, cpus, fifo }
    });
    let emulator = emulator.iter().map(|tid| Wanted {
        thread: "emulator".to_owned(),
        tid: *tid,
        cpus: rest.clone(),
        fifo: None,
    });
    emulator.chain(vcpus).collect()
}

/// Applies a plan and reads back what is in force.
#[must_use]
pub fn apply(plan: Vec<Wanted>) -> Vec<Placed> {
    plan.into_iter()
        .map(|wanted| {
            let missing = place(&wanted).err();
            let in_force = missing.is_none() && holds(&wanted);
            Placed { wanted, in_force, missing }
        })
        .collect()
}

fn place(wanted: &Wanted) -> Result<(), String> {
    let pid = Pid::from_raw(wanted.tid).ok_or("no such thread")?;
    let mut set = KernelCpuSet::new();
    for cpu in wanted.cpus.iter() {
        set.set(cpu as usize);
    }
    sched_setaffinity(Some(pid), &set)
        .map_err(|error| format!("CPU {} not had: {error}", wanted.cpus))?;
    if let Some(priority) = wanted.fifo {
        set_fifo(wanted.tid, priority).map_err(|error| {
            format!("SCHED_FIFO {priority} not had ({error}): raise the rtprio limit (limits.d), or run as root")
        })?;
    }
    Ok(())
}

fn holds(wanted: &Wanted) -> bool {
    let as_asked =
        |asked: i32| policy(wanted.tid) == libc::SCHED_FIFO && priority(wanted.tid) == asked;
    cpus_of(wanted.tid).as_ref() == Some(&wanted.cpus) && wanted.fifo.is_none_or(as_asked)
}

fn cpus_of(tid: i32) -> Option<CpuSet> {
    let set = sched_getaffinity(Some(Pid::from_raw(tid)?)).ok()?;
    let cpus = (0..KernelCpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu));
    Some(cpus.filter_map(|cpu| u32::try_from(cpu).ok()).collect())
}

/// Neither rustix nor nix offers sched_setscheduler; SCHED_RESET_ON_FORK keeps the priority from
/// whatever the thread starts.
fn set_fifo(tid: i32, priority: i32) -> io::Result<()> {
    let parameter = libc::sched_param { sched_priority: priority };
    // SAFETY: the parameter outlives the call, and the kernel checks the thread id.
    #[allow(unsafe_code)]
    let result = unsafe {
        libc::sched_setscheduler(
            tid,
            libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK,
            &raw const parameter,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn policy(tid: i32) -> i32 {
    // SAFETY: no memory is passed.
    #[allow(unsafe_code)]
    let policy = unsafe { libc::sched_getscheduler(tid) };
    policy & !libc::SCHED_RESET_ON_FORK
}

/// The real-time priority of a thread; 0 where it has none or is gone.
fn priority(tid: i32) -> i32 {
    let mut parameter = libc::sched_param { sched_priority: 0 };
    // SAFETY: the parameter outlives the call, which writes nothing else.
    #[allow(unsafe_code)]
    unsafe {
        libc::sched_getparam(tid, &raw mut parameter)
    };
    parameter.sched_priority
}

#[cfg(test)]
mod tests {
    use archibald_machine::HostLimits;

    use super::*;

    #[test]
    fn each_vcpu_has_a_cpu_and_the_rest_goes_elsewhere() {
        let toml = "[realtime]\nhost-cpus = \"2-3\"\n";
        let machine = Machine::parse("", toml, &HostLimits::default()).unwrap();
        let plan = plan(&machine, &"0-3".parse().unwrap(), &[11, 12], &[10]);
        let shown: Vec<String> = plan
            .iter()
            .map(|w| format!("{} {} {} {:?}", w.thread, w.tid, w.cpus, w.fifo))
            .collect();
        assert_eq!(shown, ["emulator 10 0-1 None", "vcpu 0 11 2 None", "vcpu 1 12 3 Some(1)"]);
    }

    #[test]
    fn the_housekeeping_shares_where_only_the_isolated_have_cpus() {
        let toml = "[machine]\nvcpus = 3\n[realtime]\nisolated = \"2\"\nhost-cpus = \"1\"\n";
        let machine = Machine::parse("", toml, &HostLimits::default()).unwrap();
        let plan = plan(&machine, &"0-1".parse().unwrap(), &[11, 12, 13], &[10]);
        let shown: Vec<String> =
            plan.iter().map(|w| format!("{} {} {:?}", w.thread, w.cpus, w.fifo)).collect();
        let wanted = ["emulator 0 None", "vcpu 0 0 None", "vcpu 1 0 None", "vcpu 2 1 Some(1)"];
        assert_eq!(shown, wanted);
    }

    #[test]
    fn a_machine_without_cpus_of_its_own_is_left_alone() {
        let machine = Machine::parse("", "", &HostLimits::default()).unwrap();
        assert!(plan(&machine, &"0-3".parse().unwrap(), &[11, 12], &[10]).is_empty());
    }

    #[test]
    fn what_is_in_force_is_read_back() {
        let tid = rustix::thread::gettid().as_raw_nonzero().get();
        let wanted = Wanted {
            thread: "this".to_owned(),
            tid,
            cpus: std::iter::once(0).collect(),
            fifo: None,
        };
        let placed = apply(vec![wanted.clone()]);
        assert!(placed[0].in_force, "{placed:?}");
        assert!(!holds(&Wanted { fifo: Some(1), ..wanted }));
    }

    #[test]
    fn a_thread_that_is_gone_is_told() {
        let cpus = std::iter::once(0).collect();
        let wanted = Wanted { thread: "gone".to_owned(), tid: i32::MAX, cpus, fifo: None };
        let placed = apply(vec![wanted]);
        assert!(!placed[0].in_force && placed[0].missing.is_some());
    }
}
