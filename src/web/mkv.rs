//! One station with its sound for one client: `/stations/2.mkv`, live Matroska.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use tokio::sync::broadcast::error::RecvError;

use super::matroska::{Header, Position};
use super::server::Admitted;
use crate::clock::AirClock;
use crate::directory::table::AudienceMember;
use crate::headend::live_units::{LiveUnits, NoUnit, feed};
use crate::headend::{Client, StationHandle};
use crate::media::tracks::PerTrack;
use crate::media::{Payload, Size, Track, Unit};

/// A client for which a unit waits for longer than this skips to what is on air. Short of what a feed keeps for a subscriber, and
/// longer than a stall of a wireless network.
const MAX_LATENESS: Duration = Duration::from_secs(1);

/// A Matroska stream to one client. Units come from the station's feeds, which all clients share: nothing is queued for this one.
pub(super) struct MkvStream {
    station: Arc<StationHandle>,
    clock: AirClock,
    tracks: PerTrack<()>,
    units: LiveUnits,
    position: Position,
    /// Whether the client has got the beginning of the document.
    has_header: bool,
    client: Arc<Client>,
    _audience: Option<AudienceMember>,
}

impl MkvStream {
    #[expect(clippy::disallowed_methods, reason = "a shell: the stream begins now")]
    pub(super) fn new(
        station: Arc<StationHandle>,
        clock: AirClock,
        client: Arc<Client>,
        audience: Option<AudienceMember>,
    ) -> MkvStream {
        let tracks = PerTrack { picture: Some(()), sound: station.has_sound().then_some(()) };
        MkvStream {
            units: LiveUnits::subscribe(&station, tracks, clock.now()),
            station,
            clock,
            tracks,
            position: Position::default(),
            has_header: false,
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
    async fn next(&mut self) -> Option<Vec<Bytes>> {
        loop {
            let Unit { due, payload, .. } = self.unit().await?;
            let (track, size, [before, content, after]) = match payload {
                Payload::Jpeg(jpeg) => {
                    self.client.pictures.fetch_add(1, Relaxed);
                    let (before, after) = jpeg.around_scan(0);
                    let parts = [before.into(), jpeg.scan, Bytes::from_static(after)];
                    (Track::Picture, Some(jpeg.size), parts)
                }
                Payload::Opus(sound) | Payload::L16(sound) => {
                    (Track::Sound, None, [Bytes::new(), sound, Bytes::new()])
                }
            };
            let length = before.len() + content.len() + after.len();
            let Some(block) = self.position.block(track, due.at, length) else { continue };
            let mut head = match size {
                Some(size) if !self.has_header => self.header(size),
                _ => Vec::new(),
            };
            self.has_header = true;
            head.extend(block);
            head.extend(before);
            return Some([head.into(), content, after].into_iter().filter(|part| !part.is_empty()).collect());
        }
    }

    fn header(&self, size: Size) -> Vec<u8> {
        let sound = self.tracks.sound.and_then(|()| self.station.sound_codec());
        Header { title: &self.station.spec().name, size, rate: self.station.film_rate(), sound }.to_bytes()
    }

    /// The next unit that is due. `None` when the station is gone.
    #[expect(clippy::disallowed_methods, reason = "a shell: it looks whether the client is late")]
    async fn unit(&mut self) -> Option<Unit> {
        let dropped = |pictures| self.client.dropped.fetch_add(pictures, Relaxed);
        loop {
            let track = match self.units.ready(&self.clock, Duration::ZERO).await {
                Ok(track) => track,
                Err(NoUnit(track, RecvError::Lagged(missed))) => {
                    if track == Track::Picture {
                        dropped(missed);
                    }
                    continue;
                }
                Err(NoUnit(_, RecvError::Closed)) => return None,
            };
            let next = self.units.next().picture;
            let Some((_, unit)) = self.units.take(track) else { continue };
            let now = self.clock.now();
            let is_newer = |on_air: Unit| on_air.due.at > unit.due.at;
            let is_late = now.since(unit.due.at) > MAX_LATENESS;
            // Otherwise the station is late, and not the client.
            if !is_late || !feed(&self.station, track).at(now).is_some_and(|(_, on_air)| is_newer(on_air)) {
                return Some(unit);
            }
            self.units = LiveUnits::subscribe(&self.station, self.tracks, now);
            self.position.end_cluster();
            if let (Some(before), Some(after)) = (next, self.units.next().picture) {
                dropped(after.saturating_sub(before));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headend::{ClientKind, HeadEnd};
    use crate::lineup::StationSpec;
    use crate::media::{AirTime, Due};

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
            let client = head_end.clients.enter(id, ([127, 0, 0, 1], 1).into(), ClientKind::Matroska);
            let stream = MkvStream::new(station, head_end.clock.clone(), client, None);
            Scene { head_end, stream }
        }

        fn picture(&self, at: AirTime) {
            self.head_end.show(self.stream.station.spec().id, Unit::blank(at, PACKET, vec![0; 100]));
        }

        fn sound(&self, at: AirTime, n: u8) {
            let unit = Unit::sound(Due { at, interval: PACKET }, vec![n; 80].into());
            self.head_end.show(self.stream.station.spec().id, unit);
        }

        /// The bytes before the content of the next block, and the packet of sound; `None` for a picture.
        async fn next(&mut self) -> (Bytes, Option<u8>) {
            let bytes = self.stream.next().await.expect("the station is on air");
            (bytes[0].clone(), (bytes[1].len() == 80).then(|| bytes[1][0]))
        }
    }

    const CLUSTER: &[u8] = &[0x1f, 0x43, 0xb6, 0x75];

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
        assert!(head.starts_with(&[0x1a, 0x45, 0xdf, 0xa3]) && head.windows(4).any(|four| four == CLUSTER));

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
        assert!(head.starts_with(CLUSTER), "{head:?}");
        let (head, sound) = scene.next().await;
        assert!(sound.is_some_and(|n| n >= 119) && !head.starts_with(CLUSTER), "{sound:?}");
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
