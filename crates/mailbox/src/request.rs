//! What the host asks for.

use archibald_machine::Settings;
use serde::{Deserialize, Serialize};

/// One thing to do, and the machine to do it on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// What the machine is told, with the scenario's audio server, rate and quantum.
    pub settings: Settings,
    /// Whether the machine's limits and kernel settings are in force, or the distribution's.
    pub tuned: bool,
    /// Everything that varies from run to run is made from it.
    pub seed: u64,
    /// What to do.
    pub task: Task,
}

impl Request {
    /// Its name in the parcel.
    pub const FILE: &'static str = "request.json";
    /// The folder of the parcel in which the program lies.
    pub const FOLDER: &'static str = "program";
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// Run this shell command in the program's folder and send the folder back.
    Build {
        /// The command.
        command: String,
    },
    /// Run the program on the audio server and count.
    Measure(Measure),
    /// Start the audio server and give the console to a shell.
    Shell(Shell),
}

/// A shell for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shell {
    /// What is said before the first prompt.
    pub greeting: String,
    /// The person's terminal, as TERM names it.
    pub terminal: String,
    /// Its width in characters.
    pub columns: u16,
    /// Its height in lines.
    pub rows: u16,
}

/// One measurement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measure {
    /// The shell command that is the program, run in its folder by the audio user; absent: nothing
    /// but the server.
    pub program: Option<String>,
    /// The shell command that loads the machine, `@SEED@` standing for the seed.
    pub load: Option<String>,
    /// Whether the audio server asks for real-time priority.
    pub realtime: bool,
    /// What the program writes when it plays; absent: it plays when it has ports.
    pub ready: Option<String>,
    /// How long the program may take until it has ports in the graph and says that it is ready.
    pub patience_ns: u64,
    /// How long server, program and load run before anything is counted.
    pub warmup_ns: u64,
    /// How long is counted.
    pub window_ns: u64,
    /// Whether the kernel's trace is recorded.
    pub trace: bool,
}
