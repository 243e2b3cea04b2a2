//! `archibald exec`: one command in the machine, with its output and its exit status. Here lives what
//! the verbs that reach into the machine share: the way to its SSH server.

use std::process::Command;

use archibald_machine::Machine;
use archibald_vm::argv::Accelerator;
use archibald_vm::instance::{Instance, Status};
use archibald_vm::ssh::Door;

use super::stop::{absent, not_running};
use crate::failure::{Context as _, Exit, Failure};
use crate::places;

/// Run a command in the machine; its exit status is this one's.
#[derive(Debug, clap::Args)]
pub(crate) struct Exec {
    /// The machine; the machine file's when left out.
    #[arg(short, long)]
    name: Option<String>,
    /// As this user; the machine's first one when left out.
    #[arg(short, long)]
    user: Option<String>,
    /// Give it a terminal.
    #[arg(short, long)]
    tty: bool,
    /// The command and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

impl Exec {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        let remote = Remote::of(self.name.as_deref(), self.user.as_deref())?;
        let tty = if self.tty { "-t" } else { "-T" };
        remote.ssh(&[tty], &self.command)
    }
}

/// A running machine that can be reached.
pub(crate) struct Remote {
    pub(crate) instance: Instance,
    pub(crate) machine: Machine,
    pub(crate) user: String,
    pub(crate) door: Door,
}

impl Remote {
    /// The machine of this name, as this user, when it runs.
    pub(crate) fn of(name: Option<&str>, user: Option<&str>) -> Result<Self, Failure> {
        let instance = places::instance(name)?;
        let Some(record) = instance.record()? else { return Err(absent(instance.name())) };
        if !matches!(instance.status()?, Status::Running { .. }) {
            return Err(not_running(instance.name()));
        }
        let door = record.door.ok_or_else(|| {
            Failure::new(Exit::Use, "no port of the host leads to the machine's SSH server")
                .with_remedy("Add \"2222:22\" to network.forward and restart the machine.")
        })?;
        // The limits of the host were checked when it was started.
        let machine = Machine::parse("instance", &record.machine, &Default::default())?;
        let first = machine.audio_user().map(|user| user.name.clone()).unwrap_or_default();
        let user = user.map_or(first, str::to_owned);
        Ok(Self { instance, machine, user, door })
    }

    /// Whether its processor is emulated; so it is taken for where nobody wrote it down.
    pub(crate) fn is_emulated(&self) -> Result<bool, Failure> {
        let record = self.instance.record()?;
        Ok(record.is_none_or(|record| record.accelerator == Accelerator::Tcg))
    }

    /// ssh's own arguments up to the destination, which is left to the caller.
    pub(crate) fn options(&self) -> Vec<String> {
        self.instance.identity().options(self.instance.name(), self.door.port)
    }

    /// `user@address`.
    pub(crate) fn destination(&self) -> String {
        format!("{}@{}", self.user, self.door.address)
    }

    /// An ssh process for this command, not yet started.
    pub(crate) fn command(&self, flags: &[&str], command: &[String]) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.args(self.options()).args(flags).arg(self.destination());
        if !command.is_empty() {
            // ssh joins its words with blanks and lets the remote shell split them again.
            let quoted: Vec<String> = command.iter().map(|word| quote(word)).collect();
            ssh.arg("--").arg(quoted.join(" "));
        }
        ssh
    }

    /// Runs ssh with this terminal and passes on its exit status.
    pub(crate) fn ssh(&self, flags: &[&str], command: &[String]) -> Result<u8, Failure> {
        let status = self.command(flags, command).status().context("ssh")?;
        Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(255))
    }
}

/// A word as a POSIX shell takes it whole.
pub(crate) fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn words_reach_the_other_shell_whole() {
        assert_eq!(quote("uname"), "uname");
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(quote("$HOME"), "'$HOME'");
        assert_eq!(quote(""), "''");
    }
}
