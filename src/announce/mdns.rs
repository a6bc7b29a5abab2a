//! Announces the directory to viewers, by multicast DNS (RFC 6762), as the DNS-SD service `_stationcast._tcp` (RFC 6763).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mdns_sd::{DaemonEvent, IfKind, ServiceDaemon, ServiceInfo};
use tracing::{debug, info, warn};

use crate::directory::SERVICE;
use crate::headend::HeadEnd;
use crate::interface::{Choice, Interface};
use crate::lineup::{Lineup, StationSpec};

/// Longest time for the goodbye at the end: one packet on each interface.
const GOODBYE: Duration = Duration::from_secs(1);

/// Most bytes of this machine's name in the service's names. A DNS label has 63.
const MAX_HOST: usize = 32;

/// The announcement of a directory.
#[derive(Debug)]
pub(super) struct Service {
    listen: SocketAddr,
    /// The interfaces of the stations.
    stations: Vec<Choice>,
    txt: Vec<(&'static str, String)>,
}

impl Service {
    /// For a directory that listens on `listen`; `None` if no other machine could reach it, or if no station leaves this machine.
    /// Outputs that listen on loopback are left out.
    pub(super) fn new(listen: SocketAddr, lineup: &Lineup) -> Option<Service> {
        let loopback = |station: &StationSpec| {
            station.interface.find(&lineup.interfaces).is_some_and(|interface| interface.loopback)
        };
        let useless = listen.ip().is_unspecified() && lineup.stations.iter().all(loopback);
        if listen.ip().is_loopback() || useless {
            return None;
        }
        let mut txt = vec![
            ("txtvers", "1".to_owned()),
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("stations", lineup.stations.len().to_string()),
        ];
        for (name, output) in [("rtsp", lineup.rtsp), ("http", lineup.http)] {
            let output = output.filter(|output| !output.ip().is_loopback());
            txt.extend(output.map(|output| (name, output.port().to_string())));
        }
        let stations = lineup.stations.iter().map(|station| station.interface.clone()).collect();
        Some(Service { listen, stations, txt })
    }

    /// The indices that the stations' interfaces have now: elsewhere there is nothing to watch. Never loopback's.
    fn indices(&self, all: &[Interface]) -> Vec<u32> {
        let own = self.stations.iter().filter_map(|station| station.find(all));
        let mut indices: Vec<u32> = own.filter(|one| !one.loopback).map(|one| one.index).collect();
        indices.sort_unstable();
        indices.dedup();
        indices
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

/// Announces the directory until the head-end stops, then says goodbye. If the interface of a station gets another index, the
/// announcement begins anew.
pub(super) async fn announce(service: Service, head_end: Arc<HeadEnd>) {
    let mut current = head_end.network.interfaces.clone();
    loop {
        let indices = service.indices(&current.borrow_and_update());
        let daemon = match register(&service, service.on(&indices)) {
            Ok(daemon) => daemon,
            Err(error) => {
                warn!("the directory is not announced by mDNS: {error}");
                return;
            }
        };
        if let Ok(events) = daemon.monitor() {
            // Ends with the mDNS daemon.
            tokio::task::spawn_blocking(move || events.iter().for_each(log_event));
        }
        let stopping = tokio::select! {
            () = head_end.stopping() => true,
            Ok(_) = current.wait_for(|now| service.indices(now) != indices) => false,
        };
        let goodbye = move || daemon.shutdown().map(|done| done.recv_timeout(GOODBYE).is_ok());
        if !matches!(tokio::task::spawn_blocking(goodbye).await, Ok(Ok(true))) {
            debug!("mDNS: no goodbye was sent");
        }
        if stopping {
            return;
        }
    }
}

fn register(service: &Service, on: Vec<IfKind>) -> mdns_sd::Result<ServiceDaemon> {
    let port = service.listen.port();
    let host_name = format!("{}.", host_name(port));
    let name = format!("stationcast on {}", host());
    let mut info =
        ServiceInfo::new(SERVICE, &name, &host_name, (), port, &service.txt[..])?.enable_addr_auto();
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
    use crate::lineup::{MediaKind, World};

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
            media: Box::new(|_| MediaKind::File),
        }
    }

    fn service(listen: &str, text: &str) -> Option<Service> {
        Service::new(
            listen.parse().unwrap(),
            &Lineup::parse(text, Path::new("stations.toml"), &world()).unwrap(),
        )
    }

    #[test]
    fn the_directory_is_announced_where_viewers_can_reach_it_and_its_stations() {
        let on = |listen| {
            service(listen, LINEUP)
                .map(|service| format!("{:?}", service.on(&service.indices(&world().interfaces))))
        };
        assert_eq!(on("127.0.0.1:9688"), None);
        assert_eq!(on("[::1]:9688"), None);
        assert_eq!(on("192.0.2.7:9688").as_deref(), Some("[Addr(192.0.2.7)]"));
        assert_eq!(on("0.0.0.0:9688").as_deref(), Some("[IndexV4(2)]"));
        assert_eq!(on("[::]:9688").as_deref(), Some("[IndexV4(2), IndexV6(2)]"));
        assert!(service("0.0.0.0:9688", &LINEUP.replace("interface = \"eth0\"\n", "")).is_none());
    }

    #[test]
    fn an_interface_that_was_created_anew_is_found_by_its_new_index() {
        let service = service("0.0.0.0:9688", LINEUP).unwrap();
        let mut interfaces = world().interfaces;
        interfaces[1].index = 9;
        assert_eq!(service.indices(&interfaces), [9]);
        interfaces.pop();
        assert!(service.indices(&interfaces).is_empty());
    }

    #[test]
    fn outputs_on_loopback_are_left_out() {
        let txt = service("0.0.0.0:9688", LINEUP).unwrap().txt;
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
