//! The wall's WebSocket: all tiles of one page on one connection, since a browser opens only six connections to a host.
//!
//! The page controls the flow. A tile's next picture is sent when the page has drawn the one before, and it is the newest
//! of that moment: a slow page is sent fewer pictures, never older ones, and at most one picture a tile is in flight.
//! Dropped pictures are counted. Only the tiles that the page names as visible are sent.
//!
//! The sound of one station comes beside them, if the page asks for it: a chunk at a time, a little before it is due. A slow page
//! loses chunks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Extension, State};
use axum::http::header::{CONNECTION, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::atomic::Ordering::Relaxed;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tracing::debug;

use super::hosts::{RequestHost, same_site};
use super::jpeg_cache::Still;
use super::pcm::Chunk;
use super::server::Admitted;
use super::{Refusal, Web, api, without_method};
use crate::access::Grant;
use crate::clock::AirClock;
use crate::directory::table::AudienceMember;
use crate::headend::{Client, ClientKind};
use crate::media::StationId;

/// Most bytes of a message from a page: all 999 stations of the largest line-up, with room to spare.
const MAX_MESSAGE: usize = 8 * 1024;

/// Time between two messages with the status of all stations.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// A connection without any message from the page, a pong included, is closed after this time.
const SILENCE: Duration = Duration::from_secs(45);

/// Longest time for a message to a page to go to the kernel: then the page takes next to nothing. The time in which a page takes none of
/// the bytes at all is bounded by the [server](super::server) too; one that takes a few now and then would hold its place for ever.
const SEND: Duration = Duration::from_secs(10);

/// Status messages from one ping to the next.
const PING_EVERY: u32 = 15;

/// A message from the page.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum PageMessage {
    /// The visible tiles, the station that fills the page, and the one whose sound is heard. Replaces the message before.
    Want {
        stations: BTreeSet<StationId>,
        #[serde(default)]
        watched: Option<StationId>,
        #[serde(default)]
        heard: Option<StationId>,
    },
    /// The page has drawn the pictures of these numbers.
    Drawn(Drawn),
}

/// One picture that was drawn, or all of a frame: a message costs a browser more than what is in it.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub(super) enum Drawn {
    One(StationId, u32),
    Several(Vec<(StationId, u32)>),
}

/// `GET /wall`.
pub(super) async fn open(
    State(web): State<Arc<Web>>,
    Extension(admitted): Extension<Admitted>,
    Extension(host): Extension<RequestHost>,
    Extension(grant): Extension<Grant>,
    method: Method,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    if method != Method::GET {
        return without_method(method, "GET, OPTIONS");
    }
    if !same_site(&headers, &host) {
        let sentence = "a page of another site may not open the wall".into();
        return Refusal(StatusCode::FORBIDDEN, sentence).into_response();
    }
    match upgrade {
        Ok(upgrade) if has_key(&headers) => upgrade
            .max_message_size(MAX_MESSAGE)
            .max_frame_size(MAX_MESSAGE)
            .on_upgrade(move |socket| async move { Wall::new(web, admitted, grant).run(socket).await }),
        Ok(_) => no_handshake("a Sec-WebSocket-Key has 16 bytes in base64, and comes once"),
        Err(WebSocketUpgradeRejection::InvalidWebSocketVersionHeader(_)) => {
            no_handshake("only version 13 of the WebSocket protocol is spoken here")
        }
        Err(WebSocketUpgradeRejection::WebSocketKeyHeaderMissing(_)) => {
            no_handshake("a WebSocket handshake has a Sec-WebSocket-Key")
        }
        Err(_) => {
            let refusal =
                Refusal(StatusCode::UPGRADE_REQUIRED, "this is a WebSocket: ask to upgrade to it".into());
            ([(UPGRADE, "websocket"), (CONNECTION, "upgrade"), VERSION], refusal).into_response()
        }
    }
}

/// The version that is spoken here, which a refused handshake is told (RFC 6455 section 4.4).
const VERSION: (HeaderName, &str) = (SEC_WEBSOCKET_VERSION, "13");

fn no_handshake(sentence: &str) -> Response {
    ([VERSION], Refusal(StatusCode::BAD_REQUEST, sentence.into())).into_response()
}

/// Whether there is one key, of 16 bytes in base64 (RFC 6455 section 4.2.1).
fn has_key(headers: &HeaderMap) -> bool {
    let mut keys = headers.get_all(SEC_WEBSOCKET_KEY).iter();
    let (Some(key), None) = (keys.next(), keys.next()) else { return false };
    let digit = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
    key.as_bytes().strip_suffix(b"==").is_some_and(|digits| digits.len() == 22 && digits.iter().all(digit))
}

/// The connection of one page.
struct Wall {
    web: Arc<Web>,
    admitted: Admitted,
    grant: Grant,
    tiles: BTreeMap<StationId, Tile>,
    tasks: JoinSet<()>,
    /// The station that fills the page, and our part in its audience. A tile among others does not count.
    watched: Option<(StationId, Option<AudienceMember>)>,
    /// The station whose sound is heard.
    heard: Option<Heard>,
    pictures: mpsc::Sender<Bytes>,
    outbox: mpsc::Receiver<Bytes>,
    /// Sound does not wait behind the pictures of the tiles.
    sounds: mpsc::Sender<Bytes>,
    sound_outbox: mpsc::Receiver<Bytes>,
}

/// A visible tile. Its task ends with it.
struct Tile {
    drawn: watch::Sender<u32>,
    task: AbortHandle,
}

impl Drop for Tile {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The station whose sound is heard. Its task ends with it.
struct Heard {
    station: StationId,
    task: Option<AbortHandle>,
}

impl Drop for Heard {
    fn drop(&mut self) {
        self.task.iter().for_each(AbortHandle::abort);
    }
}

impl Wall {
    fn new(web: Arc<Web>, admitted: Admitted, grant: Grant) -> Wall {
        // One picture on its way to the socket: the next one is chosen only when this one has gone.
        let (pictures, outbox) = mpsc::channel(1);
        let (sounds, sound_outbox) = mpsc::channel(1);
        Wall {
            web,
            admitted,
            grant,
            tiles: BTreeMap::new(),
            tasks: JoinSet::new(),
            watched: None,
            heard: None,
            pictures,
            outbox,
            sounds,
            sound_outbox,
        }
    }

    async fn run(mut self, mut socket: WebSocket) {
        let cause = self.serve(&mut socket).await;
        if let CloseCause::Ours(code, reason) = cause {
            let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
            let _ = within(socket.send(Message::Close(Some(frame)))).await;
        }
        debug!(peer = %self.admitted.peer, "http: a wall was closed");
    }

    #[expect(clippy::disallowed_methods, reason = "a shell: it paces what it sends")]
    async fn serve(&mut self, socket: &mut WebSocket) -> CloseCause {
        let head_end = self.web.head_end.clone();
        let mut stopping = std::pin::pin!(head_end.stopping());
        let grant = self.grant.clone();
        let mut over = std::pin::pin!(grant.over());
        let mut status_due = interval(STATUS_INTERVAL);
        status_due.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut silent_until = Instant::now() + SILENCE;
        let mut count: u32 = 0;
        loop {
            let (message, and_ping) = tokio::select! {
                () = &mut stopping => return CloseCause::Ours(close_code::AWAY, "the broadcaster is stopping"),
                () = &mut over => return CloseCause::Ours(close_code::POLICY, "the log-in is over"),
                () = sleep_until(silent_until) => return CloseCause::Lost,
                message = socket.recv() => {
                    silent_until = Instant::now() + SILENCE;
                    match message {
                        Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
                            Ok(message) => self.handle(message),
                            Err(_) => {
                                return CloseCause::Ours(close_code::POLICY, "docs/web.md has no such message");
                            }
                        },
                        Some(Ok(Message::Binary(_))) => {
                            return CloseCause::Ours(close_code::UNSUPPORTED, "a page sends text only");
                        }
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                        Some(Ok(Message::Close(_)) | Err(_)) | None => return CloseCause::Lost,
                    }
                    continue;
                }
                Some(chunk) = self.sound_outbox.recv() => (Message::Binary(chunk), false),
                Some(picture) = self.outbox.recv() => (Message::Binary(picture), false),
                _ = status_due.tick() => {
                    self.show_again();
                    self.hear();
                    let ping = count % PING_EVERY == PING_EVERY - 1;
                    count = count.wrapping_add(1);
                    (Message::Text(self.web.status_message(&self.grant, Instant::now())), ping)
                }
            };
            let sending = async {
                socket.send(message).await?;
                if and_ping { socket.send(Message::Ping(Bytes::new())).await } else { Ok(()) }
            };
            // Whoever does not read is not told why.
            tokio::select! {
                () = &mut stopping => return CloseCause::Lost,
                () = &mut over => return CloseCause::Lost,
                sent = within(sending) => if !sent {
                    return CloseCause::Lost;
                },
            }
        }
    }

    fn handle(&mut self, message: PageMessage) {
        match message {
            PageMessage::Drawn(Drawn::One(station, number)) => self.drawn(station, number),
            PageMessage::Drawn(Drawn::Several(pictures)) => {
                pictures.into_iter().for_each(|(station, number)| self.drawn(station, number));
            }
            PageMessage::Want { stations, watched, heard } => {
                self.tiles.retain(|id, _| stations.contains(id));
                while self.tasks.try_join_next().is_some() {}
                for id in stations {
                    self.show(id);
                }
                if self.watched.as_ref().map(|(id, _)| *id) != watched {
                    let join = |id| self.web.head_end.table.join_audience(id).filter(|_| self.sees(id));
                    self.watched = watched.map(|id| (id, join(id)));
                }
                if self.heard.as_ref().map(|heard| heard.station) != heard {
                    self.heard = heard.map(|id| Heard { station: id, task: None });
                }
                self.hear();
            }
        }
    }

    fn drawn(&self, station: StationId, number: u32) {
        if let Some(tile) = self.tiles.get(&station) {
            tile.drawn.send_replace(number);
        }
    }

    fn sees(&self, id: StationId) -> bool {
        self.web.station(id, &self.grant).is_ok()
    }

    /// Shows the tiles whose stations have been changed, since the pictures of the old ones have ended.
    fn show_again(&mut self) {
        let over = self.tiles.iter().filter(|(_, tile)| tile.task.is_finished());
        for id in over.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.show(id);
        }
    }

    /// Sends the sound of the station that is heard, if it has sound by now and is not sent already.
    fn hear(&mut self) {
        let Some(heard) = &mut self.heard else { return };
        if heard.task.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        if self.web.station(heard.station, &self.grant).is_err() {
            return;
        }
        let Some(pcm) = self.web.pcm(heard.station) else { return };
        let clock = self.web.head_end.clock.clone();
        let chunks = pcm.subscribe();
        heard.task = Some(self.tasks.spawn(send_sound(chunks, clock, self.sounds.clone())));
    }

    fn show(&mut self, id: StationId) {
        if self.tiles.get(&id).is_some_and(|tile| !tile.task.is_finished()) {
            return;
        }
        let Some(cache) = self.web.jpegs(id).filter(|_| self.sees(id)) else { return };
        let (drawn, acknowledged) = watch::channel(0);
        let client = self.web.head_end.clients.enter(id, self.admitted.peer, ClientKind::Wall);
        let task = send_pictures(cache.subscribe(), acknowledged, self.pictures.clone(), client);
        self.tiles.insert(id, Tile { drawn, task: self.tasks.spawn(task) });
    }
}

/// Whether something was sent, within [`SEND`].
async fn within<E>(sending: impl Future<Output = Result<(), E>>) -> bool {
    matches!(timeout(SEND, sending).await, Ok(Ok(())))
}

/// Why a connection ends.
enum CloseCause {
    /// The page is gone.
    Lost,
    /// We close it, with this code and reason.
    Ours(u16, &'static str),
}

/// Sends a tile's pictures until the tile is dropped, each after the page has drawn the one before.
async fn send_pictures(
    mut newest: watch::Receiver<Option<Still>>,
    mut drawn: watch::Receiver<u32>,
    out: mpsc::Sender<Bytes>,
    client: Arc<Client>,
) {
    let mut last: Option<u32> = None;
    while newest.changed().await.is_ok() {
        // The picture is chosen only when the channel has room: one that waited for room would grow old.
        let Ok(slot) = out.reserve().await else { return };
        let Some(still) = newest.borrow_and_update().clone() else { continue };
        let number = still.number;
        slot.send(still.message());
        client.pictures.fetch_add(1, Relaxed);
        let dropped = last.map_or(0, |last| number.wrapping_sub(last).saturating_sub(1));
        client.dropped.fetch_add(u64::from(dropped), Relaxed);
        last = Some(number);
        if drawn.wait_for(|&drawn| drawn == number).await.is_err() {
            return;
        }
    }
}

/// Sends sound until the station ends. Chunks that find no room in time are lost.
#[expect(clippy::disallowed_methods, reason = "a shell: it drops what is over")]
async fn send_sound(mut chunks: broadcast::Receiver<Chunk>, clock: AirClock, out: mpsc::Sender<Bytes>) {
    loop {
        // The chunk is chosen only when the channel has room: one that waited for room would grow old.
        let Ok(slot) = out.reserve().await else { return };
        let chunk = loop {
            match chunks.recv().await {
                Ok(chunk) if chunk.is_over(clock.now()) => {}
                Ok(chunk) => break chunk,
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        };
        slot.send(chunk.message());
    }
}

/// The name of a log-in, if there is one; whether it has admin; and whether nobody can listen to the client: the same stations are
/// seen by all that have the same.
type Seer = (Option<String>, bool, bool);

/// The last status message for each, and when it was made. All its walls share it.
#[derive(Debug, Default)]
pub(super) struct StatusCache(Mutex<BTreeMap<Seer, (Instant, Utf8Bytes)>>);

#[derive(Serialize)]
struct StatusMessage<'a> {
    stations: Vec<api::StationStatus>,
    /// The name of the log-in, `null` without one. Missing if there is nothing to log in to.
    #[serde(skip_serializing_if = "Option::is_none")]
    login: Option<Option<&'a str>>,
}

impl Web {
    /// The status of all stations that a client may see, at `now`, at most half a [`STATUS_INTERVAL`] old.
    fn status_message(&self, grant: &Grant, now: Instant) -> Utf8Bytes {
        let mut last = self.status.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |made: Instant| now.duration_since(made) < STATUS_INTERVAL / 2;
        last.retain(|_, (made, _)| fresh(*made));
        let seer = (grant.name().map(str::to_owned), grant.is_admin(), grant.is_private());
        if let Some((_, text)) = last.get(&seer) {
            return text.clone();
        }
        let login = self.head_end.gatekeeper.file().map(|_| grant.name());
        let message = StatusMessage { stations: api::stations(&self.head_end, grant), login };
        let text = serde_json::to_string(&message).expect("every map in it has text keys");
        let text = Utf8Bytes::from(text);
        last.insert(seer, (now, text.clone()));
        text
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test counts from now")]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_page_that_reads_nothing_is_waited_for_ten_seconds() {
        let begun = Instant::now();
        assert!(!within(std::future::pending::<Result<(), ()>>()).await);
        assert_eq!(begun.elapsed(), SEND);
        let slow = async {
            tokio::time::sleep(SEND / 2).await;
            Ok::<(), ()>(())
        };
        assert!(within(slow).await && !within(std::future::ready(Err(()))).await);
    }

    #[tokio::test]
    async fn an_encrypted_station_is_not_told_to_a_client_that_can_be_overheard() {
        use crate::control::Commands;
        use crate::headend::HeadEnd;
        use crate::lineup::StationSpec;
        use crate::wire::srtp::Profile;

        let encrypted = StationSpec { encrypt: Some(Profile::Gcm), ..StationSpec::sample("239.77.0.2:5004") };
        let web = Web::new(HeadEnd::for_tests(vec![encrypted], None).0, Commands::new().0);
        let now = Instant::now();
        let told =
            |is_private| web.status_message(&Grant::of_a_stranger(is_private), now).contains("239.77.0.2");
        // Within the time for which a message is kept.
        assert_eq!([true, false, true].map(told), [true, false, true]);
    }

    #[tokio::test]
    async fn a_name_is_not_told_what_its_admin_sees() {
        use crate::access::{Credentials, Gatekeeper, Keys, Terms, Visitor};
        use crate::control::Commands;
        use crate::headend::HeadEnd;
        use crate::lineup::StationSpec;

        let file = tempfile::NamedTempFile::new().unwrap();
        let (mut keys, now) = (Keys::default(), std::time::SystemTime::now());
        let admin = Terms { admin: true, ..Terms::default() };
        let tokens = [admin, Terms::default()].map(|terms| keys.add_token("anna", now, terms).unwrap().1);
        keys.write(file.path()).unwrap();
        let hidden = StationSpec { access: vec!["staff".into()], ..StationSpec::sample("239.77.0.2:5004") };
        let (mut head_end, _stop) = HeadEnd::for_tests(vec![hidden], None);
        Arc::get_mut(&mut head_end).unwrap().gatekeeper = Arc::new(Gatekeeper::open(file.path()).unwrap());
        let web = Web::new(head_end.clone(), Commands::new().0);
        let mut told = Vec::new();
        for secret in tokens {
            let visitor = Visitor { address: [127, 0, 0, 1].into(), tls: false, service: "http" };
            let credentials = Credentials { name: String::new(), secret };
            let grant = head_end.gatekeeper.admit(visitor, credentials).await.unwrap();
            told.push(web.status_message(&grant, Instant::now()).contains("239.77.0.2"));
        }
        assert_eq!(told, [true, false]);
    }
}
