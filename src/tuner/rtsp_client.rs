//! An RTSP client for networks without multicast: one station, its RTP packets interleaved in the connection (RFC 2326
//! section 10.12), so that every picture arrives, in order.

#![expect(clippy::disallowed_methods, reason = "a shell: it keeps a connection alive")]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rtsp_types::headers::{self, RtpLowerTransport, Transport};
use rtsp_types::{Empty, Message, Method, ParseError, Request, Response, StatusCode, Url, Version};
use sdp_types::{Media, Session};

use crate::media::StationId;
use crate::wire::rtp;

/// Timeout for the server to accept the connection, and for each response.
const PATIENCE: Duration = Duration::from_secs(5);

/// Interval of keep-alive requests. A session without a request for its timeout ends: 60 s unless the server says
/// otherwise (RFC 2326 section 12.37). Half of the shortest usual timeout.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Bytes of the read buffer: two of the longest packets, of 65,535 bytes and a four-byte frame header.
const BUFFER: usize = 2 * 65_539;

/// The interleaved channels that we ask for. We ignore RTCP, which arrives on the second.
const RTP_CHANNEL: u8 = 0;
const RTCP_CHANNEL: u8 = 1;

/// A connection in which a station plays.
pub(super) struct RtspSource {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// The part of the buffer that holds bytes not parsed yet.
    unread: std::ops::Range<usize>,
    url: Url,
    session: Option<String>,
    cseq: u32,
    /// The channel on which the server sends RTP.
    channel: u8,
    /// When the last request was sent.
    last_request: Instant,
    /// Whether PLAY was accepted. From then on reads do not block.
    is_playing: bool,
}

impl RtspSource {
    /// Connects to `server` and starts playing a station. Each response may take up to [`PATIENCE`].
    ///
    /// # Errors
    /// The server cannot be reached, refuses, or does not speak RTSP.
    pub(super) fn open(server: SocketAddr, station: StationId) -> io::Result<RtspSource> {
        let stream = TcpStream::connect_timeout(&server, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut host = server;
        if let SocketAddr::V6(host) = &mut host {
            host.set_scope_id(0); // a URL cannot carry a zone
        }
        let url = Url::parse(&format!("rtsp://{host}/{station}")).map_err(io::Error::other)?;
        let mut source = RtspSource {
            stream,
            buffer: vec![0; BUFFER],
            unread: 0..0,
            url: url.clone(),
            session: None,
            cseq: 0,
            channel: RTP_CHANNEL,
            last_request: Instant::now(),
            is_playing: false,
        };
        let described = source.request(Method::Describe, url, None)?;
        let media = control(&described, &source.url)?;
        let transport = format!("RTP/AVP/TCP;unicast;interleaved={RTP_CHANNEL}-{RTCP_CHANNEL}");
        let set_up = source.request(Method::Setup, media, Some((headers::TRANSPORT, transport)))?;
        source.session = Some(session(&set_up).ok_or_else(|| invalid("no session"))?);
        source.channel = channel(&set_up).ok_or_else(|| invalid("no channel for RTP"))?;
        source.request(Method::Play, source.url.clone(), Some((headers::RANGE, "npt=now-".into())))?;
        source.stream.set_nonblocking(true)?;
        source.is_playing = true;
        Ok(source)
    }

    /// Reads until nothing is queued, and calls `packet` with each RTP packet. Does not block.
    ///
    /// # Errors
    /// The server has closed the connection or sent bytes that are not RTSP; `packet` was called for what preceded
    /// them.
    pub(super) fn read(&mut self, mut packet: impl FnMut(&[u8])) -> io::Result<()> {
        loop {
            while let Some(()) = self.next(|message, channel| match message {
                Message::Data(data) if data.channel_id() == channel => packet(data.as_slice()),
                // Responses to keep-alive requests, RTCP, and requests of the server.
                _ => {}
            })? {}
            if !self.fill()? {
                return Ok(());
            }
        }
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
            let used = self.next(|message, _| match message {
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
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let mut bytes = Vec::new();
        request.empty().write(&mut bytes).map_err(io::Error::other)?;
        self.last_request = Instant::now();
        // A few hundred bytes block only if the server has not read for minutes.
        self.stream.write_all(&bytes)
    }

    /// Reads once; false if nothing is queued.
    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        match self.stream.read(&mut self.buffer[self.unread.end..]) {
            Ok(0) => {
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the RTSP server closed the connection"))
            }
            Ok(read) => {
                self.unread.end += read;
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
    fn next(&mut self, take: impl FnOnce(Message<&[u8]>, u8)) -> io::Result<Option<()>> {
        match Message::<&[u8]>::parse(&self.buffer[self.unread.clone()]) {
            Ok((message, used)) => {
                take(message, self.channel);
                self.unread.start += used;
                Ok(Some(()))
            }
            Err(ParseError::Incomplete(_)) if self.unread.len() < BUFFER => Ok(None),
            Err(_) => Err(invalid("bytes that are not RTSP")),
        }
    }
}

impl AsFd for RtspSource {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the RTSP server does not answer")
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the RTSP server answered with {what}"))
}

/// The control URL of the JPEG video in a description, for SETUP (RFC 2326 appendix C.1.1).
fn control(described: &Response<Vec<u8>>, asked: &Url) -> io::Result<Url> {
    let base = described.header(&headers::CONTENT_BASE).and_then(|base| Url::parse(base.as_str()).ok());
    let base = base.as_ref().unwrap_or(asked);
    let session = Session::parse(described.body()).map_err(|_| invalid("a description that is not SDP"))?;
    let video = session.medias.iter().find(|media| media.media == "video" && is_jpeg(media));
    let video = video.ok_or_else(|| invalid("a description without RTP/JPEG video"))?;
    match video.get_first_attribute_value("control").flatten() {
        None | Some("*") => Ok(base.clone()),
        Some(control) => base.join(control).map_err(|_| invalid("an invalid control URL")),
    }
}

/// Whether a medium is sent as RTP/JPEG: with its static payload type, or one that an rtpmap gives it (RFC 8866 section 6.6).
fn is_jpeg(media: &Media) -> bool {
    let maps = |format: &str, map: &str| match map.split_once(' ') {
        Some((of, encoding)) => of == format && encoding.trim().to_ascii_uppercase().starts_with("JPEG/"),
        None => false,
    };
    media.fmt.split_whitespace().any(|format| {
        format == rtp::PAYLOAD_TYPE_JPEG.to_string()
            || media.get_attribute_values("rtpmap").flatten().any(|map| maps(format, map))
    })
}

fn session(set_up: &Response<Vec<u8>>) -> Option<String> {
    let session = set_up.typed_header::<headers::Session>().ok()??;
    Some(session.0)
}

fn channel(set_up: &Response<Vec<u8>>) -> Option<u8> {
    let transports = set_up.typed_header::<headers::Transports>().ok()??;
    transports.iter().find_map(|transport| match transport {
        Transport::Rtp(rtp) if rtp.lower_transport == Some(RtpLowerTransport::Tcp) => {
            Some(rtp.params.interleaved?.0)
        }
        _ => None,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::thread::{self, JoinHandle};

    use super::*;

    const DESCRIPTION: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=Two\r\nt=0 0\r\nm=audio 0 RTP/AVP 0\r\n\
                               m=video 0 RTP/AVP 26\r\na=control:video\r\n";

    /// A server for one connection: it sends the next response for each request, then closes. Returns the first line of
    /// each request.
    fn server(responses: Vec<Vec<u8>>) -> (SocketAddr, JoinHandle<Vec<String>>) {
        serve(vec![responses, Vec::new()])
    }

    /// As [`server`], for several connections in turn. The last one is kept open until the client closes it, or refused
    /// if it has no responses.
    pub(in crate::tuner) fn serve(connections: Vec<Vec<Vec<u8>>>) -> (SocketAddr, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = thread::spawn(move || {
            let mut requests = Vec::new();
            let last = connections.len() - 1;
            let connections = connections.into_iter().enumerate();
            for (n, responses) in connections.filter(|(_, responses)| !responses.is_empty()) {
                let (mut stream, _) = listener.accept().unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                for response in responses {
                    let request: Vec<String> =
                        lines.by_ref().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
                    requests.extend(request.first().cloned());
                    stream.write_all(&response).unwrap();
                }
                if n == last {
                    lines.map_while(Result::ok).for_each(drop);
                }
            }
            requests
        });
        (address, requests)
    }

    /// A packet as the connection carries it.
    pub(in crate::tuner) fn framed(channel: u8, packet: &[u8]) -> Vec<u8> {
        [&[b'$', channel][..], &(packet.len() as u16).to_be_bytes(), packet].concat()
    }

    fn ok(cseq: u32, headers: &str, body: &str) -> Vec<u8> {
        let length = body.len();
        format!("RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\n{headers}Content-Length: {length}\r\n\r\n{body}").into()
    }

    /// Responses to DESCRIBE, SETUP and PLAY.
    pub(in crate::tuner) fn opening(set_up: &str) -> Vec<Vec<u8>> {
        let base = "Content-Base: rtsp://127.0.0.1/elsewhere/2/\r\nContent-Type: application/sdp\r\n";
        let set_up = format!("Session: 12ab;timeout=60\r\nTransport: {set_up}\r\n");
        vec![ok(1, base, DESCRIPTION), ok(2, &set_up, ""), ok(3, "Session: 12ab\r\n", "")]
    }

    /// All packets until the server closes, and the error that reports it.
    fn read_all(source: &mut RtspSource) -> (Vec<Vec<u8>>, io::Error) {
        let mut packets = Vec::new();
        loop {
            super::super::source::wait(Some(source.as_fd()), None, None).unwrap();
            if let Err(error) = source.read(|packet| packets.push(packet.to_vec())) {
                return (packets, error);
            }
        }
    }

    #[test]
    fn packets_are_received_as_they_were_sent() {
        let mut responses = opening("RTP/AVP/TCP;unicast;interleaved=4-5");
        let longest = vec![7; 65_535];
        // Packets behind the response to PLAY; RTCP and a response between them.
        let tail = [
            framed(4, b"one"),
            framed(5, b"rtcp"),
            framed(4, &longest),
            ok(4, "", ""),
            framed(4, &longest),
            framed(4, b""),
            framed(4, b"last"),
        ];
        responses[2].extend(tail.concat());
        let (address, requests) = server(responses);
        let mut source = RtspSource::open(address, StationId(2)).unwrap();
        let (packets, error) = read_all(&mut source);
        assert!(packets == [b"one".to_vec(), longest.clone(), longest, vec![], b"last".to_vec()]);
        assert_eq!(error.to_string(), "the RTSP server closed the connection");
        assert_eq!(
            requests.join().unwrap(),
            [
                format!("DESCRIBE rtsp://{address}/2 RTSP/1.0"),
                "SETUP rtsp://127.0.0.1/elsewhere/2/video RTSP/1.0".into(),
                format!("PLAY rtsp://{address}/2 RTSP/1.0"),
            ]
        );
    }

    #[test]
    fn a_server_that_refuses_or_sends_nonsense_is_an_error() {
        let refused = |responses: Vec<Vec<u8>>| {
            let (address, _requests) = server(responses);
            RtspSource::open(address, StationId(2)).err().expect("refused").to_string()
        };
        assert_eq!(
            refused(vec![b"RTSP/1.0 404 Not Found\r\nCSeq: 1\r\n\r\n".to_vec()]),
            "RTSP DESCRIBE was refused: 404 Not Found"
        );
        assert_eq!(
            refused(vec![b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec()]),
            "the RTSP server answered with bytes that are not RTSP"
        );
        assert_eq!(
            refused(vec![ok(1, "", "rubbish")]),
            "the RTSP server answered with a description that is not SDP"
        );
        let audio = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=audio 0 RTP/AVP 0\r\n";
        assert_eq!(
            refused(vec![ok(1, "", audio)]),
            "the RTSP server answered with a description without RTP/JPEG video"
        );
        let mut responses = opening("RTP/AVP;unicast;client_port=6000-6001");
        responses.truncate(2);
        assert_eq!(refused(responses), "the RTSP server answered with no channel for RTP");
        assert_eq!(refused(vec![Vec::new()]), "the RTSP server closed the connection");
        // A header that never ends fills the buffer, and no more.
        let endless = [b"RTSP/1.0 200 OK\r\nX: ".to_vec(), vec![b'x'; 2 * BUFFER]].concat();
        assert_eq!(refused(vec![endless]), "the RTSP server answered with bytes that are not RTSP");
    }

    #[test]
    fn jpeg_is_known_by_its_static_type_or_by_its_map() {
        let is = |media: &str| {
            let text = format!("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n{media}\r\n");
            is_jpeg(&Session::parse(text.as_bytes()).unwrap().medias[0])
        };
        for media in [
            "m=video 0 RTP/AVP 26",
            "m=video 0 RTP/AVP 33 26",
            "m=video 0 RTP/AVP 96\r\na=rtpmap:96 JPEG/90000",
            "m=video 0 RTP/AVP 97 98\r\na=rtpmap:97 H264/90000\r\na=rtpmap:98 jpeg/90000",
        ] {
            assert!(is(media), "{media}");
        }
        for media in ["m=video 0 RTP/AVP 96", "m=video 0 RTP/AVP 96\r\na=rtpmap:97 JPEG/90000"] {
            assert!(!is(media), "{media}");
        }
    }
}
