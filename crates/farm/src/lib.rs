//! Many machines: work that one machine outgrows, cut into tasks that Slurm or this machine's cores run.
//!
//! [`Score`] is a SuperCollider score, [`segment`] cuts it where its patch allows that, [`scsynth`] renders one
//! piece, [`wave`] joins them. A [`job`] is tasks with a result each, kept by content; [`runner`] says who runs
//! them, [`slurm`] is one of the two. Experiments of the lab are tasks too, but what they do is told by the
//! caller. Nothing here reads the environment or writes to the terminal.

mod error;
pub mod job;
pub mod osc;
pub mod promise;
pub mod render;
pub mod runner;
mod score;
pub mod scsynth;
pub mod segment;
pub mod slurm;
pub mod wave;

pub use error::FarmError;
pub use score::{Clock, Score};
