//! A project's files on their way to the machine: by rsync, or by tar where this host has none.

use std::process::{Command, Output, Stdio};

use super::project::Project;
use crate::commands::exec::{Remote, quote};
use crate::failure::{Context as _, Exit, Failure};
use crate::places;

/// Brings the machine's copy up to date, and says in a line what was sent.
pub(super) fn send(project: &Project, remote: &Remote) -> Result<String, Failure> {
    match places::find_program("rsync") {
        Some(_) => by_rsync(project, remote),
        None => by_tar(project, remote),
    }
}

fn by_rsync(project: &Project, remote: &Remote) -> Result<String, Failure> {
    let words: Vec<String> = remote.options().iter().map(|word| quote(word)).collect();
    let place = quote(&project.place());
    let output = Command::new("rsync")
        .args(["--recursive", "--links", "--perms", "--times", "--delete", "--out-format=%n"])
        // What is ignored is neither sent nor removed: the machine keeps its build.
        .args(["--exclude=/.git", "--filter=:- .gitignore"])
        .arg(format!("--rsh=ssh {}", words.join(" ")))
        .arg(format!("--rsync-path=mkdir -p {place} && rsync"))
        .arg("--")
        .arg(format!("{}/", project.folder.display()))
        .arg(format!("{}:{place}/", remote.destination()))
        .stdin(Stdio::null())
        .output()
        .context("rsync")?;
    check("rsync", &output)?;
    let names = String::from_utf8_lossy(&output.stdout);
    let changed: Vec<&str> = names.lines().filter(|name| !name.ends_with('/')).collect();
    Ok(match changed.as_slice() {
        [] => "nothing to send".to_owned(),
        few if few.len() <= 5 => format!("sent: {}", few.join(", ")),
        many => format!("sent: {} files", many.len()),
    })
}

/// Everything, with its times, so that make builds no more than it must. What is removed here stays there.
fn by_tar(project: &Project, remote: &Remote) -> Result<String, Failure> {
    let mut tar = Command::new("tar")
        .args(["--create", "--gzip", "--exclude-vcs", "--exclude-vcs-ignores", "--directory"])
        .arg(&project.folder)
        .arg(".")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("tar")?;
    let place = quote(&project.place());
    let unpack = format!("mkdir -p {place} && exec tar --extract --gzip --directory {place}");
    let mut ssh = remote.command(&["-T"], &["sh".to_owned(), "-c".to_owned(), unpack]);
    let output = ssh
        .stdin(tar.stdout.take().map_or_else(Stdio::null, Stdio::from))
        .output()
        .context("ssh")?;
    let packed = tar.wait().context("tar")?;
    check("tar in the machine", &output)?;
    if !packed.success() {
        return Err(Failure::new(Exit::Environment, format!("tar: {packed}")));
    }
    Ok("sent: all files, by tar; with rsync on this host it would be those that changed, and what you \
        remove would be removed there"
        .to_owned())
}

fn check(what: &str, output: &Output) -> Result<(), Failure> {
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(Exit::Environment, format!("{what}: {}: {}", output.status, said.trim())))
}
