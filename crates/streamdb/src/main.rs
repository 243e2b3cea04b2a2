//! The program `streamdb`: serves a store, and works with one that is served.
//!
//! `main` only calls and maps exit statuses; each verb has a file of its own under `commands`.

mod announce;
mod client;
mod commands;
mod outcome;
mod trust;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let arguments = match commands::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help goes to the output, a usage error to the error output with status 2.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match commands::run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            failure.status()
        }
    }
}
