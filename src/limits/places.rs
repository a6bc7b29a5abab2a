//! Counts open connections, and keeps a few addresses from taking all places.
//!
//! A network (an IPv4 address, or the /64 of an IPv6 address, which is what one customer gets at the least) that has no
//! connection yet gets one as long as any place is free. A network that has some competes for three quarters of the places
//! only, and with fewer of them the fewer are free: it may hold at most [`SHARE`] times the free ones (dynamic thresholds:
//! Choudhury and Hahne, IEEE/ACM ToN 6(2), 1998). So with `most` places, one network gets half of them, two get 30 % each,
//! any number together leaves a quarter to networks that have none.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A network may hold this many times the places that are free for such networks. With 1, one network would get three
/// eighths of all places, and 1,024 viewers behind one address, as in our benchmark, would not get in.
const SHARE: usize = 2;

/// One place in so many is kept for networks without a connection. With 1,024 places these are 256: enough for a
/// well-behaved client beside 250 hostile addresses, however these divide the rest among them.
const KEPT: usize = 4;

/// Counts open connections against a limit in all, a share of it for each network, and a limit for each address.
#[derive(Debug)]
pub(crate) struct ConnectionLimits {
    most: usize,
    most_per_address: usize,
    open: Mutex<OpenConnections>,
}

#[derive(Debug, Default)]
struct OpenConnections {
    all: usize,
    by_address: KeyedCounts<IpAddr>,
    by_network: KeyedCounts<IpAddr>,
}

/// Counts by key. No count is 0, so there are at most as many entries as open connections.
#[derive(Debug)]
struct KeyedCounts<K>(HashMap<K, usize>);

impl<K> Default for KeyedCounts<K> {
    fn default() -> KeyedCounts<K> {
        KeyedCounts(HashMap::new())
    }
}

impl<K: Hash + Eq> KeyedCounts<K> {
    fn get(&self, key: &K) -> usize {
        self.0.get(key).copied().unwrap_or(0)
    }

    fn add(&mut self, key: K) {
        *self.0.entry(key).or_insert(0) += 1;
    }

    fn remove(&mut self, key: &K) {
        match self.get(key) {
            0 | 1 => drop(self.0.remove(key)),
            more => *self.0.get_mut(key).expect("it has a count") = more - 1,
        }
    }
}

impl ConnectionLimits {
    pub(crate) fn new(most: usize, most_per_address: usize) -> Arc<ConnectionLimits> {
        Arc::new(ConnectionLimits { most, most_per_address, open: Mutex::default() })
    }

    /// A permit for a connection from `address`, or the sentence that refuses it. An IPv4 address counts as the same
    /// whether it came by an IPv4 or an IPv6 socket.
    pub(crate) fn try_acquire(self: &Arc<Self>, address: IpAddr) -> Result<Permit, String> {
        let address = address.to_canonical();
        let network = network(address);
        let mut open = self.lock();
        let free = self.most.saturating_sub(open.all);
        if free == 0 {
            return Err(format!("all {} connections are taken; try again later", self.most));
        }
        let here = open.by_address.get(&address);
        if here >= self.most_per_address {
            return Err(format!("{here} connections from {address} are open already: close some first"));
        }
        let held = open.by_network.get(&network);
        let shared = free.saturating_sub(self.most / KEPT);
        if held > 0 && held >= SHARE * shared {
            let from = if network == address { address.to_string() } else { format!("{network}/64") };
            return Err(format!(
                "{held} connections from {from} are open already, and few places are free: close some first"
            ));
        }
        open.by_address.add(address);
        open.by_network.add(network);
        open.all += 1;
        Ok(Permit { limits: Arc::clone(self), address })
    }

    fn release(&self, address: IpAddr) {
        let mut open = self.lock();
        open.all -= 1;
        open.by_address.remove(&address);
        open.by_network.remove(&network(address));
    }

    fn lock(&self) -> MutexGuard<'_, OpenConnections> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first address of the network that shares its places: for IPv6 the /64, in which one host may have any number of
/// addresses; for IPv4 the address itself.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

/// A connection's share of the limits, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    limits: Arc<ConnectionLimits>,
    address: IpAddr,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.limits.release(self.address);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn connections_are_bounded_in_all_and_by_address_and_permits_come_back() {
        let limits = ConnectionLimits::new(3, 2);
        let [a, b, c] = ["10.0.0.1", "10.0.0.2", "::ffff:10.0.0.1"].map(|ip| ip.parse::<IpAddr>().unwrap());
        let first = limits.try_acquire(a).unwrap();
        let second = limits.try_acquire(c).unwrap();
        assert_eq!(
            limits.try_acquire(a).unwrap_err(),
            "2 connections from 10.0.0.1 are open already: close some first"
        );
        let third = limits.try_acquire(b).unwrap();
        assert_eq!(limits.try_acquire(b).unwrap_err(), "all 3 connections are taken; try again later");
        drop(first);
        let fourth = limits.try_acquire(a).unwrap();
        drop((second, third, fourth));
        let open = limits.lock();
        assert_eq!((open.all, open.by_address.0.len(), open.by_network.0.len()), (0, 0, 0));
    }

    /// Each of the addresses in turn asks for another connection, until none gets one.
    fn fill(limits: &Arc<ConnectionLimits>, addresses: &[IpAddr]) -> Vec<Permit> {
        let mut held = Vec::new();
        loop {
            let before = held.len();
            held.extend(addresses.iter().filter_map(|&address| limits.try_acquire(address).ok()));
            if held.len() == before {
                return held;
            }
        }
    }

    fn v4(n: u32) -> IpAddr {
        Ipv4Addr::from_bits(0x0a00_0000 + n).into()
    }

    #[test]
    fn one_address_gets_half_of_the_places_and_few_addresses_together_leave_a_quarter() {
        for (addresses, held) in [(1, 1024), (2, 1228), (3, 1316), (10, 1463)] {
            let limits = ConnectionLimits::new(2048, 2048);
            let addresses: Vec<IpAddr> = (1..=addresses).map(v4).collect();
            let held_by_them = fill(&limits, &addresses);
            assert!(held_by_them.len().abs_diff(held) <= 10, "{addresses:?} hold {}", held_by_them.len());
            let others: Vec<Permit> = (100..612).map(|n| limits.try_acquire(v4(n)).unwrap()).collect();
            assert_eq!(others.len(), 2048 / KEPT);
        }
    }

    #[test]
    fn an_address_whose_share_is_used_up_is_told_how_many_it_has() {
        let limits = ConnectionLimits::new(8, 8);
        let _held = fill(&limits, &[v4(1)]);
        assert_eq!(
            limits.try_acquire(v4(1)).unwrap_err(),
            "4 connections from 10.0.0.1 are open already, and few places are free: close some first"
        );
        let limits = ConnectionLimits::new(8, 8);
        let one: Vec<IpAddr> = (1..=8).map(|n| format!("2001:db8:0:7::{n}").parse().unwrap()).collect();
        let held = fill(&limits, &one);
        assert_eq!(held.len(), 4, "all addresses of a /64 together have the share of one");
        assert_eq!(
            limits.try_acquire(one[7]).unwrap_err(),
            "4 connections from 2001:db8:0:7::/64 are open already, and few places are free: close some first"
        );
        limits.try_acquire("2001:db8:0:8::1".parse().unwrap()).unwrap();
        drop(held);
        assert!(limits.lock().by_network.0.is_empty());
    }

    proptest! {
        /// The hostile addresses ask and close in any order. Then each of them asks until it gets no more.
        #[test]
        fn a_well_behaved_client_gets_in_beside_250_hostile_addresses(
            steps in proptest::collection::vec((0_u32..250, any::<bool>()), 0..5000),
        ) {
            let limits = ConnectionLimits::new(1024, 256);
            let mut held: Vec<Vec<Permit>> = (0..250).map(|_| Vec::new()).collect();
            for (n, opens) in steps {
                if opens {
                    held[n as usize].extend(limits.try_acquire(v4(n)));
                } else {
                    held[n as usize].pop();
                }
            }
            let addresses: Vec<IpAddr> = (0..250).map(v4).collect();
            let _rest = fill(&limits, &addresses);
            prop_assert!(limits.try_acquire(v4(1000)).is_ok());
        }

        #[test]
        fn what_was_taken_is_given_back(steps in proptest::collection::vec((0_u32..6, any::<bool>()), 0..200)) {
            let limits = ConnectionLimits::new(16, 5);
            let mut held = Vec::new();
            for (n, opens) in steps {
                if opens {
                    held.extend(limits.try_acquire(v4(n)));
                } else {
                    held.pop();
                }
                prop_assert_eq!(limits.lock().all, held.len());
                prop_assert!(held.len() <= 16);
            }
            drop(held);
            prop_assert!(limits.lock().by_address.0.is_empty() && limits.lock().by_network.0.is_empty());
        }
    }

    /// The strategy that takes the most: some addresses hold back until the others have filled the shared places.
    #[test]
    fn hostile_addresses_that_wait_for_the_kept_places_do_not_get_all_of_them() {
        for most in [1024, 2048] {
            let limits = ConnectionLimits::new(most, most);
            let (early, late): (Vec<IpAddr>, Vec<IpAddr>) =
                ((0..125).map(v4).collect(), (125..250).map(v4).collect());
            let _early = fill(&limits, &early);
            let _late = fill(&limits, &late);
            assert!(limits.try_acquire(v4(1000)).is_ok(), "{most}");
        }
    }
}
