//! One RTSP connection: reads requests, executes them (`methods`) and responds.

mod methods;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rtsp_types::{Message, Request, Response, StatusCode, headers};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, info};

use super::publish::PublishSession;
use super::reader::{MessageReader, NoMessage};
use super::request::{self, RtspRequest};
use super::response::{Echo, Rejection};
use super::session::SessionId;
use super::transport::SessionTransport;
use super::tunnel::{self, Input};
use super::writer::{Gone, Writer};
use super::{IDLE_TIMEOUT, REQUEST_TIMEOUT, RtspServer};
use crate::access::{Credentials, Denied, Grant, Visitor};
use crate::limits;
use crate::tls::Stream;
use crate::wire::rtsp::HttpRequest;

/// Bytes that are read at a time; more of a publisher, so that a picture takes few reads.
const READ: usize = 2048;
const READ_PUBLISHED: usize = 64 * 1024;

/// How long a client may take to close, after a response that ends the connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) struct RtspConnection {
    pub(super) server: Arc<RtspServer>,
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
    input: Input,
    /// Whether nobody between can read it.
    pub(super) tls: bool,
    /// The stations that the client may see, and the secret that it has shown for that.
    pub(super) grant: Grant,
    shown: Option<Credentials>,
    writer: Arc<Writer>,
    pub(super) reader: MessageReader,
    /// The stream that is published here; `None` if the client watches.
    pub(super) recording: Option<Box<PublishSession>>,
    /// The sessions that were set up here.
    sessions: Vec<SessionId>,
    /// Whether its sessions by UDP and multicast live on as if it were open: the client has said `Connection: close`, and so
    /// comes again with another connection (RFC 2326 section 9).
    keeps_sessions: bool,
}

impl RtspConnection {
    pub(super) fn new(
        stream: Stream,
        peer: SocketAddr,
        local: SocketAddr,
        server: Arc<RtspServer>,
    ) -> RtspConnection {
        let tls = stream.is_tls();
        let (read, write) = stream.into_split();
        let input = Input::new(read);
        let (reader, writer) = (MessageReader::default(), Arc::new(Writer::new(write)));
        RtspConnection {
            server,
            peer,
            local,
            input,
            tls,
            grant: Grant::of_a_stranger(visitor(peer, tls).is_private()),
            shown: None,
            writer,
            reader,
            recording: None,
            sessions: Vec::new(),
            keeps_sessions: false,
        }
    }

    /// Serves the connection until it is over. Its interleaved sessions end with it.
    pub(super) async fn serve(mut self) {
        let why = self.run().await;
        debug!(peer = %self.peer, "rtsp: connection closed: {why}");
        self.writer.close();
    }

    /// Returns why the connection is over.
    #[expect(clippy::disallowed_methods, reason = "a shell: it times requests")]
    async fn run(&mut self) -> &'static str {
        // Timeouts count from here. It stays at the connection's beginning until the first request, so that a client without
        // any does not hold a permit for long.
        let mut since = Instant::now();
        let mut had_request = false;
        let mut buffer = vec![0; READ];
        loop {
            match self.reader.take() {
                Ok(Some(Message::Request(request))) => {
                    let echo = Echo::of(&request);
                    let response = self.handle(&request, &echo).await;
                    (since, had_request) = (Instant::now(), true);
                    match response {
                        Ok(()) if echo.close => {
                            self.keeps_sessions = true;
                            self.finish().await;
                            return "the client wants it closed";
                        }
                        Ok(()) => continue,
                        Err(Gone) => return "cannot send a response",
                    }
                }
                Ok(Some(Message::Data(data))) => {
                    match &mut self.recording {
                        Some(recording) => {
                            if let Err(why) = recording.take_interleaved(data.channel_id(), data.as_slice()) {
                                self.cut_off(&why);
                                return "the publisher is cut off";
                            }
                        }
                        None => self.handle_interleaved(data.channel_id(), data.as_slice()),
                    }
                    continue;
                }
                // Ignored, since we send no requests.
                Ok(Some(Message::Response(_))) => continue,
                Ok(None) => {}
                Err(NoMessage::Http(http)) if !had_request && !self.input.is_tunnel() => {
                    match self.tunnel(&http).await {
                        Ok(()) => continue,
                        Err(why) => return why,
                    }
                }
                Err(no_message) => {
                    let status = match no_message {
                        NoMessage::Invalid(status) => status,
                        NoMessage::Http(_) => StatusCode::BadRequest,
                    };
                    if self.send(Rejection::from(status).response(&Echo::default())).await.is_ok() {
                        self.finish().await;
                    }
                    return "the client sent something that is not a request";
                }
            }
            let patience =
                if had_request && !self.reader.is_midway() { IDLE_TIMEOUT } else { REQUEST_TIMEOUT };
            let is_recording = self.recording.as_ref().is_some_and(|recording| recording.is_recording());
            if is_recording && buffer.len() < READ_PUBLISHED {
                buffer.resize(READ_PUBLISHED, 0);
            }
            let room = self.reader.room().min(buffer.len());
            let ready = async {
                match &mut self.recording {
                    Some(recording) => recording.ready().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.writer.closed() => return "a write failed",
                ready = ready => {
                    let taken = match (ready, &mut self.recording) {
                        (Ok(()), Some(recording)) => recording.take_udp(&mut buffer),
                        (ready, _) => ready,
                    };
                    if let Err(why) = taken {
                        self.cut_off(&why);
                        return "the publisher is cut off";
                    }
                }
                () = self.grant.over() => return "its token or password is let in no more",
                read = self.input.read(&mut buffer[..room]) => match read {
                    Ok(length @ 1..) => {
                        // Empty lines before the first request do not extend its time.
                        if had_request && !self.reader.is_midway() {
                            since = Instant::now();
                        }
                        self.reader.push(&buffer[..length]);
                    }
                    Ok(0) | Err(_) => return "the client has closed it",
                },
                () = sleep_until(since + patience), if !is_recording => {
                    if self.reader.is_midway() || !had_request || !self.has_sessions() {
                        return "the client sent nothing for too long";
                    }
                    since = Instant::now();
                }
            }
        }
    }

    /// Logs why a publisher is cut off.
    fn cut_off(&self, why: &str) {
        info!("publish: {} is cut off: {why}", self.peer.ip());
    }

    /// Whether a session that was set up here still exists.
    fn has_sessions(&mut self) -> bool {
        self.sessions.retain(|&id| self.server.sessions.get(id).is_some());
        !self.sessions.is_empty()
    }

    async fn send(&self, response: Response<Vec<u8>>) -> Result<(), Gone> {
        let mut bytes = Vec::new();
        response.write(&mut bytes).expect("writing into a vector cannot fail");
        self.writer.write(&bytes, &[]).await
    }

    /// Closes behind the last response so that the client can still read it: closing with unread bytes would be a reset, and
    /// a reset may overtake the response.
    async fn finish(&mut self) {
        if self.writer.finish().await.is_ok() {
            let _ = timeout(CLOSE_TIMEOUT, limits::drain(self.input.socket())).await;
        }
    }

    /// Makes this connection a half of a tunnel through HTTP. Returns when it is the half that receives, and requests come from
    /// the other.
    ///
    /// # Errors
    /// Why the connection is over.
    async fn tunnel(&mut self, http: &HttpRequest) -> Result<(), &'static str> {
        let tunnels = self.server.tunnels.clone();
        let cookie = http.cookie.clone().filter(|cookie| cookie.len() <= tunnel::MAX_COOKIE);
        let key = cookie.map(|cookie| (self.peer.ip(), cookie));
        let refusal = match (http.method.as_str(), key) {
            ("GET", Some(key)) => {
                self.writer.write(tunnel::OPENED, &[]).await.map_err(|Gone| "cannot send a response")?;
                self.input.receive_from(tunnels.open(key));
                self.reader = MessageReader::default();
                return Ok(());
            }
            ("POST", Some(key)) => match tunnels.find(&key) {
                Some(requests) => {
                    let rest = std::mem::take(&mut self.reader).into_rest();
                    match tunnel::forward(rest, self.input.socket(), requests).await {
                        Ok(()) => return Err("the tunnel is over"),
                        Err(refusal) => refusal,
                    }
                }
                None => tunnel::NO_SUCH_TUNNEL,
            },
            _ => tunnel::NOT_A_TUNNEL,
        };
        if self.writer.write(refusal, &[]).await.is_ok() {
            self.finish().await;
        }
        Err("the client speaks HTTP, and not to tunnel RTSP")
    }

    /// Interleaved data: receiver reports, on a track's channel for RTCP.
    fn handle_interleaved(&self, channel: u8, packet: &[u8]) {
        for session in self.sessions.iter().filter_map(|&id| self.server.sessions.get(id)) {
            let Some(receiver_reports) = &session.receiver_reports else { continue };
            for (track, transport) in session.transports().iter() {
                if let &SessionTransport::Interleaved { channels, ssrc } = transport
                    && channels.1 == channel
                {
                    receiver_reports.record(track, ssrc, packet);
                }
            }
        }
    }

    /// Executes a request and responds.
    async fn handle(&mut self, request: &Request<Vec<u8>>, echo: &Echo) -> Result<(), Gone> {
        if let Some(response) = self.publish(request, echo).await {
            return self.send(response.unwrap_or_else(|rejection| rejection.response(echo))).await;
        }
        let named = request::session_id(request).and_then(|id| self.server.sessions.get(id));
        // A rejected request is a sign of life, too.
        if let Some(session) = named.as_ref().filter(|session| session.owner == self.peer.ip()) {
            session.keep_alive.requested();
        }
        let session = named.as_ref().map(|session| session.info());
        // Dropped when the response is written: until then playback does not begin.
        let mut hold = None;
        let response = match RtspRequest::parse(request, self.peer.ip(), session) {
            Ok(parsed) => match self.identify(request).await {
                Ok(()) => self.execute(parsed, request, echo, &mut hold).await,
                Err(rejection) => Err(rejection),
            },
            Err(rejection) => Err(rejection),
        };
        if let Err(rejection) = &response {
            let status = u16::from(rejection.status);
            debug!(peer = %self.peer, status, "rtsp: rejected {:?}", request.method());
        }
        self.send(response.unwrap_or_else(|rejection| rejection.response(echo))).await
    }
}

impl RtspConnection {
    /// Lets the client in, if it shows a token or a password that it has not shown yet. Players show theirs with each request.
    pub(super) async fn identify(&mut self, request: &Request<Vec<u8>>) -> Result<(), Rejection> {
        let Some(credentials) = request::credentials(request) else { return Ok(()) };
        if self.shown.as_ref() == Some(&credentials) && !self.grant.is_over() {
            return Ok(());
        }
        let visitor = visitor(self.peer, self.tls);
        let gatekeeper = self.server.head_end.gatekeeper.clone();
        match gatekeeper.admit(visitor, credentials.clone()).await {
            Ok(grant) => {
                (self.grant, self.shown) = (grant, Some(credentials));
                Ok(())
            }
            Err(denied @ Denied::Plain) => Err(Rejection::from(StatusCode::Forbidden).because(&denied)),
            Err(denied @ Denied::Wrong) => Err(self.unauthorized().because(&denied)),
            Err(denied @ Denied::TooMany(wait)) => {
                let seconds = (wait.as_secs() + 1).to_string();
                let status = StatusCode::ServiceUnavailable;
                Err(Rejection::with(status, headers::RETRY_AFTER, seconds).because(&denied))
            }
        }
    }

    /// Asks the client for a name and a password.
    fn unauthorized(&self) -> Rejection {
        let challenge = "Basic realm=\"stationcast\", charset=\"UTF-8\"";
        Rejection::with(StatusCode::Unauthorized, headers::WWW_AUTHENTICATE, challenge)
    }

    /// Whether a client may be asked for a secret here: nobody between can read it.
    pub(super) fn is_safe(&self) -> bool {
        visitor(self.peer, self.tls).is_private()
    }
}

/// The client, as the gatekeeper sees it.
fn visitor(peer: SocketAddr, tls: bool) -> Visitor {
    Visitor { address: peer.ip(), tls, service: "rtsp" }
}

impl Drop for RtspConnection {
    fn drop(&mut self) {
        for &id in &self.sessions {
            match self.server.sessions.get(id) {
                Some(session) if session.is_interleaved() => {
                    self.server.sessions.remove(id);
                }
                Some(session) if !self.keeps_sessions => session.abandon(),
                Some(_) | None => {}
            }
        }
    }
}
