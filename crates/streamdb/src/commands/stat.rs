//! `streamdb stat`: the facts about one value.

use clap::Args;
use serde_json::json;
use streamdb::Key;

use super::print;
use crate::client::Server;
use crate::outcome::{Failure, Kind};

/// Show the facts about a value
#[derive(Debug, Args)]
pub(crate) struct Stat {
    #[command(flatten)]
    server: Server,
    /// Key to look at
    key: Key,
    /// Print them as JSON
    #[arg(long)]
    json: bool,
}

impl Stat {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let client = self.server.client()?;
        let response = client.send("HEAD", &client.object(&self.key), &[], None);
        let response = response.map_err(|failure| {
            // The answer to HEAD has no body that could say so.
            if failure.kind() == Kind::No {
                let error = format!("there is no value under {:?}", self.key);
                return Failure::new(Kind::No, error, "list what there is with `streamdb ls`");
            }
            failure
        })?;
        let text = |name: &str| {
            let value = response.headers().get(name);
            let value = value.and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        // A header that is missing or no number is told as missing, not as zero.
        let number = |name: &str| text(name).parse::<u64>().ok();
        let checksum = text("etag").trim_matches('"').to_owned();
        if self.json {
            return print(json!({
                "schema": "streamdb.stat/1",
                "key": self.key.as_str(),
                "size": number("content-length"),
                "checksum": checksum,
                "version": number("streamdb-version"),
                "created": number("streamdb-created"),
                "modified": number("streamdb-modified"),
                "content_type": text("content-type"),
            }));
        }
        for (name, value, unit) in [
            ("key", self.key.as_str().escape_debug().to_string(), ""),
            ("size", text("content-length"), " bytes"),
            ("type", text("content-type"), ""),
            ("sha256", checksum, ""),
            ("version", text("streamdb-version"), ""),
            ("created", text("streamdb-created"), " ms since 1970"),
            ("modified", text("streamdb-modified"), " ms since 1970"),
        ] {
            print(format_args!("{name:<9}{value}{unit}"))?;
        }
        Ok(())
    }
}
