//! `streamdb backup` and `streamdb restore`: a store as it is at one moment, as a store of its own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use streamdb::{BackupError, Options, Store};

use super::print;
use crate::client::Server;
use crate::outcome::{Failure, Kind};

/// Copy a store, while it is served, into a directory that is a store of its own
///
/// Without --data the server sends it, and goes on serving meanwhile.
#[derive(Debug, Args)]
pub(crate) struct Backup {
    #[command(flatten)]
    server: Server,
    /// Directory of a store that is not served, instead of a server
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Directory for the backup; must not be there yet, or be empty
    to: PathBuf,
    /// Print what was copied as JSON
    #[arg(long)]
    json: bool,
}

/// Make a store from a backup, comparing every byte with its checksum
#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// Directory of the backup
    from: PathBuf,
    /// Directory for the store; must not be there yet, or be empty
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Print what was copied as JSON
    #[arg(long)]
    json: bool,
}

impl Backup {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match &self.data {
            Some(data) => copy(data, &self.to, "streamdb.backup/1", self.json),
            None => self.receive(),
        }
    }

    fn receive(&self) -> Result<(), Failure> {
        let failed = |error: io::Error| {
            Failure::new(
                Kind::Lacking,
                format!("the backup did not come whole into {}: {error}", self.to.display()),
                "see that the disk has room and the server runs; remove the directory and try again",
            )
        };
        fs::create_dir_all(&self.to).map_err(failed)?;
        if fs::read_dir(&self.to).map_err(failed)?.next().is_some() {
            return Err(BackupError::Exists { dir: self.to.clone() }.into());
        }
        let client = self.server.client()?;
        let response = client.send("GET", &client.address("/v1/backup"), &[], None)?;
        let mut archive = tar::Archive::new(response.into_body().into_reader());
        archive.set_preserve_mtime(false);
        for entry in archive.entries().map_err(failed)? {
            let mut entry = entry.map_err(failed)?;
            let path = entry.path().map_err(failed)?.into_owned();
            // The index comes last; until it is there the directory is no store.
            if !entry.unpack_in(&self.to).map_err(failed)? {
                return Err(failed(io::Error::other("it names a file outside")));
            }
            fs::File::open(self.to.join(path)).and_then(|file| file.sync_all()).map_err(failed)?;
        }
        let report = fs::read(self.to.join("backup.json")).map_err(failed)?;
        if !self.to.join("index.redb").is_file() {
            return Err(failed(io::Error::other("it broke off before its end")));
        }
        let report: serde_json::Value = serde_json::from_slice(&report).unwrap_or_default();
        let problems = report.get("problems").and_then(|list| list.as_array()).map_or(0, Vec::len);
        tell(&report, problems, "streamdb.backup/1", self.json)
    }
}

impl Restore {
    pub(crate) fn run(self) -> Result<(), Failure> {
        copy(&self.from, &self.data, "streamdb.restore/1", self.json)
    }
}

fn copy(from: &Path, to: &Path, schema: &str, json: bool) -> Result<(), Failure> {
    let options = Options { create: false, reserve: 0, ..Options::default() };
    let done = Store::open(from, &options)?.backup(to)?;
    tell(&json!(done), done.problems.len(), schema, json)
}

fn tell(
    report: &serde_json::Value,
    problems: usize,
    schema: &str,
    json: bool,
) -> Result<(), Failure> {
    if json {
        let mut report = report.clone();
        if let Some(fields) = report.as_object_mut() {
            fields.insert("schema".to_owned(), schema.into());
        }
        print(report)?;
    } else {
        let number = |name| report.get(name).map(ToString::to_string).unwrap_or_default();
        print(format_args!(
            "{} keys, {} bytes beside the index, {problems} problems",
            number("keys"),
            number("bytes")
        ))?;
    }
    if problems == 0 {
        return Ok(());
    }
    Err(Failure::new(
        Kind::No,
        "some values were damaged before they were copied",
        "run `streamdb check --data` on the copy to see which, and --repair to set them aside",
    ))
}
