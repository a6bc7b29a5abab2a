//! This machine's network interfaces: which there are, and what fits through each.
//!
//! A multicast sender must say by which interface it sends: the routing table's choice is rarely the
//! operator's, and packets that leave by the wrong interface look exactly like packets that were lost.

#[cfg(feature = "broadcaster")]
pub mod watch;

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};

/// One network interface of this machine, as it was when it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// The kernel's name, such as `eth0`. Unique on a machine.
    pub name: String,
    /// The kernel's number, from 1: what multicast socket options and IPv6 zones take.
    pub index: u32,
    /// The largest IP packet that fits one link frame, in bytes, IP header included.
    pub mtu: u32,
    /// Administratively up. An interface that is down may still come up later.
    pub up: bool,
    /// What is sent here does not leave this machine.
    pub loopback: bool,
    /// Its IPv4 addresses; the one that a [`Choice`] names comes first.
    pub v4: Vec<Ipv4Addr>,
    /// Its IPv6 addresses; the one that a [`Choice`] names comes first.
    pub v6: Vec<Ipv6Addr>,
}

/// The interface that somebody chose, by its name or one of its addresses. What the interface is like, its index, addresses
/// and MTU, is looked up whenever it matters: all of that may change while a station is on air.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The kernel's name, such as `eth0`.
    pub name: String,
    /// The address to send from, if the interface has it and one was chosen.
    pub address: Option<IpAddr>,
}

impl Choice {
    /// The interface among `all`, the chosen address moved to the front of its list; `None` while there is none.
    pub fn find(&self, all: &[Interface]) -> Option<Interface> {
        let mut found = all.iter().find(|one| one.name == self.name)?.clone();
        found.v4.sort_by_key(|own| Some(IpAddr::V4(*own)) != self.address);
        found.v6.sort_by_key(|own| Some(IpAddr::V6(*own)) != self.address);
        Some(found)
    }
}

impl Interface {
    /// Whether `address` is one of this interface's own.
    pub fn has(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.v4.contains(&address),
            IpAddr::V6(address) => self.v6.contains(&address),
        }
    }

    /// The address that packets to `group` come from; `None` while the interface has none of the group's family. Of IPv6, the
    /// system prefers an address that is known beyond the link (RFC 6724, rule 2).
    pub fn source(&self, group: IpAddr) -> Option<IpAddr> {
        if group.is_ipv4() {
            return self.v4.first().copied().map(IpAddr::from);
        }
        let global = self.v6.iter().find(|own| !own.is_unicast_link_local());
        global.or(self.v6.first()).copied().map(IpAddr::from)
    }

    /// Whether a socket that was opened to send to `group` by the interface as it was `before` can go on with it: the interface
    /// has the same index, and still has the address that packets come from.
    pub fn sends_as(&self, before: &Interface, group: IpAddr) -> bool {
        self.index == before.index && before.source(group).is_some_and(|source| self.has(source))
    }
}

#[cfg(test)]
impl Interface {
    /// `eth0`, with two addresses of IPv4 and one of IPv6.
    pub(crate) fn sample() -> Interface {
        Interface {
            name: "eth0".into(),
            index: 2,
            mtu: 1500,
            up: true,
            loopback: false,
            v4: vec![Ipv4Addr::new(192, 0, 2, 7), Ipv4Addr::new(192, 0, 2, 8)],
            v6: vec!["2001:db8::7".parse().unwrap()],
        }
    }
}

/// `eth0 (192.0.2.7, 2001:db8::7)`, `eth1 (down, no address)`.
impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (", self.name)?;
        if !self.up {
            f.write_str("down, ")?;
        }
        let v4 = self.v4.iter().map(Ipv4Addr::to_string);
        let addresses: Vec<String> = v4.chain(self.v6.iter().map(Ipv6Addr::to_string)).collect();
        if addresses.is_empty() { f.write_str("no address)") } else { write!(f, "{})", addresses.join(", ")) }
    }
}

/// The interfaces of this machine, up or down, in the order of their index.
///
/// # Errors
///
/// The system's, when it cannot list them. An interface that vanishes meanwhile is left out.
pub fn interfaces() -> io::Result<Vec<Interface>> {
    let mut found: Vec<Interface> = Vec::new();
    for entry in getifaddrs()? {
        // Linux reports an IPv4 address with a label, "eth0:1", under that label.
        let name = entry.interface_name.split(':').next().unwrap_or_default();
        let at = match found.iter().position(|known| known.name == name) {
            Some(at) => at,
            None => {
                let Ok(index) = if_nametoindex(name) else { continue };
                let loopback = entry.flags.contains(InterfaceFlags::IFF_LOOPBACK);
                found.push(Interface {
                    name: name.to_owned(),
                    index,
                    mtu: mtu(name).unwrap_or(if loopback { MTU_LOOPBACK } else { MTU_LEAST }),
                    up: entry.flags.contains(InterfaceFlags::IFF_UP),
                    loopback,
                    v4: Vec::new(),
                    v6: Vec::new(),
                });
                found.len() - 1
            }
        };
        let Some(address) = entry.address else { continue };
        if let Some(v4) = address.as_sockaddr_in() {
            found[at].v4.push(v4.ip());
        } else if let Some(v6) = address.as_sockaddr_in6() {
            found[at].v6.push(v6.ip());
        }
    }
    found.sort_by_key(|interface| interface.index);
    Ok(found)
}

/// The interface of this machine that goes by this name, or has this address.
///
/// # Errors
///
/// There is none at this moment, or the system cannot list them.
pub fn named(wanted: &str) -> io::Result<Interface> {
    let address = wanted.parse().ok();
    let is_it = |i: &Interface| i.name == wanted || address.is_some_and(|address| i.has(address));
    let found = interfaces()?.into_iter().find(is_it);
    found.ok_or_else(|| io::Error::other(format!("there is no interface {wanted} on this machine")))
}

/// Linux's loopback. Taken where /sys is not mounted, as in some containers.
const MTU_LOOPBACK: u32 = 65_536;
/// What every link that carries IPv6 must carry (RFC 8200 section 5): small, but it gets through.
const MTU_LEAST: u32 = 1280;

fn mtu(name: &str) -> Option<u32> {
    // nix has no safe wrapper of SIOCGIFMTU; the kernel tells the same figure here.
    fs::read_to_string(format!("/sys/class/net/{name}/mtu")).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_loopback_with_its_address_index_and_mtu() {
        let all = interfaces().unwrap();
        let lo = all.iter().find(|interface| interface.loopback).expect("a loopback interface");
        assert!(lo.has(IpAddr::V4(Ipv4Addr::LOCALHOST)), "{lo:?}");
        assert!(lo.index > 0 && lo.mtu >= 1280, "{lo:?}");
    }

    #[test]
    fn each_interface_is_listed_once() {
        let all = interfaces().unwrap();
        for (n, one) in all.iter().enumerate() {
            assert!(all[n + 1..].iter().all(|other| other.name != one.name && other.index != one.index));
        }
    }

    #[test]
    fn it_prints_its_addresses_and_whether_it_is_down() {
        let mut eth0 = Interface {
            name: "eth0".into(),
            index: 2,
            mtu: 1500,
            up: true,
            loopback: false,
            v4: vec![Ipv4Addr::new(192, 0, 2, 7)],
            v6: vec!["2001:db8::7".parse().unwrap()],
        };
        assert_eq!(eth0.to_string(), "eth0 (192.0.2.7, 2001:db8::7)");
        (eth0.up, eth0.v4, eth0.v6) = (false, vec![], vec![]);
        assert_eq!(eth0.to_string(), "eth0 (down, no address)");
    }
}
