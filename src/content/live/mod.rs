//! A live source: its pictures as they come, passed on unchanged where RTP/JPEG can carry them.
//!
//! A source that is lost is sought again at once, while its last picture stays for 2 s. Then the station shows its slate, and
//! tries again as with films.
//!
//! ```text
//! connection -> http, rtsp, camera, microphone -> arrivals -> pictures: decoder -> picture -> pacing -> Unit
//!                                                        \--> sound:    decoder -> sound ---> LiveSound
//! ```
//!
//! - [`arrivals`]: what has come, by whatever protocol; [`sender_clocks`]: which picture a packet of sound belongs to.
//! - [`decoder`]: H.264, H.265 and sound to pixels and samples.
//! - `picture`: a picture for the air, as it is or encoded anew. `pacing`: when it is on air.
//! - `camera`, `microphone`: of this machine, each with a thread that blocks on the device. `capture`: what ALSA hears.
//! - [`sound`]: samples to packets on the station's clock. [`camera_units`]: a camera for our own publisher, which sends at once.
//! - `published`, [`publication`]: a station that is published to. [`track_reader`]: RTP packets to what arrives.

pub(crate) mod arrivals;
mod camera;
pub(crate) mod camera_units;
#[cfg(feature = "microphone")]
mod capture;
mod connection;
pub(crate) mod decoder;
mod http;
mod microphone;
mod multipart;
mod pacing;
mod picture;
pub(crate) mod publication;
mod published;
mod rate;
mod rtsp;
pub(crate) mod sender_clocks;
pub(crate) mod sound;
pub(crate) mod track_reader;

use std::collections::VecDeque;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{debug, info, warn};

use super::encode::{Encoded, Encoder};
use super::slate::clock_text;
use super::worker::{BlockingWorker, STUCK_AFTER, Threads};
use super::{ContentEvent, ContentKind, Fault};
use crate::clock::AirClock;
use crate::lineup::{LiveSource, NetworkSource, SoundChoice, StationSpec};
use crate::media::jpeg::Jpeg;
use crate::media::{AirTime, Due, FrameRate, Policy, REPEAT_RATE, Size, Unit};
use crate::wire::sdp::offers::Coding;
use arrivals::{Arrival, PictureBody, Stamped};
use connection::{Connection, Target};
use decoder::PictureDecoder;
use microphone::Microphone;
use pacing::{Pacing, Place};
use picture::Shown;
use publication::PublishSlot;
use published::PublishedSource;
use rate::RateMeter;
use sound::{LiveSound, PassedSound, SoundMaker};

/// How long the last picture of a lost source stays. A source that sends no picture for so long is lost, unless its pictures
/// are farther apart.
const HOLD: Duration = Duration::from_secs(2);

/// A source of few pictures is lost after so many of its intervals,
const LOST_INTERVALS: u32 = 3;

/// but after this time at the latest. A source that was just found has as long for its first picture.
const LONGEST_HOLD: Duration = Duration::from_secs(10);

/// Between two attempts while the last picture stays.
const RECONNECT: Duration = Duration::from_millis(250);

/// After so many pictures in a row that cannot be shown the source is given up.
const MOST_DAMAGED: u32 = 25;

/// The pictures of a live source.
pub(crate) struct Live {
    spec: Arc<StationSpec>,
    /// `None` if the content is published to the station.
    source: Option<LiveSource>,
    /// `None` if a source is sought.
    publishers: Option<PublishedSource>,
    clock: AirClock,
    /// The runtime of its connections.
    sockets: Handle,
    connection: Option<Connection>,
    pacing: Pacing,
    rate: RateMeter,
    /// Events that are already known, in order.
    events: VecDeque<ContentEvent>,
    /// The size and the rate that were told; `None` before the first picture, and after a slate.
    told: Option<(Size, FrameRate)>,
    /// The size of the last picture.
    size: Option<Size>,
    /// When the last good picture came, or when a connection was begun without one.
    last_good: Option<Instant>,
    /// Since when the source is lost: after it was on air.
    lost_since: Option<AirTime>,
    /// Whether a picture was given since this was asked last.
    played: bool,
    /// Pictures in a row that could not be shown.
    damaged: u32,
    /// How its pictures come on air, as last logged.
    logged: Option<String>,
    /// Looks up the source's name.
    lookup_worker: BlockingWorker,
    /// Decodes and encodes.
    encode_worker: BlockingWorker,
    /// `None` before the first picture that is encoded, while a blocking thread has it, or after it crashed or hung there.
    encoder: Option<Box<Encoder>>,
    /// Of the connection's pictures, if they are neither JPEG nor with a blocking thread.
    decoder: Option<Box<PictureDecoder>>,
    /// The connection's sound.
    sound: Option<SoundTrack>,
    /// Makes packets of sound.
    sound_worker: BlockingWorker,
}

/// The sound of a connection.
struct SoundTrack {
    handling: SoundHandling,
    packets: Arc<LiveSound>,
    /// Whether the station was told of it.
    told: bool,
}

/// How packets of sound come on air.
enum SoundHandling {
    /// Decoded and coded. `None` while a blocking thread has it, or after it crashed or hung there.
    Made(Option<Box<SoundMaker>>),
    /// Passed on as they are.
    Passed(PassedSound),
}

impl Live {
    /// The content that is published to the station of `spec`, which is found in `slot`.
    pub(crate) fn of_publishers(
        spec: Arc<StationSpec>,
        slot: Arc<PublishSlot>,
        clock: AirClock,
        threads: Threads,
        sockets: Handle,
    ) -> Live {
        let mut live = Live::begin(spec, None, clock, threads, sockets);
        live.publishers = Some(PublishedSource::new(slot));
        live
    }

    /// The pictures of `source`, for the station of `spec`. `sockets` is a runtime that serves sockets.
    pub(crate) fn new(
        spec: Arc<StationSpec>,
        source: LiveSource,
        clock: AirClock,
        threads: Threads,
        sockets: Handle,
    ) -> Live {
        Live::begin(spec, Some(source), clock, threads, sockets)
    }

    fn begin(
        spec: Arc<StationSpec>,
        source: Option<LiveSource>,
        clock: AirClock,
        threads: Threads,
        sockets: Handle,
    ) -> Live {
        Live {
            spec,
            source,
            publishers: None,
            clock,
            sockets,
            connection: None,
            pacing: Pacing::default(),
            rate: RateMeter::default(),
            events: VecDeque::new(),
            told: None,
            size: None,
            last_good: None,
            lost_since: None,
            played: false,
            damaged: 0,
            logged: None,
            lookup_worker: BlockingWorker::new(threads.clone()),
            encode_worker: BlockingWorker::new(threads.clone()),
            encoder: None,
            decoder: None,
            sound: None,
            sound_worker: BlockingWorker::new(threads),
        }
    }

    /// From the next picture on, this configuration of the same station holds.
    pub(crate) fn set_spec(&mut self, spec: Arc<StationSpec>) {
        self.spec = spec;
    }

    /// Leaves the source. The next event seeks it again.
    pub(crate) fn rejoin(&mut self) {
        self.connection = None;
        self.events.clear();
        self.forget();
    }

    /// The rate and the delay of the connection before do not hold for the next one.
    fn forget(&mut self) {
        (self.told, self.last_good, self.damaged) = (None, None, 0);
        (self.pacing, self.rate) = (Pacing::default(), RateMeter::default());
    }

    /// The size of the last picture.
    pub(crate) fn size(&self) -> Option<Size> {
        self.size
    }

    /// Whether a picture was on air since this was asked last.
    pub(crate) fn take_played(&mut self) -> bool {
        std::mem::take(&mut self.played)
    }

    /// The next event. There always is one, or a fault.
    ///
    /// # Errors
    /// The source is lost, and was so for a while. The next call seeks it again.
    pub(crate) async fn next(&mut self) -> Result<ContentEvent, Fault> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            match self.arrival().await {
                Ok(Arrival::Tracks { pictures, sound }) => self.begin_tracks(pictures, sound).await?,
                Ok(Arrival::Picture(picture)) => self.take(picture).await?,
                Ok(Arrival::Sound(sound)) => self.take_sound(sound).await,
                Err(reason) => self.lose(reason).await?,
            }
        }
    }

    /// Seeks the source until there is a picture to show, which the next events have. `pause` tells how long to wait after a fault
    /// with a reason. It is to be awaited to its end.
    #[expect(clippy::disallowed_methods, reason = "a shell: it waits between attempts")]
    pub(crate) async fn seek(&mut self, mut pause: impl FnMut(&str) -> Duration) {
        let mut events = VecDeque::new();
        loop {
            match self.next().await {
                Ok(event) => {
                    let is_picture = matches!(event, ContentEvent::Unit { .. });
                    // Sound that came before the first picture is not heard.
                    if !matches!(event, ContentEvent::SoundHasCome) {
                        events.push_back(event);
                    }
                    if is_picture {
                        events.append(&mut self.events);
                        self.events = events;
                        return;
                    }
                }
                Err(fault) => {
                    events.clear();
                    tokio::select! {
                        biased;
                        () = self.revived() => {}
                        () = sleep(pause(&fault.to_string())) => {}
                    }
                }
            }
        }
    }

    /// The next that arrives.
    ///
    /// # Errors
    /// Why nothing does.
    #[expect(clippy::disallowed_methods, reason = "a shell: it does not wait for ever")]
    async fn arrival(&mut self) -> Result<Arrival, String> {
        let patience = match &self.told {
            Some((_, rate)) => (rate.interval() * LOST_INTERVALS).clamp(HOLD, LONGEST_HOLD),
            None => LONGEST_HOLD,
        };
        let Some(source) = &self.source else {
            let arrival = self.published_arrival().await;
            let dropped = self.connection.as_ref().map_or(0, Connection::take_dropped);
            if dropped > 0 {
                self.events.push_back(ContentEvent::Skipped(dropped));
            }
            return arrival;
        };
        let name = source.name();
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => {
                let connection = match source.clone() {
                    LiveSource::Camera(device) => {
                        let StationSpec { id, name, .. } = &*self.spec;
                        let microphone = self.wants_sound().then(|| Microphone {
                            device: device.microphone.clone(),
                            heard_by: format!("station {id} \"{name}\""),
                        });
                        Connection::to_camera(device, microphone, self.clock.clone())
                    }
                    LiveSource::Network(source) => {
                        let target = self.target(source).await?;
                        Connection::begin(target, self.clock.clone(), &self.sockets)
                    }
                };
                self.connection.insert(connection)
            }
        };
        let since = *self.last_good.get_or_insert_with(Instant::now);
        let arrival = match timeout_at(since + patience, connection.next()).await {
            Ok(arrival) => arrival,
            Err(_) => Err(format!("{name} sends no picture for {} s", patience.as_secs())),
        };
        match connection.take_dropped() {
            0 => {}
            dropped => self.events.push_back(ContentEvent::Skipped(dropped)),
        }
        arrival
    }

    /// The data that a connection to the source needs.
    async fn target(&mut self, source: NetworkSource) -> Result<Target, String> {
        let (host, asked) = (source.host().to_owned(), source.clone());
        let look_up = move || {
            let source = asked;
            let addresses = (source.host(), source.port()).to_socket_addrs();
            let addresses =
                addresses.map_err(|error| format!("the name {} is not found: {error}", source.host()))?;
            let password = source.password()?;
            Ok((Vec::from_iter(addresses), password))
        };
        let found: Result<(Vec<SocketAddr>, _), String> = self
            .lookup_worker
            .call(STUCK_AFTER, look_up)
            .await
            .map_err(|_| format!("the name {host} is not found in time"))?;
        let (addresses, password) = found?;
        Ok(Target { source, addresses, password, wants_sound: self.wants_sound() })
    }

    /// Whether the station has the sound of its source.
    fn wants_sound(&self) -> bool {
        !matches!(self.spec.sound, SoundChoice::Auto | SoundChoice::Off)
    }

    /// The source is lost, for this reason. While its last picture stays, it is sought again.
    ///
    /// # Errors
    /// The picture has stayed for long enough.
    #[expect(clippy::disallowed_methods, reason = "a shell: a source is lost now")]
    async fn lose(&mut self, reason: String) -> Result<(), Fault> {
        if self.publishers.is_some() {
            return Err(self.rest(reason));
        }
        (self.connection, self.decoder, self.sound) = (None, None, None);
        let held = self.last_good.is_some_and(|last| last.elapsed() < HOLD);
        if self.told.is_some() {
            self.lost_since.get_or_insert_with(|| self.clock.now());
            debug!("station {}: {reason}", self.spec.id);
            if held {
                sleep(RECONNECT).await;
                return Ok(());
            }
        }
        self.forget();
        Err(match self.lost_since {
            Some(since) => Fault::Lost { since: clock_text(since), reason },
            None => Fault::NoPicture(reason),
        })
    }

    /// The connection tells how what follows is coded.
    async fn begin_tracks(&mut self, pictures: Coding, sound: Option<(Coding, u32)>) -> Result<(), Fault> {
        debug!("station {}: pictures in {}", self.spec.id, pictures.name());
        if let Coding::Nal(codec, parameter_sets) = pictures {
            match PictureDecoder::new(codec, &parameter_sets) {
                Ok(decoder) => self.decoder = Some(Box::new(decoder)),
                Err(reason) => return self.lose(reason).await,
            }
        }
        let is_passed = |(coding, _): &(Coding, u32)| self.publishers.is_some() && *coding == Coding::Opus;
        if sound.as_ref().is_some_and(is_passed) {
            let handling = SoundHandling::Passed(PassedSound::default());
            self.sound = Some(SoundTrack { handling, packets: Arc::default(), told: false });
        } else if let Some((coding, clock_rate)) = sound.filter(|_| self.spec.sound != SoundChoice::Off) {
            match SoundMaker::new(&coding, clock_rate, self.spec.sound_bitrate) {
                Ok(maker) => {
                    let handling = SoundHandling::Made(maker.map(Box::new));
                    self.sound = Some(SoundTrack { handling, packets: Arc::default(), told: false });
                }
                Err(reason) => {
                    let StationSpec { id, name, .. } = &*self.spec;
                    warn!("station {id} \"{name}\" is silent: {reason}");
                }
            }
        }
        Ok(())
    }

    /// Puts what has come on air, unless it is late or no picture.
    async fn take(&mut self, picture: Stamped<PictureBody>) -> Result<(), Fault> {
        let Stamped { at, stamp, body, .. } = picture;
        let unit = match body {
            PictureBody::File(part) => return self.show(at, stamp, Shown::File(part)).await,
            PictureBody::Jpeg(jpeg) => return self.show(at, stamp, Shown::Jpeg(jpeg)).await,
            PictureBody::Pixels(pixels) => return self.show(at, stamp, Shown::Pixels(pixels)).await,
            PictureBody::Unit(unit) => unit,
        };
        // Later pictures refer to this one, so it is decoded even if it is late.
        let (Some(mut decoder), Some(stamp)) = (self.decoder.take(), stamp) else { return self.skip() };
        let width = self.spec.width;
        let decode = move || {
            let pictures = decoder.decode(&unit, Duration::from_nanos(stamp.0), width);
            (decoder, pictures)
        };
        let decoded = match self.encode_worker.call(STUCK_AFTER, decode).await {
            Ok((decoder, decoded)) => {
                self.decoder = Some(decoder);
                decoded
            }
            Err(fault) => return self.lose(format!("its pictures cannot be decoded: {fault}")).await,
        };
        match decoded {
            Ok(pictures) => {
                for picture in pictures {
                    let stamp = AirTime(u64::try_from(picture.stamp.as_nanos()).unwrap_or(u64::MAX));
                    self.show(at, Some(stamp), Shown::Pixels(picture.pixels)).await?;
                }
                Ok(())
            }
            Err(reason) => self.is_damaged(reason).await,
        }
    }

    /// Puts a packet of sound on air. One that cannot be decoded is a gap.
    async fn take_sound(&mut self, arrived: Stamped<bytes::Bytes>) {
        let Stamped { at, stamp, in_step, body } = arrived;
        let (Some(track), Some(stamp)) = (&mut self.sound, stamp) else { return };
        let place = self.pacing.sound_place(at, stamp, in_step, self.spec.buffer);
        let maker = match &mut track.handling {
            SoundHandling::Passed(passed) => {
                if passed.take(body, place, &track.packets) {
                    self.events.push_back(ContentEvent::SoundHasCome);
                }
                return;
            }
            SoundHandling::Made(maker) => maker.take(),
        };
        let Some(mut maker) = maker else { return };
        let packets = track.packets.clone();
        let make = move || {
            let made = maker.take(&body, place, &packets);
            (maker, made)
        };
        let Ok((maker, made)) = self.sound_worker.call(STUCK_AFTER, make).await else { return };
        track.handling = SoundHandling::Made(Some(maker));
        match made {
            Ok(()) => self.events.push_back(ContentEvent::SoundHasCome),
            Err(reason) => debug!("station {}: {reason}", self.spec.id),
        }
    }

    /// Puts a picture on air, unless it is late or no picture.
    #[expect(clippy::disallowed_methods, reason = "a shell: it asks whether a picture is late")]
    async fn show(&mut self, at: AirTime, stamp: Option<AirTime>, picture: Shown) -> Result<(), Fault> {
        self.rate.count(stamp.unwrap_or(at));
        let interval = self.rate.interval();
        let place = self.pacing.place(at, stamp, interval, self.spec.buffer);
        // Its first pictures tell the rate of a source, and how long they are on their way.
        if self.told.is_none() && !self.rate.is_known() {
            return Ok(());
        }
        let due = match place {
            Place::Due(at) => Due { at, interval: interval.min(REPEAT_RATE.interval()) },
            Place::Missed => return self.skip(),
        };
        if due.policy(self.clock.now()) != Policy::Air {
            return self.skip();
        }
        let (jpeg, squeezed) = match self.coded(picture).await {
            Ok(coded) => coded,
            Err(reason) => return self.is_damaged(reason).await,
        };
        (self.damaged, self.last_good, self.lost_since, self.played) = (0, Some(Instant::now()), None, true);
        let rate = self.rate.rate();
        if self.told != Some((jpeg.size, rate)) {
            self.told = Some((jpeg.size, rate));
            self.size = Some(jpeg.size);
            self.events.push_back(ContentEvent::Begin { kind: ContentKind::Film, size: jpeg.size, rate });
        }
        if let Some(track) = self.sound.as_mut().filter(|track| !track.told) {
            track.told = true;
            self.events.push_back(ContentEvent::LiveSound(track.packets.clone()));
        }
        self.events.push_back(ContentEvent::Unit { unit: Unit::picture(due, jpeg), squeezed });
        Ok(())
    }

    /// A picture cannot be shown. After several in a row the source is given up.
    async fn is_damaged(&mut self, reason: String) -> Result<(), Fault> {
        debug!("station {}: a picture cannot be shown: {reason}", self.spec.id);
        self.damaged += 1;
        if self.damaged >= MOST_DAMAGED {
            let reason = match &self.source {
                Some(source) => format!("{} sends no pictures: {reason}", source.name()),
                None => format!("what is published cannot be shown: {reason}"),
            };
            return self.lose(reason).await;
        }
        self.skip()
    }

    fn skip(&mut self) -> Result<(), Fault> {
        self.events.push_back(ContentEvent::Skipped(1));
        Ok(())
    }

    /// The coded picture for the air, and whether it has a lower quality than the station's.
    ///
    /// # Errors
    /// Why there is none.
    async fn coded(&mut self, picture: Shown) -> Result<(Jpeg, bool), String> {
        let (width, quality) = (self.spec.width, self.spec.quality);
        let reason = match picture.pass_on(width) {
            Ok(jpeg) => {
                self.log("passed on as they are".into());
                return Ok((jpeg, false));
            }
            Err(reason) => reason,
        };
        let encoder = self.encoder.take();
        let encode = move || picture.encode_anew(encoder, width, quality);
        let encoded =
            self.encode_worker.call(STUCK_AFTER, encode).await.map_err(|fault| fault.to_string())?;
        let (encoder, Encoded { jpeg, squeezed }) = encoded?;
        self.encoder = Some(encoder);
        self.log(format!("encoded anew: {reason}"));
        Ok((jpeg, squeezed))
    }

    /// Logs how pictures come on air, unless that is known.
    fn log(&mut self, how: String) {
        if self.logged.as_ref() != Some(&how) {
            let StationSpec { id, name, .. } = &*self.spec;
            match &self.source {
                Some(source) => info!("station {id} \"{name}\": the pictures of {source} are {how}"),
                None => info!("station {id} \"{name}\": the pictures that are published are {how}"),
            }
            self.logged = Some(how);
        }
    }
}

/// Takes a stream of this content type in pieces: nothing panics, memory is bounded, and what is passed on can be sent.
#[cfg(fuzzing)]
pub fn fuzz(content_type: &str, bytes: &[u8], piece: usize) {
    let Ok(mut multipart) = multipart::Multipart::new(content_type) else { return };
    for piece in bytes.chunks(piece.max(1)) {
        multipart.push(piece);
        loop {
            match multipart.next() {
                Ok(Some(part)) => {
                    let Ok(jpeg) = Shown::File(part.body).pass_on(2040) else { continue };
                    assert_eq!(Shown::File(jpeg.to_jfif().into()).pass_on(2040).as_ref(), Ok(&jpeg));
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
        assert!(multipart.held() <= multipart::MOST_PICTURE + piece.len());
    }
}
