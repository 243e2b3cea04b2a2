//! The kernel's trace of an audio graph, and what it tells about an xrun.
//!
//! A capture ([`capture`]) holds the kernel's raw ring pages ([`page`]) and its own descriptions of
//! the events ([`mod@format`]); [`Trace`] reads it. From the events come the threads' histories
//! ([`timeline`]), from these the audio graph ([`graph`]) and the periods that were late
//! ([`episode`]); [`cost`] says where their time went, [`cause`] what that means, and [`explain()`] puts
//! it into words. No C library and no trace-cmd is needed; nothing but the capture is read.

pub mod capture;
pub mod cause;
pub mod cost;
pub mod episode;
mod error;
pub mod event;
mod explain;
pub mod format;
pub mod graph;
pub mod page;
mod read;
mod sentence;
pub mod symbol;
pub mod syscall;
mod text;
pub mod timeline;

pub use error::TraceError;
pub use explain::{Explained, Explanation, Player, Reported, SCHEMA, explain};
pub use read::{Trace, read_formats};
pub use sentence::duration;
pub use text::text;
