//! One file a verb: its words, its help and what it does.

pub(crate) mod build;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod copy;
pub(crate) mod delete;
pub(crate) mod doctor;
pub(crate) mod exec;
pub(crate) mod export;
pub(crate) mod farm;
pub(crate) mod host;
pub(crate) mod image;
pub(crate) mod init;
pub(crate) mod keep;
pub(crate) mod lab;
pub(crate) mod logs;
pub(crate) mod ls;
pub(crate) mod man;
pub(crate) mod measure;
pub(crate) mod report;
pub(crate) mod restart;
pub(crate) mod scan;
pub(crate) mod shell;
pub(crate) mod status;
pub(crate) mod stop;
pub(crate) mod threads;
pub(crate) mod up;
