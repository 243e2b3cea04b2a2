//! What varies from seed to seed: when programs start within a period and a tick of the scheduler,
//! and the kernel's random numbers, which decide where programs lie in memory.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::time::Duration;

/// The kernel's `RNDRESEEDCRNG` (include/uapi/linux/random.h): `_IO('R', 0x07)`.
const RESEED: rustix::ioctl::Opcode = 0x5207;
/// Offsets are spread over at least one tick of a kernel with CONFIG_HZ=250.
const TICK_NS: u64 = 4_000_000;

/// Random numbers from a seed, for the lab's own choices: SplitMix64 (Steele, Lea, Flood: Fast
/// splittable pseudorandom number generators, 2014).
#[derive(Debug, Clone)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A delay anywhere within a period of the graph and a tick of the scheduler.
    pub(super) fn phase(&mut self, period_ns: u64) -> Duration {
        Duration::from_nanos(self.next() % period_ns.max(TICK_NS).max(1))
    }
}

/// Makes the kernel's random numbers those of this seed.
pub(super) fn stir(seed: u64) -> io::Result<()> {
    let mut chance = Chance::new(seed);
    let bytes: Vec<u8> = (0..8).flat_map(|_| chance.next().to_le_bytes()).collect();
    let mut random = OpenOptions::new().write(true).open("/dev/urandom")?;
    random.write_all(&bytes)?;
    // What is written is stirred in; without this it would count from the next minute on.
    // SAFETY: the request takes no argument and touches no memory of ours.
    #[allow(unsafe_code)]
    unsafe {
        rustix::ioctl::ioctl(&random, rustix::ioctl::NoArg::<RESEED>::new())
            .map_err(io::Error::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_its_own_numbers_always() {
        let numbers = |seed| {
            let mut chance = Chance::new(seed);
            [chance.next(), chance.next()]
        };
        assert_eq!(numbers(1), numbers(1));
        assert_ne!(numbers(1), numbers(2));
        // The published first output for the seed 0.
        assert_eq!(numbers(0)[0], 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn phases_lie_within_a_tick_or_a_longer_period() {
        let mut chance = Chance::new(7);
        assert!((0..1000).all(|_| chance.phase(666_666) < Duration::from_millis(4)));
        let longest = (0..1000).map(|_| chance.phase(21_000_000)).max().unwrap();
        assert!(longest > Duration::from_millis(15) && longest < Duration::from_millis(21));
    }
}
