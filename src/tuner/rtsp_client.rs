//! A station in an RTSP connection (RFC 2326 section 10.12), for networks without multicast: every picture, in order.

#![expect(clippy::disallowed_methods, reason = "a shell: it keeps a connection alive")]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rtsp_types::headers::{self, RtpLowerTransport, Transport};
use rtsp_types::{Empty, Message, Method, ParseError, Request, Response, StatusCode, Url, Version};
use sdp_types::Session;

use crate::media::StationId;
use crate::wire::rtp;

/// How long the server may take to accept, or to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A session ends when nothing is asked in it for its timeout, 60 s unless the server says otherwise (RFC 2326 section
/// 12.37). Half of the shortest that is usual.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Bytes read ahead: two of the longest packets (65,535 and the four bytes in front of them).
const BUFFER: usize = 2 * 65_539;

/// The channels of the connection that we ask for. RTCP comes on the second and is of no use to us.
const RTP_CHANNEL: u8 = 0;
const RTCP_CHANNEL: u8 = 1;

/// A station that plays in an RTSP connection.
pub(super) struct RtspSource {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Of it, what has been read and not been used.
    unread: std::ops::Range<usize>,
    url: Url,
    session: Option<String>,
    cseq: u32,
    /// Where the server said RTP comes.
    channel: u8,
    said: Instant,
    /// It plays, and reading does not block any more.
    is_open: bool,
}

impl RtspSource {
    /// Has `server` play a station. Blocks for [`PATIENCE`] at most for each answer.
    pub(super) fn open(server: SocketAddr, station: StationId) -> io::Result<RtspSource> {
        let stream = TcpStream::connect_timeout(&server, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut host = server;
        if let SocketAddr::V6(host) = &mut host {
            host.set_scope_id(0); // a URL has no place for a zone
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
            said: Instant::now(),
            is_open: false,
        };
        let described = source.ask(Method::Describe, url, None)?;
        let media = control(&described, &source.url)?;
        let transport = format!("RTP/AVP/TCP;unicast;interleaved={RTP_CHANNEL}-{RTCP_CHANNEL}");
        let set_up = source.ask(Method::Setup, media, Some((headers::TRANSPORT, transport)))?;
        source.session = Some(session(&set_up).ok_or_else(|| wrong("no session"))?);
        source.channel = channel(&set_up).ok_or_else(|| wrong("no channel for RTP"))?;
        source.ask(Method::Play, source.url.clone(), Some((headers::RANGE, "npt=now-".into())))?;
        source.stream.set_nonblocking(true)?;
        source.is_open = true;
        Ok(source)
    }

    /// Reads what has come, and gives each RTP packet of it to `packet`. Returns at once.
    ///
    /// # Errors
    /// The server has closed, or what comes is no RTSP. What came before has been given.
    pub(super) fn read(&mut self, mut packet: impl FnMut(&[u8])) -> io::Result<()> {
        loop {
            while let Some(()) = self.next(|message, channel| match message {
                Message::Data(data) if data.channel_id() == channel => packet(data.as_slice()),
                // Answers to what keeps the session alive, RTCP, and what servers may ask of clients.
                _ => {}
            })? {}
            if !self.fill()? {
                return Ok(());
            }
        }
    }

    /// When [`keep_alive`](Self::keep_alive) wants to be called.
    pub(super) fn keep_alive_in(&self) -> Duration {
        KEEP_ALIVE.saturating_sub(self.said.elapsed())
    }

    /// Says that we are still there, if it is time to.
    pub(super) fn keep_alive(&mut self) -> io::Result<()> {
        if self.keep_alive_in().is_zero() {
            self.say(Method::GetParameter, self.url.clone(), None)?;
        }
        Ok(())
    }

    /// Asks, and waits for the answer.
    fn ask(
        &mut self,
        method: Method,
        url: Url,
        header: Option<(headers::HeaderName, String)>,
    ) -> io::Result<Response<Vec<u8>>> {
        let what = <&str>::from(&method).to_owned();
        self.say(method, url, header)?;
        let cseq = self.cseq.to_string();
        let asked = Instant::now();
        loop {
            if asked.elapsed() > PATIENCE {
                return Err(silent());
            }
            let mut answer = None;
            let used = self.next(|message, _| match message {
                Message::Response(response) => answer = Some(response.map_body(<[u8]>::to_vec)),
                Message::Request(_) | Message::Data(_) => {}
            })?;
            match answer {
                Some(answer) if answer.header(&headers::CSEQ).is_some_and(|n| n.as_str() == cseq) => {
                    let status = answer.status();
                    if status != StatusCode::Ok {
                        let (code, reason) = (u16::from(status), answer.reason_phrase());
                        return Err(io::Error::other(format!("RTSP {what} was refused: {code} {reason}")));
                    }
                    return Ok(answer);
                }
                _ if used.is_some() => {}
                _ => drop(self.fill()?),
            }
        }
    }

    fn say(
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
        self.said = Instant::now();
        // A few hundred bytes: a server that has no room for them has not read for minutes.
        self.stream.write_all(&bytes)
    }

    /// Reads once. False when there is nothing for now.
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
            // Of a socket that blocks, this says that the patience is over.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if self.is_open {
                    Ok(false)
                } else {
                    Err(silent())
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Gives the next message to `take`, if all of it is there.
    fn next(&mut self, take: impl FnOnce(Message<&[u8]>, u8)) -> io::Result<Option<()>> {
        match Message::<&[u8]>::parse(&self.buffer[self.unread.clone()]) {
            Ok((message, used)) => {
                take(message, self.channel);
                self.unread.start += used;
                Ok(Some(()))
            }
            Err(ParseError::Incomplete(_)) if self.unread.len() < BUFFER => Ok(None),
            Err(_) => Err(wrong("bytes that are no RTSP")),
        }
    }
}

impl AsFd for RtspSource {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn silent() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the RTSP server does not answer")
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the RTSP server answered with {what}"))
}

/// The URL of the JPEG video in a description: what SETUP is asked for (RFC 2326 appendix C.1.1).
fn control(described: &Response<Vec<u8>>, asked: &Url) -> io::Result<Url> {
    let base = described.header(&headers::CONTENT_BASE).and_then(|base| Url::parse(base.as_str()).ok());
    let base = base.as_ref().unwrap_or(asked);
    let session = Session::parse(described.body()).map_err(|_| wrong("a description that is no SDP"))?;
    let jpeg = rtp::PAYLOAD_TYPE_JPEG.to_string();
    let video = session.medias.iter().find(|media| media.media == "video" && media.fmt == jpeg);
    let video = video.ok_or_else(|| wrong("a description without RTP/JPEG video"))?;
    match video.get_first_attribute_value("control").flatten() {
        None | Some("*") => Ok(base.clone()),
        Some(control) => base.join(control).map_err(|_| wrong("a control URL that is none")),
    }
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

    /// A server for one connection: reads a request, sends the next answer, and so on, then closes. Returns what it was
    /// asked, each request's first line.
    fn server(answers: Vec<Vec<u8>>) -> (SocketAddr, JoinHandle<Vec<String>>) {
        serve(vec![answers, Vec::new()])
    }

    /// The same for one connection after the other; but the last is kept open until the client closes it, or refused if
    /// there are no answers for it.
    pub(in crate::tuner) fn serve(connections: Vec<Vec<Vec<u8>>>) -> (SocketAddr, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = thread::spawn(move || {
            let mut asked = Vec::new();
            let last = connections.len() - 1;
            for (n, answers) in connections.into_iter().enumerate().filter(|(_, answers)| !answers.is_empty())
            {
                let (mut stream, _) = listener.accept().unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                for answer in answers {
                    let request: Vec<String> =
                        lines.by_ref().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
                    asked.extend(request.first().cloned());
                    stream.write_all(&answer).unwrap();
                }
                if n == last {
                    lines.map_while(Result::ok).for_each(drop);
                }
            }
            asked
        });
        (address, asked)
    }

    pub(in crate::tuner) fn framed(channel: u8, packet: &[u8]) -> Vec<u8> {
        [&[b'$', channel][..], &(packet.len() as u16).to_be_bytes(), packet].concat()
    }

    fn ok(cseq: u32, headers: &str, body: &str) -> Vec<u8> {
        let length = body.len();
        format!("RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\n{headers}Content-Length: {length}\r\n\r\n{body}").into()
    }

    pub(in crate::tuner) fn opening(set_up: &str) -> Vec<Vec<u8>> {
        let base = "Content-Base: rtsp://127.0.0.1/elsewhere/2/\r\nContent-Type: application/sdp\r\n";
        let set_up = format!("Session: 12ab;timeout=60\r\nTransport: {set_up}\r\n");
        vec![ok(1, base, DESCRIPTION), ok(2, &set_up, ""), ok(3, "Session: 12ab\r\n", "")]
    }

    /// Everything that comes until the server closes.
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
    fn packets_come_out_as_they_went_in() {
        let mut answers = opening("RTP/AVP/TCP;unicast;interleaved=4-5");
        let longest = vec![7; 65_535];
        // Packets behind the answer to PLAY; RTCP and an answer between them.
        let tail = [
            framed(4, b"one"),
            framed(5, b"rtcp"),
            framed(4, &longest),
            ok(4, "", ""),
            framed(4, &longest),
            framed(4, b""),
            framed(4, b"last"),
        ];
        answers[2].extend(tail.concat());
        let (address, asked) = server(answers);
        let mut source = RtspSource::open(address, StationId(2)).unwrap();
        let (packets, error) = read_all(&mut source);
        assert!(packets == [b"one".to_vec(), longest.clone(), longest, vec![], b"last".to_vec()]);
        assert_eq!(error.to_string(), "the RTSP server closed the connection");
        assert_eq!(
            asked.join().unwrap(),
            [
                format!("DESCRIBE rtsp://{address}/2 RTSP/1.0"),
                "SETUP rtsp://127.0.0.1/elsewhere/2/video RTSP/1.0".into(),
                format!("PLAY rtsp://{address}/2 RTSP/1.0"),
            ]
        );
    }

    #[test]
    fn a_server_that_refuses_or_talks_nonsense_is_an_error() {
        let refused = |answers: Vec<Vec<u8>>| {
            let (address, _asked) = server(answers);
            RtspSource::open(address, StationId(2)).err().expect("refused").to_string()
        };
        assert_eq!(
            refused(vec![b"RTSP/1.0 404 Not Found\r\nCSeq: 1\r\n\r\n".to_vec()]),
            "RTSP DESCRIBE was refused: 404 Not Found"
        );
        assert_eq!(
            refused(vec![b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec()]),
            "the RTSP server answered with bytes that are no RTSP"
        );
        assert_eq!(
            refused(vec![ok(1, "", "rubbish")]),
            "the RTSP server answered with a description that is no SDP"
        );
        let audio = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=audio 0 RTP/AVP 0\r\n";
        assert_eq!(
            refused(vec![ok(1, "", audio)]),
            "the RTSP server answered with a description without RTP/JPEG video"
        );
        let mut answers = opening("RTP/AVP;unicast;client_port=6000-6001");
        answers.truncate(2);
        assert_eq!(refused(answers), "the RTSP server answered with no channel for RTP");
        assert_eq!(refused(vec![Vec::new()]), "the RTSP server closed the connection");
        // A header without an end fills the buffer, and no more.
        let endless = [b"RTSP/1.0 200 OK\r\nX: ".to_vec(), vec![b'x'; 2 * BUFFER]].concat();
        assert_eq!(refused(vec![endless]), "the RTSP server answered with bytes that are no RTSP");
    }
}
