//! On which interface to join a group. On a wrong one the group is silent, so there is one rule, here; if it cannot
//! decide, the user is asked.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::directory::StationInfo;
use crate::interface::{Interface, interfaces, named};

/// Name or address of the interface on which `station` arrives: the `wanted` one; else the broadcaster's own, if its
/// `directory` is on this machine; else the one with the address `local`, from which the directory is reached. The
/// interface need not exist now: addresses and cards come and go, so the caller looks it up when it joins.
pub fn interface_for_station(
    station: &StationInfo,
    wanted: Option<&str>,
    directory: IpAddr,
    local: IpAddr,
) -> String {
    match wanted {
        Some(wanted) => wanted.to_owned(),
        None if is_here(directory) => station.interface.clone(),
        None => local.to_canonical().to_string(),
    }
}

/// Whether an interface of this machine has the address.
pub fn is_here(address: IpAddr) -> bool {
    let address = address.to_canonical();
    address.is_loopback() || interfaces().is_ok_and(|all| all.iter().any(|i| i.has(address)))
}

/// The interface on which to join a `group` that no directory describes: the `wanted` one; else the one on which this
/// machine would send to it; else the only one that is up (loopback counts if there is no other).
///
/// # Errors
/// There is no such interface, or there are several and no route.
pub fn interface_for_group(group: SocketAddr, wanted: Option<&str>) -> io::Result<Interface> {
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
        "cannot tell on which interface {group} arrives; choose one with --interface: {}",
        choice.join(", ")
    )))
}

/// The address from which this machine reaches the directory at `directory`.
///
/// # Errors
/// There is no route.
pub fn local_address(directory: SocketAddr) -> io::Result<IpAddr> {
    let unreachable = || io::Error::other(format!("no route to the directory at {directory}"));
    local_towards(directory).ok_or_else(unreachable)
}

/// The address from which this machine would send to `there`; `None` without a route. Sends nothing.
fn local_towards(there: SocketAddr) -> Option<IpAddr> {
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
    fn an_interface_is_chosen_by_name_or_address_and_an_unknown_one_is_refused() {
        let lo = interfaces().unwrap().into_iter().find(|i| i.loopback).unwrap();
        assert_eq!(interface_for_group(GROUP, Some(&lo.name)).unwrap(), lo);
        assert_eq!(interface_for_group(GROUP, Some("127.0.0.1")).unwrap(), lo);
        let refused = interface_for_group(GROUP, Some("nosuch0")).unwrap_err();
        assert_eq!(refused.to_string(), "there is no interface nosuch0 on this machine");
    }

    #[test]
    fn the_broadcasters_interface_is_used_if_its_directory_is_on_this_machine() {
        let station = StationInfo {
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
        let chosen = |wanted, directory: IpAddr| interface_for_station(&station, wanted, directory, local);
        assert_eq!(chosen(None, [203, 0, 113, 7].into()), "198.51.100.9");
        assert_eq!(chosen(Some("eth1"), [203, 0, 113, 7].into()), "eth1");
        assert_eq!(chosen(None, "::ffff:127.0.0.1".parse().unwrap()), "eth7");
        // Any address of this machine will do.
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
    fn this_machine_is_reached_from_loopback() {
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        assert_eq!(local_towards(here), Some(Ipv4Addr::LOCALHOST.into()));
    }
}
