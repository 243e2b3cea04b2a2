//! What would be changed on a host to give the machine what its file asks for, as a value: each change
//! with its file, its difference, why, and when it takes effect. Nothing is written here.

mod arguments;
mod boot;
mod devices;
mod difference;
mod live;
mod nixos;

use archibald_machine::units::{Bytes, CpuSet, PciAddress};
use serde::Serialize;

use crate::facts::{Facts, Family};
use crate::readiness::Wanted;

/// How the host is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// By files, in force from the next boot on.
    Boot,
    /// By the running kernel's own files, at once, and gone with the next boot.
    Live,
}

/// What is there before anything was changed: the file's bytes, or nothing.
pub trait Originals {
    /// The bytes of this path.
    fn read(&self, path: &str) -> Option<Vec<u8>>;
}

impl Originals for crate::Root {
    fn read(&self, path: &str) -> Option<Vec<u8>> {
        self.bytes(path)
    }
}

/// When a change takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// At once.
    Live,
    /// From the next boot on.
    Reboot,
    /// From the next log-in on.
    Login,
}

impl Effect {
    /// For people.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Live => "at once",
            Self::Reboot => "after a reboot",
            Self::Login => "after the next log-in",
        }
    }
}

/// What is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A file holds these bytes.
    File {
        /// What it held, if it was there.
        before: Option<Vec<u8>>,
        /// What it will hold.
        after: Vec<u8>,
    },
    /// A file of the kernel says this.
    Kernel(Knob),
    /// A directory is there (a control group is one).
    Directory,
}

/// A file of the kernel that takes a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Knob {
    /// What is written to bring it about.
    pub write: String,
    /// What is written to take it back; `None`: it goes with its directory.
    pub undo: Option<String>,
    /// What the kernel answers when it is in force.
    pub reads: String,
    /// Whether the kernel may refuse it: interrupts that a driver places cannot be moved.
    pub may_fail: bool,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The file.
    pub path: String,
    /// What becomes of it.
    pub target: Target,
    /// Why.
    pub why: String,
    /// When it takes effect.
    pub effect: Effect,
}

/// A command that brings changed files into force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Activation {
    /// After the files were changed.
    pub run: Vec<String>,
    /// After they were changed back.
    pub undo: Vec<String>,
    /// Why.
    pub why: String,
}

/// Something that is not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// What.
    pub what: String,
    /// Why not, or what it costs who does it by hand.
    pub why: String,
}

impl LeftOut {
    fn new(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { what: what.into(), why: why.into() }
    }
}

/// Everything that would be done to a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// How.
    pub way: Way,
    /// The CPUs that the machine has for itself.
    pub cpus: CpuSet,
    /// The changes, in the order in which they are made.
    pub changes: Vec<Change>,
    /// The commands after them.
    pub activations: Vec<Activation>,
    /// What would belong to it and cannot be done here.
    pub left_out: Vec<LeftOut>,
    /// What could be had besides, never by default, each with its price.
    pub offers: Vec<LeftOut>,
    /// What the reader must know.
    pub notes: Vec<String>,
}

impl Plan {
    /// The plan for this host. `extra` are kernel arguments that somebody asks for by name.
    #[must_use]
    pub fn of(
        facts: &Facts,
        wanted: &Wanted,
        way: Way,
        extra: &[String],
        originals: &dyn Originals,
    ) -> Self {
        let mut plan = Self {
            way,
            cpus: wanted.cpus.clone(),
            changes: Vec::new(),
            activations: Vec::new(),
            left_out: Vec::new(),
            offers: Vec::new(),
            notes: Vec::new(),
        };
        if wanted.cpus.is_empty() && wanted.pci.is_empty() && extra.is_empty() {
            return plan;
        }
        let (devices, kept) = devices::sorted(facts, wanted);
        if way == Way::Boot {
            plan.left_out.extend(kept);
        }
        let host = Host { facts, wanted, devices, originals };
        if !wanted.cpus.is_empty() && !host.fits_memory() {
            plan.left_out.push(LeftOut::new(
                format!("{} of memory set aside", wanted.memory),
                "the host would keep less than 2 GiB, and might not boot",
            ));
        }
        match (way, facts.system.distribution.family) {
            (Way::Live, _) => live::plan(&host, &mut plan),
            (Way::Boot, Family::NixOs) => nixos::plan(&host, extra, &mut plan),
            (Way::Boot, _) => boot::plan(&host, extra, &mut plan),
        }
        plan.offers = offers(facts, way, extra);
        plan.notes.extend(limits(facts, wanted));
        plan
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.activations.is_empty()
    }
}

/// What a plan is made from.
struct Host<'a> {
    facts: &'a Facts,
    wanted: &'a Wanted,
    /// The wanted devices that the host can boot without.
    devices: Vec<PciAddress>,
    originals: &'a dyn Originals,
}

impl Host<'_> {
    /// The CPUs that the host keeps.
    fn housekeeping(&self) -> CpuSet {
        self.facts.cpus.all().without(&self.wanted.cpus)
    }

    /// Whether the host keeps enough memory beside what is set aside. Memory in all is the same
    /// before and after it was set aside.
    fn fits_memory(&self) -> bool {
        let total = self.facts.memory.total.as_ref().map_or(0, |fact| fact.value.0);
        self.wanted.memory.0.saturating_add(2 * Bytes::GIB) <= total
    }

    /// What stood in a one-line file before anything was changed.
    fn original_line(&self, path: &str) -> Option<String> {
        let bytes = self.originals.read(path)?;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// A file that this project alone writes.
    fn own_file(&self, path: &str, text: &str, why: &str, effect: Effect) -> Change {
        let after = format!("{HEADER}{text}").into_bytes();
        let before = self.originals.read(path);
        Change {
            path: path.to_owned(),
            target: Target::File { before, after },
            why: why.into(),
            effect,
        }
    }
}

const HEADER: &str =
    "# Written by `archibald host apply`; `archibald host revert` takes it back.\n";

fn offers(facts: &Facts, way: Way, extra: &[String]) -> Vec<LeftOut> {
    if way == Way::Live {
        return Vec::new();
    }
    let mut offers = vec![
        LeftOut::new(
            "mitigations=off",
            "saves some microseconds at each way into the kernel; opens the host to Spectre and its kin",
        ),
        LeftOut::new(
            "idle=poll",
            "no CPU ever sleeps: full power and heat all day, less boost, and the kernel's own documents advise against it",
        ),
    ];
    if facts.cpus.smt.as_ref().is_some_and(|smt| smt.value) {
        offers.push(LeftOut::new("nosmt", "nobody shares a core; half of the CPUs are gone"));
    }
    offers.retain(|offer| !extra.contains(&offer.what));
    offers
}

/// What no setting gives.
fn limits(facts: &Facts, wanted: &Wanted) -> Vec<String> {
    let mut notes = Vec::new();
    if wanted.cpus.is_empty() {
        return notes;
    }
    use crate::facts::KernelKind::RealTime;
    if facts.kernel.kind.as_ref().is_none_or(|kind| kind.value != RealTime) {
        notes.push(
            "This host's kernel is not a real-time one: it is tuned as far as it goes, and no worst case is promised."
                .to_owned(),
        );
    }
    // SCHED_FIFO without throttling: the deferred fair server took its place in Linux 6.12.
    notes.push(
        "A vCPU that never sleeps can lose up to 50 ms a second to a waiting kernel thread of its CPU: \
         /sys/kernel/debug/sched/fair_server has the knob (Linux 6.12 and later)."
            .to_owned(),
    );
    notes
}
