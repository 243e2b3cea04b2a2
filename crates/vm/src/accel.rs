//! Which accelerator a guest really runs under. `/dev/kvm` may open and still never run a guest
//! (nested machines, a disabled extension), so KVM is used only after a guest has run under it.

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::argv::{Accelerator, BootFiles};
use crate::qemu::Qemu;

/// An accelerator and why it was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The accelerator.
    pub accelerator: Accelerator,
    /// One sentence for people: what was found.
    pub because: String,
}

/// Decides for KVM where a guest runs under it, else for emulation.
///
/// `root` is the root of /proc and /dev; `trial` boots a guest under KVM and tells what went wrong.
pub fn choose(root: &Path, trial: impl FnOnce() -> Result<(), String>) -> Choice {
    let emulated = |because: String| Choice { accelerator: Accelerator::Tcg, because };
    let cpuinfo = fs::read_to_string(root.join("proc/cpuinfo")).unwrap_or_default();
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    if !flags.split_whitespace().any(|flag| flag == "vmx" || flag == "svm") {
        return emulated("the processor offers no virtualization (neither vmx nor svm)".to_owned());
    }
    let device = root.join("dev/kvm");
    if let Err(error) = OpenOptions::new().read(true).write(true).open(&device) {
        let hint = match error.kind() {
            std::io::ErrorKind::PermissionDenied => ": add yourself to the group kvm",
            std::io::ErrorKind::NotFound => ": is virtualization enabled in the firmware?",
            _ => "",
        };
        return emulated(format!("/dev/kvm cannot be opened ({error}){hint}"));
    }
    match trial() {
        Ok(()) => Choice {
            accelerator: Accelerator::Kvm,
            because: "a trial guest ran under KVM".to_owned(),
        },
        Err(message) => emulated(format!("a trial guest did not run under KVM: {message}")),
    }
}

/// Boots the image's kernel under KVM up to its initrd and off again; a second on hardware.
///
/// # Errors
/// What QEMU said, or that the guest hung.
pub fn trial(qemu: &Qemu, boot: &BootFiles, patience: Duration) -> Result<(), String> {
    let mut child = Command::new(&qemu.program)
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .args(["-accel", "kvm", "-machine", "q35", "-cpu", "host", "-smp", "1", "-m", "512M"])
        .arg("-kernel")
        .arg(&boot.kernel)
        .arg("-initrd")
        .arg(&boot.initrd)
        .args(["-append", "archibald.trial panic=-1 quiet"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let deadline = Instant::now() + patience;
    loop {
        match child.try_wait() {
            Err(error) => return Err(error.to_string()),
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => {
                let mut said = String::new();
                if let Some(mut stderr) = child.stderr.take() {
                    let _ = std::io::Read::read_to_string(&mut stderr, &mut said);
                }
                return Err(format!("{status}, {}", said.trim()));
            }
            Ok(None) if Instant::now() >= deadline => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("it hung for {} seconds", patience.as_secs()));
            }
            Ok(None) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(cpuinfo: &str, with_device: bool) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc")).unwrap();
        fs::create_dir_all(root.path().join("dev")).unwrap();
        fs::write(root.path().join("proc/cpuinfo"), cpuinfo).unwrap();
        if with_device {
            fs::write(root.path().join("dev/kvm"), "").unwrap();
        }
        root
    }

    #[test]
    fn without_the_processors_help_no_trial_is_made() {
        let root = host("flags\t\t: fpu sse2 hypervisor\n", true);
        let choice = choose(root.path(), || unreachable!());
        assert_eq!(choice.accelerator, Accelerator::Tcg);
        assert!(choice.because.contains("neither vmx nor svm"));
    }

    #[test]
    fn without_the_device_no_trial_is_made() {
        let root = host("flags\t\t: fpu vmx\n", false);
        let choice = choose(root.path(), || unreachable!());
        assert_eq!(choice.accelerator, Accelerator::Tcg);
        assert!(choice.because.contains("/dev/kvm"));
    }

    #[test]
    fn a_hanging_trial_means_emulation() {
        let root = host("flags\t\t: fpu svm\n", true);
        let choice = choose(root.path(), || Err("it hung for 20 seconds".to_owned()));
        assert_eq!(choice.accelerator, Accelerator::Tcg);
        assert!(choice.because.contains("hung"));
    }

    #[test]
    fn a_guest_that_ran_means_kvm() {
        let root = host("flags\t\t: fpu svm\n", true);
        assert_eq!(choose(root.path(), || Ok(())).accelerator, Accelerator::Kvm);
    }
}
