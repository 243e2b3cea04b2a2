//! `archibald doctor`: whether this host can build and run a machine, and what to do where it cannot.

use std::fs;
use std::path::Path;

use archibald_image::required_tools;
use archibald_machine::units::Bytes;
use archibald_vm::accel::{self, Choice};
use archibald_vm::argv::Accelerator;
use archibald_vm::qemu::Qemu;
use serde::Serialize;

use super::build;
use crate::failure::Failure;
use crate::{places, terminal};

/// Check that this host has what a machine needs; exit status 3 when something is missing.
#[derive(Debug, clap::Args)]
pub(crate) struct Doctor {
    /// For programs.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    severity: Severity,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Severity {
    Ok,
    Warning,
    Blocker,
}

/// Free disk below which a build fails: packages, base, image and downloads side by side.
const DISK: Bytes = Bytes(12 * Bytes::GIB);

impl Doctor {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        let findings = [qemu(), tools(), ssh(), accelerator(), memory(), disk()];
        if self.json {
            terminal::say_json(&serde_json::json!({ "schema": 1, "findings": findings }));
        } else {
            for finding in &findings {
                let mark = match finding.severity {
                    Severity::Ok => "ok",
                    Severity::Warning => "warning",
                    Severity::Blocker => "missing",
                };
                terminal::say(&format!("{mark:<8} {}: {}", finding.what, finding.found));
                if let Some(remedy) = &finding.remedy {
                    terminal::say(&format!("         {remedy}"));
                }
            }
        }
        let blocked = findings.iter().any(|finding| finding.severity == Severity::Blocker);
        Ok(if blocked { 3 } else { 0 })
    }
}

fn ok(what: &'static str, found: String) -> Finding {
    Finding { what, severity: Severity::Ok, found, remedy: None }
}

fn finding(
    what: &'static str,
    severity: Severity,
    found: String,
    remedy: impl Into<String>,
) -> Finding {
    Finding { what, severity, found, remedy: Some(remedy.into()) }
}

fn qemu() -> Finding {
    match Qemu::find(places::qemu()) {
        Ok(qemu) => ok("QEMU", qemu.banner),
        Err(error) => finding("QEMU", Severity::Blocker, error.to_string(), error.remedy()),
    }
}

fn tools() -> Finding {
    match build::need_tools(archibald_machine::Os::Debian) {
        Ok(()) => ok("build tools", format!("all {} are there", required_tools().len())),
        Err(failure) => {
            let (found, remedy) = failure.words();
            finding("build tools", Severity::Blocker, found, remedy)
        }
    }
}

fn ssh() -> Finding {
    let programs = ["ssh", "scp", "ssh-keygen"];
    let path = places::search_path();
    let missing: Vec<&str> = programs
        .into_iter()
        .filter(|program| !std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
        .collect();
    if missing.is_empty() {
        return ok("SSH client", "ssh, scp and ssh-keygen are there".to_owned());
    }
    let found = format!("{} not found", missing.join(", "));
    finding(
        "SSH client",
        Severity::Blocker,
        found,
        "Debian, Ubuntu: apt-get install openssh-client",
    )
}

fn accelerator() -> Finding {
    // Without an image there is no guest to try; `up` makes the trial.
    let Choice { accelerator, because } = accel::choose(Path::new("/"), || Ok(()));
    match accelerator {
        Accelerator::Kvm => ok("KVM", "offered; `up` makes sure by a trial guest".to_owned()),
        Accelerator::Tcg => finding(
            "KVM",
            Severity::Warning,
            because,
            "The machine runs in emulation: all works, slowly, and latency is not judged.",
        ),
    }
}

fn memory() -> Finding {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text.lines().find_map(|line| {
        line.strip_prefix("MemTotal:")?.trim().split(' ').next()?.parse::<u64>().ok()
    });
    let Some(total) = kib.map(|kib| Bytes(kib << 10)) else {
        return finding(
            "memory",
            Severity::Warning,
            "/proc/meminfo cannot be read".to_owned(),
            "Mount /proc.",
        );
    };
    let found = format!("{total} in all");
    if total < Bytes(4 * Bytes::GIB) {
        return finding(
            "memory",
            Severity::Warning,
            found,
            "Write machine.memory = \"1 GiB\" in the machine file.",
        );
    }
    ok("memory", found)
}

fn disk() -> Finding {
    let cache = places::cache();
    let existing = cache.ancestors().find(|place| place.exists()).unwrap_or(Path::new("/"));
    let free = match rustix::fs::statvfs(existing) {
        Ok(stat) => Bytes(stat.f_bavail * stat.f_frsize),
        Err(error) => {
            return finding(
                "disk",
                Severity::Warning,
                format!("{}: {error}", existing.display()),
                "Check the disk.",
            );
        }
    };
    let found = format!("{free} free for {}", cache.display());
    if free < DISK {
        let remedy = format!("Free {DISK}, or set XDG_CACHE_HOME to a larger disk.");
        return finding("disk", Severity::Warning, found, remedy);
    }
    ok("disk", found)
}
