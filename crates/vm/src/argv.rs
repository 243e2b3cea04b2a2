//! QEMU's argument list: a pure function of the machine, the image's files and the accelerator.

use std::path::{Path, PathBuf};

use archibald_machine::units::{Forward, Transport};
use archibald_machine::{Machine, NetworkMode, SoundBackend};
use serde::{Deserialize, Serialize};

use crate::network::{card, mac};
use crate::relay::is_relayed;

/// What runs the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// The processor itself: latency means something.
    Kvm,
    /// QEMU's translator: runs anywhere, latency is not judged.
    Tcg,
}

impl Accelerator {
    /// Whether latency figures taken under it may be judged.
    #[must_use]
    pub fn judged(self) -> bool {
        self == Self::Kvm
    }

    /// What to call it in front of people.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Kvm => "KVM",
            Self::Tcg => "emulation",
        }
    }
}

/// The files of an image that QEMU boots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootFiles {
    /// Raw ext4 root file system, never written to.
    pub disk: PathBuf,
    /// Kernel: an uncompressed ELF with a PVH entry starts quickest.
    pub kernel: PathBuf,
    /// Initial RAM disk.
    pub initrd: PathBuf,
    /// Kernel arguments that this image asks for: where NixOS' system lies on its disk.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
}

/// The files of one instance that QEMU is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceFiles {
    /// Copy-on-write disk over the image's.
    pub disk: PathBuf,
    /// SMBIOS strings with the credentials, readable by the owner alone.
    pub credentials: PathBuf,
    /// The serial console's log.
    pub console: PathBuf,
    /// Where the guest writes that it is ready.
    pub ready: PathBuf,
    /// QMP socket.
    pub qmp: PathBuf,
}

/// QEMU's arguments, without the program's own name.
///
/// `vhost` says whether the kernel moves the packets of a card on a bridge.
/// QEMU starts stopped (`-S`): its threads must be placed before the first instruction runs.
#[must_use]
pub fn argv(
    machine: &Machine,
    boot: &BootFiles,
    files: &InstanceFiles,
    accelerator: Accelerator,
    vhost: bool,
) -> Vec<String> {
    let mut list = Arguments::default();
    list.flags(["-nodefaults", "-no-user-config", "-S"]);
    list.pair("-display", "none");
    list.pair("-name", format!("{0},process=archibald-{0}", machine.name));
    match accelerator {
        Accelerator::Kvm => {
            list.pair("-accel", "kvm");
            list.pair(
                "-machine",
                "q35,hpet=off,vmport=off,smm=off,pit=off,sata=off,smbus=off,i8042=off,dump-guest-core=off,mem-merge=off",
            );
        }
        Accelerator::Tcg => {
            // One translating thread a vCPU. The timers stay: without KVM's clock the guest
            // calibrates its own against them.
            list.pair("-accel", "tcg,thread=multi,tb-size=512");
            list.pair("-machine", "q35,vmport=off,smm=off,sata=off,smbus=off,i8042=off");
        }
    }
    list.pair("-cpu", cpu(machine, accelerator));
    list.pair("-smp", format!("{0},sockets=1,cores={0},threads=1", machine.vcpus));
    memory(&mut list, machine, accelerator);
    list.pair("-kernel", path(&boot.kernel));
    list.pair("-initrd", path(&boot.initrd));
    let mut append = kernel_arguments(machine, accelerator);
    append.extend(boot.arguments.iter().cloned());
    list.pair("-append", append.join(" "));
    list.pair(
        "-smbios",
        format!("type=11,value=io.systemd.credential:system.hostname={}", machine.name),
    );
    list.pair("-smbios", format!("type=11,path={}", path(&files.credentials)));
    list.pair(
        "-drive",
        format!("file={},if=none,id=disk,format=qcow2,discard=unmap", path(&files.disk)),
    );
    // One queue: a second one's interrupt would belong to an isolated CPU.
    list.pair("-device", "virtio-blk-pci,drive=disk,num-queues=1");
    network(&mut list, machine, vhost);
    list.pair("-device", "virtio-serial-pci");
    list.pair("-chardev", format!("file,id=ready,path={}", path(&files.ready)));
    list.pair("-device", "virtserialport,chardev=ready,name=org.archibald.ready");
    list.pair("-chardev", format!("file,id=console,path={}", path(&files.console)));
    list.pair("-serial", "chardev:console");
    list.pair("-qmp", format!("unix:{},server=on,wait=off", path(&files.qmp)));
    // Entropy for the first boot's keys; under emulation there is no RDRAND worth the name.
    list.pair("-device", "virtio-rng-pci");
    // Another number at every start: the kernel of a machine that goes on from a snapshot learns from it
    // that it must not draw the same random numbers again.
    list.pair("-device", "vmgenid,guid=auto");
    if let Some(backend) = machine.devices.sound {
        list.pair("-audiodev", audiodev(machine, backend));
        list.pair("-device", "virtio-sound-pci,audiodev=sound,streams=2");
    }
    for (tag, share) in machine.devices.shares_by_tag() {
        // Files are made as whoever runs QEMU, which need not be root.
        let (path, only) =
            (path(Path::new(&share.host)), if share.read_only { ",readonly=on" } else { "" });
        list.pair(
            "-fsdev",
            format!("local,id={tag},path={path},security_model=none,multidevs=remap{only}"),
        );
        list.pair("-device", format!("virtio-9p-pci,fsdev={tag},mount_tag={tag}"));
    }
    for address in &machine.devices.pci {
        list.pair("-device", format!("vfio-pci,host={address}"));
    }
    if !machine.devices.usb.is_empty() {
        list.pair("-device", "qemu-xhci");
    }
    for usb in &machine.devices.usb {
        let (vendor, product) = (usb.vendor, usb.product);
        list.pair("-device", format!("usb-host,vendorid={vendor:#06x},productid={product:#06x}"));
    }
    list.0
}

/// The whole kernel command line of a machine.
#[must_use]
pub fn kernel_arguments(machine: &Machine, accelerator: Accelerator) -> Vec<String> {
    let mut arguments = vec!["root=/dev/vda".to_owned(), "rw".to_owned()];
    // Without `quiet` the emulated serial port costs seconds; warnings still reach the log.
    arguments.extend(["console=ttyS0", "quiet", "loglevel=4"].map(String::from));
    arguments.extend(machine.kernel_arguments());
    // systemd's BPF security module is not used by any unit here, and loading it is slow emulated.
    arguments.push("lsm=landlock,lockdown,yama,integrity,apparmor".to_owned());
    if accelerator == Accelerator::Tcg {
        // The emulated counter runs with the host's clock; the watchdog would doubt it under load
        // and fall back to a timer that costs an exit for every reading.
        arguments.push("tsc=reliable".to_owned());
        // A vCPU thread that the host does not schedule for a while is no locked-up processor.
        arguments.push("rcupdate.rcu_cpu_stall_suppress=1".to_owned());
        // Self-tests of ciphers and of a jitter source that virtio-rng makes unneeded: seconds of
        // emulated arithmetic. No protection is taken away.
        arguments.push("cryptomgr.notests".to_owned());
        arguments.push("initcall_blacklist=jent_mod_init".to_owned());
    }
    arguments
}

fn cpu(machine: &Machine, accelerator: Accelerator) -> String {
    match (&machine.cpu, accelerator) {
        (Some(cpu), _) => cpu.clone(),
        (None, Accelerator::Kvm) => {
            "host,migratable=off,+invtsc,kvm-hint-dedicated=on,pmu=off".to_owned()
        }
        // Every extension beyond Debian's baseline costs translation time (a third, with `max`).
        (None, Accelerator::Tcg) => "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt".to_owned(),
    }
}

fn memory(list: &mut Arguments, machine: &Machine, accelerator: Accelerator) {
    let mib = machine.memory.mib();
    list.pair("-m", format!("{mib}M"));
    if !machine.realtime.host_cpus.is_empty() && accelerator == Accelerator::Kvm {
        list.pair("-object", format!("memory-backend-memfd,id=ram,size={mib}M,prealloc=on"));
        list.pair("-machine", "memory-backend=ram");
        list.pair("-overcommit", "mem-lock=on");
    }
}

fn network(list: &mut Arguments, machine: &Machine, vhost: bool) {
    match &machine.network.mode {
        NetworkMode::User => {
            let mut netdev = "user,id=net,ipv6=off".to_owned();
            for (transport, host, guest) in forwarded_by_qemu(machine) {
                let bind = machine.network.bind;
                netdev += &format!(",hostfwd={transport}:{bind}:{host}-:{guest}");
            }
            list.pair("-netdev", netdev);
            list.pair("-device", "virtio-net-pci,netdev=net,romfile=");
        }
        NetworkMode::Bridge { guest, .. } => {
            // The card is there already, joined to the bridge; QEMU has no script to run.
            let (card, vhost) = (card(&machine.name), if vhost { "on" } else { "off" });
            list.pair(
                "-netdev",
                format!("tap,id=net,ifname={card},script=no,downscript=no,vhost={vhost}"),
            );
            let mac = mac(guest.address);
            list.pair("-device", format!("virtio-net-pci,netdev=net,romfile=,mac={mac}"));
        }
    }
}

/// QEMU's end of a sound card, with times in microseconds that go with the machine's period: by default
/// QEMU looks at a card every 10 ms, and asks PipeWire for 46 ms (qapi/audio.json).
#[must_use]
pub fn audiodev(machine: &Machine, backend: SoundBackend) -> String {
    let period = machine.audio.period_ns().div_ceil(1000);
    let mut text = format!("{},id=sound,timer-period={}", backend.word(), (period / 2).max(1));
    let rate = machine.audio.rate.0;
    for direction in ["out", "in"] {
        // Otherwise QEMU converts to 44100 Hz and back.
        text += &format!(",{direction}.frequency={rate}");
        text += &match backend {
            SoundBackend::Silence => String::new(),
            SoundBackend::PipeWire => format!(",{direction}.latency={period}"),
            // JACK's server sets the period.
            SoundBackend::Jack => {
                format!(",{direction}.client-name=archibald-{}-{direction}", machine.name)
            }
            SoundBackend::Alsa => {
                let buffer = 2 * period;
                format!(",{direction}.period-length={period},{direction}.buffer-length={buffer}")
            }
        };
    }
    text
}

/// The ports that QEMU forwards itself; the others are the keeper's ([`crate::relay`]).
#[must_use]
pub fn forwarded_by_qemu(machine: &Machine) -> Vec<(Transport, u16, u16)> {
    ports_of(machine.network.forward.iter().filter(|forward| !is_relayed(forward)))
}

/// Every forwarded port once: (transport, host port, guest port), sorted.
#[must_use]
pub fn forwarded(machine: &Machine) -> Vec<(Transport, u16, u16)> {
    ports_of(machine.network.forward.iter())
}

fn ports_of<'a>(forwards: impl Iterator<Item = &'a Forward>) -> Vec<(Transport, u16, u16)> {
    let mut ports: Vec<(Transport, u16, u16)> = forwards
        .flat_map(|forward| forward.pairs().map(|(host, guest)| (forward.transport, host, guest)))
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// A path inside an option: QEMU takes a doubled comma for a comma.
fn path(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

#[derive(Default)]
struct Arguments(Vec<String>);

impl Arguments {
    fn pair(&mut self, option: &str, value: impl Into<String>) {
        self.0.push(option.to_owned());
        self.0.push(value.into());
    }

    fn flags<const N: usize>(&mut self, flags: [&str; N]) {
        self.0.extend(flags.map(String::from));
    }
}

#[cfg(test)]
mod tests {
    use archibald_machine::HostLimits;

    use super::*;

    fn lines(toml: &str, accelerator: Accelerator) -> String {
        lines_of(toml, accelerator, Vec::new())
    }

    fn lines_of(toml: &str, accelerator: Accelerator, arguments: Vec<String>) -> String {
        let machine = Machine::parse("archibald.toml", toml, &HostLimits::default()).unwrap();
        let boot = BootFiles {
            disk: "/cache/disk.raw".into(),
            kernel: "/cache/vmlinux".into(),
            initrd: "/cache/initrd".into(),
            arguments,
        };
        let files = InstanceFiles {
            disk: "/state/disk.qcow2".into(),
            credentials: "/state/credentials".into(),
            console: "/state/console.log".into(),
            ready: "/run/ready".into(),
            qmp: "/run/a,b/qmp".into(),
        };
        argv(&machine, &boot, &files, accelerator, true).join("\n").replace("\n-", "\n\n-")
    }

    const FEW_PORTS: &str = "[network]\nforward = [\"2222:22\", \"4713/udp\", \"8000-8002\"]\n";

    #[test]
    fn emulated() {
        insta::assert_snapshot!(lines(FEW_PORTS, Accelerator::Tcg));
    }

    #[test]
    fn kvm_with_cores_and_devices_of_its_own() {
        let toml = format!(
            "{FEW_PORTS}[realtime]\nhost-cpus = \"2-3\"\n[devices]\npci = [\"0000:00:1b.0\"]\nusb = [\"1235:8210\"]\n"
        );
        insta::assert_snapshot!(lines(&toml, Accelerator::Kvm));
    }

    #[test]
    fn a_sound_card_for_each_backend() {
        let card = |word: &str, more: &str| {
            let toml = format!("name = \"studio\"\n[devices]\nsound = \"{word}\"\n{more}");
            let lines = lines(&toml, Accelerator::Kvm);
            let mut sound = lines.lines().filter(|line| line.contains("sound")).map(str::to_owned);
            sound.next().filter(|_| sound.next().is_some())
        };
        assert_eq!(card("off", ""), None);
        let all = ["none", "pipewire", "jack", "alsa"].map(|word| card(word, "").unwrap());
        insta::assert_snapshot!(all.join("\n"));
        let slow = card("none", "[audio]\nquantum = 1024\nrate = 96000\n").unwrap();
        assert!(slow.contains("timer-period=5333,out.frequency=96000"), "{slow}");
    }

    #[test]
    fn a_card_on_a_bridge() {
        let toml = "name = \"studio\"\n[network]\nmode = \"bridge\"\n";
        let lines = lines(toml, Accelerator::Kvm);
        let network = lines.lines().filter(|line| line.contains("net"));
        assert_eq!(
            network.collect::<Vec<_>>(),
            [
                "-netdev",
                "tap,id=net,ifname=ar-studio,script=no,downscript=no,vhost=on",
                "virtio-net-pci,netdev=net,romfile=,mac=52:54:00:a8:7a:02"
            ]
        );
    }

    #[test]
    fn an_image_s_own_kernel_arguments_come_last() {
        let init = "init=/nix/store/abc/init".to_owned();
        let lines = lines_of(FEW_PORTS, Accelerator::Kvm, vec![init.clone()]);
        let append = lines.split("-append\n").nth(1).and_then(|rest| rest.lines().next());
        assert!(
            append.is_some_and(|line| line.starts_with("root=/dev/vda") && line.ends_with(&init))
        );
    }

    #[test]
    fn the_default_range_and_its_single_port_are_forwarded_once() {
        let machine = Machine::parse("", "", &HostLimits::default()).unwrap();
        // 22, 4713 twice, and the 1001 ports from 8000 to 9000, of which 8080 is one.
        assert_eq!(forwarded(&machine).len(), 3 + 1001);
    }
}
