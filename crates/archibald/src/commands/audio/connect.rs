//! `archibald audio connect`: what leads the host's sound into the machine, made where it is not there.

use super::pulse::Direction;
use super::{By, Host, netjack2, pulse};
use crate::commands::exec::Remote;
use crate::failure::Failure;
use crate::terminal;

/// Lead this host's sound into the machine, and what the machine plays back.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Again it changes nothing that is there, and makes what a restart of either side has taken away.\n\nExamples, for a machine \"archibald\":\n  archibald audio connect\n  paplay --device=archibald-archibald-play song.wav\n  parec --device=archibald-archibald-record --file-format=wav take.wav"
)]
pub(super) struct Connect {
    /// The machine; the machine file's when left out.
    name: Option<String>,
    /// By which way, where this host has both servers.
    #[arg(long, value_enum)]
    by: Option<By>,
    /// Milliseconds that a tunnel may hold, where the host's server can be told.
    #[arg(long, value_name = "MS", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=2000))]
    latency: u32,
    /// UDP port of this host on which jackd's NetJACK2 manager waits.
    #[arg(long, value_name = "PORT", default_value_t = 19000, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Periods by which NetJACK2 comes back later: more of them bear a slower network.
    #[arg(long, value_name = "PERIODS", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=30))]
    periods: u8,
}

impl Connect {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let remote = Remote::of(self.name.as_deref(), None)?;
        let name = remote.instance.name();
        let (fresh, [play, record], way) = match Host::find(self.by)? {
            Host::Pulse(server) => (
                server.connect(&remote, self.latency)?,
                Direction::BOTH.map(|direction| direction.device(name)),
                format!("{} by {}", server.name, pulse::door(&remote)?),
            ),
            Host::Jack(server) => (
                server.connect(&remote, self.port, self.periods)?,
                netjack2::ports_of(name),
                format!("jackd, {} frames, by NetJACK2", server.quantum),
            ),
        };
        let word = if fresh { "connected to" } else { "is connected to" };
        terminal::say(&format!("{name}: {word} {way}"));
        terminal::say(&format!("  {play} plays into the machine"));
        terminal::say(&format!("  {record} is what the machine plays"));
        Ok(0)
    }
}
