//! Which directory to use if the user names none: the one on this machine, else the one announced on the network by
//! multicast DNS.

#![expect(clippy::disallowed_methods, reason = "a shell: it listens for a time")]

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6, TcpStream, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

use mdns_sd::{IfKind, ResolvedService, ScopedIp, ServiceDaemon, ServiceEvent};
use tracing::warn;

use crate::directory::{PORT, SERVICE};

/// Default address of a directory.
pub const HERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT);

/// Timeout for a directory to accept a connection, before the next address is tried.
const KNOCK: Duration = Duration::from_secs(1);

/// How long a search of the network lasts. It does not end with the first answer, so that the choice does not depend on
/// which directory is the quickest. As measured, answers arrive within a second, and a lost query is repeated after
/// one.
const LISTEN: Duration = Duration::from_secs(2);

/// Most directories that a search collects: a stranger could announce any number.
const MOST: usize = 64;

/// A directory on the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundDirectory {
    /// Its own name for itself.
    pub name: String,
    /// Address on which it listens.
    pub address: SocketAddr,
}

impl fmt::Display for FoundDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Anyone can announce a name: no control characters for the terminal.
        let name: String = self.name.chars().filter(|c| !c.is_control()).collect();
        write!(f, "{name} at {}", self.address)
    }
}

/// Result of a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Search {
    /// There is a directory on this machine, at [`HERE`].
    Here,
    /// The directories announced on the network, sorted by name; possibly none.
    Network(Vec<FoundDirectory>),
}

/// The address of `HOST:PORT`. If the name has several, it is the first one that accepts a connection, else the first:
/// the name may have an IPv6 address although the directory listens on IPv4 only.
///
/// # Errors
/// The text is not a host and a port, or the name cannot be resolved now.
pub fn resolve(named: &str) -> io::Result<SocketAddr> {
    let addresses: Vec<SocketAddr> = named.to_socket_addrs()?.collect();
    first_to_accept(&addresses).ok_or_else(|| io::Error::other("this name has no address"))
}

fn first_to_accept(addresses: &[SocketAddr]) -> Option<SocketAddr> {
    let (&first, others) = addresses.split_first()?;
    let accepts = |address: &&SocketAddr| TcpStream::connect_timeout(address, KNOCK).is_ok();
    if others.is_empty() { Some(first) } else { Some(*addresses.iter().find(accepts).unwrap_or(&first)) }
}

/// Repeats [`search`] until there is exactly one directory: a viewer may be started before the broadcaster.
pub fn wait(interface: Option<&str>) -> SocketAddr {
    let mut logged = 0;
    loop {
        match search(interface) {
            Ok(Search::Here) => return HERE,
            Ok(Search::Network(found)) => match found.as_slice() {
                [one] => return one.address,
                several => {
                    if several.len() > logged {
                        let list: Vec<String> = several.iter().map(FoundDirectory::to_string).collect();
                        warn!("several broadcasters; choose one with --directory: {}", list.join(", "));
                    }
                    logged = several.len();
                }
            },
            Err(error) => {
                warn!("cannot search the network: {error}");
                thread::sleep(LISTEN);
            }
        }
    }
}

/// Searches for a directory on this machine and, if there is none, on the network for two seconds: on all interfaces,
/// or on the one with the name or address `interface`.
///
/// # Errors
/// The system refuses a thread for the search.
pub fn search(interface: Option<&str>) -> mdns_sd::Result<Search> {
    if TcpStream::connect_timeout(&HERE, KNOCK).is_ok() {
        return Ok(Search::Here);
    }
    let daemon = ServiceDaemon::new()?;
    // The daemon handles commands in order, so the interfaces are chosen before the first query.
    daemon.disable_interface(vec![IfKind::LoopbackV4, IfKind::LoopbackV6])?;
    if let Some(interface) = interface {
        daemon.disable_interface(IfKind::All)?;
        daemon.enable_interface(match interface.parse::<IpAddr>() {
            Ok(address) => IfKind::Addr(address),
            Err(_) => IfKind::Name(interface.to_owned()),
        })?;
    }
    let answers = daemon.browse(SERVICE)?;
    let mut found = BTreeMap::new();
    let until = Instant::now() + LISTEN;
    while let Ok(event) = answers.recv_deadline(until) {
        match event {
            ServiceEvent::ServiceResolved(service) => {
                let room = found.len() < MOST;
                if let Some(directory) = directory(&service).filter(|_| room) {
                    found.insert(service.fullname.clone(), directory);
                }
            }
            ServiceEvent::ServiceRemoved(_, name) => {
                found.remove(&name);
            }
            _ => {}
        }
    }
    // Its thread ends by itself, and a search has announced nothing to withdraw.
    let _ = daemon.shutdown();
    Ok(Search::Network(found.into_values().collect()))
}

/// The directory behind a resolved service; `None` without an address. Of several addresses, prefers those that work
/// without knowing an interface: IPv4, then global IPv6, then link-local IPv6.
fn directory(service: &ResolvedService) -> Option<FoundDirectory> {
    let addresses = service.addresses.iter().filter_map(|address| match address {
        ScopedIp::V4(v4) => Some(SocketAddr::from((*v4.addr(), service.port))),
        ScopedIp::V6(v6) => {
            let zone = if v6.addr().is_unicast_link_local() { v6.scope_id().index } else { 0 };
            Some(SocketAddrV6::new(*v6.addr(), service.port, 0, zone).into())
        }
        _ => None,
    });
    let rank = |address: &SocketAddr| match address {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(v6) => 1 + u8::from(v6.ip().is_unicast_link_local()),
    };
    let address = addresses.min_by_key(|address| (rank(address), *address))?;
    let name = service.fullname.strip_suffix(SERVICE).unwrap_or(&service.fullname);
    Some(FoundDirectory { name: name.trim_end_matches('.').to_owned(), address })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn of_the_addresses_of_a_name_the_one_that_accepts_is_used() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let open = listener.local_addr().unwrap();
        let shut = ["[::1]:1", "127.0.0.1:1"].map(|address| address.parse::<SocketAddr>().unwrap());
        assert_eq!(first_to_accept(&[shut[0], open, shut[1]]), Some(open));
        assert_eq!(first_to_accept(&shut), Some(shut[0]), "it may accept later");
        assert_eq!(first_to_accept(&[shut[1]]), Some(shut[1]));
        assert_eq!(first_to_accept(&[]), None);
        assert!(resolve("nothing").is_err());
        assert_eq!(resolve("192.0.2.7:9688").unwrap().to_string(), "192.0.2.7:9688");
    }
}
