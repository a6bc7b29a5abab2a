//! The accept loop of every server here (directory, RTSP, web), and its limits of connections, in all, by network and by
//! address.
//!
//! - `attempts`: how often an address may try a secret. Pure.
//! - `places`: counts connections, and keeps a few addresses from taking all places. Pure.
//! - `open_files`: the number of places, by the limit of open files. Pure.

mod attempts;
#[cfg(feature = "broadcaster")]
pub(crate) mod open_files;
mod places;

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use crate::log::RateLimit;
pub(crate) use attempts::Attempts;
pub(crate) use places::{ConnectionLimits, Permit};

/// Pause after a failed accept. If the process is out of file descriptors (EMFILE), accept fails at once, again and
/// again: without a pause that is a busy loop. There is no pause after errors of the connection itself (accept(2)), since
/// a client can cause those and would delay others.
pub(crate) const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// A source of connections: a TCP listener, or a test.
pub(crate) trait Accept {
    type Stream;
    /// Waits for the next connection. Cancel-safe.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = TcpListener::accept(self).await?;
        // Every write here is a whole message, so Nagle's algorithm would only delay it. This fails if the client has
        // gone already, which the connection's task will notice.
        let _ = stream.set_nodelay(true);
        Ok((stream, peer))
    }
}

/// Accepts until `shutdown` is ready, and returns the tasks that still run then. Nothing else ends it: a failed accept is
/// logged (once a second, with a count) and retried. `handler` gets each connection with its permit, or with the sentence
/// that refuses it, and returns the task to spawn, if any.
#[expect(clippy::disallowed_methods, reason = "a shell: it waits for a client, and not for ever")]
pub(crate) async fn accept_loop<L: Accept, F: Future<Output = ()> + Send + 'static>(
    mut listener: L,
    name: &'static str,
    limits: Arc<ConnectionLimits>,
    shutdown: impl Future<Output = ()>,
    mut handler: impl FnMut(L::Stream, SocketAddr, Result<Permit, String>) -> Option<F>,
) -> JoinSet<()> {
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    let (mut failed, mut full) = (RateLimit::default(), RateLimit::default());
    let mut accept_at = Instant::now();
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => return connections,
            Some(_) = connections.join_next() => continue,
            accepted = async {
                sleep_until(accept_at).await;
                listener.accept().await
            } => accepted,
        };
        let now = Instant::now();
        match accepted {
            Err(error) => {
                if !matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) {
                    accept_at = now + ACCEPT_BACKOFF;
                }
                if let Some(count) = failed.note(now) {
                    warn!(%error, count, "{name}: cannot accept connections; retrying");
                }
            }
            Ok((stream, peer)) => {
                let peer = canonical(peer);
                let permit = limits.try_acquire(peer.ip());
                if let Err(sentence) = &permit
                    && let Some(count) = full.note(now)
                {
                    info!(%peer, count, "{name}: refused: {sentence}");
                }
                if let Some(task) = handler(stream, peer, permit) {
                    connections.spawn(task);
                }
            }
        }
    }
}

/// `address`, as an IPv4 address if it is an IPv4-mapped IPv6 address, as from an IPv6 socket.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
        IpAddr::V6(_) => address,
    }
}

/// Reads and discards up to 64 KiB, until the peer closes. For the close of a connection whose peer shall still read our last
/// message: closing with unread bytes would be a reset, and a reset may overtake the message. The caller has shut its own
/// half down, and bounds the time.
pub(crate) async fn drain(stream: &mut (impl AsyncRead + Unpin)) {
    let mut discarded = [0; 1024];
    for _ in 0..64 {
        if !matches!(stream.read(&mut discarded).await, Ok(1..)) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn a_drain_ends_when_the_peer_closes_or_after_64_kib() {
        let (mut ours, mut theirs) = tokio::io::duplex(100 << 10);
        theirs.write_all(&vec![0; 100 << 10]).await.unwrap();
        drain(&mut ours).await;
        drop(theirs);
        let mut rest = Vec::new();
        assert_eq!(ours.read_to_end(&mut rest).await.unwrap(), 36 << 10);
        drain(&mut ours).await;
    }
}
