//! The RTSP 1.0 server (RFC 2326): stations for any player, live or on demand, by multicast, by UDP or in the connection; and from
//! any publisher.
//!
//! Only `daemon` imports it. Of ours it imports `headend`, `air`, `content`, `directory`, `limits`, `lineup`, `clock`,
//! `net`, `media`, `wire`, `tls` and `access`.
//!
//! ```text
//! TCP -> MessageReader -> RtspRequest -> RtspConnection -> SessionCommand -> SessionTask -> Sink -> UDP, by the air thread
//!                                       Playback: LivePlayback or VodPlayback ----^             \---> the RTSP connection
//! ```
//!
//! - `reader`, `request`, `transport`: parse and check the bytes of a client. `response`: what each response has. Pure.
//! - `connection`: reads requests, executes them and responds. `writer`: its sending half, shared by responses and pictures.
//! - `tunnel`: requests that come through HTTP, by a connection of their own.
//! - `session`: the table of all sessions. A session by UDP may outlive the connection that set it up.
//! - `session_task`: one task a session; takes units from a `playback`, live or `vod`, and gives them to a `sink`.
//! - `fanout`: one task that writes a station's units to all connections that keep up.
//! - `publish`: the methods of a client that publishes, and what it sends.
//! - `vod_sound`: the sound of a programme on demand.
//!
//! Every resource that a client can take is bounded, as in the directory: connections, sessions, bytes of a request, and the
//! time of each step. `docs/rtsp.md` states the limits.

mod connection;
mod fanout;
mod playback;
mod publish;
mod reader;
mod request;
mod response;
mod session;
mod session_task;
mod sink;
mod transport;
mod tunnel;
mod vod;
mod vod_sound;
mod writer;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::content::programme::{NotPlayable, Programme};
use crate::headend::{HeadEnd, StationHandle};
use crate::limits::{self, ConnectionLimits, Permit, canonical};
use crate::tls::{Arrive, ArrivingStream, Secured};
use connection::RtspConnection;
use fanout::Fanouts;
use session::SessionTable;
use tunnel::Tunnels;

/// Most connections at one time from one address, and most sessions. The next one gets 503, and a connection is closed.
const PER_ADDRESS: usize = 1024;

/// Most sessions of one connection.
const SESSIONS_PER_CONNECTION: usize = 4;

/// Longest time from a connection's beginning to its first complete request, and from a request's first byte to its last.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection without a session may send nothing.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Kernel send buffer of a connection, in bytes; Linux takes twice that, for its own bookkeeping. It bridges a stall of
/// half a second, as wireless networks have, with pictures of 22 kB at 25 a second.
const SEND_BUFFER: usize = 256 * 1024;

/// Most programmes that are looked up at one time. A look-up reads and hashes films that are new.
const LOOK_UPS: usize = 4;

/// How long a client waits for a look-up until it gets 503. The look-up goes on, and a later request finds its result.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(5);

/// Most pictures that are read from disk at one time, for all sessions on demand. Most pictures are in memory.
const READS: usize = 64;

/// Most clients for each core for which films without reels are encoded at one time. Measured at 640 pixels: one takes 6 % of a core
/// for a film of that size at 30 pictures a second, and 34 % for a 1080p film at 25. So two of the latter leave a third of each core
/// to the stations.
const ENCODINGS_PER_CORE: usize = 2;

/// When a client shall ask again for a programme that cannot be played now.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// The answer to a client that does not speak TLS where it must.
pub(crate) const TLS_ONLY: &[u8] =
    b"RTSP/1.0 400 Bad Request: this port speaks TLS only, as in rtsps://\r\nConnection: close\r\n\r\n";

/// State shared by all connections.
struct RtspServer {
    head_end: Arc<HeadEnd>,
    sessions: Arc<SessionTable>,
    fanouts: Arc<Fanouts>,
    tunnels: Arc<Tunnels>,
    look_ups: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    /// A permit for each client for which films are encoded.
    encodings: Arc<Semaphore>,
    /// Most of them.
    encoding_places: usize,
}

/// Serves stations until the head-end stops, then ends every session and connection and returns. There are at most
/// `places` connections, and as many sessions.
pub async fn serve(listener: impl Into<Secured>, head_end: Arc<HeadEnd>, places: usize) {
    let limits = ConnectionLimits::new(places, PER_ADDRESS);
    let server = Arc::new(RtspServer::new(head_end.clone(), places));
    let visit = |arriving: ArrivingStream, peer, permit: Result<Permit, String>| match permit {
        Ok(permit) => {
            // An error means that the client has disconnected already.
            let local = prepare(arriving.tcp()).ok()?;
            let server = server.clone();
            Some(async move {
                if let Some(stream) = arriving.secure().await {
                    RtspConnection::new(stream, peer, local, server).serve().await;
                }
                drop(permit);
            })
        }
        Err(_) => {
            arriving.refuse(b"RTSP/1.0 503 Service Unavailable\r\n\r\n");
            None
        }
    };
    let mut connections =
        limits::accept_loop(listener.into(), "rtsp", limits, head_end.stopping(), visit).await;
    server.sessions.end().await;
    connections.shutdown().await;
}

/// Sets the send buffer of a connection. Returns the connection's local address.
fn prepare(stream: &TcpStream) -> io::Result<SocketAddr> {
    SockRef::from(stream).set_send_buffer_size(SEND_BUFFER)?;
    stream.local_addr().map(canonical)
}

impl RtspServer {
    fn new(head_end: Arc<HeadEnd>, sessions: usize) -> RtspServer {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let encoding_places = ENCODINGS_PER_CORE * cores;
        RtspServer {
            head_end,
            sessions: SessionTable::new(sessions),
            fanouts: Arc::default(),
            tunnels: Arc::default(),
            look_ups: Arc::new(Semaphore::new(LOOK_UPS)),
            reads: Arc::new(Semaphore::new(READS)),
            encodings: Arc::new(Semaphore::new(encoding_places)),
            encoding_places,
        }
    }

    /// A station's programme; `None` if the look-up takes too long.
    async fn programme(&self, station: &Arc<StationHandle>) -> Option<Result<Programme, NotPlayable>> {
        let (head_end, station) = (self.head_end.clone(), station.clone());
        let look_up = async {
            let permit = self.look_ups.clone().acquire_owned().await.ok()?;
            let looked = tokio::task::spawn_blocking(move || {
                let programme = head_end.programme(&station);
                drop(permit);
                programme
            });
            looked.await.ok()
        };
        timeout(LOOK_UP_TIMEOUT, look_up).await.ok().flatten()
    }
}

/// For the fuzzer: reads what a client may send, in pieces of `piece` bytes.
#[cfg(fuzzing)]
pub fn fuzz(bytes: &[u8], piece: usize) {
    let mut reader = reader::MessageReader::default();
    for piece in bytes.chunks(piece.max(1)) {
        let mut piece = piece;
        while !piece.is_empty() {
            let (now, later) = piece.split_at(reader.room().min(piece.len()));
            if now.is_empty() {
                return;
            }
            reader.push(now);
            piece = later;
            loop {
                match reader.take() {
                    Ok(Some(rtsp_types::Message::Request(request))) => {
                        publish::fuzz(&request);
                        let echo = response::Echo::of(&request);
                        let peer = std::net::IpAddr::from([192, 0, 2, 9]);
                        if let Err(rejection) = request::RtspRequest::parse(&request, peer, None) {
                            let _ = rejection.response(&echo);
                        }
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(_) => return,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
