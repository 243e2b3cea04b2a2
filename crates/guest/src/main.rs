//! `archibald-guest`: what runs inside the machine. Reads the words, maps the result to an exit
//! status; everything else is in the library.

use std::process::ExitCode;

use archibald_guest::commands::{Command, Outcome};
use clap::Parser;

/// Settings, readiness and checks of an ArchibaldOS machine, from the inside.
#[derive(Debug, Parser)]
#[command(name = "archibald-guest", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

// The one place of this crate that writes to the terminal.
#[allow(clippy::print_stderr)]
fn main() -> ExitCode {
    match Arguments::parse().command.run(&mut std::io::stdout().lock()) {
        Ok(Outcome::Good) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::from(1),
        Err(error) => {
            eprintln!("archibald-guest: {error}");
            ExitCode::from(error.exit_status())
        }
    }
}
