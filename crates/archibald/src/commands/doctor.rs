//! `archibald doctor`: what this host is ready for, what stands against it, and what to do about it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use archibald_host::Root;
use archibald_host::facts::{Access, Facts};
use archibald_host::readiness::{Finding, KvmTrial, Mode, ModeState, Readiness, Severity, Wanted};
use archibald_image::required_tools;
use archibald_machine::units::Bytes;
use archibald_vm::accel;
use archibald_vm::argv::BootFiles;
use archibald_vm::qemu::Qemu;

use super::build;
use crate::failure::{Exit, Failure};
use crate::{places, terminal};

/// Look at this host: which modes it is ready for, and what to do where it is not.
///
/// Exit status 1 when something stops what the machine file asks for, 3 when a program is missing.
#[derive(Debug, clap::Args)]
pub(crate) struct Doctor {
    /// The machine file; ./archibald.toml or the default one when left out.
    #[arg(short, long)]
    file: Option<PathBuf>,
    /// Look at the host whose /proc, /sys and /etc lie below this directory.
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// For programs.
    #[arg(long)]
    json: bool,
}

/// Free disk below which a build fails: packages, base, image and downloads side by side.
const DISK: Bytes = Bytes(12 * Bytes::GIB);

/// Findings that tell of a missing program.
const PROGRAMS: [&str; 3] = ["qemu", "tools", "ssh"];

impl Doctor {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        // CPUs that are not there are a finding here, not a fault of the file.
        let file = places::machine_file_for(self.file.as_deref(), &Default::default())?;
        let root = Root::new(&self.root);
        let facts = facts(&root)?;
        let (trial, others) = match root.is_this_host() {
            true => (trial(&facts), vec![qemu(), tools(), ssh(), disk()]),
            false => (None, Vec::new()),
        };
        let readiness = Readiness::of(&facts, &Wanted::from(&file.machine), trial, others);
        if self.json {
            let Readiness { modes, findings } = &readiness;
            let report = serde_json::json!({ "schema": 2, "modes": modes, "findings": findings });
            terminal::say_json(&report);
        } else {
            draw(&readiness);
        }
        let lacks_program = readiness
            .findings
            .iter()
            .any(|finding| finding.severity == Severity::Blocker && is_program(finding));
        Ok(match (readiness.is_blocked(), lacks_program) {
            (_, true) => Exit::Environment as u8,
            (true, false) => Exit::Failed as u8,
            (false, false) => 0,
        })
    }
}

/// What is read below a root.
pub(crate) fn facts(root: &Root) -> Result<Facts, Failure> {
    Facts::read(root).map_err(|error| {
        Failure::new(Exit::Use, error)
            .with_remedy("Give --root a directory that holds a host's /proc, /sys and /etc.")
    })
}

fn is_program(finding: &Finding) -> bool {
    PROGRAMS.contains(&finding.id.as_str())
}

fn draw(readiness: &Readiness) {
    let modes = readiness.modes.iter().map(|state| {
        let asked = if state.asked { "asked for" } else { "" };
        vec![state.mode.to_string(), verdict(state), asked.to_owned()]
    });
    terminal::say(&terminal::table(&["READY FOR", "", ""], modes.collect()));
    terminal::say("");
    for finding in &readiness.findings {
        let mark = match finding.severity {
            Severity::Ok => "ok",
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Blocker if is_program(finding) => "missing",
            Severity::Blocker => "BLOCKER",
        };
        terminal::say(&format!("{mark:<8} {}: {}", finding.what, finding.found));
        if let Some(remedy) = &finding.remedy {
            terminal::say(&format!("         {remedy}"));
        }
        if finding.severity >= Severity::Warning {
            for evidence in &finding.evidence {
                terminal::say(&format!("         [{}: {}]", evidence.file, evidence.content));
            }
        }
    }
}

fn verdict(state: &ModeState) -> String {
    match state.ready {
        true => "yes".to_owned(),
        false => format!("no: {}", state.stopped_by.join(", ")),
    }
}

fn qemu() -> Finding {
    match Qemu::find(places::qemu()) {
        Ok(qemu) => Finding::new("qemu", "QEMU", qemu.banner),
        Err(error) => {
            Finding::new("qemu", "QEMU", error.to_string()).stop(&[Mode::Emulation], error.remedy())
        }
    }
}

fn tools() -> Finding {
    match build::need_tools(archibald_machine::Os::Debian) {
        Ok(()) => {
            let found = format!("all {} are there", required_tools().len());
            Finding::new("tools", "build tools", found)
        }
        Err(failure) => {
            let (found, remedy) = failure.words();
            Finding::new("tools", "build tools", found).stop(&[Mode::Emulation], remedy)
        }
    }
}

fn ssh() -> Finding {
    let programs = ["ssh", "scp", "ssh-keygen"];
    let missing: Vec<&str> =
        programs.into_iter().filter(|program| places::find_program(program).is_none()).collect();
    if missing.is_empty() {
        return Finding::new("ssh", "SSH client", "ssh, scp and ssh-keygen are there");
    }
    let found = format!("{} not found", missing.join(", "));
    Finding::new("ssh", "SSH client", found)
        .stop(&[Mode::Emulation], "Debian, Ubuntu: apt-get install openssh-client")
}

/// Boots a guest under KVM for a second, where that could go well and an image is there to boot.
fn trial(facts: &Facts) -> KvmTrial {
    let virtualization = &facts.virtualization;
    if virtualization.extension.is_none() || virtualization.kvm != Access::Open {
        return None;
    }
    let qemu = Qemu::find(places::qemu()).ok()?;
    let image = build::cache().ok()?.list().ok()?.into_iter().next()?;
    let boot = BootFiles {
        disk: image.disk(),
        kernel: image.vmlinux().or_else(|| image.vmlinuz())?,
        initrd: image.initrd()?,
        arguments: image.kernel_arguments().to_vec(),
    };
    Some(accel::trial(&qemu, &boot, Duration::from_secs(20)))
}

fn disk() -> Finding {
    let cache = places::cache();
    let existing = cache.ancestors().find(|place| place.exists()).unwrap_or(Path::new("/"));
    let free = match rustix::fs::statvfs(existing) {
        Ok(stat) => Bytes(stat.f_bavail * stat.f_frsize),
        Err(error) => {
            return Finding::new("disk", "disk", format!("{}: {error}", existing.display()))
                .warn("Check the disk.");
        }
    };
    let found = format!("{free} free for {}", cache.display());
    let finding = Finding::new("disk", "disk", found);
    match free < DISK {
        true => finding.warn(format!("Free {DISK}, or set XDG_CACHE_HOME to a larger disk.")),
        false => finding,
    }
}
