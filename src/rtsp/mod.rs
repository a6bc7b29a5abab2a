//! RTSP 1.0 (RFC 2326): stations for any player, by multicast, unicast or in the connection itself.
//!
//! ```text
//! TCP -> Inbox -> Order -> Connection -> Session: Command -> Delivery -> Sink -> UDP, by the air thread
//!                                                  Live, Showing ----^      \--> the connection
//! ```
//!
//! - `inbox`, `conversation`, `transport`, `rtcp`: what the bytes mean. Pure; a stranger's bytes are judged there.
//! - `connection`: reads, does, answers. `writer`: its other half, shared by responses and pictures.
//! - `session`: the sessions there are. They may outlive the connection that made them.
//! - `delivery`: the task of a session; from `live` or `demand`, to a `sink`.
//!
//! What a stranger can take is bounded in every direction, as in the directory: connections, sessions, bytes of a request,
//! and the time for each step. `docs/rtsp.md` promises it.

mod connection;
mod conversation;
mod delivery;
mod demand;
mod inbox;
mod live;
mod rtcp;
mod session;
mod sink;
mod transport;
mod writer;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};

use crate::directory::server::doors::{Doors, Repeats};
use crate::station::headend::{HeadEnd, Monitor, NotRecorded};
use crate::station::reel::Reel;
use connection::Connection;
use session::Sessions;

/// Connections at one time, and from one address: the next is told 503 and closed.
const CONNECTIONS: (usize, usize) = (2048, 1024);

/// Sessions that one connection may set up.
const SESSIONS_PER_CONNECTION: usize = 4;

/// From a connection's beginning to its first request, and from a request's first byte to its last.
const REQUEST: Duration = Duration::from_secs(10);

/// How long a connection without a session may say nothing.
const IDLE: Duration = Duration::from_secs(60);

/// What a client's connection holds in the kernel at most, as it is asked for (Linux takes twice that, for its own
/// book-keeping). Half a second of 22 kB at 25 pictures a second: what a wireless network stands still for.
const SEND_BUFFER: usize = 256 * 1024;

/// Programmes that are looked up at one time. A film that is new is read and hashed.
const LOOK_UPS: usize = 4;

/// How long a client waits for that; it goes on, and whoever asks later has the answer.
const LOOK_UP: Duration = Duration::from_secs(5);

/// When to ask again for a programme that is not recorded yet.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// The rest after a failed accept, as in the directory.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// What the connections share.
struct Shared {
    head_end: Arc<HeadEnd>,
    sessions: Arc<Sessions>,
    look_ups: Arc<Semaphore>,
}

/// Serves stations until the head-end stops, then ends every session and connection and returns.
pub async fn serve(listener: TcpListener, head_end: Arc<HeadEnd>) {
    let doors = Doors::new(CONNECTIONS.0, CONNECTIONS.1);
    let shared = Arc::new(Shared {
        head_end: head_end.clone(),
        sessions: Sessions::new(),
        look_ups: Arc::new(Semaphore::new(LOOK_UPS)),
    });
    let mut connections = JoinSet::new();
    let mut stopping = pin!(head_end.stopping());
    let (mut failed, mut full) = (Repeats::default(), Repeats::default());
    let mut rest_until = Instant::now();
    loop {
        let accepted = tokio::select! {
            () = &mut stopping => break,
            Some(_) = connections.join_next() => continue,
            accepted = async {
                sleep_until(rest_until).await;
                listener.accept().await
            } => accepted,
        };
        let now = Instant::now();
        match accepted {
            Err(error) => {
                if !matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) {
                    rest_until = now + ACCEPT_REST;
                }
                if let Some(count) = failed.note(now) {
                    warn!(%error, count, "rtsp: cannot accept connections; trying on");
                }
            }
            Ok((stream, peer)) => match doors.enter(peer.ip()) {
                Ok(place) => {
                    // One that has gone already: nothing to serve.
                    let Ok(local) = prepare(&stream) else { continue };
                    let connection = Connection::new(stream, peer, local, shared.clone());
                    connections.spawn(async move {
                        connection.serve().await;
                        drop(place);
                    });
                }
                Err(sentence) => {
                    if let Some(count) = full.note(now) {
                        info!(%peer, count, "rtsp: refused: {sentence}");
                    }
                    // If it does not go out at once it does not go out.
                    let _ = stream.try_write(b"RTSP/1.0 503 Service Unavailable\r\n\r\n");
                }
            },
        }
    }
    shared.sessions.end().await;
    connections.shutdown().await;
}

/// Sets a connection up. Returns the address that it came in by.
fn prepare(stream: &TcpStream) -> io::Result<SocketAddr> {
    // A picture is one write: never wait to fill a segment.
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_send_buffer_size(SEND_BUFFER)?;
    stream.local_addr()
}

impl Shared {
    /// The reels of a station's programme; `None` when that takes too long to find out.
    async fn reels(&self, monitor: &Arc<Monitor>) -> Option<Result<Vec<Arc<Reel>>, NotRecorded>> {
        let (head_end, monitor) = (self.head_end.clone(), monitor.clone());
        let look_up = async {
            let permit = self.look_ups.clone().acquire_owned().await.ok()?;
            let looked = tokio::task::spawn_blocking(move || {
                let reels = head_end.reels(&monitor);
                drop(permit);
                reels
            });
            looked.await.ok()
        };
        timeout(LOOK_UP, look_up).await.ok().flatten()
    }
}

#[cfg(test)]
mod tests;
