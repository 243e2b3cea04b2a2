//! Runs kept in a StreamDB, whose page lists and draws them.

use std::time::Duration;

use archibald_latency::Run;

use crate::commands::exec::Remote;
use crate::failure::{Context as _, Exit, Failure};
use crate::terminal;

/// The words of every meter.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Keep {
    /// Keep the run in a StreamDB too: the machine's own, or the one at this address.
    #[arg(long, value_name = "URL", num_args = 0..=1, require_equals = true)]
    store: Option<Option<String>>,
}

/// A store that is there.
pub(crate) struct Store {
    address: String,
    token: Option<String>,
}

impl Keep {
    /// The store that was asked for, after it has answered: a run is not measured first and lost then.
    pub(crate) fn open(&self, remote: Option<&Remote>) -> Result<Option<Store>, Failure> {
        let Some(address) = &self.store else { return Ok(None) };
        let store = match (address, remote) {
            (Some(address), _) => Store::at(address)?,
            (None, Some(remote)) => Store::of(remote)?,
            (None, None) => {
                return Err(Failure::new(Exit::Use, "--store names no store")
                    .with_remedy("Say which: --store=http://127.0.0.1:8080"));
            }
        };
        agent()
            .get(format!("{}/health", store.address))
            .call()
            .map_err(|error| store.silent(&error))?;
        Ok(Some(store))
    }
}

impl Store {
    /// A token is taken from the file that the `streamdb` command takes it from.
    fn at(address: &str) -> Result<Self, Failure> {
        let address = address.trim_end_matches('/');
        if !address.starts_with("http://") {
            let message = format!("\"{address}\" is no address of a store");
            return Err(Failure::new(Exit::Use, message)
                .with_remedy("Expected one such as http://127.0.0.1:8080"));
        }
        let token = match std::env::var_os("STREAMDB_TOKEN_FILE") {
            Some(file) => {
                let file = std::path::PathBuf::from(file);
                let token = std::fs::read_to_string(&file).context(file.display())?;
                Some(token.trim().to_owned())
            }
            None => None,
        };
        Ok(Self { address: address.to_owned(), token })
    }

    /// The machine's own, by the port that leads to it.
    fn of(remote: &Remote) -> Result<Self, Failure> {
        let machine = &remote.machine;
        let door = machine.network.door_to(machine.streamdb.port);
        let (address, port) = door.filter(|_| machine.streamdb.enable).ok_or_else(|| {
            let name = remote.instance.name();
            Failure::new(
                Exit::Use,
                format!("no port of the host leads to a StreamDB in \"{name}\""),
            )
            .with_remedy(
                "Enable streamdb, forward its port and restart, or name a store: --store=URL",
            )
        })?;
        let token = match machine.store_wants_token() {
            true => Some(remote.instance.store_token()?),
            false => None,
        };
        Ok(Self { address: format!("http://{address}:{port}"), token })
    }

    /// Puts the run where the page finds it, and says so.
    pub(crate) fn put(&self, run: &Run) -> Result<(), Failure> {
        let key = format!("runs/{}/run.json", run.id);
        let text = run.to_json().context("the run")?;
        let mut put = agent()
            .put(format!("{}/v1/objects/{key}", self.address))
            .header("content-type", "application/json");
        if let Some(token) = &self.token {
            put = put.header("authorization", format!("Bearer {token}"));
        }
        put.send(text).map_err(|error| self.silent(&error))?;
        terminal::complain(&format!("kept in {}/ as {key}", self.address));
        Ok(())
    }

    fn silent(&self, error: &ureq::Error) -> Failure {
        let failure =
            Failure::new(Exit::Environment, format!("the store at {}: {error}", self.address));
        match error {
            ureq::Error::StatusCode(401) => failure
                .with_remedy("It wants a token: set STREAMDB_TOKEN_FILE to the file that has it."),
            _ => failure.with_remedy("Is it running? `streamdb serve` starts one."),
        }
    }
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(60)));
    config.build().into()
}
