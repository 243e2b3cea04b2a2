//! A shell on the console, beside a running audio server: the machine of a scenario, for a person.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use archibald_mailbox::{Problem, Reply, Request, Shell, Stage};

use super::audio::Server;
use super::process::{self, Process};
use super::{PROGRAM, collected, experiment};
use crate::graph::Session;

const CONSOLE: &str = "/dev/ttyS0";
/// In the guest's own time, which runs ahead while nobody types.
const LIMIT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Starts the server and the shell, and waits for the shell's end.
pub(super) fn serve(request: &Request, shell: &Shell, session: &Session) -> Result<Reply, Problem> {
    let at = |stage: Stage| move |message: String| Problem { stage, message };
    let log = collected(Reply::SERVER_LOG);
    let _server =
        Server::start(session, &request.settings, true, &log).map_err(at(Stage::Server))?;
    let setup = |error: std::io::Error| at(Stage::Setup)(format!("{CONSOLE}: {error}"));
    let mut console = open().map_err(setup)?;
    for line in shell.greeting.lines() {
        write!(console, "{line}\r\n").map_err(setup)?;
    }
    let (columns, rows) = (shell.columns, shell.rows);
    let command = format!(
        "stty sane cols {columns} rows {rows}; export TERM='{}'; exec bash -i",
        shell.terminal.replace('\'', "")
    );
    let user = process::as_user(session, &experiment::told(&request.settings, &command));
    // A session of its own, with the console as its terminal: Ctrl-C reaches what runs in it.
    let words: Vec<String> =
        ["setsid", "--ctty", "--wait"].map(str::to_owned).into_iter().chain(user).collect();
    let mut shell =
        Process::start_on(&words, Path::new(PROGRAM), &console).map_err(at(Stage::Setup))?;
    shell.wait(LIMIT);
    Ok(Reply::default())
}

fn open() -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).open(CONSOLE)
}
