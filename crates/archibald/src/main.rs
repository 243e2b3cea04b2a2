//! The `archibald` command: reads its words, runs one verb, turns the outcome into an exit status.

mod borrowed;
mod cli;
mod commands;
mod failure;
mod picture;
mod places;
mod terminal;

use std::process::ExitCode;

fn main() -> ExitCode {
    // ssh asks its password question by running this very program.
    if let Some(answer) = std::env::var_os(commands::check::ASKPASS) {
        terminal::say(&answer.to_string_lossy());
        return ExitCode::SUCCESS;
    }
    match cli::run() {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            failure.show();
            ExitCode::from(failure.exit())
        }
    }
}
