//! By which interface to receive. A group is joined on one interface, and on the wrong one it is silent: so the rule
//! is one, here, and what it cannot tell it asks for.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::directory::Entry;
use crate::interface::{Interface, interfaces};

/// The interface on which `entry` comes: the one that is `wanted` by name or address, else the broadcaster's own
/// if its `directory` is on this machine, else the one with the address (`local`) by which the directory is reached.
///
/// # Errors
/// There is no such interface, or none can be told.
pub fn for_station(
    entry: &Entry,
    wanted: Option<&str>,
    directory: IpAddr,
    local: Option<IpAddr>,
) -> io::Result<Interface> {
    let all = interfaces()?;
    if let Some(wanted) = wanted {
        return named(all, wanted);
    }
    let found = if directory.is_loopback() {
        all.into_iter().find(|i| i.name == entry.interface)
    } else {
        all.into_iter().find(|i| local.is_some_and(|local| i.has(local)))
    };
    found.ok_or_else(|| {
        io::Error::other(format!(
            "cannot tell by which interface station {} comes; choose one with --interface",
            entry.id
        ))
    })
}

/// The interface on which a `group` comes of which nothing else is known: the one that is `wanted`, else the one by
/// which this machine would send to it, else the only one there is (loopback counts where there is no other).
///
/// # Errors
/// There is no such interface, or several and no route.
pub fn for_group(group: SocketAddr, wanted: Option<&str>) -> io::Result<Interface> {
    let all = interfaces()?;
    if let Some(wanted) = wanted {
        return named(all, wanted);
    }
    if let Some(local) = local_towards(group)
        && let Some(routed) = all.iter().find(|i| i.has(local))
    {
        return Ok(routed.clone());
    }
    let outward = || all.iter().filter(|i| i.up && !i.loopback);
    let mut candidates = outward().chain(all.iter().filter(|i| i.loopback && outward().next().is_none()));
    if let (Some(only), None) = (candidates.next(), candidates.next()) {
        return Ok(only.clone());
    }
    let choice: Vec<String> = all.iter().map(Interface::to_string).collect();
    Err(io::Error::other(format!(
        "cannot tell by which interface {group} comes; choose one with --interface: {}",
        choice.join(", ")
    )))
}

/// The address that this machine would send from to reach `there`; `None` without a route. Sends nothing.
pub fn local_towards(there: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr =
        if there.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(there).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

fn named(all: Vec<Interface>, wanted: &str) -> io::Result<Interface> {
    let address = wanted.parse().ok();
    let found = all.into_iter().find(|i| i.name == wanted || address.is_some_and(|address| i.has(address)));
    found.ok_or_else(|| io::Error::other(format!("there is no interface {wanted} on this machine")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(239, 1, 2, 3)), 5004);

    #[test]
    fn loopback_is_chosen_by_name_or_address_and_others_are_refused() {
        let lo = interfaces().unwrap().into_iter().find(|i| i.loopback).unwrap();
        assert_eq!(for_group(GROUP, Some(&lo.name)).unwrap(), lo);
        assert_eq!(for_group(GROUP, Some("127.0.0.1")).unwrap(), lo);
        let refused = for_group(GROUP, Some("nosuch0")).unwrap_err();
        assert_eq!(refused.to_string(), "there is no interface nosuch0 on this machine");
    }

    #[test]
    fn the_way_to_this_machine_is_by_loopback() {
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        assert_eq!(local_towards(here), Some(Ipv4Addr::LOCALHOST.into()));
    }
}
