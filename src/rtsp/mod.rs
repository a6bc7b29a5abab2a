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
//! - `delivery`: the task of a session; from `live` or `demand`, to a `sink`. `fanout`: one task for all whose connections
//!   keep up with a station.
//!
//! What a stranger can take is bounded in every direction, as in the directory: connections, sessions, bytes of a request,
//! and the time for each step. `docs/rtsp.md` promises it.

mod connection;
mod conversation;
mod delivery;
mod demand;
mod fanout;
mod inbox;
mod live;
mod session;
mod sink;
mod transport;
mod writer;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::content::reel::Reel;
use crate::headend::{HeadEnd, NotRecorded, StationHandle};
use crate::limits::{self, ConnectionLimits, Permit, canonical};
use connection::Connection;
use fanout::Fanouts;
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

/// Pictures that are read from a disk at one time, by all who watch on demand. As a rule they are in memory.
const READS: usize = 64;

/// When to ask again for a programme that is not recorded yet.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// What the connections share.
struct Shared {
    head_end: Arc<HeadEnd>,
    sessions: Arc<Sessions>,
    fanouts: Arc<Fanouts>,
    look_ups: Arc<Semaphore>,
    reads: Arc<Semaphore>,
}

/// Serves stations until the head-end stops, then ends every session and connection and returns.
pub async fn serve(listener: TcpListener, head_end: Arc<HeadEnd>) {
    let limits = ConnectionLimits::new(CONNECTIONS.0, CONNECTIONS.1);
    let shared = Arc::new(Shared::new(head_end.clone()));
    let visit = |stream: TcpStream, peer, place: Result<Permit, String>| match place {
        Ok(place) => {
            // One that has gone already: nothing to serve.
            let local = prepare(&stream).ok()?;
            let connection = Connection::new(stream, peer, local, shared.clone());
            Some(async move {
                connection.serve().await;
                drop(place);
            })
        }
        Err(_) => {
            // If it does not go out at once it does not go out.
            let _ = stream.try_write(b"RTSP/1.0 503 Service Unavailable\r\n\r\n");
            None
        }
    };
    let mut connections = limits::accept_loop(listener, "rtsp", limits, head_end.stopping(), visit).await;
    shared.sessions.end().await;
    connections.shutdown().await;
}

/// Sets a connection up. Returns the address that it came in by.
fn prepare(stream: &TcpStream) -> io::Result<SocketAddr> {
    SockRef::from(stream).set_send_buffer_size(SEND_BUFFER)?;
    stream.local_addr().map(canonical)
}

impl Shared {
    fn new(head_end: Arc<HeadEnd>) -> Shared {
        Shared {
            head_end,
            sessions: Sessions::new(),
            fanouts: Arc::default(),
            look_ups: Arc::new(Semaphore::new(LOOK_UPS)),
            reads: Arc::new(Semaphore::new(READS)),
        }
    }

    /// The reels of a station's programme; `None` when that takes too long to find out.
    async fn reels(&self, monitor: &Arc<StationHandle>) -> Option<Result<Vec<Arc<Reel>>, NotRecorded>> {
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
