//! The virtual-time lab: a real program on a real audio server on a real kernel, on a clock that
//! counts instructions instead of seconds.
//!
//! [`Scenario`] says what to run, [`snapshot`] boots the machine once, [`experiment`] runs one
//! request on it, [`evidence`] turns what came back into a run of [`archibald_latency`]. Nothing here
//! reads the environment or writes to the terminal.

pub mod bench;
mod emulator;
mod error;
pub mod evidence;
pub mod experiment;
pub mod explain;
pub mod machine;
mod mailbox;
pub mod program;
mod recording;
pub mod replay;
pub mod scenario;
pub mod shell;
pub mod snapshot;
pub mod sweep;

pub use error::LabError;
pub use scenario::Scenario;
