//! `archibald host`: what would be changed on this host for the machine, the change, and the way back.

mod apply;
mod plan;
mod revert;
mod status;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use archibald_host::Root;
use archibald_host::change::{Activate, ChangeError, Journal, WithJournal};
use archibald_host::plan::{Plan, Way};
use archibald_host::readiness::{Wanted, suggested_cpus};

use super::doctor;
use crate::failure::{Exit, Failure};
use crate::places;

/// Give CPUs, memory and devices of this host to the machine, and take them back.
#[derive(Debug, clap::Args)]
pub(crate) struct Host {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Plan(plan::Plan),
    Apply(apply::Apply),
    Revert(revert::Revert),
    Status(status::Status),
}

impl Host {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        match self.verb {
            Verb::Plan(verb) => verb.run(),
            Verb::Apply(verb) => verb.run(),
            Verb::Revert(verb) => verb.run(),
            Verb::Status(verb) => verb.run(),
        }
    }
}

/// What `plan` and `apply` are about.
#[derive(Debug, clap::Args)]
struct About {
    /// The machine file; ./archibald.toml or the default one when left out.
    #[arg(short, long)]
    file: Option<PathBuf>,
    /// At once and until the next boot, by the running kernel's own files, instead of by files from
    /// the next boot on.
    #[arg(long)]
    live: bool,
    /// One more kernel argument, such as those that the plan offers with their price.
    #[arg(long, value_name = "ARGUMENT", conflicts_with = "live")]
    argument: Vec<String>,
    /// Change the system below this directory instead of the running one.
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

/// A plan with what it is for.
struct Planned {
    root: Root,
    wanted: Wanted,
    plan: Plan,
    /// CPUs that the machine could have, where its file asks for none.
    suggestion: Option<String>,
}

impl About {
    fn plan(&self) -> Result<Planned, Failure> {
        let strange = |word: &&String| {
            word.contains(char::is_whitespace) || word.contains(['"', '\'', '$', '`', '\\'])
        };
        if let Some(word) = self.argument.iter().find(strange) {
            let message = format!("{word:?} is no kernel argument that can be written here");
            return Err(Failure::new(Exit::Use, message).with_remedy(
                "Give one word such as mitigations=off; --argument can be repeated.",
            ));
        }
        let root = Root::new(&self.root);
        let facts = doctor::facts(&root)?;
        // CPUs of the machine file must be those of the host that is changed.
        let limits = archibald_machine::HostLimits { cpus: Some(facts.cpus.all()) };
        let machine = places::machine_file_for(self.file.as_deref(), &limits)?.machine;
        let wanted = Wanted::from(&machine);
        let journal = Journal::read(&root).map_err(failure)?;
        let originals = WithJournal { root: &root, journal: journal.as_ref() };
        let way = if self.live { Way::Live } else { Way::Boot };
        let plan = Plan::of(&facts, &wanted, way, &self.argument, &originals);
        let suggestion =
            suggested_cpus(&facts.cpus, wanted.vcpus, None).map(|cpus| cpus.to_string());
        Ok(Planned { root, wanted, plan, suggestion })
    }
}

/// The commands of a plan, run on the system that is changed.
struct Commands<'a> {
    root: &'a Path,
}

impl Activate for Commands<'_> {
    fn run(&mut self, command: &[String]) -> Result<(), String> {
        let (program, arguments) = command.split_first().ok_or("an empty command")?;
        let mut process = if self.root == Path::new("/") {
            Command::new(program)
        } else {
            let mut process = Command::new("chroot");
            process.arg(self.root).arg(program);
            process
        };
        // update-grub lies where a user's PATH does not reach.
        let output = process
            .args(arguments)
            .env("PATH", places::search_path())
            .stdin(Stdio::null())
            .output()
            .map_err(|error| error.to_string())?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("{}, {}", output.status, said.trim()))
    }
}

/// A host that could not be changed.
fn failure(error: ChangeError) -> Failure {
    let exit = if error.is_refusal() { Exit::Failed } else { Exit::Environment };
    let is_denied = matches!(&error, ChangeError::File { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied);
    let failure = Failure::new(exit, error);
    if is_denied { failure.with_remedy("As root: sudo, and the same again.") } else { failure }
}
