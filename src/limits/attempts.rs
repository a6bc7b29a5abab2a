//! How often an address may try a secret. Pure.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::places::network;

/// Attempts that an address has at once, and the time until it has one more. A person who mistypes is not stopped; a program gets
/// through 14,400 passwords a day.
const BURST: u32 = 10;
const EACH: Duration = Duration::from_secs(6);

/// Most networks that are remembered: some 200 kB.
const MOST: usize = 4096;

/// The attempts of all addresses. All addresses of an IPv6 /64 count as one.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    /// Until when the attempts of a network are spent, as if each took [`EACH`], one after the other.
    spent: HashMap<IpAddr, Instant>,
}

impl Attempts {
    /// Counts an attempt, before its outcome is known: otherwise many at one time would all be let through.
    ///
    /// # Errors
    /// The address has none left: the time until it has one.
    pub(crate) fn begin(&mut self, now: Instant, address: IpAddr) -> Result<(), Duration> {
        let network = network(address.to_canonical());
        let spent = self.spent.get(&network).copied().unwrap_or(now).max(now) + EACH;
        let wait = spent.duration_since(now).saturating_sub(EACH * BURST);
        if wait > Duration::ZERO {
            return Err(wait);
        }
        self.spent.insert(network, spent);
        if self.spent.len() > MOST {
            self.spent.retain(|_, spent| *spent > now);
        }
        if self.spent.len() > MOST {
            // The one that has tried least loses least.
            let least =
                self.spent.iter().filter(|(other, _)| **other != network).min_by_key(|(_, spent)| **spent);
            if let Some(least) = least.map(|(network, _)| *network) {
                self.spent.remove(&least);
            }
        }
        Ok(())
    }

    /// Gives back an attempt that was right.
    pub(crate) fn give_back(&mut self, address: IpAddr) {
        let network = network(address.to_canonical());
        if let Some(spent) = self.spent.get_mut(&network) {
            *spent = spent.checked_sub(EACH).unwrap_or(*spent);
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test counts from now")]
mod tests {
    use super::*;

    fn v4(n: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).into()
    }

    #[test]
    fn an_address_has_ten_attempts_at_once_and_then_one_each_six_seconds() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        for _ in 0..BURST {
            attempts.begin(now, v4(1)).unwrap();
        }
        assert_eq!(attempts.begin(now, v4(1)), Err(EACH));
        attempts.begin(now, v4(2)).expect("another address has its own");
        assert_eq!(attempts.begin(now + EACH / 2, v4(1)), Err(EACH / 2));
        attempts.begin(now + EACH, v4(1)).unwrap();
        assert!(attempts.begin(now + EACH, v4(1)).is_err());
        for _ in 0..BURST {
            attempts.begin(now + EACH * 1000, v4(1)).unwrap();
        }
        assert!(attempts.begin(now + EACH * 1000, v4(1)).is_err(), "no more than ten are saved up");
    }

    #[test]
    fn a_right_attempt_costs_nothing() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        for _ in 0..1000 {
            attempts.begin(now, v4(1)).unwrap();
            attempts.give_back(v4(1));
        }
    }

    #[test]
    fn all_addresses_of_a_64_are_one_and_ipv4_is_the_same_through_ipv6() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        let address = |text: String| text.parse::<IpAddr>().unwrap();
        for n in 0..BURST {
            attempts.begin(now, address(format!("2001:db8::{n:x}"))).unwrap();
        }
        assert!(attempts.begin(now, address("2001:db8::ffff".into())).is_err());
        attempts.begin(now, address("2001:db8:0:1::1".into())).unwrap();
        for _ in 0..BURST {
            attempts.begin(now, v4(1)).unwrap();
        }
        assert!(attempts.begin(now, address("::ffff:10.0.0.1".into())).is_err());
    }

    #[test]
    fn memory_is_bounded_and_an_address_that_has_none_left_is_not_forgotten() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        for _ in 0..BURST {
            attempts.begin(now, v4(0)).unwrap();
        }
        for n in 1..10_000 {
            attempts.begin(now, v4(n)).unwrap();
            assert!(attempts.spent.len() <= MOST);
        }
        assert!(attempts.begin(now, v4(0)).is_err());
        attempts.begin(now + EACH * BURST, v4(10_000)).unwrap();
        assert_eq!(attempts.spent.len(), 1, "what is over is forgotten when there is no room");
    }
}
