//! What is read of the six made-up hosts and of this one.

#![allow(clippy::unwrap_used)]

mod hosts;

use archibald_host::Root;
use archibald_host::facts::{AudioPlace, Bootloader, Extension, Facts, Family, KernelKind};

fn facts(host: &str) -> Facts {
    let folder = tempfile::tempdir().unwrap();
    hosts::unfold(host, folder.path());
    Facts::read(&Root::new(folder.path())).unwrap()
}

#[test]
fn a_desktop_is_read_with_the_files_that_say_so() {
    let facts = facts("intel-desktop");
    assert_eq!((facts.cpus.cores(), facts.cpus.all().to_string()), (8, "0-7".into()));
    let extension = facts.virtualization.extension.as_ref().unwrap();
    assert_eq!((extension.value, extension.file.as_str()), (Extension::Vmx, "/proc/cpuinfo"));
    assert_eq!(facts.kernel.kind.as_ref().unwrap().value, KernelKind::Preemptible);
    assert_eq!(facts.kernel.built_with("CONFIG_NO_HZ_FULL=y"), Some(true));
    let card = facts.device("0000:05:00.0".parse().unwrap()).unwrap();
    assert!(card.name().contains("uPD720201"), "{}", card.name());
    assert_eq!((card.group, card.driver.as_deref()), (Some(6), Some("xhci_hcd")));
    assert_eq!(card.reset, ["flr", "bus"]);
    assert!(card.is_usb_controller() && !card.is_bridge() && !card.is_handed_over());
    assert_eq!(facts.iommu.group(4).unwrap().devices.len(), 2);
    assert!(facts.iommu.remaps_interrupts.as_ref().unwrap().value);
    let scarlett = &facts.usb.iter().find(|c| c.address == card.address).unwrap().devices[0];
    assert_eq!((scarlett.id.to_string(), scarlett.is_audio), ("1235:8210".into(), true));
    let place = AudioPlace::Usb { controller: card.address, port: "3-1".into() };
    assert_eq!((facts.audio[1].id.as_str(), &facts.audio[1].place), ("USB", &place));
    assert!(facts.session.is_in("kvm") && !facts.session.is_root());
    let (group, loader) = (facts.system.distribution.family, facts.system.bootloader);
    assert_eq!((group, loader), (Family::Debian, Some(Bootloader::GrubDropIns)));
    assert_eq!(facts.system.irqbalance.as_ref().unwrap().file, "/proc/812/comm");
}

#[test]
fn threads_nodes_and_loaders_of_the_others_are_read() {
    let server = facts("server-two-nodes");
    assert_eq!((server.cpus.cores(), server.cpus.all().len()), (16, 32));
    assert_eq!(server.cpus.nodes[1].cpus.to_string(), "8-15,24-31");
    assert_eq!(server.kernel.kind.as_ref().unwrap().value, KernelKind::RealTime);
    assert!(server.cpus.smt.as_ref().unwrap().value && server.session.is_root());
    assert_eq!(server.system.distribution.family, Family::NixOs);
    let amd = facts("amd-shared-group");
    assert_eq!(amd.system.bootloader, Some(Bootloader::Entries("/boot/loader/entries")));
    assert_eq!(amd.iommu.group(14).unwrap().devices.len(), 4);
    let laptop = facts("laptop-without-iommu");
    assert!(!laptop.iommu.is_on() && laptop.iommu.in_firmware.is_none());
    let nested = facts("nested-vm").virtualization.hypervisor.unwrap();
    assert_eq!(nested.value, "Microsoft Corporation");
    let test = facts("test-machine");
    assert!(test.virtualization.extension.is_none() && !test.system.cgroup2);
    assert!(test.session.any_priority && test.system.bootloader.is_none());
}

/// Whatever this host is, what is read of it agrees with what the system says by other ways.
#[test]
fn this_host_is_read() {
    let facts = Facts::read(&Root::default()).unwrap();
    let parallel = std::thread::available_parallelism().unwrap().get();
    assert!(facts.cpus.all().len() >= parallel);
    assert_eq!(facts.session.is_root(), rustix::process::geteuid().is_root());
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    assert_eq!(facts.kernel.release.unwrap().value, release);
    assert_eq!(facts.cpus.architecture.value, std::env::consts::ARCH);
    let devices = std::fs::read_dir("/sys/bus/pci/devices").map_or(0, Iterator::count);
    assert_eq!(facts.pci.len(), devices);
}

#[test]
fn an_empty_folder_is_no_host() {
    let folder = tempfile::tempdir().unwrap();
    let error = Facts::read(&Root::new(folder.path())).unwrap_err();
    assert!(error.to_string().contains("proc/cpuinfo"), "{error}");
}
