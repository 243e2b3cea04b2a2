//! Real builds of a small recipe. They need the programs of `required_tools()`, a Debian mirror for
//! some 60 MB once, and, where it says so, root. What is missing is a failure.
//!
//! Downloads and one finished base are kept in cargo's directory for test files, so that a second
//! run starts where the first ended.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)] // as in any test function

mod builder;
mod cancelled;
mod damaged;
mod exported;
mod full_disk;
mod killed;
mod overlay;
mod reproducible;
mod rootless;
mod two_at_once;
mod workshop;
