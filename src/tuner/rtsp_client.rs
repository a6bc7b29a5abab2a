//! An RTSP client for networks without multicast: one station, the RTP packets of its pictures and of its sound interleaved in
//! the connection (RFC 2326 section 10.12), plain or TLS, so that every picture arrives, in order.

#![expect(clippy::disallowed_methods, reason = "a shell: it keeps a connection alive")]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rtsp_types::headers;
use rtsp_types::{Empty, Message, Method, Request, Response, StatusCode, Url, Version};
use rustls::{ClientConnection, StreamOwned};
use sdp_types::{Media, Session};

use super::source::MOST_AT_ONCE;
use crate::access::Secret;
use crate::clock::wall_clock;
use crate::media::{AirTime, SoundCodec, Track};
use crate::tls::pin::{InsecureError, Trust, secure_blocking};
use crate::wire::rtsp::{LowerTransport, MessageFramer, TransportSpec};
use crate::wire::sdp::streams::{is_jpeg, sound};

/// Timeout for the server to accept the connection, and for each response.
const PATIENCE: Duration = Duration::from_secs(5);

/// Interval of keep-alive requests. A session without a request for its timeout ends: 60 s unless the server says
/// otherwise (RFC 2326 section 12.37). Half of the shortest usual timeout.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Bytes of the read buffer: two of the longest packets, of 65,535 bytes and a four-byte frame header.
const BUFFER: usize = 2 * 65_539;

/// The interleaved channels that we ask for: the first of two, of which RTCP, which we ignore, arrives on the second.
const fn channel_of(track: Track) -> u8 {
    match track {
        Track::Picture => 0,
        Track::Sound => 2,
    }
}

/// How sound is recognised, and decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SoundType {
    pub(super) payload_type: u8,
    pub(super) codec: SoundCodec,
}

/// An RTSP server, and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RtspServer {
    /// Its address.
    pub address: SocketAddr,
    /// The certificate that it must show; `None`: it is reached by a plain connection.
    pub tls: Option<Trust>,
    /// The value of the Authorization header, which each request has; `None`: nothing is shown.
    pub authorization: Option<Secret>,
}

/// By a plain connection, and showing nothing.
impl From<SocketAddr> for RtspServer {
    fn from(address: SocketAddr) -> RtspServer {
        RtspServer { address, tls: None, authorization: None }
    }
}

impl RtspServer {
    /// Connects. Each step may take up to [`PATIENCE`].
    ///
    /// # Errors
    /// The server cannot be reached, does not speak TLS where it must, or shows the wrong certificate.
    fn connect(&self) -> io::Result<Connection> {
        let tcp = TcpStream::connect_timeout(&self.address, PATIENCE)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.set_write_timeout(Some(PATIENCE))?;
        match &self.tls {
            None => Ok(Connection::Plain(tcp)),
            Some(trust) => {
                let secured = secure_blocking(tcp, self.address, trust).map_err(|error| match error {
                    // The read timeout.
                    InsecureError::NoTls { reason, .. } if reason.kind() == io::ErrorKind::WouldBlock => {
                        timed_out()
                    }
                    error => io::Error::other(error),
                })?;
                Ok(Connection::Tls(Box::new(secured)))
            }
        }
    }

    /// Whether it can be reached in this way: connects, and hangs up. Blocks for some seconds at most.
    ///
    /// # Errors
    /// As those of a connection that is to be played.
    pub fn try_out(&self) -> io::Result<()> {
        self.connect().map(drop)
    }
}

/// A connection to a server.
enum Connection {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Connection {
    fn tcp(&self) -> &TcpStream {
        match self {
            Connection::Plain(tcp) => tcp,
            Connection::Tls(stream) => stream.get_ref(),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Connection::Plain(tcp) => tcp.read(buffer),
            // On a socket that does not block, it keeps a part of a record for the next time.
            Connection::Tls(stream) => stream.read(buffer),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Connection::Plain(tcp) => tcp.write_all(bytes),
            // Not by the stream's own `write`, which reads as well: no event would wake up the reader for the bytes that it has read.
            Connection::Tls(stream) => {
                stream.conn.writer().write_all(bytes)?;
                while stream.conn.wants_write() {
                    stream.conn.write_tls(&mut stream.sock)?;
                }
                Ok(())
            }
        }
    }
}

/// A connection in which a station plays.
pub(super) struct RtspSource {
    connection: Connection,
    authorization: Option<Secret>,
    buffer: Vec<u8>,
    /// The part of the buffer that holds bytes not parsed yet.
    unread: std::ops::Range<usize>,
    /// When the last of them were read. Later than they arrived, and never earlier: the sound's transit is the least of late, so
    /// one packet that seems to come early is late for two seconds.
    read_at: AirTime,
    framer: MessageFramer,
    url: Url,
    session: Option<String>,
    cseq: u32,
    /// The channel on which the server sends the pictures.
    channel: u8,
    /// The channel of the sound, and its type; `None` if it is not set up.
    sound: Option<(u8, SoundType)>,
    /// When the last request was sent.
    last_request: Instant,
    /// Whether PLAY was accepted. From then on reads do not block.
    is_playing: bool,
}

impl RtspSource {
    /// Connects to `server` and starts playing `url`: the pictures and, if `with_sound` and there is some of a [`SoundCodec`], the sound.
    /// Each response may take up to [`PATIENCE`].
    ///
    /// # Errors
    /// The server cannot be reached, refuses, or does not speak RTSP.
    pub(super) fn open(server: &RtspServer, url: &Url, with_sound: bool) -> io::Result<RtspSource> {
        let mut source = RtspSource {
            connection: server.connect()?,
            authorization: server.authorization.clone(),
            buffer: vec![0; BUFFER],
            unread: 0..0,
            read_at: wall_clock(),
            framer: MessageFramer::default(),
            url: url.clone(),
            session: None,
            cseq: 0,
            channel: channel_of(Track::Picture),
            sound: None,
            last_request: Instant::now(),
            is_playing: false,
        };
        let described = source.request(Method::Describe, url.clone(), None)?;
        let controls = Controls::of(&described, url)?;
        source.channel = source.set_up(Track::Picture, controls.pictures)?;
        if let Some((control, kind)) = controls.sound.filter(|_| with_sound) {
            // Pictures are played without the sound that a server refuses.
            source.sound = source.set_up(Track::Sound, control).ok().map(|channel| (channel, kind));
        }
        source.request(Method::Play, source.url.clone(), Some((headers::RANGE, "npt=now-".into())))?;
        source.connection.tcp().set_nonblocking(true)?;
        source.is_playing = true;
        Ok(source)
    }

    /// Sets up a medium. Returns the channel of its packets.
    fn set_up(&mut self, track: Track, control: Url) -> io::Result<u8> {
        let first = channel_of(track);
        let transport = format!("RTP/AVP/TCP;unicast;interleaved={first}-{}", first + 1);
        let answer = self.request(Method::Setup, control, Some((headers::TRANSPORT, transport)))?;
        if self.session.is_none() {
            self.session = Some(session(&answer).ok_or_else(|| invalid("no session"))?);
        }
        channel(&answer).ok_or_else(|| invalid("no channel for RTP"))
    }

    /// The type of the sound; `None` if none is received.
    pub(super) fn sound(&self) -> Option<SoundType> {
        self.sound.map(|(_, kind)| kind)
    }

    /// Reads until nothing is queued, or for long enough, and calls `packet` with each RTP packet and the time at which it was read. Does not block.
    ///
    /// # Errors
    /// The server has closed the connection or sent bytes that are not RTSP; `packet` was called for what preceded
    /// them.
    pub(super) fn read(&mut self, mut packet: impl FnMut(Track, AirTime, &[u8])) -> io::Result<()> {
        let (pictures, sound) = (self.channel, self.sound.map(|(channel, _)| channel));
        for left in (0..MOST_AT_ONCE).rev() {
            let read_at = self.read_at;
            while let Some(()) = self.next(|message| match message {
                Message::Data(data) if data.channel_id() == pictures => {
                    packet(Track::Picture, read_at, data.as_slice());
                }
                Message::Data(data) if Some(data.channel_id()) == sound => {
                    packet(Track::Sound, read_at, data.as_slice());
                }
                // Responses to keep-alive requests, RTCP, and requests of the server.
                _ => {}
            })? {}
            // The packets in the buffer were handled: none of them waits for the next one.
            if left == 0 || !self.fill()? {
                break;
            }
        }
        Ok(())
    }

    /// How long until [`keep_alive`](Self::keep_alive) must be called.
    pub(super) fn keep_alive_in(&self) -> Duration {
        KEEP_ALIVE.saturating_sub(self.last_request.elapsed())
    }

    /// Sends a keep-alive request if one is due.
    pub(super) fn keep_alive(&mut self) -> io::Result<()> {
        if self.keep_alive_in().is_zero() {
            self.send(Method::GetParameter, self.url.clone(), None)?;
        }
        Ok(())
    }

    /// Sends a request and waits for its response, which must be 200.
    fn request(
        &mut self,
        method: Method,
        url: Url,
        header: Option<(headers::HeaderName, String)>,
    ) -> io::Result<Response<Vec<u8>>> {
        let name = <&str>::from(&method).to_owned();
        self.send(method, url, header)?;
        let cseq = self.cseq.to_string();
        let sent = Instant::now();
        loop {
            if sent.elapsed() > PATIENCE {
                return Err(timed_out());
            }
            let mut response = None;
            let used = self.next(|message| match message {
                Message::Response(parsed) => response = Some(parsed.map_body(<[u8]>::to_vec)),
                Message::Request(_) | Message::Data(_) => {}
            })?;
            match response {
                Some(response) if response.header(&headers::CSEQ).is_some_and(|n| n.as_str() == cseq) => {
                    let status = response.status();
                    if status != StatusCode::Ok {
                        let (code, reason) = (u16::from(status), response.reason_phrase());
                        return Err(io::Error::other(format!("RTSP {name} was refused: {code} {reason}")));
                    }
                    return Ok(response);
                }
                _ if used.is_some() => {}
                _ => drop(self.fill()?),
            }
        }
    }

    fn send(
        &mut self,
        method: Method,
        url: Url,
        header: Option<(headers::HeaderName, String)>,
    ) -> io::Result<()> {
        self.cseq += 1;
        let mut request = Request::<Empty>::builder(method, Version::V1_0)
            .request_uri(url)
            .header(headers::CSEQ, self.cseq.to_string())
            .header(headers::USER_AGENT, concat!("stationcast/", env!("CARGO_PKG_VERSION")));
        if let Some(session) = &self.session {
            request = request.header(headers::SESSION, session.as_str());
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(headers::AUTHORIZATION, authorization.reveal());
        }
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let mut bytes = Vec::new();
        request.empty().write(&mut bytes).map_err(io::Error::other)?;
        self.last_request = Instant::now();
        // A few hundred bytes block only if the server has not read for minutes.
        self.connection.write_all(&bytes)
    }

    /// Reads once; false if nothing is queued.
    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        match self.connection.read(&mut self.buffer[self.unread.end..]) {
            Ok(0) => {
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the RTSP server closed the connection"))
            }
            Ok(read) => {
                self.unread.end += read;
                self.read_at = wall_clock();
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            // On a blocking socket this error is the read timeout.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if self.is_playing {
                    Ok(false)
                } else {
                    Err(timed_out())
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Calls `take` with the next message, if the buffer holds all of it.
    fn next(&mut self, take: impl FnOnce(Message<&[u8]>)) -> io::Result<Option<()>> {
        match self.framer.take::<&[u8]>(&self.buffer[self.unread.clone()]) {
            Ok(Some((message, used))) => {
                take(message);
                self.unread.start += used;
                Ok(Some(()))
            }
            Ok(None) if self.unread.len() < BUFFER => Ok(None),
            Ok(None) | Err(_) => Err(invalid("bytes that are not RTSP")),
        }
    }
}

impl AsFd for RtspSource {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.tcp().as_fd()
    }
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the RTSP server does not answer")
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the RTSP server answered with {what}"))
}

/// The control URLs of a description, for SETUP (RFC 2326 appendix C.1.1).
#[derive(Debug)]
struct Controls {
    /// Of the JPEG video.
    pictures: Url,
    /// Of the sound, and its type.
    sound: Option<(Url, SoundType)>,
}

impl Controls {
    fn of(described: &Response<Vec<u8>>, asked: &Url) -> io::Result<Controls> {
        let named = [headers::CONTENT_BASE, headers::CONTENT_LOCATION];
        let mut named = named.iter().filter_map(|name| Url::parse(described.header(name)?.as_str()).ok());
        let base = named.next().unwrap_or_else(|| asked.clone());
        let session =
            Session::parse(described.body()).map_err(|_| invalid("a description that is not SDP"))?;
        let video = session.medias.iter().find(|media| media.media == "video" && is_jpeg(media));
        let video = video.ok_or_else(|| invalid("a description without RTP/JPEG video"))?;
        let sound = sound(&session);
        Ok(Controls {
            pictures: control(video, &base)?,
            sound: sound.and_then(|(media, payload_type, codec)| {
                Some((control(media, &base).ok()?, SoundType { payload_type, codec }))
            }),
        })
    }
}

/// The control URL of a medium.
fn control(media: &Media, base: &Url) -> io::Result<Url> {
    match media.get_first_attribute_value("control").flatten() {
        None | Some("*") => Ok(base.clone()),
        Some(control) => {
            // A relative control goes behind the base, as FFmpeg and live555 take it, also where the server has left out the
            // slash.
            let mut folder = base.clone();
            if !folder.path().ends_with('/') {
                folder.set_path(&format!("{}/", folder.path()));
            }
            folder.join(control).map_err(|_| invalid("an invalid control URL"))
        }
    }
}

fn session(set_up: &Response<Vec<u8>>) -> Option<String> {
    let id = set_up.header(&headers::SESSION)?.as_str().split(';').next()?.trim();
    (!id.is_empty()).then(|| id.to_owned())
}

fn channel(set_up: &Response<Vec<u8>>) -> Option<u8> {
    let mut specs = TransportSpec::list(set_up.header(&headers::TRANSPORT)?.as_str()).flatten();
    specs.find_map(|spec| Some(spec.interleaved.filter(|_| spec.lower == Some(LowerTransport::Tcp))?.0))
}

/// For the fuzzer: reads what a server may have answered to DESCRIBE and SETUP.
#[cfg(fuzzing)]
pub fn fuzz(bytes: &[u8]) {
    let (mut bytes, mut framer) = (bytes, MessageFramer::default());
    while let Ok(Some((message, length))) = framer.take(bytes) {
        bytes = &bytes[length..];
        if let Message::Response(response) = message {
            let asked = Url::parse("rtsp://192.0.2.7/1").expect("a URL");
            let _ = (Controls::of(&response, &asked), session(&response), channel(&response));
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
