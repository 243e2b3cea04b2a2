//! `streamdb cat`: writes values to the standard output, one after the other.

use clap::Args;
use streamdb::Key;

use super::get::to_output;
use crate::client::Server;
use crate::outcome::Failure;

/// Write values to the standard output, one after the other
#[derive(Debug, Args)]
pub(crate) struct Cat {
    #[command(flatten)]
    server: Server,
    /// Keys to read, in this order; ends at the first that is not there
    #[arg(required = true)]
    keys: Vec<Key>,
}

impl Cat {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let client = self.server.client()?;
        self.keys.iter().try_for_each(|key| to_output(&client, key))
    }
}
