//! The stream that a connection publishes: its tracks, how they travel, and what their packets are put together to.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::task::Poll;
use std::time::Duration;

use rtsp_types::StatusCode;
use rtsp_types::headers::{
    RtpLowerTransport, RtpProfile, RtpTransport, RtpTransportParameters, Transport, TransportMode, Transports,
};
use sdp_types::{Media, Session};
use tokio::net::UdpSocket;
use tokio::time::Instant;
use tracing::debug;

use super::packet_numbers::PacketNumbers;
use crate::clock::AirClock;
use crate::content::live::sender_clocks::{Clock, SenderClocks};
use crate::content::live::track_reader::{TrackPacket, TrackReader, TrackUnit, nanoseconds};
use crate::headend::publishers::Publisher;
use crate::limits::canonical;
use crate::media::{AirTime, StationId};
use crate::rtsp::response::Rejection;
use crate::rtsp::session::SessionId;
use crate::rtsp::sink::open_ports;
use crate::rtsp::transport::TransportOffer;
use crate::wire::jitter::{BufferedPacket, JitterBuffer, PacketVerdict, Step};
use crate::wire::rtcp::sender_time;
use crate::wire::rtp;
use crate::wire::sdp::offers::{Coding, OfferedTrack, offered_codecs, offered_tracks};

/// How long a publisher may take from its description to its first packets.
const SETUP_TIMEOUT: Duration = Duration::from_secs(10);

/// After so long without a picture a publisher is cut off, and its name is free. Its station shows a slate after 2 s.
const NAME_FREE: Duration = Duration::from_secs(5);

/// Most media of a description.
const MOST_MEDIA: usize = 8;

/// Most packets that are taken of one socket before others have their turn.
const MOST_AT_ONCE: usize = 64;

/// Kernel receive buffer for RTP by UDP, in bytes: some ten pictures.
const RECEIVE_BUFFER: usize = 512 * 1024;

/// Most pictures a second.
const MOST_PICTURES: u32 = 250;

/// The stream that a connection publishes.
pub(in crate::rtsp) struct PublishSession {
    pub(in crate::rtsp) id: SessionId,
    publisher: Publisher,
    tracks: Vec<OfferedMedium>,
    /// The coding of the pictures.
    coding: Coding,
    /// That of the sound, and the ticks a second of its clock.
    sound: Option<(Coding, u32)>,
    clocks: SenderClocks,
    clock: AirClock,
    /// The publisher is cut off then.
    deadline: Instant,
    is_recording: bool,
    second: PicturesOfSecond,
    /// Bytes that have come since the last picture.
    bytes: usize,
    /// The fault of the last packet that was dropped since the last picture; `None` if there was none.
    fault: Option<String>,
}

/// A medium of the description.
struct OfferedMedium {
    /// The last part of its URL.
    control: String,
    /// `None` if it is not used: of another kind, or not the first of its kind.
    used: Option<UsedTrack>,
    /// `None` before SETUP.
    transport: Option<TrackTransport>,
}

/// How the packets of a track travel.
enum TrackTransport {
    /// In the connection, on these channels for RTP and RTCP.
    Interleaved(u8, u8),
    Udp(Box<UdpTransport>),
}

/// Two sockets, for RTP and RTCP, and the packets that overtook others.
struct UdpTransport {
    sockets: [UdpSocket; 2],
    /// The publisher's: packets from elsewhere are not its own.
    from: [SocketAddr; 2],
    jitter: JitterBuffer,
}

/// A track that is put on air.
struct UsedTrack {
    offered: OfferedTrack,
    clock: Clock,
    reader: TrackReader,
    numbers: PacketNumbers,
}

/// The pictures of the current second.
#[derive(Default)]
struct PicturesOfSecond {
    began: Option<Instant>,
    count: u32,
}

impl PublishSession {
    /// The number of the station that is published to.
    pub(in crate::rtsp) fn station(&self) -> StationId {
        self.publisher.station()
    }

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
    ) -> Result<PublishSession, String> {
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
            OfferedMedium {
                control: control(media, place),
                used: used.map(|(offered, clock)| UsedTrack {
                    offered: offered.clone(),
                    clock,
                    reader: TrackReader::new(offered),
                    numbers: PacketNumbers::default(),
                }),
                transport: None,
            }
        };
        Ok(PublishSession {
            id,
            publisher,
            coding: pictures.coding.clone(),
            sound: sound.as_ref().map(|track| (track.coding.clone(), track.clock_rate)),
            tracks: session.medias.iter().enumerate().map(track).collect(),
            clocks: SenderClocks::new(clock.now()),
            clock: clock.clone(),
            deadline: Instant::now() + SETUP_TIMEOUT,
            is_recording: false,
            second: PicturesOfSecond::default(),
            bytes: 0,
            fault: None,
        })
    }

    /// Waits until packets have come by UDP, or until the publisher is to be cut off. Cancel-safe.
    ///
    /// # Errors
    /// Why it is cut off.
    #[expect(clippy::disallowed_methods, reason = "a shell: a publisher that sends nothing is cut off")]
    pub(in crate::rtsp) async fn ready(&mut self) -> Result<(), String> {
        let tracks = &self.tracks;
        let readable = std::future::poll_fn(|context| {
            let sockets = tracks.iter().filter_map(|track| match &track.transport {
                Some(TrackTransport::Udp(udp)) => Some(&udp.sockets),
                Some(TrackTransport::Interleaved(..)) | None => None,
            });
            // All are polled, so that each wakes this task.
            let polled = sockets.flatten().map(|socket| socket.poll_recv_ready(context).is_ready());
            if polled.fold(false, |any, ready| any | ready) { Poll::Ready(()) } else { Poll::Pending }
        });
        tokio::select! {
            () = self.publisher.replaced() => Err("another publisher takes its place".into()),
            () = tokio::time::sleep_until(self.deadline) => {
                Err(match (&self.fault, self.is_recording) {
                    (_, false) => "it was announced, and not recorded".into(),
                    (None, true) => format!("no picture has come for {} s", NAME_FREE.as_secs()),
                    (Some(fault), true) => {
                        format!("no picture that can be shown has come for {} s: {fault}", NAME_FREE.as_secs())
                    }
                })
            }
            () = readable => Ok(()),
        }
    }

    /// Takes the packets that have come by UDP.
    ///
    /// # Errors
    /// Why the publisher is cut off.
    #[expect(clippy::disallowed_methods, reason = "a shell: packets have come now")]
    pub(in crate::rtsp) fn take_udp(&mut self, buffer: &mut [u8]) -> Result<(), String> {
        for place in 0..self.tracks.len() {
            for n in 0..2 {
                // Others have their turn, too.
                for _ in 0..MOST_AT_ONCE {
                    let Some(TrackTransport::Udp(udp)) = &mut self.tracks[place].transport else { break };
                    let received = match udp.sockets[n].try_recv_from(buffer) {
                        Ok((length, from)) if canonical(from) == udp.from[n] => &buffer[..length],
                        Ok(_) => continue,
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        // Of a packet that was sent before.
                        Err(_) => continue,
                    };
                    if !self.is_recording {
                        continue;
                    }
                    if n == 1 {
                        self.take_report(place, received);
                        continue;
                    }
                    let Ok((header, payload)) = rtp::Header::parse(received) else { continue };
                    let now = self.clock.now();
                    match udp.jitter.judge(header.sequence) {
                        PacketVerdict::Next | PacketVerdict::Restart => {
                            self.take_packet(place, header, payload)?
                        }
                        PacketVerdict::Early => {
                            let payload = payload.to_vec();
                            udp.jitter.hold(BufferedPacket { arrival: now, header, payload });
                        }
                        PacketVerdict::Late | PacketVerdict::Duplicate | PacketVerdict::Stray => {}
                    }
                    self.release(place, now)?;
                }
            }
        }
        Ok(())
    }

    /// Takes the packets that waited for others.
    fn release(&mut self, place: usize, now: AirTime) -> Result<(), String> {
        loop {
            let Some(TrackTransport::Udp(udp)) = &mut self.tracks[place].transport else { return Ok(()) };
            match udp.jitter.poll(now) {
                Some(Step::Packet(packet)) => self.take_packet(place, packet.header, &packet.payload)?,
                // The number of the next packet tells it, too.
                Some(Step::Gap(_)) => {}
                None => return Ok(()),
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
        local: SocketAddr,
        peer: SocketAddr,
    ) -> Result<Transports, Rejection> {
        let is_only = self.tracks.len() == 1 && control.is_empty();
        let place = self.tracks.iter().position(|track| is_only || track.control == control);
        let place = place.ok_or(StatusCode::NotFound)?;
        let params =
            RtpTransportParameters { unicast: true, mode: vec![TransportMode::Record], ..Default::default() };
        let header = |lower_transport, params| -> Transports {
            vec![Transport::Rtp(RtpTransport { profile: RtpProfile::Avp, lower_transport, params })].into()
        };
        let wanted = match offer {
            TransportOffer::Interleaved(wanted) => wanted,
            TransportOffer::Multicast => return Err(StatusCode::UnsupportedTransport.into()),
            TransportOffer::Udp { rtp, rtcp } => {
                let (udp, ports) = UdpTransport::open(local, peer, [rtp, rtcp]).map_err(|error| {
                    debug!(%peer, %error, "rtsp: cannot open sockets for a publisher");
                    StatusCode::ServiceUnavailable
                })?;
                self.tracks[place].transport = Some(TrackTransport::Udp(Box::new(udp)));
                let client_port = Some((rtp, Some(rtcp)));
                let server_port = Some((ports.0, Some(ports.1)));
                return Ok(header(None, RtpTransportParameters { client_port, server_port, ..params }));
            }
        };
        let others = self.tracks.iter().enumerate().filter(|(other, _)| *other != place);
        let taken: Vec<u8> = others
            .filter_map(|(_, track)| match track.transport {
                Some(TrackTransport::Interleaved(rtp, rtcp)) => Some([rtp, rtcp]),
                Some(TrackTransport::Udp(_)) | None => None,
            })
            .flatten()
            .collect();
        let is_free = |pair: &(u8, u8)| !taken.contains(&pair.0) && !taken.contains(&pair.1);
        let any = (0..2 * MOST_MEDIA as u8).map(|n| (2 * n, 2 * n + 1));
        let channels = wanted.into_iter().chain(any).find(is_free).ok_or(StatusCode::UnsupportedTransport)?;
        self.tracks[place].transport = Some(TrackTransport::Interleaved(channels.0, channels.1));
        let interleaved = Some((channels.0, Some(channels.1)));
        Ok(header(Some(RtpLowerTransport::Tcp), RtpTransportParameters { interleaved, ..params }))
    }

    /// Packets are to come. False if there is no way for the pictures yet.
    #[expect(clippy::disallowed_methods, reason = "a shell: a recording begins now")]
    pub(in crate::rtsp) fn record(&mut self) -> bool {
        let is_picture = |track: &OfferedMedium| {
            track.transport.is_some() && track.used.as_ref().is_some_and(|used| used.clock == Clock::Pictures)
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
        let found = self.tracks.iter().enumerate().find_map(|(place, track)| match track.transport {
            Some(TrackTransport::Interleaved(rtp, _)) if rtp == channel => Some((place, false)),
            Some(TrackTransport::Interleaved(_, rtcp)) if rtcp == channel => Some((place, true)),
            _ => None,
        });
        let Some((place, is_report)) = found.filter(|_| self.is_recording) else { return Ok(()) };
        if is_report {
            self.take_report(place, packet);
            return Ok(());
        }
        let Ok((header, payload)) = rtp::Header::parse(packet) else { return Ok(()) };
        self.take_packet(place, header, payload)
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
    fn take_packet(&mut self, place: usize, header: rtp::Header, payload: &[u8]) -> Result<(), String> {
        let Some(used) = &mut self.tracks[place].used else { return Ok(()) };
        if header.payload_type != used.offered.payload_type || !used.numbers.is_of(header.ssrc) {
            return Ok(());
        }
        let Some(lost) = used.numbers.lost_before(header.sequence) else { return Ok(()) };
        let ticks = used.numbers.elapsed(header.timestamp);
        if let Some(sender) = self.publisher.sender() {
            sender.count(payload.len()).map_err(|why| format!("it {why}"))?;
        }
        self.bytes += payload.len();
        let units = used.reader.take(&TrackPacket { header, payload, lost, ticks });
        if used.clock == Clock::Pictures {
            self.fault = used.reader.take_fault().or(self.fault.take());
        }
        for unit in units {
            match unit {
                TrackUnit::Picture(body, elapsed) => {
                    let now = Instant::now();
                    self.deadline = now + NAME_FREE;
                    self.fault = None;
                    self.publisher.count(std::mem::take(&mut self.bytes), now)?;
                    if !self.second.takes(now) {
                        return Err(format!("it sends more than {MOST_PICTURES} pictures a second"));
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

impl UdpTransport {
    /// Opens two sockets on the address of `local`, for packets from two ports of `peer`. Returns their ports, too.
    ///
    /// # Errors
    /// There are no two free ports, or no more file descriptors.
    fn open(local: SocketAddr, peer: SocketAddr, ports: [u16; 2]) -> io::Result<(UdpTransport, (u16, u16))> {
        let (rtp, rtcp, own) = open_ports(local)?;
        if rtp.recv_buffer_size()? < RECEIVE_BUFFER {
            rtp.set_recv_buffer_size(RECEIVE_BUFFER)?;
        }
        let sockets = [UdpSocket::from_std(rtp.into())?, UdpSocket::from_std(rtcp.into())?];
        let from = ports.map(|port| SocketAddr::new(peer.ip(), port));
        Ok((UdpTransport { sockets, from, jitter: JitterBuffer::default() }, own))
    }
}

/// The last part of the URL of a medium.
fn control(media: &Media, place: usize) -> String {
    let control = media.get_attribute_values("control").flatten().next().unwrap_or_default().trim();
    let last = control.trim_matches('/').rsplit('/').next().unwrap_or_default();
    if last.is_empty() || last == "*" { format!("streamid={place}") } else { last.to_owned() }
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

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "in virtual time")]
mod tests {
    use super::*;
    use crate::access::Grant;
    use crate::headend::HeadEnd;
    use crate::headend::publishers::PublishRequest;
    use crate::lineup::{Media, PublishRule, StationSpec};

    const PEER: ([u8; 4], u16) = ([127, 0, 0, 1], 5000);

    /// The description of a publisher of pictures, as the medium number `pictures`.
    fn recording(media: &str) -> Result<PublishSession, String> {
        let rule = PublishRule { token: None, access: Vec::new(), takeover: false };
        let spec = StationSpec { media: Media::Published(rule), ..StationSpec::sample("239.77.0.2:5004") };
        let (head_end, _stop) = HeadEnd::for_tests(vec![spec], None);
        let peer = SocketAddr::from(PEER).ip();
        let asked = PublishRequest {
            name: "2",
            token: None,
            grant: &Grant::default(),
            peer,
            tls: false,
            now: Instant::now(),
        };
        let publisher = head_end.publisher(&asked).expect("the station is free");
        let text = format!("v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n{media}");
        let session = Session::parse(text.as_bytes()).unwrap();
        PublishSession::new(publisher, "0".parse().unwrap(), &session, &head_end.clock)
    }

    fn set_up(recording: &mut PublishSession, control: &str) -> bool {
        let offer = TransportOffer::Interleaved(None);
        recording.set_up(control, offer, PEER.into(), PEER.into()).is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_publisher_that_sends_no_picture_is_cut_off() {
        let mut recording = recording("m=video 0 RTP/AVP 26\r\n").unwrap();
        let began = Instant::now();
        assert_eq!(recording.ready().await.unwrap_err(), "it was announced, and not recorded");
        assert_eq!(began.elapsed().as_secs(), SETUP_TIMEOUT.as_secs());
        assert!(set_up(&mut recording, "") && recording.record());
        let began = Instant::now();
        // Nonsense is no picture, and some of it tells why.
        for packet in [&[][..], &[0x80; 12], &[0x80, 26, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 9, 9]] {
            assert_eq!(recording.take_interleaved(0, packet), Ok(()));
            assert_eq!(recording.take_interleaved(1, packet), Ok(()));
        }
        assert_eq!(
            recording.ready().await.unwrap_err(),
            "no picture that can be shown has come for 5 s: the packet ends inside the RTP/JPEG headers"
        );
        assert_eq!(began.elapsed().as_secs(), NAME_FREE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn tracks_are_found_by_the_last_part_of_their_urls() {
        let media = "m=audio 0 RTP/AVP 96\r\na=rtpmap:96 VORBIS/48000\r\na=control:rtsp://h/publish/2/stream=0\r\n\
                     m=video 0 RTP/AVP 26\r\na=control:trackID=7\r\nm=audio 0 RTP/AVP 0\r\n";
        let mut recording = recording(media).unwrap();
        assert!(set_up(&mut recording, "stream=0"), "one that is not used is set up, too");
        assert!(!set_up(&mut recording, "") && !set_up(&mut recording, "stream=1"));
        assert!(!recording.record(), "there are no pictures yet");
        assert!(
            set_up(&mut recording, "streamid=2") && set_up(&mut recording, "trackID=7") && recording.record()
        );
        let nine = "m=video 0 RTP/AVP 26\r\n".repeat(9);
        assert_eq!(self::recording(&nine).err().unwrap(), "it describes 9 media, more than 8");
    }
}
