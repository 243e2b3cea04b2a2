//! The running kernel: which one, how it was started, how it was built.

use std::io::Read as _;

use crate::{Fact, Root};

/// The running kernel.
#[derive(Debug, Clone, PartialEq)]
pub struct Kernel {
    /// `6.12.48+deb13-amd64`.
    pub release: Option<Fact<String>>,
    /// How far it can be preempted.
    pub kind: Option<Fact<KernelKind>>,
    /// Its arguments.
    pub arguments: Option<Fact<Vec<String>>>,
    /// How it was built, where that is told.
    pub config: Option<Fact<Vec<String>>>,
    /// The hardware-latency tracer is built in.
    pub hwlat: Option<Fact<bool>>,
}

/// How far a kernel can be preempted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KernelKind {
    /// PREEMPT_RT: nearly everywhere.
    RealTime,
    /// PREEMPT or PREEMPT_DYNAMIC: outside of spinlocks and interrupts.
    Preemptible,
    /// Only where it gives way itself.
    Other,
}

impl KernelKind {
    /// The kernel's own word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::RealTime => "PREEMPT_RT",
            Self::Preemptible => "PREEMPT",
            Self::Other => "no PREEMPT",
        }
    }
}

impl Kernel {
    pub(super) fn read(root: &Root) -> Self {
        let release = root.line("/proc/sys/kernel/osrelease");
        Self {
            kind: kind(root),
            arguments: root.fact("/proc/cmdline", |text| {
                Some(text.split_whitespace().map(str::to_owned).collect())
            }),
            config: config(root, release.as_ref().map(|fact| fact.value.as_str())),
            hwlat: root.fact("/sys/kernel/tracing/available_tracers", |text| {
                Some(text.split_whitespace().any(|tracer| tracer == "hwlat"))
            }),
            release,
        }
    }

    /// Whether it was started with this word: `threadirqs`, `mitigations=off`.
    #[must_use]
    pub fn has_argument(&self, word: &str) -> bool {
        self.arguments.as_ref().is_some_and(|fact| fact.value.iter().any(|given| given == word))
    }

    /// Whether it was built with this line, such as `CONFIG_NO_HZ_FULL=y`; not told: `None`.
    #[must_use]
    pub fn built_with(&self, line: &str) -> Option<bool> {
        self.config.as_ref().map(|fact| fact.value.iter().any(|given| given == line))
    }
}

fn kind(root: &Root) -> Option<Fact<KernelKind>> {
    let by_name = root.fact("/proc/sys/kernel/version", |text| {
        Some(match text {
            text if text.contains("PREEMPT_RT") => KernelKind::RealTime,
            text if text.contains("PREEMPT") => KernelKind::Preemptible,
            _ => KernelKind::Other,
        })
    });
    let by_file = || {
        let rt = root.fact("/sys/kernel/realtime", |text| (text == "1").then_some(()))?;
        Some(Fact { value: KernelKind::RealTime, file: rt.file, text: rt.text })
    };
    by_file().or(by_name)
}

fn config(root: &Root, release: Option<&str>) -> Option<Fact<Vec<String>>> {
    let lines = |text: &str| text.lines().map(|line| line.trim().to_owned()).collect();
    if let Some(packed) = root.bytes("/proc/config.gz") {
        let mut text = String::new();
        flate2::read::GzDecoder::new(packed.as_slice()).read_to_string(&mut text).ok()?;
        return Some(Fact {
            value: lines(&text),
            file: "/proc/config.gz".into(),
            text: "the kernel's own copy".into(),
        });
    }
    root.fact(&format!("/boot/config-{}", release?), |text| Some(lines(text)))
}
