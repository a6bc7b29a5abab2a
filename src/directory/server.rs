//! The directory's server: accepts, bounds, and keeps one client from harming another.
//!
//! A task a connection, no threads. What a stranger can take is bounded in every direction:
//! connections in all and from one address, bytes of a request, and the time for each step.

mod conversation;
pub(crate) mod doors;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, info, warn};

use super::board::Board;
use super::link::{Link, Wire};
use super::message::{ErrorCode, Reply, Request, encode};
use conversation::{Conversation, End};
use doors::{Doors, Repeats};

/// How long the last words to a client may take until the connection is closed regardless.
const PARTING: Duration = Duration::from_secs(1);

/// Clients that are told "busy" at one time; beyond it a connection is closed without a word. A
/// refusal holds a file descriptor for at most [`PARTING`] twice.
const REFUSALS: usize = 64;

/// The rest after a failed accept. When the process is out of file descriptors (EMFILE) accept
/// fails at once, again and again: without a rest that is a busy loop. Not after the errors that
/// are the connection's own (accept(2)): whoever can cause them could slow the others down.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// What one client, and all of them, may take. The default is what `docs/protocol.md` promises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at one time; the next is told [`ErrorCode::Busy`].
    pub connections: usize,
    /// Connections at one time from one address.
    pub per_address: usize,
    /// From the connection's beginning to its complete Hello.
    pub hello: Duration,
    /// From a request's first byte to its last.
    pub request: Duration,
    /// From one request to the next.
    pub idle: Duration,
    /// For the peer to take one reply.
    pub write: Duration,
    /// Between two pushes to a watcher; changes in between travel together, newest state wins.
    pub push: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 1024,
            per_address: 256,
            hello: Duration::from_secs(5),
            request: Duration::from_secs(5),
            idle: Duration::from_secs(90),
            write: Duration::from_secs(5),
            push: Duration::from_millis(100),
        }
    }
}

/// Serves the directory until `shutdown` is done, then closes every connection and returns.
/// Nothing ends it before: a failing accept is logged (once a second, with a count) and tried again.
pub async fn serve(
    listener: TcpListener,
    board: Arc<Board>,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) {
    run(listener, board, limits, shutdown).await;
}

/// Where connections come from: a TCP listener, or a test.
trait Accept {
    type Stream: Wire;
    /// The next connection. May be cancelled.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = TcpListener::accept(self).await?;
        // A reply is one write: never wait to fill a segment. One that has gone already may make
        // this fail; its task will find out.
        let _ = stream.set_nodelay(true);
        Ok((stream, peer))
    }
}

/// What the connections share.
struct Shared {
    board: Arc<Board>,
    limits: Limits,
    refusals: Arc<Semaphore>,
    /// Clients that broke the protocol, for a log that none of them can flood.
    misbehaved: Mutex<Repeats>,
}

async fn run(
    mut listener: impl Accept,
    board: Arc<Board>,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) {
    let doors = Doors::new(limits.connections, limits.per_address);
    let refusals = Arc::new(Semaphore::new(REFUSALS));
    let shared = Arc::new(Shared { board, limits, refusals, misbehaved: Mutex::default() });
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    let (mut failed, mut full) = (Repeats::default(), Repeats::default());
    let mut rest_until = Instant::now();
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
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
                    warn!(%error, count, "directory: cannot accept connections; trying on");
                }
            }
            Ok((stream, peer)) => match doors.enter(peer.ip()) {
                Ok(place) => {
                    let shared = Arc::clone(&shared);
                    connections.spawn(async move {
                        attend(stream, peer, &shared).await;
                        drop(place);
                    });
                }
                Err(sentence) => {
                    if let Some(count) = full.note(now) {
                        info!(%peer, count, "directory: refused: {sentence}");
                    }
                    // Without a permit the stream is dropped here: closed, no word.
                    if let Ok(permit) = Arc::clone(&shared.refusals).try_acquire_owned() {
                        connections.spawn(async move {
                            refuse(Link::new(stream), ErrorCode::Busy, sentence).await;
                            drop(permit);
                        });
                    }
                }
            },
        }
    }
    connections.shutdown().await;
}

/// One connection, from the door to the close.
async fn attend(stream: impl Wire, peer: SocketAddr, shared: &Shared) {
    debug!(%peer, "directory: connected");
    let mut conversation = Conversation::new(Link::new(stream), peer, &shared.board, &shared.limits);
    let end = conversation.run().await;
    let link = conversation.leave();
    match end {
        End::Closed => debug!(%peer, "directory: closed"),
        End::Lost(error) => debug!(%peer, %error, "directory: lost"),
        End::Stuck => {
            shared.report(peer, "does not read its replies");
            link.forget_unsent();
        }
        End::Refused { code, sentence } => {
            shared.report(peer, &sentence);
            refuse(link, code, sentence).await;
        }
    }
}

impl Shared {
    fn report(&self, peer: SocketAddr, why: &str) {
        let mut misbehaved = self.misbehaved.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = misbehaved.note(Instant::now()) {
            info!(%peer, count, "directory: closed a connection: {why}");
        }
    }
}

/// Says why, and closes.
async fn refuse(mut link: Link<impl Wire, Request>, code: ErrorCode, sentence: String) {
    let Ok(bytes) = encode(&Reply::Error { code, sentence }) else { return };
    match timeout(PARTING, link.send(&bytes)).await {
        // However it ends, the connection is over.
        Ok(Ok(())) => drop(timeout(PARTING, link.part()).await),
        Ok(Err(_)) => {}
        Err(_) => link.forget_unsent(),
    }
}

#[cfg(test)]
mod tests;
