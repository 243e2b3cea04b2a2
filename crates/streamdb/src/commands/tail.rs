//! `streamdb tail`: writes a stream to the standard output as it grows, until it is sealed.

use std::io::{self, Read, Write};

use clap::Args;
use streamdb::Key;

use crate::client::Server;
use crate::outcome::{Failure, Kind};

/// Write a stream to the standard output as it grows, until it is sealed
#[derive(Debug, Args)]
pub(crate) struct Tail {
    #[command(flatten)]
    server: Server,
    /// Key of the stream
    key: Key,
    /// Begin at this byte
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    from: u64,
}

impl Tail {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let client = self.server.client()?;
        let uri = format!("{}?tail&from={}", client.object(&self.key), self.from);
        let mut body = client.send("GET", &uri, &[], None)?.into_body().into_reader();
        let mut out = io::stdout().lock();
        let mut piece = vec![0; 64 * 1024];
        loop {
            let count = match body.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Err(Failure::new(
                        Kind::No,
                        format!("the stream {:?} broke off: {error}", self.key),
                        "it was replaced or deleted, or the server ended; look with `streamdb stat`",
                    ));
                }
            };
            let got = piece.get(..count).unwrap_or_default();
            // Whoever listens wants it now.
            out.write_all(got)
                .and_then(|()| out.flush())
                .map_err(|error| Failure::output(&error))?;
        }
    }
}
