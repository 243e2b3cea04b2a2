//! What can keep the probe from its work.

/// Each says what was tried and what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// This build cannot load libraries.
    #[error(
        "this build of archibald-probe is linked statically and cannot load libjack; build it with \
         crates/probe/cargo build --release"
    )]
    Static,
    /// libjack is not there, or its own libraries are not.
    #[error(
        "libjack.so.0 cannot be loaded ({0}); install libjack-jackd2-0, or with PipeWire run \
         `pw-jack archibald-probe ...`"
    )]
    NoLibrary(libloading::Error),
    /// A library of this name that is not JACK's.
    #[error(
        "libjack.so.0 has no function {0}; is it JACK's? (JACK2 and PipeWire's are known to work)"
    )]
    NoFunction(&'static str),
    /// Nobody answers.
    #[error(
        "no audio server answers (JACK status {status:#x}); start jackd, or with PipeWire run `pw-jack \
         archibald-probe ...` as the user whose session PipeWire runs in"
    )]
    NoServer {
        /// The bits of `JackStatus`.
        status: i32,
    },
    /// The server answers and refuses.
    #[error("the audio server refused to {0}; its own log says why")]
    Refused(&'static str),
    /// The server did not connect two ports.
    #[error(
        "the audio server does not connect {from} to {to}; `jack_lsp` lists the ports that are there"
    )]
    NoConnection {
        /// The port that gives.
        from: String,
        /// The port that takes.
        to: String,
    },
    /// Words of the command line that do not fit.
    #[error("{0}")]
    Words(String),
    /// The name has a zero byte.
    #[error("the client's name must not contain a zero byte")]
    Name,
    /// Reading standard input, catching signals, or writing the result failed.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

impl ProbeError {
    /// 2 for wrong use, 3 for what the environment lacks.
    pub const fn exit_status(&self) -> u8 {
        match self {
            Self::Name | Self::Words(_) => 2,
            _ => 3,
        }
    }
}
