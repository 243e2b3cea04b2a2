//! What a host is ready for: findings with evidence and remedy, and the modes that they leave.
//!
//! A finding does not know by itself how bad it is. It tells which modes it stops, and is a blocker
//! where the machine file asks for one of those: a laptop without an IOMMU is a good host for a
//! machine that wants no device.

mod cpus;
mod devices;
mod guests;
mod kernel;
mod rights;

use std::fmt;

use archibald_machine::Machine;
use archibald_machine::units::{Bytes, CpuSet, PciAddress};
use serde::Serialize;

pub use cpus::suggested_cpus;

use crate::Evidence;
use crate::facts::Facts;

/// A way in which the machine can run, from the least that it needs to the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Every instruction translated: all works, slowly, and latency is not judged.
    Emulation,
    /// The processor runs the guest itself.
    Kvm,
    /// As KVM, on cores that nothing else uses.
    DedicatedCores,
    /// As KVM, with PCI devices of the host.
    Passthrough,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::Emulation, Self::Kvm, Self::DedicatedCores, Self::Passthrough];

    /// Whether this mode needs what `other` needs.
    fn includes(self, other: Self) -> bool {
        other == self || other == Self::Emulation || (other == Self::Kvm && self > Self::Kvm)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Emulation => "emulation",
            Self::Kvm => "KVM",
            Self::DedicatedCores => "dedicated cores",
            Self::Passthrough => "passthrough",
        })
    }
}

/// How bad a finding is, for this machine on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Good to know.
    Note,
    /// Works, with a price.
    Warning,
    /// What the machine file asks for cannot be had.
    Blocker,
}

/// Something that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Stays the same over versions: `iommu`.
    pub id: String,
    /// For people.
    pub what: String,
    /// How bad it is.
    pub severity: Severity,
    /// What was found.
    pub found: String,
    /// The modes that it stops.
    pub stops: Vec<Mode>,
    /// The files that say so.
    pub evidence: Vec<Evidence>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Finding {
    /// Something as it should be, until one of the methods below says otherwise.
    pub fn new(id: impl Into<String>, what: impl Into<String>, found: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            what: what.into(),
            severity: Severity::Ok,
            found: found.into(),
            stops: Vec::new(),
            evidence: Vec::new(),
            remedy: None,
        }
    }

    /// The file that says so, where one does.
    #[must_use]
    pub fn seen(mut self, evidence: impl IntoIterator<Item = Evidence>) -> Self {
        self.evidence.extend(evidence);
        self
    }

    /// Good to know; the text says what for.
    #[must_use]
    pub fn note(self, remedy: impl Into<String>) -> Self {
        Self { severity: Severity::Note, remedy: Some(remedy.into()), ..self }
    }

    /// Works, with a price.
    #[must_use]
    pub fn warn(self, remedy: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, remedy: Some(remedy.into()), ..self }
    }

    /// Keeps the machine from running in these modes. Until it is weighed against what is asked, it
    /// is a warning where it costs KVM, which everybody wants, and a note where it does not.
    #[must_use]
    pub fn stop(self, modes: &[Mode], remedy: impl Into<String>) -> Self {
        let dear = modes.iter().any(|mode| *mode <= Mode::Kvm);
        let severity = if dear { Severity::Warning } else { Severity::Note };
        Self { severity, stops: modes.to_vec(), remedy: Some(remedy.into()), ..self }
    }
}

/// What the machine file asks of a host.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// The guest's memory.
    pub memory: Bytes,
    /// The guest's CPUs.
    pub vcpus: u32,
    /// Host CPUs for the machine alone.
    pub cpus: CpuSet,
    /// Devices for the machine alone.
    pub pci: Vec<PciAddress>,
}

impl From<&Machine> for Wanted {
    fn from(machine: &Machine) -> Self {
        Self {
            memory: machine.memory,
            vcpus: machine.vcpus,
            cpus: machine.realtime.host_cpus.clone(),
            pci: machine.devices.pci.clone(),
        }
    }
}

impl Wanted {
    /// The modes that it takes to give all of this.
    #[must_use]
    pub fn modes(&self) -> Vec<Mode> {
        let mut modes = vec![Mode::Emulation];
        modes.extend((!self.cpus.is_empty()).then_some(Mode::DedicatedCores));
        modes.extend((!self.pci.is_empty()).then_some(Mode::Passthrough));
        modes
    }
}

/// Whether a guest ran under KVM just now; `None`: nobody tried.
pub type KvmTrial = Option<Result<(), String>>;

/// A mode, and whether the host is ready for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModeState {
    /// The mode.
    pub mode: Mode,
    /// Whether the host is ready for it.
    pub ready: bool,
    /// Whether the machine file asks for it.
    pub asked: bool,
    /// The ids of the findings that stop it.
    pub stopped_by: Vec<String>,
}

/// What a host is ready for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// Every mode.
    pub modes: Vec<ModeState>,
    /// Everything that was looked at.
    pub findings: Vec<Finding>,
}

impl Readiness {
    /// Looks at a host for a machine. `others` are findings that facts do not give: programs, disk.
    #[must_use]
    pub fn of(facts: &Facts, wanted: &Wanted, trial: KvmTrial, others: Vec<Finding>) -> Self {
        let mut findings = others;
        findings.extend(cpus::findings(facts, wanted));
        findings.extend(guests::findings(facts, wanted, trial));
        findings.extend(devices::findings(facts, wanted));
        findings.extend(kernel::findings(facts, wanted));
        findings.extend(rights::findings(facts, wanted));
        Self::weighed(findings, &wanted.modes())
    }

    /// The findings weighed against what is asked.
    #[must_use]
    pub fn weighed(mut findings: Vec<Finding>, asked: &[Mode]) -> Self {
        let asks = |mode: Mode| asked.iter().any(|asked| asked.includes(mode));
        for finding in &mut findings {
            if finding.stops.iter().any(|mode| asks(*mode)) {
                finding.severity = Severity::Blocker;
            }
        }
        let state = |mode: Mode| {
            let stops = |finding: &&Finding| finding.stops.iter().any(|stop| mode.includes(*stop));
            let stopped_by: Vec<String> =
                findings.iter().filter(stops).map(|finding| finding.id.clone()).collect();
            ModeState { mode, ready: stopped_by.is_empty(), asked: asks(mode), stopped_by }
        };
        let modes = Mode::ALL.into_iter().map(state).collect();
        Self { modes, findings }
    }

    /// Whether something stops what is asked.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Blocker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(stops: &[Mode]) -> Finding {
        Finding::new("id", "What", "found").stop(stops, "remedy")
    }

    #[test]
    fn a_finding_blocks_only_what_is_asked() {
        let iommu = || vec![finding(&[Mode::Passthrough])];
        assert!(!Readiness::weighed(iommu(), &[Mode::Emulation]).is_blocked());
        assert!(!Readiness::weighed(iommu(), &[Mode::DedicatedCores]).is_blocked());
        assert!(Readiness::weighed(iommu(), &[Mode::Passthrough]).is_blocked());
    }

    #[test]
    fn what_stops_kvm_stops_all_that_needs_it() {
        let readiness = Readiness::weighed(vec![finding(&[Mode::Kvm])], &[Mode::Passthrough]);
        let ready: Vec<bool> = readiness.modes.iter().map(|state| state.ready).collect();
        assert_eq!(ready, [true, false, false, false]);
        assert_eq!(readiness.findings[0].severity, Severity::Blocker);
        assert_eq!(finding(&[Mode::Kvm]).severity, Severity::Warning);
        assert_eq!(finding(&[Mode::Passthrough]).severity, Severity::Note);
    }
}
