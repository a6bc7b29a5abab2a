//! The accept loop of every server here (directory, RTSP, web), and its limits of connections, in all and by address.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use crate::log::RateLimit;

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

/// Counts open connections against a limit in all and a limit for each address.
#[derive(Debug)]
pub(crate) struct ConnectionLimits {
    most: usize,
    most_per_address: usize,
    open: Mutex<OpenConnections>,
}

#[derive(Debug, Default)]
struct OpenConnections {
    all: usize,
    /// No count is 0, so the map has at most `all` entries.
    by_address: HashMap<IpAddr, usize>,
}

impl ConnectionLimits {
    pub(crate) fn new(most: usize, most_per_address: usize) -> Arc<ConnectionLimits> {
        Arc::new(ConnectionLimits { most, most_per_address, open: Mutex::default() })
    }

    /// A permit for a connection from `address`, or the sentence that refuses it. An IPv4 address counts as the same
    /// whether it came by an IPv4 or an IPv6 socket.
    pub(crate) fn try_acquire(self: &Arc<Self>, address: IpAddr) -> Result<Permit, String> {
        let address = address.to_canonical();
        let mut open = self.lock();
        if open.all >= self.most {
            return Err(format!("all {} places are taken; try again later", self.most));
        }
        let here = open.by_address.get(&address).copied().unwrap_or(0);
        if here >= self.most_per_address {
            return Err(format!("{here} connections from {address} are open already: close some first"));
        }
        open.by_address.insert(address, here + 1);
        open.all += 1;
        Ok(Permit { limits: Arc::clone(self), address })
    }

    fn release(&self, address: IpAddr) {
        let mut open = self.lock();
        open.all -= 1;
        let left = open.by_address.get(&address).map_or(0, |here| here - 1);
        if left == 0 {
            open.by_address.remove(&address);
        } else {
            open.by_address.insert(address, left);
        }
    }

    fn lock(&self) -> MutexGuard<'_, OpenConnections> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's share of the limits, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    limits: Arc<ConnectionLimits>,
    address: IpAddr,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.limits.release(self.address);
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

    #[test]
    fn connections_are_bounded_in_all_and_by_address_and_permits_come_back() {
        let limits = ConnectionLimits::new(3, 2);
        let [a, b, c] = ["10.0.0.1", "10.0.0.2", "::ffff:10.0.0.1"].map(|ip| ip.parse::<IpAddr>().unwrap());
        let first = limits.try_acquire(a).unwrap();
        let second = limits.try_acquire(c).unwrap();
        assert_eq!(
            limits.try_acquire(a).unwrap_err(),
            "2 connections from 10.0.0.1 are open already: close some first"
        );
        let third = limits.try_acquire(b).unwrap();
        assert_eq!(limits.try_acquire(b).unwrap_err(), "all 3 places are taken; try again later");
        drop(first);
        let fourth = limits.try_acquire(a).unwrap();
        drop((second, third, fourth));
        let open = limits.lock();
        assert_eq!((open.all, open.by_address.len()), (0, 0), "no address is kept after its last connection");
    }

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
