//! One station for one client: `/stations/2.mkv`, `/stations/2.mjpeg`, `/stations/2.jpg`, `/stations/2.sdp`, `/stations/2.m3u`.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use tokio::sync::watch;

use super::hosts::RequestHost;
use super::jpeg_cache::Still;
use super::mkv::MkvStream;
use super::server::Admitted;
use super::{Refusal, Web, m3u};
use crate::access::Grant;
use crate::directory::table::AudienceMember;
use crate::headend::{Client, ClientKind};
use crate::media::StationId;

/// Between two pictures of a multipart stream. It is sent together with the picture before it, since a browser paints a
/// picture only when it has received the line after it.
const BOUNDARY: &str = "\r\n--picture\r\n";

/// `GET /stations/{file}`.
#[expect(clippy::disallowed_methods, reason = "a shell: a picture is the one that is on now")]
pub(super) async fn station(
    State(web): State<Arc<Web>>,
    Extension(admitted): Extension<Admitted>,
    Extension(host): Extension<RequestHost>,
    Extension(grant): Extension<Grant>,
    Path(file): Path<String>,
    uri: Uri,
) -> Result<Response, Refusal> {
    let unknown = || Refusal(StatusCode::NOT_FOUND, format!("there is no /stations/{file}"));
    let (id, kind) = file.split_once('.').ok_or_else(unknown)?;
    let id = StationId(id.parse().map_err(|_| unknown())?);
    let station = web.station(id, &grant)?;
    match kind {
        "jpg" => {
            let unit = station.feed.at(web.head_end.clock.now());
            let jpeg = unit.as_ref().and_then(|(_, unit)| unit.jpeg()).ok_or_else(|| {
                Refusal(StatusCode::SERVICE_UNAVAILABLE, format!("station {id} has not been on air yet"))
            })?;
            Ok(([(CONTENT_TYPE, "image/jpeg"), (CACHE_CONTROL, "no-store")], jpeg.to_jfif()).into_response())
        }
        "mjpeg" => {
            let stream = MjpegStream {
                newest: web.jpegs(id).ok_or_else(unknown)?.subscribe(),
                client: web.head_end.clients.enter(id, admitted.peer, ClientKind::Mjpeg),
                last: None,
                _audience: web.head_end.table.join_audience(id),
                _admitted: admitted,
            };
            let kind = "multipart/x-mixed-replace; boundary=picture";
            let body = Body::from_stream(while_granted(stream.pictures(), grant));
            Ok(([(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-store")], body).into_response())
        }
        "mkv" => {
            let client = web.head_end.clients.enter(id, admitted.peer, ClientKind::Matroska);
            let audience = web.head_end.table.join_audience(id);
            let stream = MkvStream::new(station, web.head_end.clock.clone(), client, audience);
            let headers = [(CONTENT_TYPE, "video/x-matroska"), (CACHE_CONTROL, "no-store")];
            let body = Body::from_stream(while_granted(stream.bytes(admitted), grant));
            Ok((headers, body).into_response())
        }
        "m3u" => {
            let none =
                || Refusal(StatusCode::BAD_REQUEST, "without a Host header there is no address".into());
            let site = m3u::site(&web, &host.0.ok_or_else(none)?, &admitted, &uri)?;
            Ok(m3u::of_station(&station, &site))
        }
        "sdp" => Ok(([(CONTENT_TYPE, "application/sdp")], station.sdp()).into_response()),
        _ => Err(unknown()),
    }
}

/// A stream that ends when the client's token or password is let in no more.
fn while_granted<T>(stream: impl Stream<Item = T>, grant: Grant) -> impl Stream<Item = T> {
    stream.take_until(async move { grant.over().await })
}

/// A multipart stream to one client.
struct MjpegStream {
    newest: watch::Receiver<Option<Still>>,
    client: Arc<Client>,
    /// Number of the last picture sent.
    last: Option<u32>,
    _audience: Option<AudienceMember>,
    _admitted: Admitted,
}

impl MjpegStream {
    /// The parts of the stream. hyper polls for a part when it has sent the one before, and gets the newest picture.
    fn pictures(self) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> {
        let first = stream::iter([Ok(Bytes::from_static(&BOUNDARY.as_bytes()[2..]))]);
        let parts = stream::unfold(self, |mut stream| async {
            let still = stream.next().await?;
            let file = still.file();
            let due = still.due.0;
            let head = format!(
                "Content-Type: image/jpeg\r\nContent-Length: {}\r\nX-Timestamp: {}.{:06}\r\n\r\n",
                file.len(),
                due / 1_000_000_000,
                due % 1_000_000_000 / 1000
            );
            let part = [head.into(), file, Bytes::from_static(BOUNDARY.as_bytes())];
            Some((stream::iter(part.map(Ok)), stream))
        });
        first.chain(parts.flatten())
    }

    async fn next(&mut self) -> Option<Still> {
        loop {
            self.newest.changed().await.ok()?;
            let Some(still) = self.newest.borrow_and_update().clone() else { continue };
            let dropped = self.last.map_or(0, |last| still.number.wrapping_sub(last).saturating_sub(1));
            self.client.pictures.fetch_add(1, Relaxed);
            self.client.dropped.fetch_add(u64::from(dropped), Relaxed);
            self.last = Some(still.number);
            return Some(still);
        }
    }
}
