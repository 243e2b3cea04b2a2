//! A client of JACK that watches: which periods reach it and when, what the server calls an xrun, who
//! joins and leaves the graph. Works with jackd and with PipeWire's own libjack (`pw-jack`).
//!
//! [`jack`] is the only place with unsafe code; [`callback`] is what runs in real time, and neither
//! allocates, locks nor calls the system; [`commands`] are the verbs.

pub mod callback;
pub mod commands;
mod error;
pub mod jack;

pub use error::ProbeError;
