//! `archibald audio`: sound between this host's own audio server and the machine. What is connected is
//! asked of the servers themselves and kept nowhere else, so that nothing is out of date when one of them
//! has been started anew.

mod connect;
mod disconnect;
mod machine;
mod netjack2;
mod pulse;
mod status;

use crate::failure::{Exit, Failure};

/// Lead this host's sound into the machine, and what the machine plays back.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "PulseAudio and PipeWire get a device that plays into the machine and one that records what it plays, over TCP. jackd gets NetJACK2: ports of the machine in its own graph, in the same period.\nAfter a restart of either side, connect again."
)]
pub(crate) struct Audio {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Connect(connect::Connect),
    Disconnect(disconnect::Disconnect),
    Status(status::Status),
}

impl Audio {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        match self.verb {
            Verb::Connect(verb) => verb.run(),
            Verb::Disconnect(verb) => verb.run(),
            Verb::Status(verb) => verb.run(),
        }
    }
}

/// How sound gets to the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum By {
    /// PulseAudio's protocol over TCP, for a host with PulseAudio or PipeWire.
    Pulse,
    /// NetJACK2 over UDP, for a host with jackd.
    Netjack2,
}

/// The audio server of this host.
enum Host {
    Pulse(pulse::Server),
    Jack(netjack2::Server),
}

impl Host {
    /// The one that runs; where both do, the one that was asked for, or PulseAudio's.
    fn find(by: Option<By>) -> Result<Self, Failure> {
        let pulse = || pulse::Server::find().map(Self::Pulse);
        let jack = || netjack2::Server::find().map(Self::Jack);
        let found = match by {
            Some(By::Pulse) => pulse(),
            Some(By::Netjack2) => jack(),
            None => pulse().or_else(jack),
        };
        found.ok_or_else(|| {
            let (what, remedy) = match by {
                Some(By::Pulse) => (
                    "no PulseAudio or PipeWire answers to pactl on this host",
                    "Start it as this user; pactl is in the package pulseaudio-utils.",
                ),
                Some(By::Netjack2) => (
                    "no jackd answers to jack_lsp on this host",
                    "Start it as this user; jack_lsp and jack_load are in the package jack-example-tools.",
                ),
                None => (
                    "no audio server answers on this host: neither PulseAudio or PipeWire to pactl, nor jackd to jack_lsp",
                    "Start it as this user; `archibald doctor` lists what is missing here.",
                ),
            };
            Failure::new(Exit::Environment, what).with_remedy(remedy)
        })
    }
}
