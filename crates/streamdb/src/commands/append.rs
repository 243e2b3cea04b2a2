//! `streamdb append`: adds what comes in to an open stream, as it comes.

use std::io::Read;
use std::path::PathBuf;

use clap::Args;
use serde_json::Value;
use streamdb::Key;

use super::print;
use super::put::source;
use crate::client::{Client, Server};
use crate::outcome::{Failure, Kind};

/// Add a file, or the standard input as it comes, to an open stream
///
/// Opens the stream if there is none. Whoever follows it sees the bytes as soon as they are on the
/// server's disk. Prints the length of the stream.
#[derive(Debug, Args)]
pub(crate) struct Append {
    #[command(flatten)]
    server: Server,
    /// Key of the stream
    key: Key,
    /// File to add; - or nothing is the standard input
    file: Option<PathBuf>,
    /// What kind of data it is, for example audio/wav; only of a new stream
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// Only if the stream has exactly so many bytes
    #[arg(long, value_name = "BYTES")]
    offset: Option<u64>,
    /// Seal the stream at the end: it becomes a value like any other
    #[arg(long)]
    seal: bool,
    /// Print the facts about the stream as JSON
    #[arg(long)]
    json: bool,
}

/// Bytes sent in one request; what is read at once goes at once.
const PIECE: usize = 256 * 1024;

/// How often an append is repeated when the connection breaks.
const TRIES: usize = 3;

impl Append {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let client = self.server.client()?;
        let mut source = source(self.file.as_deref())?;
        let mut told = Value::Null;
        let mut at = self.offset;
        let mut piece = vec![0; PIECE];
        loop {
            let count = match source.read(&mut piece) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let error = format!("could not read what was to be added: {error}");
                    return Err(Failure::new(Kind::Wrong, error, "what was read before is stored"));
                }
                Ok(count) => count,
            };
            // An empty one, too, if it is the first: it opens the stream.
            if count > 0 || told.is_null() {
                told = self.send(&client, at, piece.get(..count).unwrap_or_default())?;
                at = told.get("size").and_then(Value::as_u64);
            }
            if count == 0 {
                break;
            }
        }
        if self.seal {
            let uri = format!("{}?seal", client.object(&self.key));
            told = read(&client, client.send("POST", &uri, &[], Some(&mut std::io::empty()))?)?;
        }
        if self.json {
            if let Some(fields) = told.as_object_mut() {
                fields.insert("schema".to_owned(), "streamdb.append/1".into());
            }
            return print(told);
        }
        print(told.get("size").map(Value::to_string).unwrap_or_default())
    }

    fn send(&self, client: &Client, at: Option<u64>, piece: &[u8]) -> Result<Value, Failure> {
        let uri = format!("{}?append", client.object(&self.key));
        let offset = at.map(|at| at.to_string());
        // A length lets the server take the piece whole or not at all.
        let length = piece.len().to_string();
        let mut headers = vec![("content-length", length.as_str())];
        headers.extend(self.content_type.as_deref().map(|kind| ("content-type", kind)));
        headers.extend(offset.as_deref().map(|offset| ("streamdb-offset", offset)));
        let mut broke = false;
        for tries in 1.. {
            match client.send("POST", &uri, &headers, Some(&mut &*piece)) {
                Ok(response) => return read(client, response),
                // Without an offset nobody can tell whether it has been stored already.
                Err(failure)
                    if failure.kind() == Kind::Lacking && at.is_some() && tries < TRIES =>
                {
                    broke = true;
                }
                // It was: the answer to the attempt before was lost.
                Err(failure) if broke && failure.kind() == Kind::No => {
                    let head = client.send("HEAD", &client.object(&self.key), &[], None)?;
                    let size = head.headers().get("content-length");
                    let size = size.and_then(|size| size.to_str().ok()?.parse::<u64>().ok());
                    if size != at.map(|at| at + piece.len() as u64) {
                        return Err(failure);
                    }
                    return Ok(serde_json::json!({ "key": self.key.as_str(), "size": size }));
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(Value::Null)
    }
}

fn read(client: &Client, mut response: ureq::http::Response<ureq::Body>) -> Result<Value, Failure> {
    let text = response.body_mut().read_to_string().map_err(|error| client.unreachable(&error))?;
    Ok(serde_json::from_str(&text).unwrap_or_default())
}
