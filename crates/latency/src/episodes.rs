//! Episodes: xruns that follow each other closely are one event. A late period makes the next ones
//! late, and whoever counts each of them counts one cause many times.

use serde::{Deserialize, Serialize};

/// Xruns at most this many periods apart belong to one episode. A graph that was late needs a few
/// periods to drain; causes that come back (a timer tick, a disk's flush, a fault planted in every
/// hundredth period) come further apart. At 32 frames and 48 kHz it is 10.7 ms.
pub const DEFAULT_GAP_PERIODS: u32 = 16;

/// Xruns that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Episode {
    /// The first of them.
    pub start_ns: u64,
    /// The last of them.
    pub end_ns: u64,
    /// How many.
    pub xruns: u64,
}

/// The episodes of a run, in order of time.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Episodes(pub Vec<Episode>);

impl Episodes {
    /// Joins the xruns at these times, in any order, that are at most `gap_ns` apart.
    pub fn of(times: &[u64], gap_ns: u64) -> Self {
        let mut times = times.to_vec();
        times.sort_unstable();
        let mut episodes: Vec<Episode> = Vec::new();
        for at_ns in times {
            match episodes.last_mut() {
                Some(last) if at_ns - last.end_ns <= gap_ns => {
                    last.end_ns = at_ns;
                    last.xruns += 1;
                }
                _ => episodes.push(Episode { start_ns: at_ns, end_ns: at_ns, xruns: 1 }),
            }
        }
        Self(episodes)
    }

    /// The default gap for this length of a period, in nanoseconds.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn default_gap_ns(period_ns: f64) -> u64 {
        (period_ns * f64::from(DEFAULT_GAP_PERIODS)).round() as u64
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.0.len() as u64
    }

    /// Which one this moment lies in.
    pub fn at(&self, at_ns: u64) -> Option<usize> {
        self.0.iter().position(|e| e.start_ns <= at_ns && at_ns <= e.end_ns)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn close_ones_are_joined_and_distant_ones_are_not() {
        let episodes = Episodes::of(&[100, 0, 10, 500, 115], 20);
        let expected = [(0, 10, 2), (100, 115, 2), (500, 500, 1)];
        let seen: Vec<_> = episodes.0.iter().map(|e| (e.start_ns, e.end_ns, e.xruns)).collect();
        assert_eq!(seen, expected);
        assert_eq!((episodes.at(105), episodes.at(60)), (Some(1), None));
    }

    #[test]
    fn a_fault_in_every_hundredth_period_is_as_many_episodes() {
        let period = 666_667;
        let times: Vec<u64> = (0..50).map(|i| i * 100 * period).collect();
        let gap = Episodes::default_gap_ns(32.0 * 1e9 / 48000.0);
        assert_eq!(Episodes::of(&times, gap).count(), 50);
    }

    proptest! {
        #[test]
        fn none_is_lost_and_episodes_keep_their_distance(
            times in proptest::collection::vec(0_u64..10_000, 0..60), gap in 0_u64..500,
        ) {
            let Episodes(episodes) = Episodes::of(&times, gap);
            prop_assert_eq!(episodes.iter().map(|e| e.xruns).sum::<u64>(), times.len() as u64);
            for pair in episodes.windows(2) {
                prop_assert!(pair[1].start_ns - pair[0].end_ns > gap);
            }
        }
    }
}
