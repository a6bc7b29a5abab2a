//! One station for one client: `/stations/2.mjpeg`, `/stations/2.jpg`, `/stations/2.sdp`.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use tokio::sync::watch;

use super::relay::Shot;
use super::server::Guest;
use super::{Refusal, Web};
use crate::directory::table::AudienceMember;
use crate::headend::{Client, Way};
use crate::media::StationId;

/// Between two pictures of a multipart stream. A browser paints a picture once it sees the line after it, so that is sent
/// with the picture and not with the next.
const BOUNDARY: &str = "\r\n--picture\r\n";

/// `GET /stations/{file}`.
pub(super) async fn station(
    State(web): State<Arc<Web>>,
    Extension(guest): Extension<Guest>,
    Path(file): Path<String>,
) -> Result<Response, Refusal> {
    let unknown = || Refusal(StatusCode::NOT_FOUND, format!("there is no /stations/{file}"));
    let (id, kind) = file.split_once('.').ok_or_else(unknown)?;
    let id = StationId(id.parse().map_err(|_| unknown())?);
    let station = web.station(id)?;
    match kind {
        "jpg" => {
            let (_, unit) = station.feed.at(web.head_end.clock.now()).ok_or_else(|| {
                Refusal(StatusCode::SERVICE_UNAVAILABLE, format!("station {id} has not been on air yet"))
            })?;
            Ok(([(CONTENT_TYPE, "image/jpeg"), (CACHE_CONTROL, "no-store")], unit.jpeg.to_jfif())
                .into_response())
        }
        "mjpeg" => {
            let reader = Reader {
                newest: web.relays.get(&id).ok_or_else(unknown)?.look(),
                client: web.head_end.clients.enter(id, guest.peer, Way::Mjpeg),
                before: None,
                _seat: web.head_end.table.join_audience(id),
                _guest: guest,
            };
            let kind = "multipart/x-mixed-replace; boundary=picture";
            let body = Body::from_stream(reader.pictures());
            Ok(([(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-store")], body).into_response())
        }
        "sdp" => Ok(([(CONTENT_TYPE, "application/sdp")], station.sdp()).into_response()),
        _ => Err(unknown()),
    }
}

/// Who reads a multipart stream.
struct Reader {
    newest: watch::Receiver<Option<Shot>>,
    client: Arc<Client>,
    before: Option<u32>,
    _seat: Option<AudienceMember>,
    _guest: Guest,
}

impl Reader {
    /// The parts of the stream. hyper asks for the next when the last has gone, and gets the newest picture.
    fn pictures(self) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> {
        let first = stream::iter([Ok(Bytes::from_static(&BOUNDARY.as_bytes()[2..]))]);
        let parts = stream::unfold(self, |mut reader| async {
            let shot = reader.next().await?;
            let file = shot.file();
            let due = shot.due.0;
            let head = format!(
                "Content-Type: image/jpeg\r\nContent-Length: {}\r\nX-Timestamp: {}.{:06}\r\n\r\n",
                file.len(),
                due / 1_000_000_000,
                due % 1_000_000_000 / 1000
            );
            let part = [head.into(), file, Bytes::from_static(BOUNDARY.as_bytes())];
            Some((stream::iter(part.map(Ok)), reader))
        });
        first.chain(parts.flatten())
    }

    async fn next(&mut self) -> Option<Shot> {
        loop {
            self.newest.changed().await.ok()?;
            let Some(shot) = self.newest.borrow_and_update().clone() else { continue };
            let passed = self.before.map_or(0, |before| shot.number.wrapping_sub(before).saturating_sub(1));
            self.client.pictures.fetch_add(1, Relaxed);
            self.client.dropped.fetch_add(u64::from(passed), Relaxed);
            self.before = Some(shot.number);
            return Some(shot);
        }
    }
}
