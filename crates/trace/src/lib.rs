//! The kernel's trace of an audio graph, and what it tells about an xrun.
//!
//! A capture ([`capture`]) holds the kernel's raw ring pages ([`page`]) and its own descriptions of the
//! events ([`format`]).

pub mod capture;
mod error;
pub mod format;
pub mod page;
pub mod syscall;

pub use error::TraceError;
