//! `streamdb put`: stores a file, or what comes in, under a key.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;
use sha2::{Digest, Sha256};
use streamdb::{Checksum, Key};

use super::print;
use crate::client::Server;
use crate::outcome::{Failure, Kind};

/// Store a file, or the standard input, under a key
///
/// Compares the checksum that the server has stored with that of what was sent, and prints it.
#[derive(Debug, Args)]
pub(crate) struct Put {
    #[command(flatten)]
    server: Server,
    /// Key to store under
    key: Key,
    /// File to store; - or nothing is the standard input
    file: Option<PathBuf>,
    /// What kind of data it is, for example audio/wav
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// Seconds after which the value is no longer there
    #[arg(long, value_name = "SECONDS")]
    ttl: Option<u64>,
    /// A note to keep with the value, as NAME=TEXT; may be given several times
    #[arg(long = "meta", value_name = "NAME=TEXT", value_parser = note)]
    meta: Vec<(String, String)>,
    /// Only if there is no value under the key yet
    #[arg(long, conflicts_with = "if_match")]
    if_absent: bool,
    /// Only if the value there still has this SHA-256
    #[arg(long, value_name = "SHA256")]
    if_match: Option<Checksum>,
    /// Print what was stored as JSON
    #[arg(long)]
    json: bool,
}

impl Put {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let client = self.server.client()?;
        let mut source = Summed { from: source(self.file.as_deref())?, checksum: Sha256::new() };
        let tag = self.if_match.map(|checksum| format!("\"{checksum}\""));
        // A server that refuses says so before the value has been sent.
        let mut headers = vec![("expect", "100-continue")];
        let kind = self.content_type.as_deref();
        headers.extend(kind.map(|kind| ("content-type", kind)));
        headers.extend(tag.as_deref().map(|tag| ("if-match", tag)));
        headers.extend(self.if_absent.then_some(("if-none-match", "*")));
        let ttl = self.ttl.map(|ttl| ttl.to_string());
        headers.extend(ttl.as_deref().map(|ttl| ("streamdb-ttl", ttl)));
        headers.extend(self.meta.iter().map(|(name, text)| (name.as_str(), text.as_str())));
        let uri = client.object(&self.key);
        let mut response = client.send("PUT", &uri, &headers, Some(&mut source))?;
        let text =
            response.body_mut().read_to_string().map_err(|error| client.unreachable(&error))?;
        let mut told: Value = serde_json::from_str(&text).unwrap_or_default();
        let sent = Checksum::from_bytes(source.checksum.finalize().into()).to_string();
        if told.get("checksum").and_then(Value::as_str) != Some(&sent) {
            return Err(Failure::new(
                Kind::No,
                format!("{:?} was not stored with the checksum of what was sent", self.key),
                "put it again; if it happens again, look at the network and the memory between",
            ));
        }
        if self.json {
            if let Some(fields) = told.as_object_mut() {
                fields.insert("schema".to_owned(), "streamdb.put/1".into());
            }
            print(told)
        } else {
            print(sent)
        }
    }
}

fn note(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("give it as NAME=TEXT")?;
    Ok((format!("streamdb-meta-{name}"), value.to_owned()))
}

/// Opens what is to be sent: a file, or the standard input.
pub(super) fn source(path: Option<&Path>) -> Result<Box<dyn Read>, Failure> {
    let Some(path) = path.filter(|path| path.as_os_str() != "-") else {
        return Ok(Box::new(io::stdin().lock()));
    };
    match File::open(path) {
        Ok(file) if !file.metadata().is_ok_and(|meta| meta.is_dir()) => Ok(Box::new(file)),
        Ok(_) => Err(Failure::new(
            Kind::Wrong,
            format!("{} is a directory", path.display()),
            "put its files one by one",
        )),
        Err(error) => Err(Failure::new(
            Kind::Wrong,
            format!("could not open {}: {error}", path.display()),
            "give a file that can be read, or - for the standard input",
        )),
    }
}

/// Sums up what passes through.
struct Summed {
    from: Box<dyn Read>,
    checksum: Sha256,
}

impl Read for Summed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        self.checksum.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}
