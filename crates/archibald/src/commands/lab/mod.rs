//! `archibald lab`: the virtual-time lab, one file a verb.

pub(super) mod bench;
mod compare;
mod doctor;
mod explain;
mod init;
mod kept;
pub(super) mod progress;
mod replay;
mod report;
mod run;
mod shell;
pub(super) mod sweep;
mod test;
pub(super) mod variants;

use crate::failure::Failure;

/// Try real audio programs on a clock that counts instructions: xruns that repeat.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Figures are those of virtual time: they show faults of programs and configurations, and predict no hardware."
)]
pub(crate) struct Lab {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Init(init::Init),
    Run(run::Run),
    Test(test::Test),
    Compare(compare::Compare),
    Sweep(sweep::Sweep),
    Shell(shell::Shell),
    Doctor(doctor::Doctor),
    Explain(explain::Explain),
    Replay(replay::Replay),
}

impl Lab {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        match self.verb {
            Verb::Init(verb) => verb.run(),
            Verb::Run(verb) => verb.run(),
            Verb::Test(verb) => verb.run(),
            Verb::Compare(verb) => verb.run(),
            Verb::Sweep(verb) => verb.run(),
            Verb::Shell(verb) => verb.run(),
            Verb::Doctor(verb) => verb.run(),
            Verb::Explain(verb) => verb.run(),
            Verb::Replay(verb) => verb.run(),
        }
    }
}
