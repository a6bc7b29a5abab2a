//! The M3U playlist that opens all stations in a player.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::uri::Authority;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use super::hosts::RequestHost;
use super::{Refusal, Web};

/// `GET /stations.m3u`. The entries are RTSP URLs if the client can reach RTSP, else HTTP URLs. `?via=http` asks for HTTP,
/// and `?via=rtsp` for what is the default.
pub(super) async fn playlist(
    State(web): State<Arc<Web>>,
    uri: Uri,
    Extension(host): Extension<RequestHost>,
) -> Result<Response, Refusal> {
    let refused = |sentence: &str| Refusal(StatusCode::BAD_REQUEST, sentence.into());
    let host = host.0.ok_or_else(|| refused("without a Host header there is no address to list"))?;
    let http = by_http(uri.query().unwrap_or_default()).map_err(refused)?;
    let rtsp = web.head_end.table.services().rtsp.filter(|_| !http);
    let rtsp = rtsp.and_then(|listen| rtsp_at(listen, &host));
    let mut text = String::from("#EXTM3U\n");
    for station in web.head_end.stations().values() {
        let (id, name) = (station.spec().id, &station.spec().name);
        // A quotation mark would end the attribute. Names have no control characters.
        let quoted = name.replace('"', "'");
        let url = match &rtsp {
            Some(at) => format!("rtsp://{at}/{id}"),
            // Players take MJPEG without pictures' times, but no sound with it.
            None => {
                let kind = if station.has_sound() { "mkv" } else { "mjpeg" };
                format!("http://{host}/stations/{id}.{kind}")
            }
        };
        let _ = writeln!(text, "#EXTINF:-1 tvg-chno=\"{id}\" tvg-name=\"{quoted}\",{id} {name}\n{url}");
    }
    Ok(([(CONTENT_TYPE, "audio/x-mpegurl; charset=utf-8")], text).into_response())
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

/// Whether `query` asks for HTTP. Parameters with other names mean nothing, since some clients add theirs.
fn by_http(query: &str) -> Result<bool, &'static str> {
    let mut via = query.split('&').filter_map(|pair| match pair.split_once('=').unwrap_or((pair, "")) {
        ("via", value) => Some(value),
        _ => None,
    });
    match (via.next(), via.next()) {
        (None, _) | (Some("rtsp"), None) => Ok(false),
        (Some("http"), None) => Ok(true),
        (Some(_), None) => Err("via must be http or rtsp, which is the default"),
        (Some(_), Some(_)) => Err("via may be given only once"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_asks_for_http_or_rtsp_or_is_refused() {
        for (query, answer) in [("", false), ("via=rtsp", false), ("t=1&via=http", true), ("VIA=http", false)]
        {
            assert_eq!(by_http(query), Ok(answer), "{query}");
        }
        for query in
            ["via=AAA", "via", "via=", "via=HTTP", "via=http&via=http", "via=http&via=rtsp", "via=http,rtsp"]
        {
            assert!(by_http(query).is_err(), "{query}");
        }
    }

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
}
