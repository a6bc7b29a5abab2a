//! One RTSP connection: reads requests, does what they ask for, answers.

mod methods;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rtsp_types::{Message, Request, Response};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

use super::reader::MessageReader;
use super::request::{self, Rejection, RtspRequest};
use super::session::SessionId;
use super::transport::SessionTransport;
use super::writer::{Gone, Writer};
use super::{IDLE, REQUEST, RtspServer};

/// How long last words may take, and how many reads of what comes meanwhile.
const PARTING: Duration = Duration::from_secs(1);
const PARTING_READS: usize = 64;

pub(super) struct Connection {
    shared: Arc<RtspServer>,
    peer: SocketAddr,
    local: SocketAddr,
    read: OwnedReadHalf,
    writer: Arc<Writer>,
    inbox: MessageReader,
    /// SessionTable that were set up here.
    sessions: Vec<SessionId>,
}

impl Connection {
    pub(super) fn new(
        stream: TcpStream,
        peer: SocketAddr,
        local: SocketAddr,
        shared: Arc<RtspServer>,
    ) -> Connection {
        let (read, write) = stream.into_split();
        let writer = Arc::new(Writer::new(write));
        Connection {
            shared,
            peer,
            local,
            read,
            writer,
            inbox: MessageReader::default(),
            sessions: Vec::new(),
        }
    }

    /// Serves it to its end. Its interleaved sessions end with it.
    pub(super) async fn serve(mut self) {
        let end = self.converse().await;
        debug!(peer = %self.peer, "rtsp: {end}");
        self.writer.close();
    }

    /// Why it ended.
    async fn converse(&mut self) -> &'static str {
        // Bounds how long half a request may stay, the first above all: a connection is not for nothing.
        let mut since = Instant::now();
        let mut heard = false;
        let mut buffer = [0; 2048];
        loop {
            match self.inbox.take() {
                Ok(Some(Message::Request(request))) => {
                    let ended = self.attend(&request).await;
                    (since, heard) = (Instant::now(), true);
                    if ended.is_err() {
                        return "the client is gone";
                    }
                    continue;
                }
                Ok(Some(Message::Data(data))) => {
                    self.hear(data.channel_id(), data.as_slice());
                    continue;
                }
                // We ask for nothing.
                Ok(Some(Message::Response(_))) => continue,
                Ok(None) => {}
                Err(status) => {
                    self.part(Rejection::from(status).response(None)).await;
                    return "it sent what is no request";
                }
            }
            let patience = if heard && !self.inbox.is_midway() { IDLE } else { REQUEST };
            let room = self.inbox.room().min(buffer.len());
            tokio::select! {
                () = self.writer.closed() => return "closed",
                read = self.read.read(&mut buffer[..room]) => match read {
                    Ok(length @ 1..) => {
                        // Empty lines before the first request do not prolong its time.
                        if heard && !self.inbox.is_midway() {
                            since = Instant::now();
                        }
                        self.inbox.push(&buffer[..length]);
                    }
                    Ok(0) | Err(_) => return "the client has closed it",
                },
                () = sleep_until(since + patience) => {
                    if self.inbox.is_midway() || !heard || !self.has_sessions() {
                        return "it was idle";
                    }
                    since = Instant::now();
                }
            }
        }
    }

    /// Whether a session that was set up here is still there.
    fn has_sessions(&mut self) -> bool {
        self.sessions.retain(|&id| self.shared.sessions.get(id).is_some());
        !self.sessions.is_empty()
    }

    async fn send(&self, response: Response<Vec<u8>>) -> Result<(), Gone> {
        let mut bytes = Vec::new();
        response.write(&mut bytes).expect("a vector takes all that is written");
        self.writer.write(&bytes, &[]).await
    }

    /// Sends the last words, and throws away what still comes for a little while: to close on unread bytes is a reset, which
    /// may overtake the words.
    async fn part(&mut self, words: Response<Vec<u8>>) {
        if self.send(words).await.is_err() || self.writer.finish().await.is_err() {
            return;
        }
        let mut sink = [0; 1024];
        let drain = async {
            for _ in 0..PARTING_READS {
                if !matches!(self.read.read(&mut sink).await, Ok(1..)) {
                    break;
                }
            }
        };
        let _ = timeout(PARTING, drain).await;
    }

    /// Interleaved data: receiver reports, on the second channel of a session.
    fn hear(&self, channel: u8, packet: &[u8]) {
        for session in self.sessions.iter().filter_map(|&id| self.shared.sessions.get(id)) {
            if let (SessionTransport::Interleaved { channels, .. }, Some(receiver_reports)) =
                (session.transport, &session.receiver_reports)
                && channels.1 == channel
            {
                receiver_reports.hear(packet);
            }
        }
    }

    /// Answers a request.
    async fn attend(&mut self, request: &Request<Vec<u8>>) -> Result<(), Gone> {
        let cseq = request::cseq(request);
        let named = request::session(request).and_then(|id| self.shared.sessions.get(id));
        // Refused or not, it is a sign of life.
        if let Some(session) = named.as_ref().filter(|session| session.owner == self.peer.ip()) {
            session.keep_alive.touch();
        }
        let view = named.as_ref().map(|session| session.view());
        // For as long as this is not dropped, nothing that has begun overtakes the response.
        let mut go = None;
        let response = match RtspRequest::of(request, self.peer.ip(), view) {
            Ok(order) => self.carry_out(order, request, cseq, &mut go).await,
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = &response {
            let status = u16::from(refusal.status);
            debug!(peer = %self.peer, status, "rtsp: refused {:?}", request.method());
        }
        self.send(response.unwrap_or_else(|refusal| refusal.response(cseq))).await
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        for &id in &self.sessions {
            let session = self.shared.sessions.get(id);
            if session
                .is_some_and(|session| matches!(session.transport, SessionTransport::Interleaved { .. }))
            {
                self.shared.sessions.remove(id);
            }
        }
    }
}
