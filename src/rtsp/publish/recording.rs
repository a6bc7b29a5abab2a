//! What a connection publishes: its tracks, how they travel, and what their packets are put together to.

use std::net::SocketAddr;
use std::time::Duration;

use rtsp_types::StatusCode;
use rtsp_types::headers::{
    RtpLowerTransport, RtpProfile, RtpTransport, RtpTransportParameters, Transport, TransportMode, Transports,
};
use sdp_types::{Media, Session};
use tokio::time::Instant;

use crate::clock::AirClock;
use crate::content::live::sender_clocks::{Clock, SenderClocks};
use crate::content::live::track_reader::{TrackPacket, TrackReader, TrackUnit, nanoseconds};
use crate::headend::publishers::Publisher;
use crate::rtsp::response::Rejection;
use crate::rtsp::session::SessionId;
use crate::rtsp::transport::TransportOffer;
use crate::wire::rtcp::sender_time;
use crate::wire::rtp::{self, Unwrap};
use crate::wire::sdp::offers::{Coding, OfferedTrack, offered_codecs, offered_tracks};

/// How long a publisher may take from its description to its first packets.
const SETUP_TIMEOUT: Duration = Duration::from_secs(10);

/// After so long without a picture a publisher is cut off, and its name is free. Its station shows a slate after 2 s.
const NAME_FREE: Duration = Duration::from_secs(5);

/// Most media of a description.
const MOST_MEDIA: usize = 8;

/// Most pictures a second.
const MOST_PICTURES: u32 = 250;

/// What a connection publishes.
pub(in crate::rtsp) struct Recording {
    pub(in crate::rtsp) id: SessionId,
    publisher: Publisher,
    tracks: Vec<RecordedTrack>,
    /// The coding of the pictures.
    coding: Coding,
    /// That of the sound, and the ticks a second of its clock.
    sound: Option<(Coding, u32)>,
    clocks: SenderClocks,
    /// The publisher is cut off then.
    deadline: Instant,
    is_recording: bool,
    second: PicturesOfSecond,
}

/// A medium of the description.
struct RecordedTrack {
    /// The last part of its URL.
    control: String,
    /// `None` if it is not used: of another kind, or not the first of its kind.
    used: Option<UsedTrack>,
    channels: Option<(u8, u8)>,
}

/// A track that is put on air.
struct UsedTrack {
    offered: OfferedTrack,
    clock: Clock,
    reader: TrackReader,
    numbers: PacketNumbers,
}

/// The packets of a track, counted without wraps.
#[derive(Default)]
struct PacketNumbers {
    ssrc: Option<u32>,
    sequence: Unwrap<16>,
    next: Option<u64>,
    timestamps: Unwrap<32>,
    /// The first timestamp, of a packet or of a report.
    first: Option<u64>,
}

/// The pictures of the current second.
#[derive(Default)]
struct PicturesOfSecond {
    began: Option<Instant>,
    count: u32,
}

impl Recording {
    /// What `publisher` describes.
    ///
    /// # Errors
    /// The sentence that says why it cannot be shown.
    #[expect(clippy::disallowed_methods, reason = "a shell: a publisher begins now")]
    pub(in crate::rtsp) fn new(
        publisher: Publisher,
        id: SessionId,
        session: &Session,
        clock: &AirClock,
    ) -> Result<Recording, String> {
        if session.medias.len() > MOST_MEDIA {
            return Err(format!("it describes {} media, more than {MOST_MEDIA}", session.medias.len()));
        }
        let offered = offered_tracks(session);
        let first = |is_it: fn(&Coding) -> bool| offered.iter().find(|track| is_it(&track.coding)).cloned();
        let Some(pictures) = first(Coding::is_picture) else {
            let codecs = offered_codecs(session);
            return Err(format!("it offers {codecs}, and no pictures in JPEG, H.264 or H.265"));
        };
        let sound = first(|coding| !coding.is_picture());
        let track = |(place, media): (usize, &Media)| {
            let of = |track: &&OfferedTrack| track.place == place;
            let pictures = Some(&pictures).filter(of).map(|track| (track, Clock::Pictures));
            let used = pictures.or(sound.as_ref().filter(of).map(|track| (track, Clock::Sound)));
            RecordedTrack {
                control: control(media, place),
                used: used.map(|(offered, clock)| UsedTrack {
                    offered: offered.clone(),
                    clock,
                    reader: TrackReader::new(offered),
                    numbers: PacketNumbers::default(),
                }),
                channels: None,
            }
        };
        Ok(Recording {
            id,
            publisher,
            coding: pictures.coding.clone(),
            sound: sound.as_ref().map(|track| (track.coding.clone(), track.clock_rate)),
            tracks: session.medias.iter().enumerate().map(track).collect(),
            clocks: SenderClocks::new(clock.now()),
            deadline: Instant::now() + SETUP_TIMEOUT,
            is_recording: false,
            second: PicturesOfSecond::default(),
        })
    }

    /// Waits until the publisher is to be cut off. Returns why. Cancel-safe.
    pub(in crate::rtsp) async fn over(&mut self) -> &'static str {
        tokio::select! {
            () = self.publisher.replaced() => "another publisher takes its place",
            () = tokio::time::sleep_until(self.deadline) => {
                if self.is_recording { "no picture has come for 5 s" } else { "it was announced, and not recorded" }
            }
        }
    }

    /// Whether packets are expected.
    pub(in crate::rtsp) fn is_recording(&self) -> bool {
        self.is_recording
    }

    /// Sets up the track of a URL that ends in `control`. Returns the Transport header of the response.
    pub(in crate::rtsp) fn set_up(
        &mut self,
        control: &str,
        offer: TransportOffer,
        _local: SocketAddr,
        _peer: SocketAddr,
    ) -> Result<Transports, Rejection> {
        let is_only = self.tracks.len() == 1 && control.is_empty();
        let place = self.tracks.iter().position(|track| is_only || track.control == control);
        let place = place.ok_or(StatusCode::NotFound)?;
        let TransportOffer::Interleaved(wanted) = offer else {
            return Err(StatusCode::UnsupportedTransport.into());
        };
        let others = self.tracks.iter().enumerate().filter(|(other, _)| *other != place);
        let taken: Vec<u8> =
            others.filter_map(|(_, track)| track.channels).flat_map(|pair| [pair.0, pair.1]).collect();
        let is_free = |pair: &(u8, u8)| !taken.contains(&pair.0) && !taken.contains(&pair.1);
        let any = (0..2 * MOST_MEDIA as u8).map(|n| (2 * n, 2 * n + 1));
        let channels = wanted.into_iter().chain(any).find(is_free).ok_or(StatusCode::UnsupportedTransport)?;
        self.tracks[place].channels = Some(channels);
        let params = RtpTransportParameters {
            unicast: true,
            interleaved: Some((channels.0, Some(channels.1))),
            mode: vec![TransportMode::Record],
            ..Default::default()
        };
        let lower_transport = Some(RtpLowerTransport::Tcp);
        Ok(vec![Transport::Rtp(RtpTransport { profile: RtpProfile::Avp, lower_transport, params })].into())
    }

    /// Packets are to come. False if there is no way for the pictures yet.
    #[expect(clippy::disallowed_methods, reason = "a shell: a recording begins now")]
    pub(in crate::rtsp) fn record(&mut self) -> bool {
        let is_picture = |track: &RecordedTrack| {
            track.channels.is_some() && track.used.as_ref().is_some_and(|used| used.clock == Clock::Pictures)
        };
        if !self.tracks.iter().any(is_picture) {
            return false;
        }
        if !self.is_recording {
            (self.is_recording, self.deadline) = (true, Instant::now() + NAME_FREE);
        }
        true
    }

    /// Takes interleaved data.
    ///
    /// # Errors
    /// Why the publisher is cut off.
    pub(in crate::rtsp) fn take_interleaved(&mut self, channel: u8, packet: &[u8]) -> Result<(), String> {
        let place = self
            .tracks
            .iter()
            .position(|track| track.channels.is_some_and(|(rtp, rtcp)| channel == rtp || channel == rtcp));
        let Some(place) = place.filter(|_| self.is_recording) else { return Ok(()) };
        let is_report = self.tracks[place].channels.is_some_and(|(_, rtcp)| channel == rtcp);
        if is_report {
            self.take_report(place, packet);
            return Ok(());
        }
        self.take_packet(place, packet)
    }

    /// Takes an RTCP packet of a track.
    fn take_report(&mut self, place: usize, packet: &[u8]) {
        let Some(used) = &mut self.tracks[place].used else { return };
        let Some(time) = sender_time(packet) else { return };
        if used.numbers.is_of(time.ssrc) {
            let ticks = used.numbers.elapsed(time.timestamp);
            self.clocks.note(used.clock, time.ntp, nanoseconds(ticks, used.offered.clock_rate));
        }
    }

    /// Takes an RTP packet of a track.
    #[expect(clippy::disallowed_methods, reason = "a shell: a picture has come now")]
    fn take_packet(&mut self, place: usize, packet: &[u8]) -> Result<(), String> {
        let Some(used) = &mut self.tracks[place].used else { return Ok(()) };
        let Ok((header, payload)) = rtp::Header::parse(packet) else { return Ok(()) };
        if header.payload_type != used.offered.payload_type || !used.numbers.is_of(header.ssrc) {
            return Ok(());
        }
        let Some(lost) = used.numbers.lost_before(header.sequence) else { return Ok(()) };
        let ticks = used.numbers.elapsed(header.timestamp);
        if let Some(sender) = self.publisher.sender() {
            sender.count(packet.len())?;
        }
        for unit in used.reader.take(&TrackPacket { header, payload, lost, ticks }) {
            match unit {
                TrackUnit::Picture(body, elapsed) => {
                    let now = Instant::now();
                    self.deadline = now + NAME_FREE;
                    if !self.second.takes(now) {
                        return Err(format!("sends more than {MOST_PICTURES} pictures a second"));
                    }
                    if self.publisher.sender().is_none_or(|sender| sender.is_closed()) {
                        let sender = self.publisher.go_on_air().ok_or("its station is gone")?;
                        sender.tracks_at_once(self.coding.clone(), self.sound.clone());
                    }
                    let sender = self.publisher.sender().ok_or("its station is gone")?;
                    sender.picture(body, Some(self.clocks.pictures(elapsed)));
                }
                TrackUnit::Sound(packet, elapsed) => {
                    let (stamp, in_step) = self.clocks.sound(elapsed);
                    if let Some(sender) = self.publisher.sender() {
                        sender.sound(packet, stamp, in_step);
                    }
                }
            }
        }
        Ok(())
    }
}

/// The last part of the URL of a medium.
fn control(media: &Media, place: usize) -> String {
    let control = media.get_attribute_values("control").flatten().next().unwrap_or_default().trim();
    let last = control.trim_matches('/').rsplit('/').next().unwrap_or_default();
    if last.is_empty() || last == "*" { format!("streamid={place}") } else { last.to_owned() }
}

impl PacketNumbers {
    /// Whether packets of this source are those of the track: its first source is.
    fn is_of(&mut self, ssrc: u32) -> bool {
        *self.ssrc.get_or_insert(ssrc) == ssrc
    }

    /// Whether packets are missing before the one of this number; `None` if it came before.
    fn lost_before(&mut self, sequence: u16) -> Option<bool> {
        let number = self.sequence.unwrap(sequence.into());
        let lost = match self.next {
            Some(next) if number < next => return None,
            Some(next) => number > next,
            None => false,
        };
        self.next = Some(number + 1);
        Some(lost)
    }

    /// Ticks since the first timestamp.
    fn elapsed(&mut self, timestamp: u32) -> i64 {
        let timestamp = self.timestamps.unwrap(timestamp);
        let first = *self.first.get_or_insert(timestamp);
        timestamp.cast_signed().saturating_sub(first.cast_signed())
    }
}

impl PicturesOfSecond {
    /// Counts a picture. Returns whether they are not too many.
    fn takes(&mut self, now: Instant) -> bool {
        if self.began.is_none_or(|began| now - began > Duration::from_secs(1)) {
            (self.began, self.count) = (Some(now), 0);
        }
        self.count += 1;
        self.count <= MOST_PICTURES
    }
}
