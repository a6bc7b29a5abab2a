//! The wall's WebSocket: all tiles of one page on one connection, since browsers open six to a host.
//!
//! Flow control is the page's. A tile's next picture leaves when the page has drawn the one before, and it is the
//! newest of that moment: a slow page is sent fewer pictures, never older ones, and nothing queues but one a tile. What was
//! left out is counted. Only the tiles that the page says are in sight are sent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Extension, State};
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::atomic::Ordering::Relaxed;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tracing::debug;

use super::relay::Shot;
use super::server::Guest;
use super::{Refusal, Web, api};
use crate::directory::table::AudienceMember;
use crate::headend::{Client, Way};
use crate::media::StationId;

/// The longest message that a page sends: all 999 stations of the largest line-up, with room.
const LONGEST: usize = 8 * 1024;

/// How often the page is told how the stations are.
const BULLETIN: Duration = Duration::from_secs(1);

/// A page that is open says something at least this often, if only a pong.
const SILENCE: Duration = Duration::from_secs(45);

/// How often it is asked.
const PING: u32 = 15; // bulletins

/// What a page says.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum Ask {
    /// These tiles are in sight, and that station is the one being watched. Replaces what it said before.
    Want {
        stations: BTreeSet<StationId>,
        #[serde(default)]
        watched: Option<StationId>,
    },
    /// It has drawn the picture of that number.
    Drawn(StationId, u32),
}

/// `GET /wall`.
pub(super) async fn open(
    State(web): State<Arc<Web>>,
    Extension(guest): Extension<Guest>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    if !same_site(&headers) {
        let sentence = "a page of another site may not open the wall".into();
        return Refusal(StatusCode::FORBIDDEN, sentence).into_response();
    }
    upgrade
        .max_message_size(LONGEST)
        .max_frame_size(LONGEST)
        .on_upgrade(move |socket| async move { Wall::new(web, guest).run(socket).await })
}

/// Whether the page that asks, if it is one, comes from here. Browsers let any page open a WebSocket to any host, and
/// say by `Origin` (RFC 6455 section 10.2) which page it is.
fn same_site(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let origin = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok());
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let same = |origin: Uri| Some(origin.authority()?.as_str().eq_ignore_ascii_case(host?));
    origin.and_then(same).unwrap_or(false)
}

/// One page's wall.
struct Wall {
    web: Arc<Web>,
    guest: Guest,
    tiles: BTreeMap<StationId, Tile>,
    tasks: JoinSet<()>,
    /// A place in the audience of the station being watched. A tile among others is not counted.
    seat: Option<(StationId, Option<AudienceMember>)>,
    pictures: mpsc::Sender<Bytes>,
    outbox: mpsc::Receiver<Bytes>,
}

/// A tile in sight. Its task ends with it.
struct Tile {
    drawn: watch::Sender<u32>,
    task: AbortHandle,
}

impl Drop for Tile {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Wall {
    fn new(web: Arc<Web>, guest: Guest) -> Wall {
        // One picture on its way to the socket: the next is chosen when that has gone.
        let (pictures, outbox) = mpsc::channel(1);
        Wall { web, guest, tiles: BTreeMap::new(), tasks: JoinSet::new(), seat: None, pictures, outbox }
    }

    async fn run(mut self, mut socket: WebSocket) {
        let end = self.serve(&mut socket).await;
        if let End::Refused(code, reason) = end {
            let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
            let _ = socket.send(Message::Close(Some(frame))).await;
        }
        debug!(peer = %self.guest.peer, "http: a wall was closed");
    }

    async fn serve(&mut self, socket: &mut WebSocket) -> End {
        let head_end = self.web.head_end.clone();
        let mut stopping = std::pin::pin!(head_end.stopping());
        let mut bulletins = interval(BULLETIN);
        bulletins.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut silent_until = Instant::now() + SILENCE;
        let mut told: u32 = 0;
        loop {
            let sent = tokio::select! {
                () = &mut stopping => return End::Refused(close_code::AWAY, "the broadcaster is stopping"),
                () = sleep_until(silent_until) => return End::Lost,
                message = socket.recv() => {
                    silent_until = Instant::now() + SILENCE;
                    match message {
                        Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
                            Ok(ask) => self.hear(ask),
                            Err(_) => return End::Refused(close_code::POLICY, "docs/web.md has no such message"),
                        },
                        Some(Ok(Message::Binary(_))) => {
                            return End::Refused(close_code::UNSUPPORTED, "a page sends text only");
                        }
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                        Some(Ok(Message::Close(_)) | Err(_)) | None => return End::Lost,
                    }
                    Ok(())
                }
                Some(picture) = self.outbox.recv() => socket.send(Message::Binary(picture)).await,
                _ = bulletins.tick() => {
                    let ping = told % PING == PING - 1;
                    told = told.wrapping_add(1);
                    match socket.send(Message::Text(self.web.bulletin(Instant::now()))).await {
                        Ok(()) if ping => socket.send(Message::Ping(Bytes::new())).await,
                        sent => sent,
                    }
                }
            };
            if sent.is_err() {
                return End::Lost;
            }
        }
    }

    fn hear(&mut self, ask: Ask) {
        match ask {
            Ask::Drawn(station, number) => {
                if let Some(tile) = self.tiles.get(&station) {
                    tile.drawn.send_replace(number);
                }
            }
            Ask::Want { stations, watched } => {
                self.tiles.retain(|id, _| stations.contains(id));
                while self.tasks.try_join_next().is_some() {}
                for id in stations {
                    self.show(id);
                }
                if self.seat.as_ref().map(|seat| seat.0) != watched {
                    self.seat = watched.map(|id| (id, self.web.head_end.table.join_audience(id)));
                }
            }
        }
    }

    fn show(&mut self, id: StationId) {
        let Some(relay) = self.web.relays.get(&id).filter(|_| !self.tiles.contains_key(&id)) else { return };
        let (drawn, acknowledged) = watch::channel(0);
        let client = self.web.head_end.clients.enter(id, self.guest.peer, Way::Wall);
        let task = keep_showing(relay.look(), acknowledged, self.pictures.clone(), client);
        self.tiles.insert(id, Tile { drawn, task: self.tasks.spawn(task) });
    }
}

/// How a wall ended.
enum End {
    /// The page is gone.
    Lost,
    /// We end it, and say why.
    Refused(u16, &'static str),
}

/// Sends a tile's pictures, each after the one before was drawn, for as long as it is not dropped.
async fn keep_showing(
    mut newest: watch::Receiver<Option<Shot>>,
    mut drawn: watch::Receiver<u32>,
    out: mpsc::Sender<Bytes>,
    client: Arc<Client>,
) {
    let mut before: Option<u32> = None;
    while newest.changed().await.is_ok() {
        // First the way, then the picture: what waits for its turn would grow old.
        let Ok(way) = out.reserve().await else { return };
        let Some(shot) = newest.borrow_and_update().clone() else { continue };
        let number = shot.number;
        way.send(shot.message());
        client.pictures.fetch_add(1, Relaxed);
        let passed = before.map_or(0, |before| number.wrapping_sub(before).saturating_sub(1));
        client.dropped.fetch_add(u64::from(passed), Relaxed);
        before = Some(number);
        if drawn.wait_for(|&drawn| drawn == number).await.is_err() {
            return;
        }
    }
}

/// How all stations are, as the walls are told: made once for all of them.
#[derive(Debug, Default)]
pub(super) struct Bulletin(Mutex<Option<(Instant, Utf8Bytes)>>);

#[derive(Serialize)]
struct Stations {
    stations: Vec<api::Station>,
}

impl Web {
    /// What walls are told at `now`: at most half a [`BULLETIN`] old.
    fn bulletin(&self, now: Instant) -> Utf8Bytes {
        let mut last = self.bulletin.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, text)) = last.as_ref().filter(|(made, _)| now.duration_since(*made) < BULLETIN / 2) {
            return text.clone();
        }
        let stations = Stations { stations: api::stations(&self.head_end) };
        let text = serde_json::to_string(&stations).expect("it has no map whose keys are not text");
        let text = Utf8Bytes::from(text);
        *last = Some((now, text.clone()));
        text
    }
}
