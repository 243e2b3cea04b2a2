//! A machine in libvirt's words: the domain and, for a bridge, the network, as XML. The same machine
//! and the same placement as [`crate::argv::argv`] and [`crate::placement`] give QEMU; a pure function of the
//! machine and of what the host has. Writing files and talking to libvirt are done elsewhere.

mod domain;
mod network;
mod xml;

use std::path::PathBuf;

use archibald_machine::Machine;
use archibald_machine::units::{Bytes, CpuSet};

pub use self::domain::domain;
pub use self::network::{network, network_name};
use crate::argv::Accelerator;

/// What is exported, and from what.
#[derive(Debug, Clone)]
pub struct Export<'a> {
    /// The machine.
    pub machine: &'a Machine,
    /// What runs the guest's instructions.
    pub accelerator: Accelerator,
    /// The host's online CPUs.
    pub online: &'a CpuSet,
    /// Identity of the image that the disk stands on.
    pub image: &'a str,
    /// Kernel arguments that the image asks for.
    pub arguments: &'a [String],
    /// The files of the domain.
    pub files: &'a ExportFiles,
    /// The huge pages that the memory is taken from; absent: ordinary pages.
    pub huge_page: Option<Bytes>,
    /// Whether the machine's bridge is there already, so that libvirt need not make it.
    pub bridge_is_there: bool,
}

/// The files of a domain, by absolute paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportFiles {
    /// Copy-on-write disk (qcow2) of the domain's own.
    pub disk: PathBuf,
    /// What it stands on, from its own backing file down; never written to.
    pub backing: Vec<Backing>,
    /// Kernel.
    pub kernel: PathBuf,
    /// Initial RAM disk.
    pub initrd: PathBuf,
    /// The settings as JSON, with the guest's private host key and the hashes of passwords: for the
    /// owner's and QEMU's eyes alone.
    pub settings: PathBuf,
    /// Where the guest writes that it is ready.
    pub ready: PathBuf,
}

/// A disk image below another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backing {
    /// Its file.
    pub path: PathBuf,
    /// QEMU's name of its format.
    pub format: String,
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use archibald_machine::HostLimits;

    use super::*;

    fn exported(
        toml: &str,
        accelerator: Accelerator,
        huge_page: Option<Bytes>,
    ) -> (String, Option<String>) {
        let machine = Machine::parse("archibald.toml", toml, &HostLimits::default()).unwrap();
        let backing =
            |path: &str, format: &str| Backing { path: path.into(), format: format.into() };
        let files = ExportFiles {
            disk: "/home/a & b/disk.qcow2".into(),
            backing: vec![
                backing("/cache/layer.qcow2", "qcow2"),
                backing("/cache/base.raw", "raw"),
            ],
            kernel: "/out/kernel".into(),
            initrd: "/out/initrd".into(),
            settings: "/out/settings".into(),
            ready: "/out/ready".into(),
        };
        let export = Export {
            machine: &machine,
            accelerator,
            online: &"0-7".parse().unwrap(),
            image: "0123abcd",
            arguments: &[],
            files: &files,
            huge_page,
            bridge_is_there: false,
        };
        (domain(&export), network(&export))
    }

    const FEW_PORTS: &str = "[network]\nforward = [\"2222:22\", \"4713/udp\", \"8000-8002\"]\n";
    const GIVEN: &str = "[machine]\nvcpus = 4\n[realtime]\nhost-cpus = \"4-7\"\nisolated = \"2-3\"\n[devices]\npci = [\"0000:03:00.1\"]\nusb = [\"1235:8210\"]\n";
    const BRIDGE: &str = "[network]\nmode = \"bridge\"\n";

    #[test]
    fn emulated() {
        let (domain, network) = exported(FEW_PORTS, Accelerator::Tcg, None);
        insta::assert_snapshot!(domain);
        assert_eq!(network, None);
    }

    #[test]
    fn kvm_with_cores_pages_and_devices_of_its_own() {
        let pages = Some(Bytes(2 << 20));
        insta::assert_snapshot!(
            exported(&format!("{FEW_PORTS}{GIVEN}"), Accelerator::Kvm, pages).0
        );
    }

    #[test]
    fn the_housekeeping_shares_and_the_pages_are_ordinary() {
        let file = "[realtime]\nhost-cpus = \"7\"\n[machine]\ncpu = \"host,pmu=off\"\n";
        let (domain, _) = exported(&format!("{FEW_PORTS}{file}"), Accelerator::Kvm, None);
        assert!(domain.contains("<vcpupin vcpu=\"0\" cpuset=\"0-6\"/>"), "{domain}");
        assert!(domain.contains("<vcpupin vcpu=\"1\" cpuset=\"7\"/>"), "{domain}");
        assert!(domain.contains("<vcpusched vcpus=\"1\" scheduler=\"fifo\" priority=\"1\"/>"));
        assert!(domain.contains("<source type=\"memfd\"/>") && !domain.contains("hugepages"));
        assert!(domain.contains("<qemu:arg value=\"host,pmu=off\"/>") && !domain.contains("<cpu "));
    }

    #[test]
    fn bridge() {
        let (domain, network) = exported(BRIDGE, Accelerator::Kvm, None);
        insta::assert_snapshot!(format!("{domain}\n{}", network.unwrap()));
    }

    #[test]
    fn a_sound_card_is_qemus() {
        let file = format!("{FEW_PORTS}[devices]\nsound = \"pipewire\"\n");
        let (domain, _) = exported(&file, Accelerator::Kvm, None);
        assert!(domain.contains("<qemu:arg value=\"pipewire,id=sound,"), "{domain}");
        assert!(domain.contains("virtio-sound-pci,audiodev=sound,"), "{domain}");
    }

    #[test]
    fn a_bridge_that_is_there_is_not_made_again() {
        let file = "[network]\nmode = \"bridge\"\nbridge = \"virbr0\"\n";
        let network = exported(file, Accelerator::Tcg, None).1.unwrap();
        assert!(network.contains("<forward mode=\"bridge\"/>") && !network.contains("<ip "));
    }

    /// libvirt's own schemas, by its own program.
    #[test]
    fn libvirts_schemas_take_it() {
        let there = Command::new("virt-xml-validate").arg("--version").output();
        if there.is_err() {
            println!("SKIPPED libvirt's schemas: no virt-xml-validate here (libvirt-clients)");
            return;
        }
        let pages = Some(Bytes(1 << 30));
        for (file, accelerator, pages) in [
            (FEW_PORTS.to_owned(), Accelerator::Tcg, None),
            (format!("{FEW_PORTS}{GIVEN}"), Accelerator::Kvm, pages),
            (format!("{FEW_PORTS}{GIVEN}"), Accelerator::Kvm, None),
            (format!("{FEW_PORTS}{GIVEN}"), Accelerator::Tcg, None),
            (format!("{BRIDGE}{GIVEN}"), Accelerator::Kvm, pages),
            (format!("{BRIDGE}bridge = \"virbr0\"\n"), Accelerator::Tcg, None),
        ] {
            let (domain, network) = exported(&file, accelerator, pages);
            assert_eq!(refused(&domain, "domain"), None, "{domain}");
            assert_eq!(network.and_then(|network| refused(&network, "network")), None);
        }
        // The schema can tell: an element that it does not know is refused.
        let (domain, _) = exported(FEW_PORTS, Accelerator::Tcg, None);
        let wrong = domain.replace("<clock offset", "<clocks offset");
        assert!(refused(&wrong, "domain").is_some());
    }

    fn refused(xml: &str, schema: &str) -> Option<String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(xml.as_bytes()).unwrap();
        let mut command = Command::new("virt-xml-validate");
        let output = command.arg(file.path()).arg(schema).stdin(Stdio::null()).output().unwrap();
        (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
