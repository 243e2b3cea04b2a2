//! The machine on a bridge of the host: its card, its rules, and the way outwards.
//!
//! What the host has is read into [`Facts`]; what is to be done is a value ([`plan`]), whose commands
//! and rules a person can read and type; [`bring_up`] does it and [`take_down`] undoes it. What is made
//! is written down before the first step, in the instance's `network.json`, so that whatever is broken
//! off, at whatever point, the next command mends.
//!
//! What machines share (the bridge, the host's forwarding) is recorded on the links themselves, as
//! their aliases: it goes with them, and every network namespace has its own.

mod apply;
mod facts;
mod plan;
mod rules;

pub use apply::{NetworkError, Programs, System, bring_up, lacks, take_down};
pub use facts::{Facts, Link, look};
pub use plan::{Made, Plan, Refused, Step, card, mac, plan, undo};
pub use rules::table;
