//! What a host is, as typed values with the files that they came from. Nothing is judged here.

mod cpus;
mod kernel;
mod memory;
mod pci;
mod session;
mod system;
mod usb;
mod virtualization;

pub use cpus::{CState, Cpu, Cpus, Node};
pub use kernel::{Kernel, KernelKind};
pub(crate) use memory::chosen as memory_chosen;
pub use memory::{HugePages, Memory};
pub use pci::{Iommu, IommuGroup, PciDevice, Vendor};
pub use session::{Access, Session};
pub use system::{Bootloader, Distribution, Family, System};
pub use usb::{AudioInterface, AudioPlace, UsbController, UsbDevice};
pub use virtualization::{Extension, Virtualization};

use crate::Root;

/// Everything that is known about a host.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// Processors, their sleep states and who shares what.
    pub cpus: Cpus,
    /// Memory and pages.
    pub memory: Memory,
    /// The running kernel.
    pub kernel: Kernel,
    /// What runs guests here, and what this runs in.
    pub virtualization: Virtualization,
    /// The IOMMU and its groups.
    pub iommu: Iommu,
    /// PCI devices by address.
    pub pci: Vec<PciDevice>,
    /// USB controllers with what hangs on them.
    pub usb: Vec<UsbController>,
    /// Sound cards.
    pub audio: Vec<AudioInterface>,
    /// Who asks, and what they may.
    pub session: Session,
    /// Distribution, boot loader, services.
    pub system: System,
}

/// The tree is no host's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file} cannot be read, so this is not the root of a running host")]
pub struct NotAHost {
    /// What every host has.
    pub file: String,
}

impl Facts {
    /// Reads them.
    ///
    /// # Errors
    /// [`NotAHost`] where not even /proc/cpuinfo is there.
    pub fn read(root: &Root) -> Result<Self, NotAHost> {
        let cpuinfo = root.text("/proc/cpuinfo").filter(|text| !text.is_empty());
        let Some(cpuinfo) = cpuinfo else {
            return Err(NotAHost { file: root.path("/proc/cpuinfo").display().to_string() });
        };
        let pci = pci::devices(root);
        Ok(Self {
            cpus: Cpus::read(root, &cpuinfo),
            memory: Memory::read(root),
            kernel: Kernel::read(root),
            virtualization: Virtualization::read(root, &cpuinfo),
            iommu: Iommu::read(root, &pci),
            usb: usb::controllers(root),
            audio: usb::audio(root),
            pci,
            session: Session::read(root),
            system: System::read(root),
        })
    }

    /// The device at this address.
    #[must_use]
    pub fn device(&self, address: archibald_machine::units::PciAddress) -> Option<&PciDevice> {
        self.pci.iter().find(|device| device.address == address)
    }
}
