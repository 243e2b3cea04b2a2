//! The words of the command line, and which verb they call.

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::commands;
use crate::failure::Failure;

/// A headless real-time audio machine that one command builds, boots and checks.
#[derive(Debug, Parser)]
#[command(name = "archibald", version, max_term_width = 100)]
#[command(
    after_help = "The wrapper ./archibald also knows:\n  test [--quick]    The whole test run; --quick leaves out what builds or boots an image\n  --no-install      Before the verb: only name what is missing on this host\n\n\
                  Exit status: 0 all good, 1 a check failed, 2 wrong use or bad input, 3 the host lacks something."
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Up(commands::up::Up),
    Stop(commands::stop::Stop),
    Restart(commands::restart::Restart),
    Delete(commands::delete::Delete),
    Ls(commands::ls::Ls),
    Status(commands::status::Status),
    Shell(commands::shell::Shell),
    Exec(commands::exec::Exec),
    Copy(commands::copy::Copy),
    Logs(commands::logs::Logs),
    Audio(commands::audio::Audio),
    Record(commands::record::Record),
    Snapshot(commands::snapshot::Snapshot),
    Check(commands::check::Check),
    Build(commands::build::Build),
    Image(commands::image::Image),
    Init(commands::init::Init),
    New(commands::new::New),
    Run(commands::run::Run),
    Lab(commands::lab::Lab),
    Farm(commands::farm::Farm),
    Measure(commands::measure::Measure),
    Report(commands::report::Report),
    Doctor(commands::doctor::Doctor),
    Scan(commands::scan::Scan),
    Host(commands::host::Host),
    Threads(commands::threads::Threads),
    Export(commands::export::Export),
    Completions(commands::completions::Completions),
    Man(commands::man::Man),
    #[command(hide = true)]
    Keep(commands::keep::Keep),
}

/// The whole command line, for completions and man pages.
pub(crate) fn command() -> clap::Command {
    Cli::command()
}

pub(crate) fn run() -> Result<u8, Failure> {
    // clap's own status for wrong use is 2, as ours.
    match Cli::parse().verb {
        Verb::Up(verb) => verb.run(),
        Verb::Stop(verb) => verb.run(),
        Verb::Restart(verb) => verb.run(),
        Verb::Delete(verb) => verb.run(),
        Verb::Ls(verb) => verb.run(),
        Verb::Status(verb) => verb.run(),
        Verb::Shell(verb) => verb.run(),
        Verb::Exec(verb) => verb.run(),
        Verb::Copy(verb) => verb.run(),
        Verb::Logs(verb) => verb.run(),
        Verb::Audio(verb) => verb.run(),
        Verb::Record(verb) => verb.run(),
        Verb::Snapshot(verb) => verb.run(),
        Verb::Check(verb) => verb.run(),
        Verb::Build(verb) => verb.run(),
        Verb::Image(verb) => verb.run(),
        Verb::Init(verb) => verb.run(),
        Verb::New(verb) => verb.run(),
        Verb::Run(verb) => verb.run(),
        Verb::Lab(verb) => verb.run(),
        Verb::Farm(verb) => verb.run(),
        Verb::Measure(verb) => verb.run(),
        Verb::Report(verb) => verb.run(),
        Verb::Doctor(verb) => verb.run(),
        Verb::Scan(verb) => verb.run(),
        Verb::Host(verb) => verb.run(),
        Verb::Threads(verb) => verb.run(),
        Verb::Export(verb) => verb.run(),
        Verb::Completions(verb) => verb.run(),
        Verb::Man(verb) => verb.run(),
        Verb::Keep(verb) => verb.run(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_words_fit_together() {
        super::command().debug_assert();
    }
}
