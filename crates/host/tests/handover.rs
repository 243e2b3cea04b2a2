//! Devices go to VFIO and come back, wherever it was broken off. The trees are made up, and a small
//! stand-in for the kernel answers what is written to `driver_override`, `unbind` and `drivers_probe`.

#![allow(clippy::unwrap_used, clippy::panic)]

mod broken_off;
mod hosts;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use archibald_host::Root;
use archibald_host::facts::Facts;
use archibald_host::handover::{HandoverError, Kernel, Plan, Refused, give_back, plan, take};
use archibald_machine::units::PciAddress;
use broken_off::broken_off;
use proptest::prelude::*;

const DEVICES: &str = "/sys/bus/pci/devices";

/// The three devices of the group that the AMD host's USB controller is in.
const SHARED: [&str; 3] = ["0000:02:00.0", "0000:02:00.1", "0000:22:00.0"];

/// A made-up host with what a kernel that has VFIO loaded adds.
struct Host {
    folder: tempfile::TempDir,
    root: Root,
    /// Which driver takes which device by itself.
    usual: BTreeMap<String, String>,
    /// A kernel that does not bind what it is told to.
    stubborn: bool,
}

impl Host {
    fn new(name: &str) -> Self {
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let folder = tempfile::tempdir_in(place).unwrap();
        hosts::unfold(name, &folder.path().join("host"));
        let root = Root::new(folder.path().join("host"));
        let mut host = Self { folder, root, usual: BTreeMap::new(), stubborn: false };
        fs::create_dir_all(host.root.path("/sys/bus/pci/drivers/vfio-pci")).unwrap();
        for address in host.root.names(DEVICES) {
            host.write(&format!("{DEVICES}/{address}/driver_override"), "(null)\n");
            if let Some(driver) = host.root.link_name(&format!("{DEVICES}/{address}/driver")) {
                fs::create_dir_all(host.root.path(&format!("/sys/bus/pci/drivers/{driver}")))
                    .unwrap();
                host.usual.insert(address, driver);
            }
        }
        // A second card, so that none is the only one.
        host.link(
            "/sys/class/net/wlan0",
            "../../devices/pci0000:00/0000:00:1c.0/0000:07:00.0/net/wlan0",
        );
        host
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn link(&self, path: &str, target: &str) {
        let path = self.root.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    fn journal(&self) -> PathBuf {
        self.folder.path().join("devices.json")
    }

    fn plan(&self, wanted: &[&str]) -> std::result::Result<Plan, Refused> {
        plan(&self.root, &Facts::read(&self.root).unwrap(), &addresses(wanted))
    }

    fn take(
        &self,
        plan: &Plan,
        step: &mut dyn FnMut(&str),
    ) -> std::result::Result<(), HandoverError> {
        take(&self.root, plan, &self.journal(), &mut Answers(self), &mut |what: &str| step(what))
    }

    fn give_back(&self, step: &mut dyn FnMut(&str)) -> std::result::Result<bool, HandoverError> {
        give_back(&self.root, &self.journal(), &mut Answers(self), &mut |what: &str| step(what))
    }

    fn driver(&self, address: &str) -> Option<String> {
        self.root.link_name(&format!("{DEVICES}/{address}/driver"))
    }

    /// Who has which device, by whose word, and whether a journal is there.
    fn state(&self) -> String {
        let mut text = format!("journal: {}\n", self.journal().exists());
        for address in self.root.names(DEVICES) {
            let word = self.root.text(&format!("{DEVICES}/{address}/driver_override"));
            text += &format!("{address} {:?} {word:?}\n", self.driver(&address));
        }
        text
    }

    fn refused(&self, wanted: &[&str]) -> String {
        let before = self.state();
        let refused = self.plan(wanted).unwrap_err();
        assert_eq!(self.state(), before);
        format!("{refused}\n  {}", refused.remedy())
    }
}

fn addresses(wanted: &[&str]) -> Vec<PciAddress> {
    wanted.iter().map(|text| text.parse().unwrap()).collect()
}

/// drivers/pci/pci-driver.c and drivers/base/bus.c, as far as handing over needs them.
struct Answers<'a>(&'a Host);

impl Kernel for Answers<'_> {
    fn write(&mut self, root: &Root, path: &str, text: &str) -> Result<()> {
        let refused = |what: &str| Error::new(ErrorKind::NotFound, what.to_owned());
        let bind = |address: &str, driver: &str| {
            symlink(
                format!("../../../bus/pci/drivers/{driver}"),
                root.path(&format!("{DEVICES}/{address}/driver")),
            )
        };
        let word = |address: &str| {
            let text = root.text(&format!("{DEVICES}/{address}/driver_override"));
            text.filter(|text| text != "(null)")
        };
        if path.ends_with("/driver_override") {
            let shown = if text == "\n" { "(null)" } else { text };
            return fs::write(root.path(path), format!("{shown}\n"));
        }
        if !root.exists(&format!("{DEVICES}/{text}")) {
            return Err(refused("no such device"));
        }
        if path == "/sys/bus/pci/drivers_probe" {
            let usual = || self.0.usual.get(text).cloned();
            match word(text).or_else(usual).filter(|_| self.0.driver(text).is_none()) {
                Some(driver) if driver == "vfio-pci" && self.0.stubborn => Ok(()),
                Some(driver) => bind(text, &driver),
                None => Ok(()),
            }
        } else if let Some(driver) = path.strip_suffix("/unbind") {
            if self.0.driver(text).as_deref() != driver.rsplit('/').next() {
                return Err(refused("it has not that driver"));
            }
            fs::remove_file(root.path(&format!("{DEVICES}/{text}/driver")))
        } else if let Some(driver) = path.strip_suffix("/bind") {
            let driver = driver.rsplit('/').next().unwrap_or_default();
            match word(text).is_none_or(|word| word == driver) {
                true => bind(text, driver),
                false => Err(refused("it is another driver's by name")),
            }
        } else {
            Err(refused(path))
        }
    }
}

#[test]
fn a_device_goes_and_comes_back() {
    let host = Host::new("intel-desktop");
    let before = host.state();
    let plan = host.plan(&["0000:05:00.0"]).unwrap();
    let mut steps = Vec::new();
    host.take(&plan, &mut |step| steps.push(step.to_owned())).unwrap();
    assert_eq!(host.driver("0000:05:00.0").as_deref(), Some("vfio-pci"));
    // Nothing is planned for what VFIO has already: it would not know what to give back.
    assert!(host.plan(&["0000:05:00.0"]).unwrap().handover.devices.is_empty());
    assert!(host.give_back(&mut |step| steps.push(step.to_owned())).unwrap());
    assert_eq!(host.state(), before);
    assert!(!host.give_back(&mut |_| ()).unwrap(), "there is nothing left to give back");
    insta::assert_snapshot!(steps.join("\n"));
}

#[test]
fn a_whole_group_goes_without_its_bridges() {
    let host = Host::new("amd-shared-group");
    let before = host.state();
    let plan = host.plan(&SHARED).unwrap();
    host.take(&plan, &mut |_| ()).unwrap();
    assert!(SHARED.iter().all(|device| host.driver(device).as_deref() == Some("vfio-pci")));
    assert_eq!(host.driver("0000:02:00.2").as_deref(), Some("pcieport"));
    host.give_back(&mut |_| ()).unwrap();
    assert_eq!(host.state(), before);
}

#[test]
fn a_device_without_a_driver_and_one_with_somebodys_word_are_as_before() {
    let host = Host::new("amd-shared-group");
    fs::remove_file(host.root.path(&format!("{DEVICES}/0000:02:00.1/driver"))).unwrap();
    host.write(&format!("{DEVICES}/0000:22:00.0/driver_override"), "r8169\n");
    let before = host.state();
    host.take(&host.plan(&SHARED).unwrap(), &mut |_| ()).unwrap();
    host.give_back(&mut |_| ()).unwrap();
    assert_eq!(host.state(), before);
}

#[test]
fn a_kernel_that_does_not_bind_is_told_and_all_is_given_back() {
    let mut host = Host::new("intel-desktop");
    host.stubborn = true;
    let before = host.state();
    let error = host.take(&host.plan(&["0000:05:00.0"]).unwrap(), &mut |_| ()).unwrap_err();
    assert!(error.to_string().contains("vfio-pci should have it, and nobody has"), "{error}");
    assert_eq!(host.state(), before);
}

#[test]
fn after_a_reboot_there_is_nothing_to_give_back() {
    let host = Host::new("intel-desktop");
    let before = host.state();
    let plan = host.plan(&["0000:05:00.0"]).unwrap();
    host.take(&plan, &mut |_| ()).unwrap();
    // What a reboot does.
    for (path, text) in [
        (format!("{DEVICES}/0000:05:00.0/driver_override"), "(null)\n"),
        ("/proc/sys/kernel/random/boot_id".to_owned(), "another\n"),
    ] {
        host.write(&path, text);
    }
    let link = format!("{DEVICES}/0000:05:00.0/driver");
    fs::remove_file(host.root.path(&link)).unwrap();
    host.link(&link, "../../../bus/pci/drivers/xhci_hcd");
    let mut steps = Vec::new();
    host.give_back(&mut |step| steps.push(step.to_owned())).unwrap();
    assert_eq!((steps, host.state()), (vec!["remove the journal".to_owned()], before));
}

#[test]
fn broken_off_before_any_step_it_is_mended() {
    let mut steps = 0;
    loop {
        let host = Host::new("amd-shared-group");
        let before = host.state();
        let plan = host.plan(&SHARED).unwrap();
        let killed = broken_off(steps, |step| host.take(&plan, step).unwrap());
        host.give_back(&mut |_| ()).unwrap();
        assert_eq!(host.state(), before, "after {steps} steps");
        if !killed {
            break;
        }
        steps += 1;
    }
    // The journal, and three steps a device.
    assert_eq!(steps, 10);
}

proptest! {
    /// Started, killed, mended, killed again while mending, as often as one likes: the last mending that
    /// is let through gives every device back, and a start in between finds a host that it can use.
    #[test]
    fn however_often_it_is_broken_off(
        start in 0usize..12,
        mendings in prop::collection::vec(0usize..12, 0..4),
        again in any::<bool>(),
    ) {
        let host = Host::new("amd-shared-group");
        let before = host.state();
        let plan = host.plan(&SHARED).unwrap();
        broken_off(start, |step| host.take(&plan, step).unwrap());
        for steps in mendings {
            broken_off(steps, |step| { host.give_back(step).unwrap(); });
        }
        host.give_back(&mut |_| ()).unwrap();
        prop_assert_eq!(host.state(), before.clone());
        if again {
            host.take(&host.plan(&SHARED).unwrap(), &mut |_| ()).unwrap();
            host.give_back(&mut |_| ()).unwrap();
            prop_assert_eq!(host.state(), before);
        }
    }
}

#[test]
fn refusals_and_their_remedies() {
    let intel = || Host::new("intel-desktop");
    let nvme = "../../devices/pci0000:00/0000:00:1d.0/0000:04:00.0/nvme/nvme0/nvme0n1";
    let disk = |host: &Host| {
        for (name, number) in [("nvme0n1", "259:0"), ("nvme0n1p2", "259:2")] {
            let target = if name == "nvme0n1" { nvme.to_owned() } else { format!("{nvme}/{name}") };
            let at = format!("/sys/class/block/{name}");
            host.link(&at, &target);
            let real = host.root.path(&format!("/sys/class/block/{target}"));
            fs::create_dir_all(&real).unwrap();
            host.write(&format!("{at}/dev"), &format!("{number}\n"));
        }
    };
    let card = |host: &Host, name: &str, target: &str| {
        host.link(&format!("/sys/class/net/{name}"), &format!("../../devices/{target}/net/{name}"));
        fs::create_dir_all(host.root.path(&format!("/sys/devices/{target}/net/{name}"))).unwrap();
    };
    let mut said = Vec::new();
    let mut refuse = |what: &str, host: &Host, wanted: &[&str]| {
        said.push(format!("{what}:\n  {}", host.refused(wanted)));
    };

    refuse("a wrong address", &intel(), &["0000:77:00.0"]);
    refuse("a bridge", &intel(), &["0000:00:1b.0"]);
    refuse("no IOMMU", &Host::new("laptop-without-iommu"), &["0000:00:1b.0"]);
    refuse("a part of a group", &Host::new("amd-shared-group"), &["0000:02:00.0"]);
    let host = Host::new("amd-shared-group");
    let link = format!("{DEVICES}/0000:02:00.2/driver");
    fs::remove_file(host.root.path(&link)).unwrap();
    host.link(&link, "../../../bus/pci/drivers/shpchp");
    refuse("a group that a bridge's driver keeps", &host, &SHARED);

    let host = intel();
    disk(&host);
    host.write("/proc/self/mountinfo", "25 1 259:2 / / rw,relatime shared:1 - ext4 /dev/root rw\n");
    refuse("a mounted disk", &host, &["0000:04:00.0"]);
    host.write(
        "/proc/self/mountinfo",
        "25 1 0:30 /@ /home rw shared:1 - btrfs /dev/nvme0n1p2 rw\n",
    );
    refuse("a mounted disk with btrfs", &host, &["0000:04:00.0"]);
    host.write("/proc/self/mountinfo", "");
    host.write("/proc/swaps", "Filename Type Size\n/dev/nvme0n1p2 partition 100 0 -2\n");
    refuse("a disk with swap", &host, &["0000:04:00.0"]);
    host.write("/proc/swaps", "");
    host.write("/sys/class/block/nvme0n1p2/holders/dm-0/dev", "254:0\n");
    refuse("a disk with volumes on it", &host, &["0000:04:00.0"]);
    fs::remove_dir_all(host.root.path("/sys/class/block/nvme0n1p2/holders")).unwrap();
    assert!(host.plan(&["0000:04:00.0"]).is_ok(), "an idle disk may go");

    let host = intel();
    let shared = "../../devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1";
    host.link("/sys/class/block/nvme0n1", shared);
    fs::create_dir_all(host.root.path(&format!("/sys/class/block/{shared}"))).unwrap();
    host.write("/sys/class/block/nvme0n1/dev", "259:0\n");
    host.write(&format!("{DEVICES}/0000:04:00.0/nvme/nvme0/model"), "x\n");
    host.write("/sys/class/nvme-subsystem/nvme-subsys0/nvme0/model", "x\n");
    host.write("/proc/self/mountinfo", "25 1 259:0 / /srv rw - xfs /dev/nvme0n1 rw\n");
    refuse("a mounted disk behind NVMe's multipath", &host, &["0000:04:00.0"]);

    let usb = "pci0000:00/0000:00:1b.0/0000:05:00.0/usb3/3-2/3-2:1.0";
    let host = intel();
    card(&host, "enx0", usb);
    let routes = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU\n";
    host.write(
        "/proc/net/route",
        &format!("{routes}enx0 00000000 0102A8C0 0003 0 0 100 00000000 0\n"),
    );
    refuse("the way outwards, at a USB port", &host, &["0000:05:00.0"]);
    host.write(
        "/proc/net/route",
        &format!("{routes}br0 00000000 0102A8C0 0003 0 0 100 00000000 0\n"),
    );
    host.write("/sys/class/net/enx0/upper_br0/ifindex", "5\n");
    refuse("the way outwards, through a bridge", &host, &["0000:05:00.0"]);
    host.write("/proc/net/route", routes);
    assert!(
        host.plan(&["0000:05:00.0"]).is_ok(),
        "another card is there, and no route goes by this one"
    );
    fs::remove_file(host.root.path("/sys/class/net/wlan0")).unwrap();
    host.link("/sys/class/net/lo", "../../devices/virtual/net/lo");
    refuse("the only network card", &host, &["0000:05:00.0"]);

    let host = intel();
    host.write("/proc/asound/card1/pcm0p/sub0/status", "state: RUNNING\nowner_pid   : 4711\n");
    refuse("a sound card that plays, at a USB port", &host, &["0000:05:00.0"]);
    host.write("/proc/asound/card1/pcm0p/sub0/status", "closed\n");
    assert!(host.plan(&["0000:05:00.0"]).is_ok());
    host.write(&format!("{DEVICES}/0000:00:02.0/boot_vga"), "1\n");
    refuse("the screen", &host, &["0000:00:02.0"]);
    fs::remove_dir(host.root.path("/sys/bus/pci/drivers/vfio-pci")).unwrap();
    refuse("no driver", &host, &["0000:05:00.0"]);
    insta::assert_snapshot!(said.join("\n\n"));
}
