//! The host: what it is ([`facts`]), what it is ready for ([`readiness`]), how it stands against the
//! checks that Linux audio people know ([`scan`]).
//!
//! Everything is read below a [`Root`], so that a test can make up a host. Nothing here writes to the
//! terminal or reads the environment.

pub mod change;
pub mod facts;
pub mod handover;
pub mod plan;
pub mod readiness;
mod root;
pub mod scan;

pub use root::{Evidence, Fact, Root};
