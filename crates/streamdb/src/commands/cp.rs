//! `streamdb cp` and `streamdb mv`: gives a value a second key, or another one.

use std::io;

use clap::Args;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use streamdb::{Checksum, Key};

use crate::client::Server;
use crate::outcome::Failure;

/// Copy a value to another key
///
/// Content type, notes and expiry go along. Large values are shared on the server's disk where its
/// file system can.
#[derive(Debug, Args)]
pub(crate) struct Cp {
    #[command(flatten)]
    transfer: Transfer,
}

/// Move a value to another key, in one step that nobody sees half of
#[derive(Debug, Args)]
pub(crate) struct Mv {
    #[command(flatten)]
    transfer: Transfer,
}

#[derive(Debug, Args)]
struct Transfer {
    #[command(flatten)]
    server: Server,
    /// Key that the value has
    from: Key,
    /// Key that it gets
    to: Key,
    /// Only if there is no value under that key yet
    #[arg(long)]
    if_absent: bool,
    /// Only if the value still has this SHA-256
    #[arg(long, value_name = "SHA256")]
    if_match: Option<Checksum>,
}

impl Cp {
    pub(crate) fn run(self) -> Result<(), Failure> {
        self.transfer.run("streamdb-copy-from")
    }
}

impl Mv {
    pub(crate) fn run(self) -> Result<(), Failure> {
        self.transfer.run("streamdb-rename-from")
    }
}

impl Transfer {
    fn run(&self, how: &str) -> Result<(), Failure> {
        let client = self.server.client()?;
        let from = utf8_percent_encode(self.from.as_str(), NON_ALPHANUMERIC).to_string();
        let tag = self.if_match.map(|checksum| format!("\"{checksum}\""));
        let mut headers = vec![(how, from.as_str())];
        headers.extend(tag.as_deref().map(|tag| ("streamdb-source-if-match", tag)));
        headers.extend(self.if_absent.then_some(("if-none-match", "*")));
        let uri = client.object(&self.to);
        client.send("PUT", &uri, &headers, Some(&mut io::empty())).map(drop)
    }
}
