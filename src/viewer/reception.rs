//! By which interface to receive. A group is joined on one interface, and on the wrong one it is silent: so the rule
//! is one, here, and what it cannot tell it asks for.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::directory::StationInfo;
use crate::interface::{Interface, interfaces, named};

/// The interface on which `entry` comes, by its name or address: the one that is `wanted`, else the broadcaster's own if
/// its `directory` is on this machine, else the one with the address (`local`) by which the directory is reached. It need
/// not be there: addresses and cards come and go, so whoever joins looks for it then.
pub fn for_station(entry: &StationInfo, wanted: Option<&str>, directory: IpAddr, local: IpAddr) -> String {
    match wanted {
        Some(wanted) => wanted.to_owned(),
        None if is_here(directory) => entry.interface.clone(),
        None => local.to_canonical().to_string(),
    }
}

/// Whether an address is of this machine, of whichever of its interfaces.
pub fn is_here(address: IpAddr) -> bool {
    let address = address.to_canonical();
    address.is_loopback() || interfaces().is_ok_and(|all| all.iter().any(|i| i.has(address)))
}

/// The interface on which a `group` comes of which nothing else is known: the one that is `wanted`, else the one by
/// which this machine would send to it, else the only one there is (loopback counts where there is no other).
///
/// # Errors
/// There is no such interface, or several and no route.
pub fn for_group(group: SocketAddr, wanted: Option<&str>) -> io::Result<Interface> {
    if let Some(wanted) = wanted {
        return named(wanted);
    }
    let all = interfaces()?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::State;
    use crate::media::StationId;

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
    fn a_directory_here_tells_of_interfaces_here() {
        let entry = StationInfo {
            id: StationId(2),
            name: "Two".into(),
            group: GROUP,
            interface: "eth7".into(),
            size: None,
            rate: None,
            quality: 80,
            state: State::Film,
            audience: 0,
        };
        let local = IpAddr::from([198, 51, 100, 9]);
        let chosen = |wanted, directory: IpAddr| for_station(&entry, wanted, directory, local);
        assert_eq!(chosen(None, [203, 0, 113, 7].into()), "198.51.100.9");
        assert_eq!(chosen(Some("eth1"), [203, 0, 113, 7].into()), "eth1");
        assert_eq!(chosen(None, "::ffff:127.0.0.1".parse().unwrap()), "eth7");
        // By any of its addresses.
        for interface in interfaces().unwrap() {
            for address in interface.v4 {
                assert_eq!(chosen(None, address.into()), "eth7", "{address}");
            }
            for address in interface.v6 {
                assert_eq!(chosen(None, address.into()), "eth7", "{address}");
            }
        }
    }

    #[test]
    fn the_way_to_this_machine_is_by_loopback() {
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        assert_eq!(local_towards(here), Some(Ipv4Addr::LOCALHOST.into()));
    }
}
