//! What opens stations in a player: an M3U playlist of all, an SDP file of each.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use super::{Refusal, Web};
use crate::station::headend::Monitor;
use crate::wire::sdp::{Description, Transport};

/// Seconds from the epoch of NTP, 1900, to that of Unix, 1970. RFC 8866 section 5.2 wants session numbers counted from there.
const NTP_EPOCH: u64 = 2_208_988_800;

/// The SDP text of a station's group.
pub(super) fn sdp(web: &Web, station: &Monitor) -> String {
    let spec = &station.spec;
    let own: Option<IpAddr> = match spec.group.ip() {
        IpAddr::V4(_) => spec.interface.v4.first().map(|&address| address.into()),
        IpAddr::V6(_) => spec.interface.v6.first().map(|&address| address.into()),
    };
    let description = Description {
        name: &spec.name,
        origin: own.unwrap_or(Ipv4Addr::UNSPECIFIED.into()),
        session: web.head_end.since.0 / 1_000_000_000 + NTP_EPOCH,
        rate: web.head_end.entry(spec.id).and_then(|entry| entry.rate),
        transport: Transport::Multicast { group: spec.group, ttl: spec.ttl },
    };
    description.to_sdp()
}

/// `GET /stations.m3u`: by RTSP where that is served, by HTTP otherwise or if asked with `?via=http`.
pub(super) async fn m3u(
    State(web): State<Arc<Web>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let host = host(&headers)?;
    let http = uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "via=http"));
    let rtsp = web.head_end.rtsp.filter(|_| !http).map(|address| address.port());
    let mut text = String::from("#EXTM3U\n");
    for station in web.head_end.stations() {
        let (id, name) = (station.spec.id, &station.spec.name);
        // Names hold no control characters; a quotation mark would end the attribute.
        let quoted = name.replace('"', "'");
        let url = match rtsp {
            Some(port) => format!("rtsp://{}:{port}/{id}", host.host()),
            None => format!("http://{host}/stations/{id}.mjpeg"),
        };
        let _ = writeln!(text, "#EXTINF:-1 tvg-chno=\"{id}\" tvg-name=\"{quoted}\",{id} {name}\n{url}");
    }
    Ok(([(CONTENT_TYPE, "audio/x-mpegurl; charset=utf-8")], text).into_response())
}

/// By what name the client knows this host: it is written into what it gets, so it must be one.
fn host(headers: &HeaderMap) -> Result<Authority, Refusal> {
    let host = headers.get(HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
    host.filter(|host| !host.as_str().contains('@') && !host.host().is_empty()).ok_or_else(|| {
        Refusal(
            StatusCode::BAD_REQUEST,
            "the Host header names no host, so there is no address to list".into(),
        )
    })
}
