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
        }
    }

    /// The bytes of the stream, on a connection that goes on counting. hyper polls for some when it has sent those before.
    pub(super) fn bytes(self, admitted: Admitted) -> impl Stream<Item = Result<Bytes, Infallible>> {
        let parts = stream::unfold((self, admitted), |(mut stream, admitted)| async {
            let bytes = stream.next().await?;
            Some((stream::iter(bytes.into_iter().map(Ok)), (stream, admitted)))
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
            if let Some(packet) = self.packet.take_if(|packet| now.since(packet.due.at) > MAX_LATENESS) {
                match self.station.sound_feed.at(now) {
                    Some((number, on_air)) if on_air.due.at > packet.due.at => {
                        self.sound = Some(self.station.sound_feed.resume(number));
                        self.position.end_cluster();
                    }
                    // The station is late, and not the client.
                    _ => self.packet = Some(packet),
                }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headend::{ClientKind, HeadEnd};
    use crate::lineup::StationSpec;
    use crate::media::Due;
    use crate::web::Web;

    const PACKET: Duration = Duration::from_millis(20);

    struct Scene {
        head_end: Arc<HeadEnd>,
        stream: MkvStream,
    }

    impl Scene {
        /// A stream of a station with sound, on which nothing has been on air.
        fn new() -> Scene {
            let spec = StationSpec::sample("239.77.0.2:5004");
            let id = spec.id;
            let (head_end, _stop) = HeadEnd::for_tests(vec![spec], None);
            let station = head_end.station(id).unwrap();
            station.set_sound(true);
            let newest = Web::new(head_end.clone()).jpegs(id).unwrap().subscribe();
            let client = head_end.clients.enter(id, ([127, 0, 0, 1], 1).into(), ClientKind::Matroska);
            let stream = MkvStream::new(station, head_end.clock.clone(), newest, client, None);
            Scene { head_end, stream }
        }

        fn picture(&self, at: AirTime) {
            self.head_end.show(self.stream.station.spec.id, Unit::blank(at, PACKET, vec![0; 100]));
        }

        fn sound(&self, at: AirTime, n: u8) {
            let unit = Unit::sound(Due { at, interval: PACKET }, vec![n; 80].into());
            self.head_end.show(self.stream.station.spec.id, unit);
        }

        /// What comes before the payload, and the packet of sound; `None` for a picture.
        async fn next(&mut self) -> (Vec<Bytes>, Option<u8>) {
            let mut bytes = self.stream.next().await.expect("the station is on air");
            let payload = bytes.pop_back().unwrap();
            (bytes.into(), (payload.len() == 80).then(|| payload[0]))
        }
    }

    fn begins_cluster(head: &[Bytes]) -> bool {
        head.last().unwrap().starts_with(&[0x1f, 0x43, 0xb6, 0x75])
    }

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "a test reads the clock of its scene")]
    async fn a_stream_begins_with_a_picture_and_a_slow_client_skips_to_what_is_on_air() {
        let mut scene = Scene::new();
        let now = scene.head_end.clock.now();
        let begin = now - Duration::from_millis(2400);
        scene.sound(begin - PACKET, 0);
        scene.picture(begin);
        let (head, sound) = scene.next().await;
        assert_eq!(sound, None, "sound before the first picture is left out");
        assert!(head[0].starts_with(&[0x1a, 0x45, 0xdf, 0xa3]) && begins_cluster(&head));

        // The client reads nothing, for longer than it may be behind.
        (1..=119).for_each(|n| scene.sound(begin + PACKET * n, n as u8));
        scene.picture(now - Duration::from_millis(1));
        scene.sound(now + PACKET, 200);
        let mut heard: Vec<u8> = Vec::new();
        let head = loop {
            match scene.next().await {
                (head, None) => break head,
                (_, Some(n)) => heard.push(n),
            }
        };
        assert!(heard.is_empty(), "no sound of the old cluster: {heard:?}");
        assert!(begins_cluster(&head) && head.len() == 1);
        let (head, sound) = scene.next().await;
        assert!(sound.is_some_and(|n| n >= 119) && !begins_cluster(&head), "{sound:?}");
        assert_eq!(scene.stream.client.pictures.load(Relaxed), 2);
    }

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "a test reads the clock of its scene")]
    async fn a_stream_ends_with_its_station() {
        let mut scene = Scene::new();
        scene.picture(scene.head_end.clock.now());
        scene.next().await;
        scene.stream.station.sound_feed.close();
        assert!(scene.stream.next().await.is_none());
    }
}
