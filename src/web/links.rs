//! The addresses at which a client can watch a station: as JSON, and each as a QR code for a telephone.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::uri::Authority;
use axum::response::{IntoResponse, Response};
use qrcode::QrCode;
use qrcode::render::svg;
use serde::Serialize;

use super::hosts::RequestHost;
use super::server::Admitted;
use super::{Refusal, Web};
use crate::access::Grant;
use crate::headend::StationHandle;
use crate::media::StationId;
use crate::tls::Security;

/// An address of a station.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct StationLink {
    /// Its name in paths.
    pub(super) kind: &'static str,
    /// What it is, for people.
    pub(super) label: &'static str,
    pub(super) url: String,
}

/// Where a client reaches this machine.
pub(super) struct Site {
    /// The web, without a slash at the end: `http://tv:8088`.
    pub(super) http: String,
    /// RTSP, likewise; `None` if it is not served, or if the client cannot reach it.
    pub(super) rtsp: Option<String>,
}

impl Site {
    /// For a client that knows this host as `host` and came by TLS, or did not. `rtsp` is where RTSP listens and what it takes, if it
    /// is served.
    pub(super) fn of(host: &Authority, tls: bool, rtsp: Option<(SocketAddr, Security)>) -> Site {
        let rtsp = rtsp.and_then(|(listen, security)| {
            let scheme = match (security, tls) {
                (Security::Tls, _) | (Security::Both, true) => "rtsps",
                (Security::Plain, _) | (Security::Both, false) => "rtsp",
            };
            Some(format!("{scheme}://{}", rtsp_at(listen, host)?))
        });
        Site { http: format!("{}://{host}", if tls { "https" } else { "http" }), rtsp }
    }
}

/// The addresses of a station.
fn links(station: &StationHandle, site: &Site) -> Vec<StationLink> {
    let id = station.spec().id;
    let link = |kind, label, url| StationLink { kind, label, url };
    let mut links = Vec::new();
    if let Some(rtsp) = &site.rtsp {
        links.push(link("rtsp", "RTSP", format!("{rtsp}/{id}")));
        links.push(link("demand", "RTSP, from the beginning", format!("{rtsp}/{id}/demand")));
    }
    let http = |path: String| format!("{}{path}", site.http);
    links.push(link("mjpeg", "MJPEG", http(format!("/stations/{id}.mjpeg"))));
    links.push(link("mkv", "Matroska", http(format!("/stations/{id}.mkv"))));
    links.push(link("sdp", "SDP, multicast", http(format!("/stations/{id}.sdp"))));
    links.push(link("m3u", "M3U", http(format!("/stations/{id}.m3u"))));
    links.push(link("page", "This page", http(format!("/#{id}"))));
    links
}

impl Web {
    /// Where a client that knows this host as `host` reaches this machine.
    pub(super) fn site(&self, host: &Authority, client: &Admitted) -> Site {
        let rtsp = self.head_end.table.services().rtsp;
        Site::of(host, client.tls, rtsp.map(|listen| (listen, self.head_end.rtsp_security)))
    }

    fn links_of(
        &self,
        id: &str,
        host: RequestHost,
        client: &Admitted,
        grant: &Grant,
    ) -> Result<Vec<StationLink>, Refusal> {
        let id = id.parse().map(StationId);
        let id = id.map_err(|_| Refusal(StatusCode::NOT_FOUND, "a station's number is 1 to 999".into()))?;
        let none =
            || Refusal(StatusCode::BAD_REQUEST, "without a Host header there is no address to list".into());
        Ok(links(&*self.station(id, grant)?, &self.site(&host.0.ok_or_else(none)?, client)))
    }
}

/// `GET /api/stations/{id}/links`.
pub(super) async fn all(
    State(web): State<Arc<Web>>,
    Extension(host): Extension<RequestHost>,
    Extension(grant): Extension<Grant>,
    Extension(client): Extension<Admitted>,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    Ok(([(CACHE_CONTROL, "no-store")], Json(web.links_of(&id, host, &client, &grant)?)).into_response())
}

/// `GET /api/stations/{id}/links/{file}`: `rtsp.svg` is the QR code of the address of that kind.
pub(super) async fn code(
    State(web): State<Arc<Web>>,
    Extension(host): Extension<RequestHost>,
    Extension(grant): Extension<Grant>,
    Extension(client): Extension<Admitted>,
    Path((id, file)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let links = web.links_of(&id, host, &client, &grant)?;
    let none = || Refusal(StatusCode::NOT_FOUND, format!("station {id} has no link {file}"));
    let kind = file.strip_suffix(".svg").ok_or_else(none)?;
    let link = links.into_iter().find(|link| link.kind == kind).ok_or_else(none)?;
    // A host name has at most 255 bytes, which fit.
    let code = QrCode::new(&link.url).map_err(|_| none())?;
    let picture = code.render::<svg::Color<'_>>().min_dimensions(240, 240).build();
    Ok(([(CONTENT_TYPE, "image/svg+xml"), (CACHE_CONTROL, "no-store")], picture).into_response())
}

/// The address of RTSP, which listens on `listen`, for a client that knows this host as `host`; `None` if the client
/// cannot reach it.
fn rtsp_at(listen: SocketAddr, host: &Authority) -> Option<String> {
    if listen.ip().is_unspecified() {
        return Some(format!("{}:{}", host.host(), listen.port()));
    }
    // On any other machine a loopback address is that machine's own. A client behind a proxy on this host has a loopback
    // address here, so this looks at the host name and not at the peer.
    let name = host.host().trim_matches(['[', ']']);
    let here = name == "localhost" || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    (here || !listen.ip().is_loopback()).then(|| listen.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lineup::StationSpec;

    #[test]
    fn rtsp_is_named_by_an_address_that_the_client_can_reach() {
        for (listen, host, at) in [
            ("0.0.0.0:8554", "tower:8088", Some("tower:8554")),
            ("[::]:8554", "[2001:db8::7]:8088", Some("[2001:db8::7]:8554")),
            ("0.0.0.0:8554", "localhost:8088", Some("localhost:8554")),
            ("127.0.0.1:8554", "tower:8088", None),
            ("127.0.0.1:8554", "192.0.2.7:8088", None),
            ("[::1]:8554", "[2001:db8::7]:8088", None),
            ("127.0.0.1:8554", "localhost:8088", Some("127.0.0.1:8554")),
            ("127.0.0.1:8554", "127.0.0.1:8088", Some("127.0.0.1:8554")),
            ("[::1]:8554", "[::1]:8088", Some("[::1]:8554")),
            ("192.0.2.7:8554", "tower:8088", Some("192.0.2.7:8554")),
        ] {
            let found = rtsp_at(listen.parse().unwrap(), &host.parse().unwrap());
            assert_eq!(found.as_deref(), at, "{listen} by {host}");
        }
    }

    #[test]
    fn a_station_has_an_address_for_each_way_to_watch() {
        let station = StationHandle::new(StationSpec::sample("239.77.0.2:5004"));
        let host = "tower:8088".parse().unwrap();
        let urls = |rtsp: Option<&str>| {
            let rtsp = rtsp.map(|at| (at.parse().unwrap(), Security::Plain));
            let links = links(&station, &Site::of(&host, false, rtsp));
            links.into_iter().map(|link| link.url).collect::<Vec<_>>()
        };
        let http = ["/stations/2.mjpeg", "/stations/2.mkv", "/stations/2.sdp", "/stations/2.m3u", "/#2"];
        let http: Vec<_> = http.iter().map(|path| format!("http://tower:8088{path}")).collect();
        assert_eq!(urls(None), http);
        let rtsp = ["rtsp://tower:8554/2", "rtsp://tower:8554/2/demand"].map(str::to_owned);
        assert_eq!(urls(Some("0.0.0.0:8554")), [&rtsp[..], &http].concat());
        assert_eq!(urls(Some("127.0.0.1:8554")), http, "it cannot be reached there");
    }

    #[test]
    fn addresses_are_of_tls_if_the_client_came_by_it_or_if_nothing_else_is_taken() {
        let host = "tower:8088".parse().unwrap();
        let rtsp =
            |security, tls| Site::of(&host, tls, Some(("0.0.0.0:8554".parse().unwrap(), security))).rtsp;
        let (plain, secure) = (Some("rtsp://tower:8554".to_owned()), Some("rtsps://tower:8554".to_owned()));
        for (security, by_plain, by_tls) in [
            (Security::Plain, &plain, &plain),
            (Security::Both, &plain, &secure),
            (Security::Tls, &secure, &secure),
        ] {
            assert_eq!((&rtsp(security, false), &rtsp(security, true)), (by_plain, by_tls), "{security:?}");
        }
        assert_eq!(Site::of(&host, false, None).http, "http://tower:8088");
        assert_eq!(Site::of(&host, true, None).http, "https://tower:8088");
    }
}
