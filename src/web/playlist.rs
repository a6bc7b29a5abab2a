//! What opens stations in a player: an M3U playlist of all.

use std::fmt::Write;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use super::{Refusal, Web};

/// `GET /stations.m3u`: by RTSP where that is served, by HTTP otherwise or if asked with `?via=http`.
pub(super) async fn m3u(
    State(web): State<Arc<Web>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let host = host(&headers)?;
    let http = uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "via=http"));
    let rtsp = web.head_end.board.services().rtsp.filter(|_| !http).map(|address| address.port());
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
