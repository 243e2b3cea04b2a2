//! `archibald-probe`: reads the words, maps the result to an exit status; everything else is in the
//! library.

use std::process::ExitCode;

use archibald_probe::commands::{Command, Outcome};
use clap::Parser;

/// Watches and measures an audio graph from inside, as a client of JACK or of PipeWire's JACK.
#[derive(Debug, Parser)]
#[command(name = "archibald-probe", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

// The one place of this crate that writes to the terminal.
#[allow(clippy::print_stderr)]
fn main() -> ExitCode {
    match Arguments::parse().command.run(&mut std::io::stdout()) {
        Ok(Outcome::Good) => ExitCode::SUCCESS,
        Ok(Outcome::ServerLost) => {
            eprintln!("archibald-probe: the audio server went away before the end");
            ExitCode::from(1)
        }
        Ok(Outcome::NothingHeard) => {
            eprintln!("archibald-probe: nothing of the signal came back; is the loop closed?");
            ExitCode::from(1)
        }
        Err(error) => {
            eprintln!("archibald-probe: {error}");
            ExitCode::from(error.exit_status())
        }
    }
}
