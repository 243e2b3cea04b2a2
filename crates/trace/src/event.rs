//! Records of the ring as typed events. Names of threads are kept once a thread, beside the events.

use std::collections::BTreeMap;

use crate::format::EventFormat;

/// A thread's number.
pub type Tid = i32;

/// One event: when, where, in whose context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// In ns of the trace clock.
    pub at_ns: u64,
    /// CPU that it happened on.
    pub cpu: u32,
    /// The thread that had the CPU, also when an interrupt did the work.
    pub tid: Tid,
    /// What happened.
    pub event: Event,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The CPU went from one thread to another.
    Switch {
        /// Who had it.
        prev: Tid,
        /// Kernel's priority of `prev`: 0 to 98 real-time (99 less the real-time priority), 100 to 139 ordinary.
        prev_prio: i32,
        /// Why it left: 0 when it could still run; else the bits of the kernel's task states.
        prev_state: i64,
        /// Who got it.
        next: Tid,
        /// Kernel's priority of `next`.
        next_prio: i32,
    },
    /// Someone made a sleeping thread ready to run.
    Waking {
        /// Who was woken.
        tid: Tid,
    },
    /// The kernel changed a priority because of a lock that inherits it.
    Inherited {
        /// Whose.
        tid: Tid,
        /// The kernel's priority before.
        old: i32,
        /// And after.
        new: i32,
    },
    /// A thread or process was started.
    Forked {
        /// The new one.
        child: Tid,
    },
    /// An interrupt's handler begins.
    IrqEntry {
        /// Name of the device.
        name: String,
    },
    /// It ends.
    IrqExit,
    /// Deferred work of an interrupt begins.
    SoftirqEntry {
        /// Its kind, as the kernel numbers them.
        vector: i64,
    },
    /// It ends.
    SoftirqExit,
    /// The thread set a timer.
    TimerSet {
        /// When it is due, in ns of the clock that it was set by.
        due_ns: u64,
    },
    /// A timer's function begins.
    TimerEntry,
    /// It ends.
    TimerExit,
    /// A page was not there.
    Fault {
        /// The address that was touched.
        address: u64,
        /// The instruction that touched it.
        instruction: u64,
    },
    /// The thread got memory from the kernel's allocator.
    Pages {
        /// How many pages.
        count: u64,
    },
    /// A system call begins.
    CallEntry {
        /// Its number.
        number: i64,
        /// Its arguments.
        arguments: [u64; 6],
    },
    /// It ends.
    CallExit,
    /// The thread waits for one of the kernel's own locks.
    LockWait,
    /// It has it.
    LockGot,
    /// The thread itself looks for memory that can be taken from others.
    ReclaimBegin,
    /// It is done with that.
    ReclaimEnd,
    /// The kernel's own thread begins to look for memory.
    Kswapd,
    /// Where in the kernel the thread that is going to sleep stands, innermost first.
    Stack {
        /// Addresses.
        callers: Vec<u64>,
    },
}

/// Turns records into events by the kernel's own descriptions.
#[derive(Debug)]
pub struct Decoder {
    formats: BTreeMap<u16, EventFormat>,
    /// The latest name of every thread seen.
    pub names: BTreeMap<Tid, String>,
}

impl Decoder {
    /// For these descriptions.
    #[must_use]
    pub fn new(formats: Vec<EventFormat>) -> Self {
        let formats = formats.into_iter().map(|format| (format.id, format)).collect();
        Self { formats, names: BTreeMap::new() }
    }

    /// The event of a record; `None` for a kind that is not analysed, and for one cut off.
    pub fn decode(&mut self, at_ns: u64, cpu: u32, record: &[u8]) -> Option<Entry> {
        let id = u16::from_le_bytes(record.get(..2)?.try_into().ok()?);
        let format = self.formats.get(&id)?;
        let number = |name: &str| format.field(name)?.number(record);
        let tid_of = |name: &str| number(name).and_then(|tid| Tid::try_from(tid).ok());
        let prio_of = |name: &str| number(name).and_then(|prio| i32::try_from(prio).ok());
        let word = |name: &str| number(name).map(|word| u64::from_ne_bytes(word.to_ne_bytes()));
        let event = match format.name.as_str() {
            "sched_switch" => Event::Switch {
                prev: tid_of("prev_pid")?,
                prev_prio: prio_of("prev_prio")?,
                prev_state: number("prev_state")?,
                next: tid_of("next_pid")?,
                next_prio: prio_of("next_prio")?,
            },
            "sched_waking" | "sched_wakeup_new" => Event::Waking { tid: tid_of("pid")? },
            "sched_pi_setprio" => Event::Inherited {
                tid: tid_of("pid")?,
                old: prio_of("oldprio")?,
                new: prio_of("newprio")?,
            },
            "sched_process_fork" => Event::Forked { child: tid_of("child_pid")? },
            "irq_handler_entry" => Event::IrqEntry { name: format.field("name")?.text(record)? },
            "irq_handler_exit" => Event::IrqExit,
            "softirq_entry" => Event::SoftirqEntry { vector: number("vec")? },
            "softirq_exit" => Event::SoftirqExit,
            "hrtimer_start" => Event::TimerSet { due_ns: word("expires")? },
            "hrtimer_expire_entry" => Event::TimerEntry,
            "hrtimer_expire_exit" => Event::TimerExit,
            "page_fault_user" | "page_fault_kernel" => {
                Event::Fault { address: word("address")?, instruction: word("ip")? }
            }
            "mm_page_alloc" => {
                let order = u32::try_from(number("order")?).ok()?;
                Event::Pages { count: 1u64.checked_shl(order)? }
            }
            "sys_enter" => Event::CallEntry {
                number: number("id")?,
                arguments: format.field("args")?.words(record)?.try_into().ok()?,
            },
            "sys_exit" => Event::CallExit,
            "contention_begin" => Event::LockWait,
            "contention_end" => Event::LockGot,
            "mm_vmscan_direct_reclaim_begin" => Event::ReclaimBegin,
            "mm_vmscan_direct_reclaim_end" => Event::ReclaimEnd,
            "mm_vmscan_kswapd_wake" => Event::Kswapd,
            "kernel_stack" => {
                let count = usize::try_from(number("size")?).ok()?;
                let mut callers = format.field("caller")?.words_to_end(record)?;
                callers.truncate(count);
                // The kernel ends a short stack with ones.
                callers.retain(|address| *address != u64::MAX && *address != 0);
                Event::Stack { callers }
            }
            _ => return None,
        };
        let tid = Tid::try_from(number("common_pid")?).ok()?;
        let named = match format.name.as_str() {
            "sched_switch" => [("prev_pid", "prev_comm"), ("next_pid", "next_comm")].as_slice(),
            "sched_waking" | "sched_wakeup_new" => [("pid", "comm")].as_slice(),
            _ => [].as_slice(),
        };
        let mut found = Vec::new();
        for (number, text) in named {
            if let (Some(tid), Some(field)) = (tid_of(number), format.field(text)) {
                found.push((tid, field.bytes(record).unwrap_or_default()));
            }
        }
        for (tid, name) in found {
            remember(&mut self.names, tid, name);
        }
        Some(Entry { at_ns, cpu, tid, event })
    }
}

/// Keeps the name; a million events mention a few hundred threads, so text is made only for news.
fn remember(names: &mut BTreeMap<Tid, String>, tid: Tid, name: &[u8]) {
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    let name = name.get(..end).unwrap_or_default();
    if names.get(&tid).is_none_or(|known| known.as_bytes() != name) {
        names.insert(tid, String::from_utf8_lossy(name).into_owned());
    }
}
