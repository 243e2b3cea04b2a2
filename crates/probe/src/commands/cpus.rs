//! CPUs that a thread may have, as taskset(1) lists them: `0`, `0-1,3`.

use std::str::FromStr;

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::ProbeError;

/// CPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cpus(Vec<usize>);

impl FromStr for Cpus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |word: &str| match word.parse::<usize>() {
            Ok(cpu) if cpu < CpuSet::MAX_CPU => Ok(cpu),
            _ => Err(format!("\"{text}\" is no list of CPUs, such as 0-1,3")),
        };
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            cpus.extend(number(first)?..=number(last)?);
        }
        Ok(Self(cpus))
    }
}

impl Cpus {
    /// The calling thread has these from now on, and those that it starts; its others stay.
    pub(super) fn take(&self) -> Result<(), ProbeError> {
        let mut set = CpuSet::new();
        self.0.iter().for_each(|cpu| set.set(*cpu));
        sched_setaffinity(None, &set)
            .map_err(|errno| ProbeError::System { what: "take its CPUs", source: errno.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_as_taskset_reads_it() {
        assert_eq!("0-2,5".parse(), Ok(Cpus(vec![0, 1, 2, 5])));
        assert_eq!("3".parse(), Ok(Cpus(vec![3])));
        for wrong in ["", "a", "1-", "-1", "99999999"] {
            assert!(wrong.parse::<Cpus>().is_err(), "{wrong}");
        }
    }
}
