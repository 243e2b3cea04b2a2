//! What keeps a machine busy while it is measured: stress-ng's stressors, by profile.

use std::process::{Child, Command, Stdio};

use crate::failure::{Exit, Failure};

/// A kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Load {
    /// Computing on every CPU.
    Cpu,
    /// Memory that is mapped, written and given back.
    Memory,
    /// Files that are written and synced.
    Disk,
    /// Packets over loopback.
    Network,
    /// Processes that come and go.
    Fork,
}

/// Which machine is kept busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Where {
    /// The measured one.
    Guest,
    /// The one below it.
    Host,
    /// Both.
    Both,
}

impl Load {
    /// stress-ng's words for it.
    const fn words(self) -> &'static [&'static str] {
        match self {
            Self::Cpu => &["--cpu", "0"],
            Self::Memory => &["--vm", "2", "--vm-bytes", "128M"],
            Self::Disk => &["--hdd", "1", "--hdd-bytes", "64M", "--hdd-opts", "fsync"],
            Self::Network => &["--sock", "2", "--udp", "2"],
            Self::Fork => &["--fork", "2", "--exec", "1"],
        }
    }
}

/// stress-ng's arguments for these loads together.
pub(crate) fn words(loads: &[Load]) -> Vec<&'static str> {
    std::iter::once("--quiet").chain(loads.iter().flat_map(|load| load.words().to_vec())).collect()
}

/// The loads for people.
pub(crate) fn told(loads: &[Load], on: Where, here: bool) -> String {
    if loads.is_empty() {
        return "none".to_owned();
    }
    let on = match (here, on) {
        (true, _) => "here",
        (false, Where::Guest) => "in the machine",
        (false, Where::Host) => "on the host",
        (false, Where::Both) => "in the machine and on the host",
    };
    format!("stress-ng {} {on}", words(loads).join(" "))
}

/// stress-ng on this host, ended when the value goes.
pub(crate) struct Local(Child);

impl Local {
    /// Starts it.
    pub(crate) fn start(loads: &[Load]) -> Result<Self, Failure> {
        let child = Command::new("stress-ng")
            .args(words(loads))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        child.map(Self).map_err(|error| {
            Failure::new(
                Exit::Environment,
                format!("stress-ng does not start on this host: {error}"),
            )
            .with_remedy("As root: apt-get install stress-ng. Or leave --load away.")
        })
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        // stress-ng takes its workers along when it is asked to end, and not when it is killed.
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw)
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.0.wait();
    }
}
