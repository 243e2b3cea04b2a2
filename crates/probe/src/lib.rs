//! A client of JACK that watches: which periods reach it and when, what the server calls an xrun, who
//! joins and leaves the graph, how long a way takes and what is lost on it. Works with jackd and with PipeWire's own libjack (`pw-jack`).
//!
//! [`sequence`] is a signal that tells its frames apart, [`round_trip`] sends it and hears it again,
//! [`phase`] does the same for ways that are not digital, [`relay`] plants faults for both to find.
//! [`jack`] is the only place with unsafe code; [`callback`] is what runs in real time, and neither
//! allocates, locks nor calls the system; [`commands`] are the verbs.

pub mod callback;
pub mod commands;
mod error;
pub mod jack;
pub mod phase;
pub mod relay;
pub mod round_trip;
pub mod sequence;

pub use error::ProbeError;
