//! What both comparisons share: their arguments, their keys, their figures.

#![allow(clippy::print_stdout, reason = "benchmarks report")]

use std::time::Instant;

/// The word after an argument's name, if it was given.
#[must_use]
pub fn argument(name: &str) -> Option<String> {
    let mut words = std::env::args().skip_while(|word| word != name);
    words.next()?;
    words.next()
}

/// The number after an argument's name.
///
/// # Errors
/// What is wrong with it, if it is no number.
pub fn number(name: &str, otherwise: usize) -> Result<usize, String> {
    let told =
        argument(name).map(|text| text.parse().map_err(|_| format!("{name} {text:?}: no number")));
    told.transpose().map(|told| told.unwrap_or(otherwise))
}

/// Key number `at`: its last 9 bytes are shared by [`SHARED`] keys of a million.
#[must_use]
pub fn key(at: usize, keys: usize) -> String {
    format!("takes/{at:08}/{:04}.wav", at % groups(keys))
}

/// The suffix that [`SHARED`] keys have.
#[must_use]
pub fn suffix(at: usize, keys: usize) -> String {
    format!("/{:04}.wav", at % groups(keys))
}

/// How many keys end in one suffix.
pub const SHARED: usize = 200;

fn groups(keys: usize) -> usize {
    (keys / SHARED).max(1)
}

/// A value of 100 bytes.
#[must_use]
pub fn value(at: usize) -> [u8; 100] {
    let mut value = [0; 100];
    value[..8].copy_from_slice(&at.to_le_bytes());
    value
}

/// The same numbers in every run, in no order.
#[must_use]
pub const fn scattered(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 11) as usize
}

/// How many times a second something was done.
///
/// # Errors
/// That of the work.
pub fn rate<E>(times: usize, mut work: impl FnMut(usize) -> Result<(), E>) -> Result<f64, E> {
    let begun = Instant::now();
    for at in 0..times {
        work(at)?;
    }
    Ok(times as f64 / begun.elapsed().as_secs_f64())
}

/// Bytes of memory that this process has of its own.
#[must_use]
pub fn anonymous() -> u64 {
    memory("self", "RssAnon:").unwrap_or_default()
}

/// Bytes of memory of a process, by a line of its status: `VmRSS:` is all that is resident.
#[must_use]
pub fn memory(process: &str, line: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let told = status.lines().find_map(|told| told.strip_prefix(line))?;
    let kib: u64 = told.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib * 1024)
}

/// The middle one of some ratios.
#[must_use]
pub fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of.get(of.len() / 2).copied().unwrap_or(f64::NAN)
}
