//! One station with its sound for one client: `/stations/2.mkv`, live Matroska.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::jpeg_cache::Still;
use super::matroska::{Header, Position};
use super::server::Admitted;
use crate::clock::AirClock;
use crate::directory::table::AudienceMember;
use crate::headend::feed::Subscription;
use crate::headend::{Client, StationHandle};
use crate::media::{AirTime, Payload, Track, Unit};

/// A client whose sound waits for longer than this skips to what is on air: it is slow, and a picture that it is sent is the newest.
/// Short of what a feed keeps for a subscriber, and longer than a stall of a wireless network.
const MAX_LATENESS: Duration = Duration::from_secs(1);

/// A Matroska stream to one client.
pub(super) struct MkvStream {
    station: Arc<StationHandle>,
    clock: AirClock,
    newest: watch::Receiver<Option<Still>>,
    /// Number of the last picture sent.
    last: Option<u32>,
    /// `None` if the station has no sound.
    sound: Option<Subscription>,
    /// The next packet of sound, if it has come.
    packet: Option<Unit>,
    position: Position,
    client: Arc<Client>,
    _audience: Option<AudienceMember>,
    _admitted: Admitted,
}

/// The next part of a stream.
enum Part {
    Picture(Still),
    Sound(AirTime, Bytes),
}

impl MkvStream {
    #[expect(clippy::disallowed_methods, reason = "a shell: the stream begins now")]
    pub(super) fn new(
        station: Arc<StationHandle>,
        clock: AirClock,
        newest: watch::Receiver<Option<Still>>,
        client: Arc<Client>,
        audience: Option<AudienceMember>,
        admitted: Admitted,
    ) -> MkvStream {
        let sound = station.has_sound().then(|| station.sound_feed.subscribe(clock.now()));
        MkvStream {
            station,
            clock,
            newest,
            last: None,
            sound,
            packet: None,
            position: Position::default(),
            client,
            _audience: audience,
            _admitted: admitted,
        }
    }

    /// The bytes of the stream. hyper polls for some when it has sent those before.
    pub(super) fn bytes(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        let parts = stream::unfold(self, |mut stream| async {
            let bytes = stream.next().await?;
            Some((stream::iter(bytes.into_iter().map(Ok)), stream))
        });
        parts.flatten()
    }

    /// The next block, and what comes before it. `None` when the station is gone.
    async fn next(&mut self) -> Option<VecDeque<Bytes>> {
        loop {
            let mut bytes = VecDeque::new();
            let (track, at, payload) = match self.part().await? {
                Part::Picture(still) => {
                    if self.last.is_none() {
                        bytes.push_back(self.header(&still));
                    }
                    let dropped =
                        self.last.map_or(0, |last| still.number.wrapping_sub(last).saturating_sub(1));
                    self.client.pictures.fetch_add(1, Relaxed);
                    self.client.dropped.fetch_add(u64::from(dropped), Relaxed);
                    self.last = Some(still.number);
                    (Track::Picture, still.due, still.file())
                }
                Part::Sound(at, packet) => (Track::Sound, at, packet),
            };
            if let Some(head) = self.position.block(track, at, payload.len()) {
                bytes.extend([head.into(), payload]);
                return Some(bytes);
            }
        }
    }

    fn header(&self, first: &Still) -> Bytes {
        let (title, has_sound) = (&self.station.spec.name, self.sound.is_some());
        Header { title, size: first.size(), rate: self.station.film_rate(), has_sound }.to_bytes().into()
    }

    /// The next picture or packet that is due. `None` when the station is gone.
    #[expect(clippy::disallowed_methods, reason = "a shell: it waits until sound is due")]
    async fn part(&mut self) -> Option<Part> {
        loop {
            let now = self.clock.now();
            if self.packet.as_ref().is_some_and(|packet| now.since(packet.due.at) > MAX_LATENESS) {
                self.packet = None;
                self.sound = Some(self.station.sound_feed.subscribe(now));
                self.position.end_cluster();
            }
            let due = self.packet.as_ref().map(|packet| Instant::now() + self.clock.until(packet.due.at));
            tokio::select! {
                biased;
                () = async { match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }} => if let Some(Unit { due, payload: Payload::Opus(packet) }) = self.packet.take() {
                    return Some(Part::Sound(due.at, packet));
                },
                received = receive(&mut self.sound), if due.is_none() => match received {
                    Ok(unit) => self.packet = Some(unit),
                    // Its packets have a gap, as the client hears.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                },
                changed = self.newest.changed() => {
                    changed.ok()?;
                    if let Some(still) = self.newest.borrow_and_update().clone() {
                        return Some(Part::Picture(still));
                    }
                }
            }
        }
    }
}

/// Receives the next packet of sound. Never returns if there is no sound. Cancel-safe.
async fn receive(sound: &mut Option<Subscription>) -> Result<Unit, RecvError> {
    match sound {
        Some(sound) => sound.recv().await,
        None => std::future::pending().await,
    }
}
