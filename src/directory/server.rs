//! The directory's server: accepts, bounds, and keeps one client from harming another.
//!
//! A task a connection, no threads. What a stranger can take is bounded in every direction:
//! connections in all and from one address, bytes of a request, and the time for each step.

mod conversation;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tracing::{debug, info};

use super::link::{Link, Wire};
use super::message::{ErrorCode, Reply, Request, encode};
use super::table::StationTable;
use crate::limits::{self, Accept, ConnectionLimits, Permit, Repeats};
use conversation::{Conversation, End};

/// How long the last words to a client may take until the connection is closed regardless.
const PARTING: Duration = Duration::from_secs(1);

/// Clients that are told "busy" at one time; beyond it a connection is closed without a word. A
/// refusal holds a file descriptor for at most [`PARTING`] twice.
const REFUSALS: usize = 64;

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
    table: Arc<StationTable>,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) {
    run(listener, table, limits, shutdown).await;
}

/// What the connections share.
struct Shared {
    table: Arc<StationTable>,
    limits: Limits,
    refusals: Arc<Semaphore>,
    /// Clients that broke the protocol, for a log that none of them can flood.
    misbehaved: Mutex<Repeats>,
}

async fn run<S: Wire>(
    listener: impl Accept<Stream = S>,
    table: Arc<StationTable>,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) {
    let connections = ConnectionLimits::new(limits.connections, limits.per_address);
    let refusals = Arc::new(Semaphore::new(REFUSALS));
    let shared = Arc::new(Shared { table, limits, refusals, misbehaved: Mutex::default() });
    let visit = |stream, peer, place: Result<Permit, String>| {
        let shared = Arc::clone(&shared);
        let permit = match &place {
            Ok(_) => None,
            // Without a permit the stream is dropped here: closed, no word.
            Err(_) => Some(Arc::clone(&shared.refusals).try_acquire_owned().ok()?),
        };
        Some(async move {
            match place {
                Ok(_place) => attend(stream, peer, &shared).await,
                Err(sentence) => refuse(Link::new(stream), ErrorCode::Busy, sentence).await,
            }
            drop(permit);
        })
    };
    limits::attend(listener, "directory", connections, shutdown, visit).await.shutdown().await;
}

/// One connection, from the door to the close.
async fn attend(stream: impl Wire, peer: SocketAddr, shared: &Shared) {
    debug!(%peer, "directory: connected");
    let mut conversation = Conversation::new(Link::new(stream), peer, &shared.table, &shared.limits);
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
