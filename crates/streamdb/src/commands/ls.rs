//! `streamdb ls`: lists keys by prefix, by suffix, or by both.

use clap::Args;
use serde_json::{Value, json};

use super::print;
use crate::client::Server;
use crate::outcome::{Failure, Kind};

/// List keys by prefix and suffix
#[derive(Debug, Args)]
pub(crate) struct Ls {
    #[command(flatten)]
    server: Server,
    /// Only keys that begin so
    #[arg(default_value = "")]
    prefix: String,
    /// Only keys that end so, for example .wav
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    suffix: String,
    /// At most so many keys
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
    /// Also size in bytes, time of the last put (ms since 1970) and type, separated by tabs
    #[arg(short, long)]
    long: bool,
    /// Print one JSON document with all facts
    #[arg(long, conflicts_with = "long")]
    json: bool,
}

impl Ls {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let client = self.server.client()?;
        let mut cursor = String::new();
        let mut left = self.limit.unwrap_or(u64::MAX);
        let mut all = Vec::new();
        while left > 0 {
            let uri = client.listing(&[
                ("prefix", &self.prefix),
                ("suffix", &self.suffix),
                ("cursor", &cursor),
                ("limit", &left.min(1000).to_string()),
            ]);
            let mut response = client.send("GET", &uri, &[], None)?;
            let text = response
                .body_mut()
                .with_config()
                .limit(64 << 20)
                .read_to_string()
                .map_err(|error| client.unreachable(&error))?;
            let page: Value = serde_json::from_str(&text).map_err(|error| {
                Failure::new(
                    Kind::Lacking,
                    format!("the server's listing could not be read: {error}"),
                    "see that --server is a streamdb server",
                )
            })?;
            let entries = page.get("entries").and_then(Value::as_array);
            for entry in entries.into_iter().flatten() {
                left = left.saturating_sub(1);
                if self.json {
                    all.push(entry.clone());
                } else {
                    self.show(entry)?;
                }
            }
            match page.get("next").and_then(Value::as_str) {
                Some(next) => next.clone_into(&mut cursor),
                None => break,
            }
        }
        if self.json {
            print(json!({ "schema": "streamdb.ls/1", "entries": all }))?;
        }
        Ok(())
    }

    fn show(&self, entry: &Value) -> Result<(), Failure> {
        let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
        let number = |name: &str| entry.get(name).map(Value::to_string).unwrap_or_default();
        // A key may hold a line break or a terminal's command; a line of a listing must not.
        let key = text("key").replace(char::is_control, "\u{fffd}");
        if !self.long {
            return print(key);
        }
        let (size, modified) = (number("size"), number("modified"));
        let kind = text("content_type");
        print(format_args!("{size}\t{modified}\t{kind}\t{key}"))
    }
}
