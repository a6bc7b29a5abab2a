//! `[rtsp]`, `[http]` and `[announce]`: the outputs besides multicast. Each is off unless the file has its section.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use toml::de::DeTable;

use super::fields::{Field, Section};
use super::hosts;
use super::report::Report;
use super::sections::section;
use super::{Announce, SecuritySpec, World, security};
use crate::tls::Security;

/// The default of `[rtsp] listen`. Port 8554 is the usual alternative to 554, which needs privileges.
pub(super) const RTSP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8554);
/// The default of `[http] listen`.
pub(super) const HTTP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8088);

/// The outputs that the file turns on.
#[derive(Default)]
pub(super) struct Outputs {
    pub(super) rtsp: Option<SocketAddr>,
    pub(super) http: Option<SocketAddr>,
    pub(super) hosts: Vec<String>,
    pub(super) announce: Announce,
    pub(super) security: SecuritySpec,
}

/// Reads the sections. `directory` is the address on which the directory listens, and what it takes. Relative paths start at
/// `folder`.
pub(super) fn read(
    root: &DeTable<'_>,
    report: &mut Report<'_>,
    (directory, directory_security): (SocketAddr, Security),
    folder: &Path,
    world: &World,
) -> Outputs {
    let rtsp = section(root, "rtsp", report);
    let rtsp_security = rtsp.as_ref().map(|section| section.security(report)).unwrap_or_default();
    let rtsp = rtsp.and_then(|section| listener(&section, report, &["listen", "tls"], RTSP));
    let web = section(root, "http", report);
    let http_security = web.as_ref().map(|section| section.security(report)).unwrap_or_default();
    let http = web.as_ref().and_then(|section| listener(section, report, &["listen", "hosts", "tls"], HTTP));
    let hosts = web.map(|section| hosts::read(&section, report)).unwrap_or_default();
    distinct(root, report, &[("directory", Some(directory)), ("rtsp", rtsp), ("http", http)]);
    let mut security = SecuritySpec {
        directory: directory_security,
        rtsp: rtsp_security,
        http: http_security,
        ..SecuritySpec::default()
    };
    security.certificate = security::certificate(root, report, folder, world, security.is_on());
    Outputs { rtsp, http, hosts, announce: announce(root, report), security }
}

/// The address on which the output of `section`, which has these `keys`, listens; `None` if it is wrong.
fn listener(
    section: &Section<'_, '_>,
    report: &mut Report<'_>,
    keys: &[&str],
    default: SocketAddr,
) -> Option<SocketAddr> {
    section.unknown_keys(report, keys, &section.place);
    let listen = section.socket(report, "listen", &default.to_string());
    listen.or(Field::Is(default)).value()
}

/// Reports every section that listens on the address of an earlier one.
fn distinct(root: &DeTable<'_>, report: &mut Report<'_>, sections: &[(&str, Option<SocketAddr>)]) {
    for (n, (name, listen)) in sections.iter().enumerate() {
        let earlier = sections[..n].iter().find(|(_, other)| collide(*listen, *other));
        let (Some((first, _)), Some(listen)) = (earlier, listen) else { continue };
        let Some(section) = section(root, name, report) else { continue };
        let fix = format!("[{first}] listens there; choose another port");
        if section.get("listen").is_some() {
            section.wrong::<()>(report, "listen", format_args!("is taken: {fix}"));
        } else {
            let sentence = format_args!("listen = \"{listen}\", the default, is taken: {fix}");
            section.fault(report, section.at, sentence);
        }
    }
}

/// Whether the system would refuse the second of two sockets. An unspecified address takes the port on every address; that
/// of IPv6 also on those of IPv4.
pub(crate) fn collide(one: Option<SocketAddr>, other: Option<SocketAddr>) -> bool {
    let (Some(one), Some(other)) = (one, other) else { return false };
    let covers =
        |all: SocketAddr, one: SocketAddr| all.ip().is_unspecified() && (all.is_ipv6() || one.is_ipv4());
    one.port() == other.port() && (one.ip() == other.ip() || covers(one, other) || covers(other, one))
}

/// With the section, SAP and mDNS are on unless it turns them off.
fn announce(root: &DeTable<'_>, report: &mut Report<'_>) -> Announce {
    let Some(section) = section(root, "announce", report) else { return Announce::default() };
    section.unknown_keys(report, &["sap", "mdns"], "[announce]");
    let sap = "choose true or false (whether stations are announced to players, by SAP)";
    let mdns = "choose true or false (whether the directory is announced to viewers, by mDNS)";
    Announce {
        sap: section.flag(report, "sap", sap).value().unwrap_or(true),
        mdns: section.flag(report, "mdns", mdns).value().unwrap_or(true),
    }
}
