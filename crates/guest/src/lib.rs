//! What runs inside the machine: turning the generic image into this machine ([`commands`] `setup`
//! and `generate`), telling the host when it is ready, and the one list of what must hold
//! ([`check`]).
//!
//! Facts are read below a [`Root`], so that a test can make up a machine; programs are started
//! through [`run::Run`], so that a test can make up their answers.

pub mod accounts;
pub mod check;
pub mod commands;
mod error;
pub mod graph;
pub mod inversion;
pub mod lab;
pub mod listening;
pub mod real_time;
mod root;
pub mod run;
mod settings;
pub mod store;
pub mod template;
pub mod threads;
pub mod tone;
pub mod trace;
pub mod wav;

pub use error::GuestError;
pub use root::Root;
pub use settings::read_settings;
