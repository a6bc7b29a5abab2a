//! An RTSP client for networks without multicast: one station, its RTP packets interleaved in the connection (RFC 2326
//! section 10.12), so that every picture arrives, in order.

#![expect(clippy::disallowed_methods, reason = "a shell: it keeps a connection alive")]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rtsp_types::headers;
use rtsp_types::{Empty, Message, Method, Request, Response, StatusCode, Url, Version};
use sdp_types::Session;

use crate::media::StationId;
use crate::wire::rtp;
use crate::wire::rtsp::{LowerTransport, MessageFramer, TransportSpec};

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
    framer: MessageFramer,
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
            framer: MessageFramer::default(),
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
        match self.framer.take::<&[u8]>(&self.buffer[self.unread.clone()]) {
            Ok(Some((message, used))) => {
                take(message, self.channel);
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
    let named = [headers::CONTENT_BASE, headers::CONTENT_LOCATION];
    let mut named = named.iter().filter_map(|name| Url::parse(described.header(name)?.as_str()).ok());
    let base = named.next().unwrap_or_else(|| asked.clone());
    let session = Session::parse(described.body()).map_err(|_| invalid("a description that is not SDP"))?;
    let jpeg = rtp::PAYLOAD_TYPE_JPEG.to_string();
    let video = session.medias.iter().find(|media| media.media == "video" && media.fmt == jpeg);
    let video = video.ok_or_else(|| invalid("a description without RTP/JPEG video"))?;
    match video.get_first_attribute_value("control").flatten() {
        None | Some("*") => Ok(base),
        Some(control) => {
            // A relative control goes behind the base, as FFmpeg and live555 take it, also where the server has left out the
            // slash.
            let mut folder = base;
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
    fn a_careless_server_is_understood() {
        // Bare line ends, Latin-1, headers whose names begin with those that count, and a Transport as some cameras send it.
        let described = format!(
            "RTSP/1.0 200 OK\nC: 9\nCSeq: 1\nServer: K\u{fc}che\nContent-Base-Hint: rtsp://h/no\n\
             Content-Length: {}\n\n{DESCRIPTION}",
            DESCRIPTION.len()
        );
        let described = described.chars().map(|c| c as u8).collect();
        let set_up = "RTSP/1.0 200 OK\rCSeq: 2\rSession-Hint: no\rSession: 12ab ; timeout=60\rSession-Timeout: 3\r\
                      Transport: rtp/avp/tcp;Unicast;interleaved=6-7;\r\r";
        let mut played = ok(3, "C: 9\r\n", "");
        played.extend(framed(6, b"one"));
        let (address, requests) = server(vec![described, set_up.into(), played]);
        let mut source = RtspSource::open(address, StationId(2)).unwrap();
        assert_eq!(source.session.as_deref(), Some("12ab"));
        assert_eq!(read_all(&mut source).0, [b"one"]);
        // The control goes behind the URL of the request, although that does not end in a slash.
        assert_eq!(requests.join().unwrap()[1], format!("SETUP rtsp://{address}/2/video RTSP/1.0"));
    }

    #[test]
    fn a_control_goes_behind_the_base_or_replaces_it() {
        let url = |headers: &[(headers::HeaderName, &str)], line: &str| {
            let sdp =
                format!("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 26\r\n{line}");
            let response = Response::builder(Version::V1_0, StatusCode::Ok);
            let response = headers.iter().fold(response, |r, (name, value)| r.header(name.clone(), *value));
            let asked = Url::parse("rtsp://h/2").unwrap();
            control(&response.build(sdp.into_bytes()), &asked).unwrap().to_string()
        };
        let base = |url| (headers::CONTENT_BASE, url);
        let location = |url| (headers::CONTENT_LOCATION, url);
        for (headers, line, expected) in [
            (&[][..], "a=control:video\r\n", "rtsp://h/2/video"),
            (&[base("rtsp://b/x")], "a=control:video\r\n", "rtsp://b/x/video"),
            (&[base("rtsp://b/x/")], "a=control:video\r\n", "rtsp://b/x/video"),
            (&[location("rtsp://l/x/"), base("rtsp://b/x/")], "a=control:video\r\n", "rtsp://b/x/video"),
            (&[location("rtsp://l/x/")], "a=control:video\r\n", "rtsp://l/x/video"),
            (&[base("nonsense")], "a=control:video\r\n", "rtsp://h/2/video"),
            (&[base("rtsp://b/x/")], "a=control:rtsp://c/y\r\n", "rtsp://c/y"),
        ] {
            assert_eq!(url(headers, line), expected, "{headers:?} {line}");
        }
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
}
