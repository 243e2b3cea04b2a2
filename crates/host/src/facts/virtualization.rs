//! What runs guests here, and whether this host is itself a guest.

use std::fs::OpenOptions;
use std::io::ErrorKind;

use super::cpus::{field, flags};
use super::session::Access;
use crate::{Fact, Root};

/// What runs guests here, and whether this host is itself a guest.
#[derive(Debug, Clone, PartialEq)]
pub struct Virtualization {
    /// The processor's help.
    pub extension: Option<Fact<Extension>>,
    /// Whether /dev/kvm opens. That it opens is no proof that a guest runs.
    pub kvm: Access,
    /// The hypervisor that this host runs in, if it does.
    pub hypervisor: Option<Fact<String>>,
    /// Whether guests of this host may run guests.
    pub nested: Option<Fact<bool>>,
}

/// The processor's help for guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extension {
    /// Intel VT-x.
    Vmx,
    /// AMD-V.
    Svm,
}

impl Extension {
    /// Its name in a firmware's menu.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Vmx => "VT-x (vmx)",
            Self::Svm => "AMD-V (svm)",
        }
    }
}

impl Virtualization {
    pub(super) fn read(root: &Root, cpuinfo: &str) -> Self {
        let extension = flags(cpuinfo).find_map(|flag| match flag {
            "vmx" => Some(Extension::Vmx),
            "svm" => Some(Extension::Svm),
            _ => None,
        });
        let told = |value, text: &str| Fact {
            value,
            file: "/proc/cpuinfo".to_owned(),
            text: format!("flags: {text}"),
        };
        let yes = |path: &str| root.fact(path, |text| Some(matches!(text, "1" | "Y")));
        Self {
            extension: extension.map(|extension| match extension {
                Extension::Vmx => told(extension, "vmx"),
                Extension::Svm => told(extension, "svm"),
            }),
            kvm: open(root, "/dev/kvm"),
            hypervisor: hypervisor(root, cpuinfo),
            nested: yes("/sys/module/kvm_intel/parameters/nested")
                .or_else(|| yes("/sys/module/kvm_amd/parameters/nested")),
        }
    }
}

/// Whether a device opens for reading and writing.
pub(super) fn open(root: &Root, path: &str) -> Access {
    match OpenOptions::new().read(true).write(true).open(root.path(path)) {
        Ok(_) => Access::Open,
        Err(error) if error.kind() == ErrorKind::NotFound => Access::Absent,
        Err(error) => Access::Refused(error.to_string()),
    }
}

fn hypervisor(root: &Root, cpuinfo: &str) -> Option<Fact<String>> {
    // The processor's hypervisor bit is what every hypervisor sets; the others tell which one.
    if !flags(cpuinfo).any(|flag| flag == "hypervisor") {
        return None;
    }
    let named = |path: &str| root.line(path).filter(|fact| !fact.value.is_empty());
    named("/sys/class/dmi/id/sys_vendor").or_else(|| named("/sys/hypervisor/type")).or_else(|| {
        let vendor = field(cpuinfo, "vendor_id").unwrap_or_default();
        Some(Fact {
            value: "unnamed".to_owned(),
            file: "/proc/cpuinfo".to_owned(),
            text: format!("flags: hypervisor ({vendor})"),
        })
    })
}
