//! The connection of a publisher: ANNOUNCE, SETUP, RECORD (RFC 2326), and then packets interleaved with nothing.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use rtsp_types::headers::{self, HeaderName};
use rtsp_types::{Message, Method, Request, Response, StatusCode, Url, Version};

use super::target::PublishUrl;
use crate::clock::wall_clock;
use crate::media::{Track, Unit};
use crate::wire::packetizer::Packetizer;
use crate::wire::rtcp::SenderInfo;
use crate::wire::rtp::{HEADER_LEN, PAYLOAD_TYPE_JPEG, PAYLOAD_TYPE_OPUS};
use crate::wire::rtsp::MessageFramer;

/// Timeout of connecting, of each response, and of each packet.
const PATIENCE: Duration = Duration::from_secs(5);

/// Most bytes of a response.
const MOST_RESPONSE: usize = 64 * 1024;

/// Most addresses of the server's name that are tried.
const MOST_ADDRESSES: usize = 4;

/// Bytes of a packet: those of UDP on Ethernet, which every server takes.
const PACKET: usize = 1472;

/// Why nothing is published.
pub(super) enum PublishFailure {
    /// For now.
    Now(String),
    /// It makes no sense to try again.
    ForGood(String),
}

impl From<io::Error> for PublishFailure {
    fn from(error: io::Error) -> PublishFailure {
        PublishFailure::Now(match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                format!("the server does not answer within {} s", PATIENCE.as_secs())
            }
            _ => error.to_string(),
        })
    }
}

/// A connection that publishes.
pub(super) struct PublishConnection {
    stream: TcpStream,
    url: Url,
    authorization: Option<String>,
    session: Option<String>,
    cseq: u32,
    unread: Vec<u8>,
    framer: MessageFramer,
    tracks: Vec<SentTrack>,
    cname: String,
    /// The URL at which the server says that the stream is watched.
    watched_at: Option<String>,
}

/// A track: its channels are its place times two, and the next.
struct SentTrack {
    track: Track,
    packetizer: Packetizer,
    packets: u64,
    octets: u64,
}

impl PublishConnection {
    /// Connects, and begins to record pictures and, perhaps, sound.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn open(target: &PublishUrl, has_sound: bool) -> Result<PublishConnection, PublishFailure> {
        let (host, port) = target.address();
        let addresses = (host.as_str(), port).to_socket_addrs();
        let addresses = addresses
            .map_err(|error| PublishFailure::Now(format!("the name {host} is not found: {error}")))?;
        let mut stream = Err(PublishFailure::Now(format!("the name {host} has no address")));
        for address in addresses.take(MOST_ADDRESSES) {
            stream = TcpStream::connect_timeout(&address, PATIENCE)
                .map_err(|error| PublishFailure::Now(format!("nothing answers at {address}: {error}")));
            if stream.is_ok() {
                break;
            }
        }
        let stream = stream?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let local = stream.local_addr()?.ip();
        let tracks = if has_sound { vec![Track::Picture, Track::Sound] } else { vec![Track::Picture] };
        let track = |track| {
            let packetizer = Packetizer::new(fastrand::u32(..), fastrand::u16(..), PACKET);
            SentTrack { track, packetizer, packets: 0, octets: 0 }
        };
        let mut connection = PublishConnection {
            stream,
            url: target.url().clone(),
            authorization: None,
            session: None,
            cseq: 0,
            unread: Vec::new(),
            framer: MessageFramer::default(),
            tracks: tracks.into_iter().map(track).collect(),
            cname: format!("publisher@{local}"),
            watched_at: None,
        };
        let family = if local.is_ipv4() { "IP4" } else { "IP6" };
        let mut sdp = format!(
            "v=0\r\no=- 0 0 IN {family} {local}\r\ns=-\r\nc=IN {family} {local}\r\nt=0 0\r\n\
             m=video 0 RTP/AVP {PAYLOAD_TYPE_JPEG}\r\na=control:streamid=0\r\n"
        );
        if has_sound {
            sdp += &format!(
                "m=audio 0 RTP/AVP {PAYLOAD_TYPE_OPUS}\r\na=rtpmap:{PAYLOAD_TYPE_OPUS} opus/48000/2\r\n\
                 a=fmtp:{PAYLOAD_TYPE_OPUS} sprop-stereo=1\r\na=control:streamid=1\r\n"
            );
        }
        let url = connection.url.clone();
        let announce = [(headers::CONTENT_TYPE, "application/sdp".to_owned())];
        let mut response = connection.request(Method::Announce, &url, &announce, sdp.as_bytes())?;
        if response.status() == StatusCode::Unauthorized
            && let Some(authorization) = target.authorization()
        {
            // Only a server that asks for it gets the token.
            connection.authorization = Some(authorization);
            response = connection.request(Method::Announce, &url, &announce, sdp.as_bytes())?;
        }
        check(&response)?;
        for place in 0..connection.tracks.len() {
            let mut control = url.clone();
            control.set_path(&format!("{}/streamid={place}", url.path().trim_end_matches('/')));
            let transport =
                format!("RTP/AVP/TCP;unicast;interleaved={}-{};mode=record", 2 * place, 2 * place + 1);
            let response =
                connection.request(Method::Setup, &control, &[(headers::TRANSPORT, transport)], &[])?;
            check(&response)?;
            if let Some(session) = response.header(&headers::SESSION) {
                let id = session.as_str().split(';').next().unwrap_or_default().trim();
                connection.session = Some(id.to_owned());
            }
        }
        let response =
            connection.request(Method::Record, &url, &[(headers::RANGE, "npt=0-".to_owned())], &[])?;
        check(&response)?;
        let watched_at = response.header(&headers::CONTENT_LOCATION);
        connection.watched_at = watched_at.map(|url| url.as_str().to_owned());
        connection.report()?;
        Ok(connection)
    }

    /// Sends a request, and returns its response.
    fn request(
        &mut self,
        method: Method,
        url: &Url,
        more: &[(HeaderName, String)],
        body: &[u8],
    ) -> Result<Response<Vec<u8>>, PublishFailure> {
        self.cseq += 1;
        let mut request = Request::builder(method, Version::V1_0)
            .request_uri(url.clone())
            .header(headers::CSEQ, self.cseq.to_string())
            .header(headers::USER_AGENT, concat!("stationcast/", env!("CARGO_PKG_VERSION")));
        let own = [(headers::AUTHORIZATION, &self.authorization), (headers::SESSION, &self.session)];
        for (name, value) in own {
            if let Some(value) = value {
                request = request.header(name, value.as_str());
            }
        }
        for (name, value) in more {
            request = request.header(name.clone(), value.as_str());
        }
        let mut bytes = Vec::new();
        request
            .build(body.to_vec())
            .write(&mut bytes)
            .map_err(|error| PublishFailure::ForGood(error.to_string()))?;
        self.stream.write_all(&bytes)?;
        loop {
            let taken = self.framer.take::<Vec<u8>>(&self.unread);
            let taken =
                taken.map_err(|_| PublishFailure::ForGood("the server does not speak RTSP".into()))?;
            match taken {
                Some((message, length)) => {
                    self.unread.drain(..length);
                    if let Message::Response(response) = message {
                        return Ok(response);
                    }
                }
                None if self.unread.len() > MOST_RESPONSE => {
                    return Err(PublishFailure::ForGood("the answer of the server is too long".into()));
                }
                None => {
                    let mut buffer = [0; 4096];
                    match self.stream.read(&mut buffer)? {
                        0 => return Err(PublishFailure::Now("the server has closed the connection".into())),
                        read => self.unread.extend_from_slice(&buffer[..read]),
                    }
                }
            }
        }
    }

    /// The URL at which the stream is watched, if the server has told it.
    pub(super) fn watched_at(&self) -> Option<&str> {
        self.watched_at.as_deref()
    }

    /// Sends a unit. Returns how many bytes these are. Units of a track that is not published are left out.
    ///
    /// # Errors
    /// The connection is over.
    pub(super) fn send(&mut self, unit: &Unit) -> io::Result<usize> {
        let found = self.tracks.iter_mut().enumerate().find(|(_, track)| track.track == unit.track());
        let Some((place, track)) = found else { return Ok(0) };
        let mut bytes = Vec::new();
        for packet in track.packetizer.packets(unit, 0, usize::MAX) {
            let packet = packet.to_vec();
            interleave(&mut bytes, 2 * place, &packet);
            track.packets += 1;
            track.octets += (packet.len() - HEADER_LEN) as u64;
        }
        self.stream.write_all(&bytes)?;
        Ok(bytes.len())
    }

    /// Sends reports that bring pictures and sound into step, and discards what the server has sent.
    ///
    /// # Errors
    /// The connection is over.
    #[expect(clippy::disallowed_methods, reason = "a shell: a report says what time it is")]
    pub(super) fn report(&mut self) -> io::Result<()> {
        let now = wall_clock();
        let mut bytes = Vec::new();
        for (place, track) in self.tracks.iter().enumerate() {
            let info = SenderInfo {
                ssrc: track.packetizer.ssrc(),
                clock_rate: track.track.clock_rate(),
                packets: track.packets,
                octets: track.octets,
            };
            interleave(&mut bytes, 2 * place + 1, &info.sender_report(now, &self.cname));
        }
        self.stream.write_all(&bytes)?;
        self.stream.set_nonblocking(true)?;
        let mut discarded = [0; 4096];
        let read = loop {
            match self.stream.read(&mut discarded) {
                Ok(0) => break Err(io::Error::new(ErrorKind::UnexpectedEof, "the server has closed it")),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.stream.set_nonblocking(false)?;
        read
    }

    /// Says that it is over.
    pub(super) fn close(&mut self) {
        let url = self.url.clone();
        // The server notices the end of the connection, too.
        let _ = self.request(Method::Teardown, &url, &[], &[]);
    }
}

/// Adds interleaved data.
fn interleave(bytes: &mut Vec<u8>, channel: usize, packet: &[u8]) {
    bytes.extend([b'$', channel as u8]);
    bytes.extend((packet.len() as u16).to_be_bytes()); // no packet is longer than `PACKET`
    bytes.extend_from_slice(packet);
}

fn check(response: &Response<Vec<u8>>) -> Result<(), PublishFailure> {
    let (status, reason) = (response.status(), response.reason_phrase().to_owned());
    match status {
        StatusCode::Ok => Ok(()),
        StatusCode::Unauthorized => Err(PublishFailure::ForGood(
            "the server wants another token; write it as in rtsp://anna:TOKEN@HOST:8554/publish/NAME".into(),
        )),
        // Another publisher may end, and places may become free.
        StatusCode::Forbidden | StatusCode::ServiceUnavailable => {
            Err(PublishFailure::Now(format!("the server refuses: {reason}")))
        }
        status => Err(PublishFailure::ForGood(format!("the server refuses: {} {reason}", u16::from(status)))),
    }
}
