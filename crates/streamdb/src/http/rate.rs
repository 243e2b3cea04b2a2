//! Rates: how many requests a client may make in a second.
//!
//! Kept as one moment for each client, the time at which all that it was let do would have been due
//! at an even pace (the generic cell rate algorithm). Who the client is, is told by [`super::access`].

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Whom requests are counted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Client {
    /// The holder of one of the tokens, by its place in the file.
    Holder(usize),
    /// Whoever calls from this address; of IPv6 ones, from its network of 64 bits, which is what one
    /// host is given.
    Address(IpAddr),
    /// Whoever calls, where no address is known.
    Anyone,
}

/// Clients remembered at a time; when there are more, those that have been quiet are forgotten.
const MOST: usize = 10_000;

/// What clients have been let do.
#[derive(Debug)]
pub(super) struct Rates {
    /// The time between two requests at an even pace.
    pace: Duration,
    due: Mutex<HashMap<Client, Instant>>,
}

/// How far ahead of an even pace a client may be: two seconds' worth at once.
const AHEAD: Duration = Duration::from_secs(2);

impl Rates {
    pub(super) fn new(per_second: NonZeroU32) -> Self {
        Self { pace: Duration::from_secs(1) / per_second.get(), due: Mutex::default() }
    }

    /// Counts a request made now.
    ///
    /// # Errors
    /// How long the client must wait, if it was one too many.
    pub(super) fn admit(&self, client: Client, now: Instant) -> Result<(), Duration> {
        let mut all = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST && !all.contains_key(&client) {
            all.retain(|_, due| *due > now);
            if all.len() >= MOST {
                // A crowd of this size is answered as one client.
                return Err(Duration::from_secs(1));
            }
        }
        let due = all.entry(client).or_insert(now);
        let next = (*due).max(now) + self.pace;
        match (next - now).checked_sub(AHEAD) {
            Some(early) if !early.is_zero() => Err(early),
            _ => {
                *due = next;
                Ok(())
            }
        }
    }
}

impl From<IpAddr> for Client {
    fn from(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => {
                let network = u128::from(address) & !u128::from(u64::MAX);
                IpAddr::V6(network.into())
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_seconds_worth_at_once_and_then_an_even_pace() {
        let rates = Rates::new(NonZeroU32::new(10).unwrap());
        let (one, other) = (Client::Holder(0), Client::Holder(1));
        let start = Instant::now();
        for n in 0..20 {
            assert_eq!(rates.admit(one, start), Ok(()), "{n}");
        }
        let wait = rates.admit(one, start).unwrap_err();
        assert_eq!(wait, Duration::from_millis(100));
        assert_eq!(rates.admit(other, start), Ok(()));
        assert_eq!(rates.admit(one, start + wait), Ok(()));
        assert!(rates.admit(one, start + wait).is_err());
        let later = start + Duration::from_secs(60);
        assert_eq!((0..40).filter(|_| rates.admit(one, later).is_ok()).count(), 20);
    }

    #[test]
    fn neighbours_in_one_ipv6_network_are_one_client_and_the_crowd_is_bounded() {
        let client = |text: &str| Client::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(client("2001:db8::1"), client("2001:db8::ffff:2"));
        assert_ne!(client("2001:db8::1"), client("2001:db8:0:1::1"));
        assert_eq!(client("::ffff:127.0.0.1"), client("127.0.0.1"));
        let rates = Rates::new(NonZeroU32::MIN);
        let start = Instant::now();
        let admitted = (0..MOST + 5).filter(|n| rates.admit(Client::Holder(*n), start).is_ok());
        assert_eq!(admitted.count(), MOST);
        assert!(rates.admit(Client::Holder(MOST + 5), start + AHEAD).is_ok());
    }
}
