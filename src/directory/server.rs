//! The directory's server: accepts connections, bounds them, and keeps one client from harming another.
//!
//! One task per connection, no threads. A client's share is bounded in every direction: connections in all and from one
//! address, bytes of a request, and the time for each step.

mod connection;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tracing::{debug, info};

use super::framing::{ByteStream, Framed};
use super::message::{ErrorCode, Reply, Request};
use super::serialization::encode;
use super::table::StationTable;
use crate::limits::{Accept, ConnectionLimits, Permit, accept_loop};
use crate::log::RateLimit;
use crate::tls::{Arrive, Secured};
use connection::{Connection, Disconnect};

pub use connection::Limits;

/// Time for the last message to a client, and again for the client's close. After it the connection is closed
/// regardless.
const CLOSING: Duration = Duration::from_secs(1);

/// Clients that are told "busy" at one time; any more are closed without a message. A refused client holds a file
/// descriptor for at most twice [`CLOSING`].
const REFUSALS: usize = 64;

/// Serves the directory until `shutdown` is ready, then closes every connection and returns. Nothing else ends it: a
/// failed accept is logged (once a second, with a count) and retried.
pub async fn serve(
    listener: impl Into<Secured>,
    table: Arc<StationTable>,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) {
    run(listener.into(), table, limits, shutdown).await;
}

/// The answer to a client that does not speak TLS where it must.
#[cfg(feature = "broadcaster")]
pub(crate) fn tls_only() -> Vec<u8> {
    let sentence = "this directory speaks TLS only: try viewer --tls".into();
    encode(&Reply::Error { code: ErrorCode::BadRequest, sentence }).unwrap_or_default()
}

/// What the connections share.
struct Shared {
    table: Arc<StationTable>,
    limits: Limits,
    refusals: Arc<Semaphore>,
    /// Limits the log lines about clients that break the protocol.
    misbehaved: Mutex<RateLimit>,
}

async fn run<A: Arrive<Stream: ByteStream>>(
    listener: impl Accept<Stream = A>,
    table: Arc<StationTable>,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) {
    let connections = ConnectionLimits::new(limits.connections, limits.per_address);
    let refusals = Arc::new(Semaphore::new(REFUSALS));
    let shared = Arc::new(Shared { table, limits, refusals, misbehaved: Mutex::default() });
    let handler = |arriving: A, peer, permit: Result<Permit, String>| {
        let shared = Arc::clone(&shared);
        let refusal = match &permit {
            Ok(_) => None,
            // `?` drops the stream, which closes it without a message.
            Err(_) => Some(Arc::clone(&shared.refusals).try_acquire_owned().ok()?),
        };
        Some(async move {
            let Some(stream) = arriving.secure().await else { return };
            match permit {
                Ok(_permit) => serve_connection(stream, peer, &shared).await,
                Err(sentence) => refuse(Framed::new(stream), ErrorCode::Busy, sentence).await,
            }
            drop(refusal);
        })
    };
    accept_loop(listener, "directory", connections, shutdown, handler).await.shutdown().await;
}

async fn serve_connection(stream: impl ByteStream, peer: SocketAddr, shared: &Shared) {
    debug!(%peer, "directory: connected");
    let mut connection = Connection::new(Framed::new(stream), peer, &shared.table, &shared.limits);
    let disconnect = connection.run().await;
    let framed = connection.into_framed();
    match disconnect {
        Disconnect::Closed => debug!(%peer, "directory: closed"),
        Disconnect::Lost(error) => debug!(%peer, %error, "directory: lost"),
        Disconnect::Stuck => {
            shared.report(peer, "does not read its replies");
            framed.discard_unsent();
        }
        Disconnect::Refused { code, sentence } => {
            shared.report(peer, &sentence);
            refuse(framed, code, sentence).await;
        }
    }
}

impl Shared {
    #[expect(clippy::disallowed_methods, reason = "a shell: it times connections")]
    fn report(&self, peer: SocketAddr, why: &str) {
        let mut misbehaved = self.misbehaved.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = misbehaved.note(Instant::now()) {
            info!(%peer, count, "directory: closed a connection: {why}");
        }
    }
}

/// Sends an error and closes the connection.
async fn refuse(mut framed: Framed<impl ByteStream, Request>, code: ErrorCode, sentence: String) {
    let Ok(bytes) = encode(&Reply::Error { code, sentence }) else { return };
    match timeout(CLOSING, framed.send(&bytes)).await {
        Ok(Ok(())) => drop(timeout(CLOSING, framed.drain_and_close()).await),
        Ok(Err(_)) => {}
        Err(_) => framed.discard_unsent(),
    }
}

#[cfg(test)]
mod tests;
