//! `streamdb rm`: deletes values.

use clap::Args;
use serde_json::json;
use streamdb::{Checksum, Key};

use super::print;
use crate::client::Server;
use crate::outcome::Failure;

/// Delete values
#[derive(Debug, Args)]
pub(crate) struct Rm {
    #[command(flatten)]
    server: Server,
    /// Keys to delete, in this order; ends at the first that is not there
    #[arg(required = true)]
    keys: Vec<Key>,
    /// Only if the value still has this SHA-256
    #[arg(long, value_name = "SHA256")]
    if_match: Option<Checksum>,
    /// Print what was deleted as JSON
    #[arg(long)]
    json: bool,
}

impl Rm {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let client = self.server.client()?;
        let tag = self.if_match.map(|checksum| format!("\"{checksum}\""));
        let mut headers = Vec::new();
        headers.extend(tag.as_deref().map(|tag| ("if-match", tag)));
        for key in &self.keys {
            client.send("DELETE", &client.object(key), &headers, None)?;
        }
        if self.json {
            let keys: Vec<_> = self.keys.iter().map(Key::as_str).collect();
            print(json!({ "schema": "streamdb.rm/1", "deleted": keys }))?;
        }
        Ok(())
    }
}
