//! This machine's network interfaces: their names, addresses and MTUs.
//!
//! A multicast sender must name its interface: the routing table's choice is rarely the operator's, and packets sent by the wrong
//! interface look like lost packets.
//!
//! Any room may import it. It imports nothing of ours.

#[cfg(feature = "broadcaster")]
pub mod netlink;

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};

/// A network interface of this machine, as it was when it was looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// The kernel's name, such as `eth0`. Unique on a machine.
    pub name: String,
    /// The kernel's number, from 1, as in multicast socket options and IPv6 zones.
    pub index: u32,
    /// Largest IP packet in one link frame, in bytes, IP header included.
    pub mtu: u32,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether packets sent by it stay on this machine.
    pub loopback: bool,
    /// IPv4 addresses. The address that a [`Choice`] names comes first.
    pub v4: Vec<Ipv4Addr>,
    /// IPv6 addresses. The address that a [`Choice`] names comes first.
    pub v6: Vec<Ipv6Addr>,
}

/// The interface that the line-up chooses, by name or by address. Its index, addresses and MTU are looked up whenever they are
/// needed, since all of them may change while a station is on air.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The kernel's name, such as `eth0`.
    pub name: String,
    /// The address to send from, if one was chosen. Preferred only while the interface has it.
    pub address: Option<IpAddr>,
}

impl Choice {
    /// The chosen interface, if it is among `all`. The chosen address comes first in its list.
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

    /// The source address of packets to `group`; `None` if the interface has no address of the group's family. Of IPv6
    /// addresses, the system prefers one that is not link-local (RFC 6724 section 5, rule 2).
    pub fn source(&self, group: IpAddr) -> Option<IpAddr> {
        if group.is_ipv4() {
            return self.v4.first().copied().map(IpAddr::from);
        }
        let global = self.v6.iter().find(|own| !own.is_unicast_link_local());
        global.or(self.v6.first()).copied().map(IpAddr::from)
    }

    /// Whether a socket that was opened to send to `group` by the interface as it was `before` still works: the interface has
    /// the same index, and still has the source address.
    pub fn sends_as(&self, before: &Interface, group: IpAddr) -> bool {
        self.index == before.index && before.source(group).is_some_and(|source| self.has(source))
    }
}

#[cfg(test)]
impl Interface {
    /// `eth0`, with two IPv4 addresses and one IPv6 address.
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
/// The system cannot list them. An interface that vanishes meanwhile is left out.
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

/// The interface of this machine that has this name or address.
///
/// # Errors
///
/// There is no such interface at this moment, or the system cannot list them.
pub fn named(wanted: &str) -> io::Result<Interface> {
    let address = wanted.parse().ok();
    let is_it = |i: &Interface| i.name == wanted || address.is_some_and(|address| i.has(address));
    let found = interfaces()?.into_iter().find(is_it);
    found.ok_or_else(|| io::Error::other(format!("there is no interface {wanted} on this machine")))
}

/// MTU of Linux's loopback, assumed if /sys is not mounted, as in some containers.
const MTU_LOOPBACK: u32 = 65_536;

/// MTU of any other interface, assumed if /sys is not mounted: the least for IPv6 (RFC 8200 section 5), which always gets through.
const MTU_LEAST: u32 = 1280;

fn mtu(name: &str) -> Option<u32> {
    // nix has no safe wrapper of SIOCGIFMTU. The same number is here.
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
