//! Who may come in: connections counted, in all and by address; and what repeats, counted for the log.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The connections there are, and how many there may be.
#[derive(Debug)]
pub(crate) struct Doors {
    most: usize,
    most_per_address: usize,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    all: usize,
    by_address: HashMap<IpAddr, usize>, // none of them 0: no longer than `all`
}

impl Doors {
    pub(crate) fn new(most: usize, most_per_address: usize) -> Arc<Doors> {
        Arc::new(Doors { most, most_per_address, inside: Mutex::default() })
    }

    /// A place for a connection from `address`, held until it is dropped; or why there is none. An
    /// IPv4 address is the same whether it came by an IPv4 or an IPv6 socket.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Result<Place, String> {
        let address = address.to_canonical();
        let mut inside = self.lock();
        if inside.all >= self.most {
            return Err(format!("all {} places are taken; try again later", self.most));
        }
        let here = inside.by_address.get(&address).copied().unwrap_or(0);
        if here >= self.most_per_address {
            return Err(format!("{here} connections from {address} are open already: close some first"));
        }
        inside.by_address.insert(address, here + 1);
        inside.all += 1;
        Ok(Place { doors: Arc::clone(self), address })
    }

    fn leave(&self, address: IpAddr) {
        let mut inside = self.lock();
        inside.all -= 1;
        let left = inside.by_address.get(&address).map_or(0, |here| here - 1);
        if left == 0 {
            inside.by_address.remove(&address);
        } else {
            inside.by_address.insert(address, left);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    doors: Arc<Doors>,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.doors.leave(self.address);
    }
}

/// Counts what happens again and again, and says so at most once a second.
#[derive(Debug, Default)]
pub(crate) struct Repeats {
    said: Option<Instant>,
    since: u64,
}

impl Repeats {
    /// Notes one more at `now`; `Some` when it is time to say it, with how many there were since
    /// it was last said.
    pub(crate) fn note(&mut self, now: Instant) -> Option<u64> {
        self.since += 1;
        if self.said.is_some_and(|said| now.duration_since(said) < Duration::from_secs(1)) {
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_in_all_and_by_address_and_come_free() {
        let doors = Doors::new(3, 2);
        let [a, b, c] = ["10.0.0.1", "10.0.0.2", "::ffff:10.0.0.1"].map(|ip| ip.parse::<IpAddr>().unwrap());
        let first = doors.enter(a).unwrap();
        let second = doors.enter(c).unwrap();
        assert_eq!(
            doors.enter(a).unwrap_err(),
            "2 connections from 10.0.0.1 are open already: close some first"
        );
        let third = doors.enter(b).unwrap();
        assert_eq!(doors.enter(b).unwrap_err(), "all 3 places are taken; try again later");
        drop(first);
        let fourth = doors.enter(a).unwrap();
        drop((second, third, fourth));
        let inside = doors.lock();
        assert_eq!((inside.all, inside.by_address.len()), (0, 0), "nothing is kept of who has left");
    }

    #[tokio::test(start_paused = true)]
    async fn repeats_are_said_once_a_second_with_their_count() {
        let mut repeats = Repeats::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let said: Vec<_> =
            [0, 1, 500, 999, 1000, 1001, 5000].into_iter().map(|ms| repeats.note(at(ms))).collect();
        assert_eq!(said, [Some(1), None, None, None, Some(4), None, Some(2)]);
    }
}
