//! Handing PCI devices of the host to a running machine by VFIO, and back to their drivers afterwards.
//!
//! The kernel binds a device to the driver that its `driver_override` names, whatever other drivers
//! would take it (Documentation/ABI/testing/sysfs-bus-pci), so no other device of the same kind is
//! touched. Which driver had each device is written down before the first step; what is broken off, at
//! whatever point, [`give_back`] mends. What a handing over at boot gave to VFIO is left as it is.

mod obstacle;
mod usage;

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use archibald_machine::units::PciAddress;
use serde::{Deserialize, Serialize};

use crate::Root;
use crate::change::Steps;
use crate::facts::Facts;

pub use obstacle::Refused;

const VFIO: &str = "vfio-pci";
const DRIVERS: &str = "/sys/bus/pci/drivers";
/// Version of [`Handover`].
const SCHEMA: u32 = 1;

/// Writes to the kernel's files; a test answers in the kernel's place.
pub trait Kernel {
    /// Writes this to a file that is there.
    ///
    /// # Errors
    /// What the kernel answers.
    fn write(&mut self, root: &Root, path: &str, text: &str) -> io::Result<()>;
}

/// The kernel that this runs on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Real;

impl Kernel for Real {
    fn write(&mut self, root: &Root, path: &str, text: &str) -> io::Result<()> {
        OpenOptions::new().write(true).open(root.path(path))?.write_all(text.as_bytes())
    }
}

/// Devices that are handed over, with what they had before: the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    /// Version of this form.
    pub schema: u32,
    /// The boot in which it was written: in the next one every device has its driver again.
    pub boot: String,
    /// In the order in which they are handed over.
    pub devices: Vec<Handed>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handed {
    /// Its place, as the kernel writes it.
    pub address: String,
    /// The driver that had it.
    pub driver: Option<String>,
    /// The driver that somebody had bound it to by name.
    pub driver_override: Option<String>,
}

/// What is to be handed over, and what people should know about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The devices with what they have now; those that VFIO has already are not among them.
    pub handover: Handover,
    /// What people should know.
    pub notes: Vec<String>,
}

/// Why devices were not handed over or not given back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandoverError {
    /// The host cannot give them; nothing was touched.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The system refused.
    #[error("cannot write {text:?} to {path}: {source}")]
    Write {
        /// The file.
        path: String,
        /// What was to be written.
        text: String,
        /// What the system said.
        source: io::Error,
    },
    /// The kernel took it and did something else.
    #[error("device {address}: {wanted} should have it, and {found} has")]
    NotBound {
        /// The device.
        address: String,
        /// The driver that should have it.
        wanted: String,
        /// Who has.
        found: String,
    },
    /// The journal cannot be read or written.
    #[error("{path}: {reason}")]
    Journal {
        /// Where.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// A PCI device's file.
fn file(address: &str, name: &str) -> String {
    format!("/sys/bus/pci/devices/{address}/{name}")
}

fn driver(root: &Root, address: &str) -> Option<String> {
    root.link_name(&file(address, "driver"))
}

/// What stands in `driver_override`, which the kernel shows as `(null)` when nothing does.
fn driver_override(root: &Root, address: &str) -> Option<String> {
    root.text(&file(address, "driver_override")).filter(|text| !text.is_empty() && text != "(null)")
}

fn boot(root: &Root) -> String {
    root.text("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

/// What it takes to hand these devices over, if they may be.
///
/// # Errors
/// [`Refused`], with what to do instead.
pub fn plan(root: &Root, facts: &Facts, wanted: &[PciAddress]) -> Result<Plan, Refused> {
    let mut plan = Plan {
        handover: Handover { schema: SCHEMA, boot: boot(root), devices: Vec::new() },
        notes: Vec::new(),
    };
    for address in wanted {
        let device = obstacle::device(root, facts, wanted, *address)?;
        if device.reset.is_empty() {
            plan.notes.push(format!(
                "device {address} cannot be reset alone: after a stop it may not work again until the host reboots"
            ));
        }
        if !device.is_handed_over() {
            let address = address.to_string();
            plan.handover.devices.push(Handed {
                driver: device.driver.clone(),
                driver_override: driver_override(root, &address),
                address,
            });
        }
    }
    if !plan.handover.devices.is_empty() {
        obstacle::means(root, &plan.handover)?;
    }
    Ok(plan)
}

/// Hands the devices over. What an earlier start has left is given back first.
///
/// # Errors
/// [`HandoverError`]; all devices have their drivers again then, or the journal says which have not.
pub fn take(
    root: &Root,
    plan: &Plan,
    journal: &Path,
    kernel: &mut dyn Kernel,
    steps: &mut dyn Steps,
) -> Result<(), HandoverError> {
    if plan.handover.devices.is_empty() {
        return Ok(());
    }
    steps.step("write the journal");
    let failed = |source: io::Error| HandoverError::Journal {
        path: journal.to_owned(),
        reason: source.to_string(),
    };
    let draft = journal.with_extension("partial");
    let bytes = serde_json::to_vec_pretty(&plan.handover).unwrap_or_default();
    fs::File::create(&draft)
        .and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&draft, journal))
        .map_err(failed)?;
    let mut hand = Hand { root, kernel, steps };
    let taken = plan.handover.devices.iter().try_for_each(|device| hand.over(&device.address));
    if taken.is_err() {
        // The first failure is the one to tell; the journal stays if this fails too.
        let _ = give_back(root, journal, kernel, steps);
    }
    taken
}

/// Gives every device of the journal back to the driver that had it, and says whether there was one.
///
/// # Errors
/// [`HandoverError`]; the journal stays, and the next call goes on.
pub fn give_back(
    root: &Root,
    journal: &Path,
    kernel: &mut dyn Kernel,
    steps: &mut dyn Steps,
) -> Result<bool, HandoverError> {
    let failed = |reason: String| HandoverError::Journal { path: journal.to_owned(), reason };
    let bytes = match fs::read(journal) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed(error.to_string())),
    };
    let handover: Handover =
        serde_json::from_slice(&bytes).map_err(|error| failed(error.to_string()))?;
    if handover.schema != SCHEMA {
        return Err(failed(format!(
            "its form is {}, and this program knows {SCHEMA}",
            handover.schema
        )));
    }
    if handover.boot == boot(root) {
        let mut hand = Hand { root, kernel, steps };
        // One that cannot be given back must not keep the others.
        let mut given = Ok(());
        for device in handover.devices.iter().rev() {
            given = given.and(hand.back(device));
        }
        given?;
    }
    steps.step("remove the journal");
    fs::remove_file(journal).map_err(|error| failed(error.to_string()))?;
    Ok(true)
}

struct Hand<'a> {
    root: &'a Root,
    kernel: &'a mut dyn Kernel,
    steps: &'a mut dyn Steps,
}

impl Hand<'_> {
    fn write(&mut self, path: &str, text: &str) -> Result<(), HandoverError> {
        let shown = if text == "\n" { "nothing" } else { text };
        self.steps.step(&format!("write {shown} to {path}"));
        self.kernel.write(self.root, path, text).map_err(|source| HandoverError::Write {
            path: path.to_owned(),
            text: text.trim().to_owned(),
            source,
        })
    }

    fn over(&mut self, address: &str) -> Result<(), HandoverError> {
        self.write(&file(address, "driver_override"), VFIO)?;
        if let Some(driver) = driver(self.root, address) {
            self.write(&format!("{DRIVERS}/{driver}/unbind"), address)?;
        }
        self.write("/sys/bus/pci/drivers_probe", address)?;
        self.is_bound(address, VFIO)
    }

    fn back(&mut self, device: &Handed) -> Result<(), HandoverError> {
        let address = &device.address;
        if !self.root.exists(&format!("/sys/bus/pci/devices/{address}")) {
            // Pulled out since.
            return Ok(());
        }
        if device.driver_override.as_deref() == Some(VFIO) {
            // Somebody had named VFIO already, and the kernel would bind it to nothing else.
            return Ok(());
        }
        // Only what was written here is taken back: somebody else's word stays.
        if driver_override(self.root, address).as_deref() == Some(VFIO) {
            let before = device.driver_override.as_deref().unwrap_or("\n");
            self.write(&file(address, "driver_override"), before)?;
        }
        if driver(self.root, address).as_deref() == Some(VFIO) {
            self.write(&format!("{DRIVERS}/{VFIO}/unbind"), address)?;
        }
        let Some(wanted) = &device.driver else { return Ok(()) };
        if driver(self.root, address).is_none() {
            self.write("/sys/bus/pci/drivers_probe", address)?;
        }
        if driver(self.root, address).is_none() {
            // A driver that somebody had bound by hand does not take it by itself.
            self.write(&format!("{DRIVERS}/{wanted}/bind"), address)?;
        }
        self.is_bound(address, wanted)
    }

    /// Read back, not assumed.
    fn is_bound(&self, address: &str, wanted: &str) -> Result<(), HandoverError> {
        let found = driver(self.root, address);
        if found.as_deref() == Some(wanted) {
            return Ok(());
        }
        Err(HandoverError::NotBound {
            address: address.to_owned(),
            wanted: wanted.to_owned(),
            found: found.unwrap_or_else(|| "nobody".to_owned()),
        })
    }
}
