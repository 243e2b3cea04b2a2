//! `archibald copy`: files between host and machine.

use std::process::Command;

use super::exec::Remote;
use crate::failure::{Context as _, Exit, Failure};

/// Copy files: a path that begins with ":" is in the machine.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  archibald copy take.wav :           into the home folder\n  archibald copy -r :recordings .     out of it"
)]
pub(crate) struct Copy {
    /// The machine; the machine file's when left out.
    #[arg(short, long)]
    name: Option<String>,
    /// As this user; the machine's first one when left out.
    #[arg(short, long)]
    user: Option<String>,
    /// Folders with everything in them.
    #[arg(short, long)]
    recursive: bool,
    /// What to copy, and at last where to.
    #[arg(required = true, num_args = 2..)]
    paths: Vec<String>,
}

impl Copy {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        let inside = |path: &String| path.starts_with(':');
        let (target, sources) = match self.paths.split_last() {
            Some((target, sources)) => (inside(target), sources),
            None => (false, &[][..]),
        };
        if sources.iter().any(|source| inside(source) == target) {
            return Err(Failure::new(Exit::Use, "both ends are on the same side")
                .with_remedy("Put \":\" before the path that is in the machine."));
        }
        let remote = Remote::of(self.name.as_deref(), self.user.as_deref())?;
        let destination = remote.destination();
        let status = Command::new("scp")
            .args(remote.options())
            .args(self.recursive.then_some("-r"))
            .arg("--")
            .args(self.paths.iter().map(|path| {
                // A host path with a colon would be taken for another host.
                match path.strip_prefix(':') {
                    Some(inner) => format!("{destination}:{inner}"),
                    None if path.contains(':') && !path.starts_with(['/', '.']) => {
                        format!("./{path}")
                    }
                    None => path.clone(),
                }
            }))
            .status()
            .context("scp")?;
        Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(255))
    }
}
