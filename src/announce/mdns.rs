//! Announces the directory to viewers, by multicast DNS (RFC 6762), as the DNS-SD service `_stationcast._tcp` (RFC 6763).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mdns_sd::{DaemonEvent, IfKind, ServiceDaemon, ServiceInfo};
use tracing::{debug, info, warn};

use crate::access::Grant;
use crate::directory::SERVICE;
use crate::headend::{Handles, HeadEnd};
use crate::interface::Interface;
use crate::lineup::Lineup;

/// Pause before another attempt, after the system has refused a socket or a thread.
const RETRY: Duration = Duration::from_secs(30);

/// Longest time for the goodbye at the end: one packet on each interface.
const GOODBYE: Duration = Duration::from_secs(1);

/// Most bytes of this machine's name in the service's names. A DNS label has 63.
const MAX_HOST: usize = 32;

/// The announcement of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Service {
    listen: SocketAddr,
    /// The ports of the outputs that other machines can reach.
    outputs: Vec<(&'static str, String)>,
}

/// What is announced, and where.
#[derive(Debug, PartialEq)]
struct Announcement {
    /// Number of stations.
    stations: usize,
    /// The indices of the stations' interfaces: elsewhere there is nothing to watch. Never loopback's.
    indices: Vec<u32>,
}

impl Service {
    /// For a directory that listens on `listen`; `None` if no other machine could reach it. Outputs that listen on loopback are
    /// left out.
    pub(super) fn new(listen: SocketAddr, lineup: &Lineup) -> Option<Service> {
        if listen.ip().is_loopback() {
            return None;
        }
        let mut outputs = Vec::new();
        for (name, output) in [("rtsp", lineup.rtsp), ("http", lineup.http)] {
            let output = output.filter(|output| !output.ip().is_loopback());
            outputs.extend(output.map(|output| (name, output.port().to_string())));
        }
        Some(Service { listen, outputs })
    }

    /// What is announced for `stations`, by the interfaces there are now; `None` if no station leaves this machine.
    fn announcement(&self, stations: &Handles, all: &[Interface]) -> Option<Announcement> {
        let found: Vec<_> = stations.values().map(|station| station.spec().interface.find(all)).collect();
        let loopback = |one: &Option<Interface>| one.as_ref().is_some_and(|one| one.loopback);
        if self.listen.ip().is_unspecified() && found.iter().all(loopback) {
            return None;
        }
        let leaving = found.iter().flatten().filter(|one| !one.loopback);
        let mut indices: Vec<u32> = leaving.map(|one| one.index).collect();
        indices.sort_unstable();
        indices.dedup();
        // Those that everybody finds in the directory.
        let open = stations.values().filter(|station| station.spec().is_open_to(&Grant::default()));
        Some(Announcement { stations: open.count(), indices })
    }

    fn txt(&self, stations: usize) -> Vec<(&'static str, String)> {
        let mut txt = vec![
            ("txtvers", "1".to_owned()),
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("stations", stations.to_string()),
        ];
        txt.extend(self.outputs.iter().cloned());
        txt
    }

    /// The interfaces on which it is announced: the interface of the address that the directory listens on, or, if it listens on
    /// every address, those with these indices.
    fn on(&self, indices: &[u32]) -> Vec<IfKind> {
        if !self.listen.ip().is_unspecified() {
            return vec![IfKind::Addr(self.listen.ip())];
        }
        let mut kinds: Vec<IfKind> = indices.iter().copied().map(IfKind::IndexV4).collect();
        if self.listen.is_ipv6() {
            kinds.extend(indices.iter().copied().map(IfKind::IndexV6));
        }
        kinds
    }
}

/// Announces the directory until `end` is ready, then says goodbye and returns what `end` gave. If the interface of a station gets another index, or
/// stations come or go, the announcement begins anew.
#[expect(clippy::disallowed_methods, reason = "a shell: it waits before it tries again")]
pub(super) async fn announce(
    service: &Service,
    head_end: Arc<HeadEnd>,
    end: impl Future<Output = bool>,
) -> bool {
    let mut end = std::pin::pin!(end);
    let mut interfaces = head_end.network.interfaces.clone();
    let mut stations = head_end.station_changes();
    loop {
        let announcement =
            service.announcement(&stations.borrow_and_update(), &interfaces.borrow_and_update());
        let changed = async {
            while service.announcement(&stations.borrow(), &interfaces.borrow()) == announcement {
                tokio::select! {
                    Ok(()) = stations.changed() => {}
                    Ok(()) = interfaces.changed() => {}
                    else => std::future::pending().await,
                }
            }
        };
        let Some(announced) = &announcement else {
            tokio::select! {
                stopping = &mut end => return stopping,
                () = changed => continue,
            }
        };
        let daemon = match register(service, announced) {
            Ok(daemon) => daemon,
            Err(error) => {
                let seconds = RETRY.as_secs();
                warn!("the directory is not announced by mDNS: {error}; this is tried again in {seconds} s");
                tokio::select! {
                    stopping = &mut end => return stopping,
                    () = tokio::time::sleep(RETRY) => continue,
                }
            }
        };
        if let Ok(events) = daemon.monitor() {
            // Ends with the mDNS daemon.
            tokio::task::spawn_blocking(move || events.iter().for_each(log_event));
        }
        let ended = tokio::select! {
            stopping = &mut end => Some(stopping),
            () = changed => None,
        };
        let goodbye = move || daemon.shutdown().map(|done| done.recv_timeout(GOODBYE).is_ok());
        if !matches!(tokio::task::spawn_blocking(goodbye).await, Ok(Ok(true))) {
            debug!("mDNS: no goodbye was sent");
        }
        if let Some(stopping) = ended {
            return stopping;
        }
    }
}

fn register(service: &Service, announcement: &Announcement) -> mdns_sd::Result<ServiceDaemon> {
    let on = service.on(&announcement.indices);
    let port = service.listen.port();
    let host_name = format!("{}.", host_name(port));
    let name = format!("stationcast on {}", host());
    let mut info =
        ServiceInfo::new(SERVICE, &name, &host_name, (), port, &service.txt(announcement.stations)[..])?
            .enable_addr_auto();
    info.set_interfaces(on.clone());
    let daemon = ServiceDaemon::new()?;
    // The daemon starts with every interface enabled. It obeys commands in order, so nothing is sent before this choice.
    daemon.disable_interface(IfKind::All)?;
    daemon.enable_interface(on)?;
    daemon.register(info)?;
    Ok(daemon)
}

/// The host name under which a directory on `port` is announced. It is not the machine's: that belongs to the machine's mDNS
/// responder, and another broadcaster on the same machine would withdraw this one's addresses when it ends.
pub(super) fn host_name(port: u16) -> String {
    format!("stationcast-{}-{port}.local", host())
}

/// This machine's name as part of a DNS label.
fn host() -> String {
    let name = rustix::system::uname();
    label(&name.nodename().to_string_lossy())
}

fn label(name: &str) -> String {
    let first = name.split('.').next().unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let label: String = first.chars().map(plain).take(MAX_HOST).collect();
    let label = label.trim_matches('-');
    if label.is_empty() { "host".to_owned() } else { label.to_owned() }
}

fn log_event(event: DaemonEvent) {
    match event {
        DaemonEvent::Announce(name, address) => info!("announced by mDNS: {name} {address}"),
        DaemonEvent::NameChange(change) => {
            info!("mDNS: the name {} is taken on this network; using {}", change.original, change.new_name);
        }
        DaemonEvent::Error(error) => warn!("mDNS: {error}"),
        event => debug!("mDNS: {event:?}"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::path::Path;

    use super::*;
    use crate::headend::handles;
    use crate::lineup::{MediaKind, World};
    use crate::media::StationId;

    const LINEUP: &str = r#"
[directory]
listen = "0.0.0.0:9688"
[rtsp]
listen = "0.0.0.0:8554"
[http]
listen = "127.0.0.1:8088"
[[station]]
id = 1
name = "First"
media = "a.mp4"
group = "239.77.0.1:5004"
interface = "eth0"
[[station]]
id = 2
name = "Second"
media = "a.mp4"
group = "239.77.0.2:5004"
"#;

    fn world() -> World {
        let v4 = vec![Ipv4Addr::LOCALHOST];
        let loopback =
            Interface { name: "lo".into(), index: 1, loopback: true, v4, v6: vec![], ..Interface::sample() };
        World {
            interfaces: vec![loopback, Interface::sample()],
            home: None,
            cache: None,
            state: None,
            media: Box::new(|_| MediaKind::File),
            sound: Box::new(|_, _| false),
        }
    }

    fn lineup() -> Lineup {
        Lineup::parse(LINEUP, Path::new("stations.toml"), &world()).unwrap()
    }

    fn service(listen: &str) -> Option<Service> {
        Service::new(listen.parse().unwrap(), &lineup())
    }

    fn stations() -> Handles {
        Handles::clone(&handles(lineup().stations).borrow())
    }

    #[test]
    fn the_directory_is_announced_where_viewers_can_reach_it_and_its_stations() {
        let on = |listen| {
            let service = service(listen)?;
            let announcement = service.announcement(&stations(), &world().interfaces)?;
            Some(format!("{:?}", service.on(&announcement.indices)))
        };
        assert_eq!(on("127.0.0.1:9688"), None);
        assert_eq!(on("[::1]:9688"), None);
        assert_eq!(on("192.0.2.7:9688").as_deref(), Some("[Addr(192.0.2.7)]"));
        assert_eq!(on("0.0.0.0:9688").as_deref(), Some("[IndexV4(2)]"));
        assert_eq!(on("[::]:9688").as_deref(), Some("[IndexV4(2), IndexV6(2)]"));
    }

    #[test]
    fn the_announcement_follows_the_stations() {
        let service = service("0.0.0.0:9688").unwrap();
        let mut stations = stations();
        let announced = |stations: &Handles| service.announcement(stations, &world().interfaces);
        assert_eq!(announced(&stations), Some(Announcement { stations: 2, indices: vec![2] }));
        stations.remove(&StationId(2));
        assert_eq!(announced(&stations), Some(Announcement { stations: 1, indices: vec![2] }));
        let mut stations = self::stations();
        stations.remove(&StationId(1));
        assert_eq!(announced(&stations), None, "the other one never leaves loopback");
        assert_eq!(announced(&Handles::new()), None);
    }

    #[test]
    fn an_interface_that_was_created_anew_is_found_by_its_new_index() {
        let service = service("0.0.0.0:9688").unwrap();
        let indices =
            |interfaces: &[Interface]| service.announcement(&stations(), interfaces).unwrap().indices;
        let mut interfaces = world().interfaces;
        interfaces[1].index = 9;
        assert_eq!(indices(&interfaces), [9]);
        interfaces.pop();
        assert!(indices(&interfaces).is_empty());
    }

    #[test]
    fn outputs_on_loopback_are_left_out() {
        let txt = service("0.0.0.0:9688").unwrap().txt(2);
        assert_eq!(txt[2..], [("stations", "2".to_owned()), ("rtsp", "8554".to_owned())]);
    }

    #[test]
    fn any_host_name_becomes_a_valid_label() {
        for (name, expected) in [
            ("tower", "tower"),
            ("tower.example.org", "tower"),
            ("", "host"),
            ("dé_1", "d--1"),
            ("---", "host"),
        ] {
            assert_eq!(label(name), expected);
        }
        assert_eq!(label(&"x".repeat(100)).len(), MAX_HOST);
    }
}
