//! The verbs, one file each; this one only names them and passes control on.

mod append;
mod backup;
mod bench;
mod cat;
mod check;
mod cp;
mod get;
mod ls;
mod put;
mod rm;
mod serve;
mod stat;
mod tail;

use std::io::Write;

use clap::{Parser, Subcommand};

use crate::outcome::Failure;

/// A small durable store for binary streams.
///
/// Exit status: 0 all good; 1 a check failed, a condition did not hold or the key is not there;
/// 2 wrong use or bad input; 3 the environment lacks something.
#[derive(Debug, Parser)]
#[command(name = "streamdb", version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Serve(serve::Serve),
    Put(put::Put),
    Get(get::Get),
    Ls(ls::Ls),
    Rm(rm::Rm),
    Stat(stat::Stat),
    Cat(cat::Cat),
    Append(append::Append),
    Tail(tail::Tail),
    Cp(cp::Cp),
    Mv(cp::Mv),
    Check(check::Check),
    Backup(backup::Backup),
    Restore(backup::Restore),
    Bench(bench::Bench),
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.verb {
        Verb::Serve(serve) => serve.run(),
        Verb::Put(put) => put.run(),
        Verb::Get(get) => get.run(),
        Verb::Ls(ls) => ls.run(),
        Verb::Rm(rm) => rm.run(),
        Verb::Stat(stat) => stat.run(),
        Verb::Cat(cat) => cat.run(),
        Verb::Append(append) => append.run(),
        Verb::Tail(tail) => tail.run(),
        Verb::Cp(cp) => cp.run(),
        Verb::Mv(mv) => mv.run(),
        Verb::Check(check) => check.run(),
        Verb::Backup(backup) => backup.run(),
        Verb::Restore(restore) => restore.run(),
        Verb::Bench(bench) => bench.run(),
    }
}

/// Prints a line. A reader who has seen enough (`streamdb ls | head`) is told as a failure.
fn print(line: impl std::fmt::Display) -> Result<(), Failure> {
    writeln!(std::io::stdout().lock(), "{line}").map_err(|error| Failure::output(&error))
}
