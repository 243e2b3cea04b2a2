//! A scenario: which program runs on which audio server, under which load, for how long, and what
//! must hold. Reading the file is in [`read`](self); running it is done elsewhere.

mod read;
mod variation;

use std::path::PathBuf;
use std::time::Duration;

use archibald_machine::AudioServer;
pub use archibald_machine::Span;
use archibald_machine::units::{Bytes, Frames, Hertz};
use serde::{Deserialize, Serialize};

pub use read::EXAMPLE;
pub use variation::Variation;

/// A checked scenario.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// The file's name, for people.
    pub name: String,
    /// What is tried.
    pub program: Program,
    /// The audio server's settings.
    pub audio: Audio,
    /// The clock.
    pub time: Time,
    /// What else keeps the processor busy.
    pub load: Load,
    /// The machine underneath.
    pub machine: LabMachine,
    /// Xruns that a run may have.
    pub xruns: u64,
    /// What the scenario is there to show.
    pub expect: Expect,
}

/// The program under test.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    /// Where its files come from.
    pub source: Source,
    /// The shell command that makes it, run once in its folder inside the guest.
    pub build: Option<String>,
    /// The shell command that is it, run in its folder by the audio user.
    pub run: String,
    /// Share of the processor, in percent, that its audio thread must at least use: below that it
    /// does not really run, and a verdict would be about nothing.
    pub min_load: f64,
    /// What it writes when it plays; absent: it plays as soon as it has ports in the graph. The load
    /// begins only then.
    pub ready: Option<String>,
    /// How long it may take for that, in virtual time.
    pub connect: Duration,
}

/// Where a program's files come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The folder that the scenario file lies in.
    Folder(PathBuf),
    /// One of the project's own, by name.
    Builtin(&'static str),
}

/// The audio server's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Audio {
    /// jackd on its dummy driver, or PipeWire with a null sink.
    pub server: AudioServer,
    /// Sample rate.
    pub rate: Hertz,
    /// Frames in one period.
    pub quantum: Frames,
}

impl Audio {
    /// Length of one period in nanoseconds, rounded down.
    #[must_use]
    pub fn period_ns(&self) -> u64 {
        u64::from(self.quantum.0) * 1_000_000_000 / u64::from(self.rate.0.max(1))
    }
}

/// The clock, and how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Time {
    /// Speed of the virtual processor.
    pub mips: Mips,
    /// What is counted, in virtual time.
    pub duration: Duration,
    /// What runs before that.
    pub warmup: Duration,
    /// One run each; never empty.
    pub seeds: Vec<u64>,
}

/// Speed of the virtual processor: 1000, 500, 250, 125 or 62 (62.5) million instructions a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Mips {
    shift: u8,
}

impl Mips {
    /// Every speed, the fastest first.
    pub const ALL: [Self; 5] = [
        Self { shift: 0 },
        Self { shift: 1 },
        Self { shift: 2 },
        Self { shift: 3 },
        Self { shift: 4 },
    ];
    /// What a scenario has that says nothing.
    pub const DEFAULT: Self = Self { shift: 1 };

    /// The speed that is written as this number.
    #[must_use]
    pub fn new(mips: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|speed| speed.number() == mips)
    }

    /// Millions of instructions a second, rounded down.
    #[must_use]
    pub fn number(self) -> u32 {
        1000 >> self.shift
    }

    /// QEMU's `-icount shift`: an instruction takes 2^shift ns.
    #[must_use]
    pub fn shift(self) -> u8 {
        self.shift
    }
}

impl From<Mips> for u32 {
    fn from(mips: Mips) -> Self {
        mips.number()
    }
}

impl TryFrom<u32> for Mips {
    type Error = String;

    fn try_from(number: u32) -> Result<Self, String> {
        Self::new(number).ok_or_else(|| {
            let known = Self::ALL.map(|mips| mips.number().to_string()).join(", ");
            format!("{number} MIPS is no speed of the virtual processor: {known}")
        })
    }
}

/// What else keeps the processor busy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Load {
    /// One of the project's own.
    Profile(Profile),
    /// A shell command.
    Command(String),
}

/// A load of stress-ng.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// None.
    Idle,
    /// Computing.
    Cpu,
    /// Writing files.
    Disk,
    /// Starting processes.
    Fork,
    /// Taking and giving back memory.
    Memory,
    /// Processes, memory and files at once.
    Mixed,
}

impl Profile {
    /// Every profile with its word in the file.
    pub const WORDS: [(&'static str, Self); 6] = [
        ("idle", Self::Idle),
        ("cpu", Self::Cpu),
        ("disk", Self::Disk),
        ("fork", Self::Fork),
        ("memory", Self::Memory),
        ("mixed", Self::Mixed),
    ];

    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, profile)| *profile == self).map_or("", |(word, _)| word)
    }

    fn stressors(self) -> Option<&'static str> {
        match self {
            Self::Idle => None,
            Self::Cpu => Some("--cpu 1"),
            Self::Disk => Some("--hdd 1 --hdd-bytes 32M"),
            Self::Fork => Some("--fork 2 --exec 1"),
            Self::Memory => Some("--vm 1 --vm-bytes 128M --mmap 1 --mmap-bytes 64M"),
            // What holds the kernel up longest, as far as tried: page tables and new processes.
            // Every further stressor takes time from these, and with many of them the stock kernel
            // passes.
            Self::Mixed => Some("--fork 4 --mmap 2 --vm 2 --vm-bytes 128M --hdd 1 --hdd-bytes 32M"),
        }
    }
}

impl Load {
    /// The shell command for the guest, `@SEED@` standing for the seed; absent for none.
    #[must_use]
    pub fn command(&self) -> Option<String> {
        match self {
            Self::Command(command) => Some(command.clone()),
            Self::Profile(profile) => profile.stressors().map(|stressors| {
                format!("exec stress-ng --quiet --seed @SEED@ --temp-path . {stressors}")
            }),
        }
    }

    /// What to call it in front of people.
    #[must_use]
    pub fn title(&self) -> String {
        match self {
            Self::Command(command) => command.clone(),
            Self::Profile(profile) => profile.word().to_owned(),
        }
    }
}

/// The machine underneath.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LabMachine {
    /// Which kernel.
    pub kernel: KernelKind,
    /// Memory of the guest.
    pub memory: Bytes,
    /// Whether the real-time settings of the machine file are in force.
    pub tuning: Tuning,
}

/// Which kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KernelKind {
    /// PREEMPT_RT, the image's own.
    Rt,
    /// The distribution's usual one.
    Stock,
}

impl KernelKind {
    /// The word for it in the file.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Rt => "rt",
            Self::Stock => "stock",
        }
    }
}

/// Whether the machine's real-time settings are in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tuning {
    /// As the machine file makes them.
    Machine,
    /// As the distribution installs: no kernel settings, no right to real-time priority.
    None,
}

impl Tuning {
    /// The word for it in the file.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Machine => "machine",
            Self::None => "none",
        }
    }
}

/// What a scenario is there to show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expect {
    /// Whether the limits break: a planted fault that goes unnoticed is a failed test.
    pub broken: bool,
    /// The cause that an explanation must name, by its code.
    pub cause: Option<String>,
}
