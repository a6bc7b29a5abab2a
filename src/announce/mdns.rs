//! Announces the directory to viewers, by multicast DNS (RFC 6762), as the DNS-SD service `_stationcast._tcp` (RFC 6763).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mdns_sd::{DaemonEvent, IfKind, ServiceDaemon, ServiceInfo};
use tracing::{debug, info, warn};

use crate::directory::SERVICE;
use crate::headend::HeadEnd;
use crate::interface::Interface;
use crate::lineup::StationSpec;

/// Longest time for the goodbye at the end: one packet on each interface.
const GOODBYE: Duration = Duration::from_secs(1);

/// Most bytes of this machine's name in the service's names. A DNS label has 63.
const MAX_HOST: usize = 32;

/// The announcement of a directory.
#[derive(Debug)]
pub(super) struct Service {
    /// The interfaces on which it is announced.
    on: Vec<IfKind>,
    port: u16,
    txt: Vec<(&'static str, String)>,
}

impl Service {
    /// For a directory that listens on `directory`; `None` if no other machine could reach it. Outputs that listen on
    /// loopback are left out.
    pub(super) fn new(
        directory: SocketAddr,
        stations: &[StationSpec],
        rtsp: Option<SocketAddr>,
        http: Option<SocketAddr>,
    ) -> Option<Service> {
        let on = interfaces(directory.ip(), stations.iter().map(|station| &station.interface));
        let mut txt = vec![
            ("txtvers", "1".to_owned()),
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("stations", stations.len().to_string()),
        ];
        for (name, output) in [("rtsp", rtsp), ("http", http)] {
            let output = output.filter(|output| !output.ip().is_loopback());
            txt.extend(output.map(|output| (name, output.port().to_string())));
        }
        (!on.is_empty()).then_some(Service { on, port: directory.port(), txt })
    }
}

/// The interfaces on which a directory at `listen` is announced: the interface of its address, or, if it listens on every
/// address, the interfaces of the stations, since elsewhere there is nothing to watch. Never loopback.
fn interfaces<'a>(listen: IpAddr, stations: impl Iterator<Item = &'a Interface>) -> Vec<IfKind> {
    if listen.is_loopback() {
        return Vec::new();
    }
    if !listen.is_unspecified() {
        return vec![IfKind::Addr(listen)];
    }
    let mut indices: Vec<u32> =
        stations.filter(|interface| !interface.loopback).map(|interface| interface.index).collect();
    indices.sort_unstable();
    indices.dedup();
    let mut kinds: Vec<IfKind> = indices.iter().copied().map(IfKind::IndexV4).collect();
    if listen.is_ipv6() {
        kinds.extend(indices.into_iter().map(IfKind::IndexV6));
    }
    kinds
}

/// Announces the directory until the head-end stops, then says goodbye.
pub(super) async fn announce(service: Service, head_end: Arc<HeadEnd>) {
    let daemon = match register(service) {
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
    head_end.stopping().await;
    let goodbye = move || daemon.shutdown().map(|done| done.recv_timeout(GOODBYE).is_ok());
    if !matches!(tokio::task::spawn_blocking(goodbye).await, Ok(Ok(true))) {
        debug!("mDNS: no goodbye was sent");
    }
}

fn register(service: Service) -> mdns_sd::Result<ServiceDaemon> {
    let host = host();
    // A host name of its own. The machine's name belongs to the machine's mDNS responder, and another broadcaster on the same
    // machine would withdraw this one's addresses when it ends.
    let host_name = format!("stationcast-{host}-{}.local.", service.port);
    let mut info = ServiceInfo::new(
        SERVICE,
        &format!("stationcast on {host}"),
        &host_name,
        (),
        service.port,
        &service.txt[..],
    )?
    .enable_addr_auto();
    info.set_interfaces(service.on.clone());
    let daemon = ServiceDaemon::new()?;
    // The daemon starts with every interface enabled. It obeys commands in order, so nothing is sent before this choice.
    daemon.disable_interface(IfKind::All)?;
    daemon.enable_interface(service.on)?;
    daemon.register(info)?;
    Ok(daemon)
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
    use super::*;
    use crate::headend::describe::tests::spec;

    fn on(listen: &str) -> String {
        let mut stations = [spec("239.77.0.1:5004"), spec("239.77.0.2:5004"), spec("239.77.0.3:5004")];
        (stations[1].interface.loopback, stations[1].interface.index) = (true, 1);
        let own = stations.iter().map(|station| &station.interface);
        format!("{:?}", interfaces(listen.parse().unwrap(), own))
    }

    #[test]
    fn the_directory_is_announced_where_viewers_can_reach_it_and_its_stations() {
        assert_eq!(on("127.0.0.1"), "[]");
        assert_eq!(on("::1"), "[]");
        assert_eq!(on("192.0.2.7"), "[Addr(192.0.2.7)]");
        assert_eq!(on("0.0.0.0"), "[IndexV4(2)]");
        assert_eq!(on("::"), "[IndexV4(2), IndexV6(2)]");
    }

    #[test]
    fn outputs_on_loopback_are_left_out() {
        let address = |text: &str| text.parse().unwrap();
        let stations = [spec("239.77.0.1:5004")];
        let service = |rtsp: &str, http| {
            let outputs = (Some(address(rtsp)), Some(address(http)));
            Service::new(address("0.0.0.0:9688"), &stations, outputs.0, outputs.1).unwrap().txt
        };
        let txt = service("0.0.0.0:8554", "127.0.0.1:8088");
        assert_eq!(txt[2..], [("stations", "1".to_owned()), ("rtsp", "8554".to_owned())]);
        assert!(Service::new(address("127.0.0.1:9688"), &stations, None, None).is_none());
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
