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
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use crate::log::RateLimit;
pub(crate) use attempts::Attempts;
#[cfg(feature = "broadcaster")]
pub(crate) use places::network;
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

/// A TCP listener that another one may replace, or none, while connections are accepted. Those that were accepted before live on.
pub struct ReplaceableListener {
    current: Option<TcpListener>,
    /// The one before, until the connections are accepted that have come to it.
    before: Option<std::net::TcpListener>,
    /// `None`: nothing replaces it.
    next: Option<mpsc::Receiver<Option<TcpListener>>>,
}

impl ReplaceableListener {
    /// A listener, or none yet, and where to send the ones that replace it.
    #[cfg(any(feature = "broadcaster", test))]
    pub(crate) fn new(
        current: Option<TcpListener>,
    ) -> (ReplaceableListener, mpsc::Sender<Option<TcpListener>>) {
        let (replace, next) = mpsc::channel(1);
        (ReplaceableListener { current, before: None, next: Some(next) }, replace)
    }
}

/// Nothing replaces it.
impl From<TcpListener> for ReplaceableListener {
    fn from(listener: TcpListener) -> ReplaceableListener {
        ReplaceableListener { current: Some(listener), before: None, next: None }
    }
}

impl Accept for ReplaceableListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        loop {
            // It does not block.
            match self.before.as_ref().map(std::net::TcpListener::accept) {
                Some(Ok((stream, peer))) => {
                    stream.set_nonblocking(true)?;
                    let _ = stream.set_nodelay(true);
                    return Ok((TcpStream::from_std(stream)?, peer));
                }
                _ => self.before = None,
            }
            let next = async {
                match &mut self.next {
                    Some(next) => next.recv().await,
                    None => std::future::pending().await,
                }
            };
            let accepted = async {
                match &mut self.current {
                    Some(listener) => Accept::accept(listener).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                next = next => match next {
                    Some(next) => {
                        self.before = std::mem::replace(&mut self.current, next).and_then(|old| old.into_std().ok());
                    }
                    None => self.next = None,
                },
                accepted = accepted => return accepted,
            }
        }
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
    async fn a_listener_is_replaced_while_it_accepts() {
        let bind = || TcpListener::bind("127.0.0.1:0");
        let (first, second) = (bind().await.unwrap(), bind().await.unwrap());
        let (first_at, second_at) = (first.local_addr().unwrap(), second.local_addr().unwrap());
        let (mut listener, replace) = ReplaceableListener::new(None);
        replace.send(Some(first)).await.unwrap();
        let mut old = TcpStream::connect(first_at).await.unwrap();
        let (mut old_accepted, _) = listener.accept().await.unwrap();
        // One has connected, and is accepted though the listener is replaced.
        let mut waiting = TcpStream::connect(first_at).await.unwrap();
        replace.send(Some(second)).await.unwrap();
        let (mut waited, _) = listener.accept().await.unwrap();
        waited.write_all(b"x").await.unwrap();
        assert_eq!(waiting.read_u8().await.unwrap(), b'x');
        let mut connect = async |at| {
            let accepted = listener.accept();
            let (stream, accepted) = tokio::join!(TcpStream::connect(at), accepted);
            (stream.unwrap(), accepted.unwrap().0)
        };
        connect(second_at).await;
        // The old address is closed, and its connection lives on.
        assert!(TcpStream::connect(first_at).await.is_err());
        old.write_all(b"x").await.unwrap();
        assert_eq!(old_accepted.read_u8().await.unwrap(), b'x');
        // Nobody replaces it any more.
        drop(replace);
        connect(second_at).await;
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
