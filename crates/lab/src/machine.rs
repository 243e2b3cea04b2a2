//! The machine of an experiment: QEMU's arguments and the kernel's, as pure values. Everything that
//! the host could put into the guest at a time of its own choosing is left out: no network, no disk,
//! no clock but the one that counts instructions.

use std::path::PathBuf;

use archibald_machine::Machine;
use archibald_machine::units::Bytes;

use crate::scenario::{Mips, Tuning};

/// What decides how the machine runs, and therefore which snapshot it starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hardware {
    /// Speed of the processor.
    pub mips: Mips,
    /// Memory.
    pub memory: Bytes,
    /// The kernel's arguments.
    pub kernel_arguments: Vec<String>,
}

/// The files that a machine starts with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Root file system of the image, never written to.
    pub disk: PathBuf,
    /// Its size in bytes, a multiple of 16 MiB.
    pub disk_bytes: u64,
    /// Kernel, an ELF that starts by PVH.
    pub kernel: PathBuf,
    /// The lab's own initrd.
    pub initrd: PathBuf,
    /// What host and guest share; [`archibald_mailbox::SIZE`] bytes.
    pub mailbox: PathBuf,
    /// Where the serial console goes.
    pub console: Console,
}

/// The serial console's other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Console {
    /// A file that it is written to.
    File(PathBuf),
    /// A socket that somebody types into.
    Socket(PathBuf),
}

/// How the machine begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// By booting.
    Boot,
    /// By being told where its state comes from.
    Restore,
    /// As before. What happens from then on is written to this file.
    Record(PathBuf),
    /// The same, but what happens is read from the file.
    Replay {
        /// The recording.
        recording: PathBuf,
        /// The socket at which a debugger is waited for.
        debugger: PathBuf,
    },
}

/// Persistent memory is mapped in pieces of this size.
pub const DISK_ALIGNMENT: u64 = 16 << 20;

/// Small processor: every extension costs translation time, and RDRAND, which larger ones have, would
/// make every run another one.
pub const CPU: &str = "qemu64";

/// QEMU's arguments, without the program's own name. It speaks QMP on its file descriptor 0.
#[must_use]
pub fn argv(hardware: &Hardware, files: &Files, start: &Start) -> Vec<String> {
    let mib = hardware.memory.mib();
    // Slots for the two devices, and room above the memory for what they show.
    let most = mib + (files.disk_bytes >> 20) + (archibald_mailbox::SIZE >> 20) + 4096;
    let file = |path: &PathBuf| path.display().to_string().replace(',', ",,");
    let mut list: Vec<String> = Vec::new();
    let mut pair = |option: &str, value: String| list.extend([option.to_owned(), value]);
    pair("-display", "none".to_owned());
    pair("-accel", "tcg,thread=single,tb-size=512".to_owned());
    // Idle time is skipped: the clock moves on to the next timer. Without recording, QEMU's main loop
    // may do that while the processor's last instructions before the halt are not yet counted, and then
    // skips too far. Recording makes the two threads take turns.
    let turns = match start {
        Start::Boot | Start::Restore => String::new(),
        Start::Record(path) => format!(",rr=record,rrfile={}", file(path)),
        Start::Replay { recording, .. } => format!(",rr=replay,rrfile={}", file(recording)),
    };
    pair("-icount", format!("shift={},sleep=off{turns}", hardware.mips.shift()));
    pair("-machine", "q35,nvdimm=on,vmport=off,smm=off,sata=off,smbus=off,usb=off".to_owned());
    pair("-cpu", CPU.to_owned());
    // Two processors take turns, in pieces that show up as latency.
    pair("-smp", "1".to_owned());
    pair("-m", format!("{mib}M,slots=2,maxmem={most}M"));
    pair("-nic", "none".to_owned());
    pair("-seed", "1".to_owned());
    pair("-rtc", "base=2020-01-01T00:00:00,clock=vm".to_owned());
    pair(
        "-object",
        format!(
            "memory-backend-file,id=root,share=on,readonly=on,mem-path={},size={}",
            file(&files.disk),
            files.disk_bytes
        ),
    );
    // QEMU describes the two to the guest in an order that comes from their names: with these, the
    // image is the first.
    pair("-device", "nvdimm,id=nv0,memdev=root,unarmed=on".to_owned());
    pair(
        "-object",
        format!(
            "memory-backend-file,id=mailbox,share=on,mem-path={},size={}",
            file(&files.mailbox),
            archibald_mailbox::SIZE
        ),
    );
    pair("-device", "nvdimm,id=nv1,memdev=mailbox".to_owned());
    // The guest pauses itself by it.
    pair("-device", "pvpanic".to_owned());
    pair("-action", "panic=pause".to_owned());
    pair("-kernel", file(&files.kernel));
    pair("-initrd", file(&files.initrd));
    pair("-append", hardware.kernel_arguments.join(" "));
    pair(
        "-chardev",
        match &files.console {
            Console::File(path) => format!("file,id=console,path={}", file(path)),
            Console::Socket(path) => {
                format!("socket,id=console,path={},server=on,wait=off", file(path))
            }
        },
    );
    pair("-serial", "chardev:console".to_owned());
    pair("-chardev", "socket,id=qmp,fd=0".to_owned());
    pair("-mon", "chardev=qmp,mode=control".to_owned());
    if *start != Start::Boot {
        pair("-incoming", "defer".to_owned());
    }
    if let Start::Replay { debugger, .. } = start {
        pair("-gdb", format!("unix:{},server=on,wait=off", file(debugger)));
    }
    list.extend(["-nodefaults", "-no-user-config", "-no-reboot"].map(str::to_owned));
    list
}

/// The kernel's arguments: what the machine file asks for where the machine is tuned, and what keeps
/// the boot short and every run the same.
#[must_use]
pub fn kernel_arguments(machine: &Machine, tuning: Tuning) -> Vec<String> {
    let mut arguments = match tuning {
        Tuning::Machine => machine.kernel_arguments(),
        Tuning::None => Vec::new(),
    };
    arguments.extend(
        [
            "systemd.unit=archibald-lab.service",
            "console=ttyS0",
            "quiet",
            "loglevel=4",
            // No address differs from boot to boot but those that the seed decides.
            "nokaslr",
            // Protections and self-tests that cost a boot seconds of emulated work. The machine of
            // `up` keeps them.
            "rodata=off",
            "mitigations=off",
            "audit=0",
            "apparmor=0",
            "lsm=landlock",
            "cryptomgr.notests",
            "initcall_blacklist=jent_mod_init,load_system_certificate_list,bpf_tcp_ca_kfunc_init,bpf_dummy_struct_ops_init,init_kprobe_trace",
        ]
        .map(str::to_owned),
    );
    arguments
}

#[cfg(test)]
mod tests {
    use archibald_machine::HostLimits;

    use super::*;

    fn machine(text: &str) -> Machine {
        Machine::parse("archibald.toml", text, &HostLimits::default()).unwrap()
    }

    #[test]
    fn a_restored_machine_is_the_booted_one() {
        let hardware = Hardware {
            mips: Mips::new(62).unwrap(),
            memory: "2 GiB".parse().unwrap(),
            kernel_arguments: kernel_arguments(&machine("[machine]\nvcpus = 1\n"), Tuning::Machine),
        };
        let files = Files {
            disk: "/cache/a,b/disk.raw".into(),
            disk_bytes: 2752 << 20,
            kernel: "/cache/vmlinux".into(),
            initrd: "/cache/initrd".into(),
            mailbox: "/run/mailbox".into(),
            console: Console::File("/run/console.log".into()),
        };
        let booted = argv(&hardware, &files, &Start::Boot);
        let mut restored = argv(&hardware, &files, &Start::Record("/run/recording".into()));
        let at = restored.iter().position(|word| word == "-incoming").unwrap();
        restored.drain(at..at + 2);
        let recorded = ",rr=record,rrfile=/run/recording";
        let restored: Vec<_> = restored.iter().map(|word| word.replace(recorded, "")).collect();
        assert_eq!(restored, booted);
        insta::assert_snapshot!(booted.join("\n").replace("\n-", "\n\n-"));
    }

    #[test]
    fn an_untuned_machine_lacks_what_the_machine_file_asks_for() {
        let machine = machine("[machine]\nvcpus = 1\n");
        let tuned = kernel_arguments(&machine, Tuning::Machine);
        let untuned = kernel_arguments(&machine, Tuning::None);
        assert!(
            tuned.contains(&"threadirqs".to_owned()) && !untuned.contains(&"threadirqs".to_owned())
        );
    }
}
