//! The M3U playlists that open all stations, or one, in a player.

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::uri::Authority;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use super::hosts::RequestHost;
use super::links::Site;
use super::server::Admitted;
use super::{Refusal, Web, guide};
use crate::access::Grant;
use crate::headend::StationHandle;

/// `GET /stations.m3u`. The entries are RTSP URLs if the client can reach RTSP, else HTTP URLs. `?via=http` asks for HTTP,
/// and `?via=rtsp` for what is the default.
pub(super) async fn playlist(
    State(web): State<Arc<Web>>,
    uri: Uri,
    Extension(host): Extension<RequestHost>,
    Extension(grant): Extension<Grant>,
    Extension(client): Extension<Admitted>,
) -> Result<Response, Refusal> {
    let refused = |sentence: &str| Refusal(StatusCode::BAD_REQUEST, sentence.into());
    let host = host.0.ok_or_else(|| refused("without a Host header there is no address to list"))?;
    let site = site(&web, &host, &client, &uri)?;
    let stations = web.head_end.stations_for(&grant);
    let entries = stations.iter().map(|station| entry(station, &site));
    // Two names of one thing: Kodi reads the second, others the first.
    let guide = format!("url-tvg=\"{0}/guide.xml\" x-tvg-url=\"{0}/guide.xml\"", site.http);
    Ok(m3u(entries.fold(format!("#EXTM3U {guide}\n"), |text, entry| text + &entry)))
}

/// A playlist of one station, as above.
pub(super) fn of_station(station: &StationHandle, site: &Site) -> Response {
    m3u(format!("#EXTM3U\n{}", entry(station, site)))
}

/// Where the client of a request reaches this machine: not by RTSP, if it asks for HTTP.
pub(super) fn site(web: &Web, host: &Authority, client: &Admitted, uri: &Uri) -> Result<Site, Refusal> {
    let http = by_http(uri.query().unwrap_or_default())
        .map_err(|sentence| Refusal(StatusCode::BAD_REQUEST, sentence.into()))?;
    let mut site = web.site(host, client);
    site.rtsp = site.rtsp.filter(|_| !http);
    Ok(site)
}

fn m3u(text: String) -> Response {
    ([(CONTENT_TYPE, "audio/x-mpegurl; charset=utf-8")], text).into_response()
}

/// The lines of a station, with its address by RTSP, or else by HTTP.
fn entry(station: &StationHandle, site: &Site) -> String {
    let spec = station.spec();
    let (id, name) = (spec.id, &spec.name);
    // A quotation mark would end the attribute. Names have no control characters.
    let quoted = name.replace('"', "'");
    let url = match &site.rtsp {
        Some(rtsp) => format!("{rtsp}/{id}"),
        // Players take MJPEG without pictures' times, but no sound with it.
        None => {
            let kind = if station.has_sound() { "mkv" } else { "mjpeg" };
            format!("{}/stations/{id}.{kind}", site.http)
        }
    };
    let channel = guide::channel(id);
    format!("#EXTINF:-1 tvg-id=\"{channel}\" tvg-chno=\"{id}\" tvg-name=\"{quoted}\",{id} {name}\n{url}\n")
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
}
