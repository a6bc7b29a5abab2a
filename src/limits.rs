//! The front of every server here (directory, RTSP, web): connections are accepted for as long as it runs, counted in all and
//! by address, and what repeats is counted for the log.

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

/// The rest after a failed accept. When the process is out of file descriptors (EMFILE) accept
/// fails at once, again and again: without a rest that is a busy loop. Not after the errors that
/// are the connection's own (accept(2)): whoever can cause them could slow the others down.
pub(crate) const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Where connections come from: a TCP listener, or a test.
pub(crate) trait Accept {
    type Stream;
    /// The next connection. May be cancelled.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = TcpListener::accept(self).await?;
        // What is sent here is sent whole: never wait to fill a segment. One that has gone already may make
        // this fail; its task will find out.
        let _ = stream.set_nodelay(true);
        Ok((stream, peer))
    }
}

/// Accepts until `shutdown` is done, and returns the tasks that still run then. Nothing ends it before: a failing accept is
/// logged (once a second, with a count) and tried again. `visit` is given each connection and its place behind the limits, or
/// why there is none; what it returns is run as a task.
pub(crate) async fn attend<L: Accept, F: Future<Output = ()> + Send + 'static>(
    mut listener: L,
    name: &'static str,
    limits: Arc<ConnectionLimits>,
    shutdown: impl Future<Output = ()>,
    mut visit: impl FnMut(L::Stream, SocketAddr, Result<Permit, String>) -> Option<F>,
) -> JoinSet<()> {
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    let (mut failed, mut full) = (Repeats::default(), Repeats::default());
    let mut rest_until = Instant::now();
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => return connections,
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
                    warn!(%error, count, "{name}: cannot accept connections; trying on");
                }
            }
            Ok((stream, peer)) => {
                let peer = canonical(peer);
                let place = limits.enter(peer.ip());
                if let Err(sentence) = &place
                    && let Some(count) = full.note(now)
                {
                    info!(%peer, count, "{name}: refused: {sentence}");
                }
                if let Some(task) = visit(stream, peer, place) {
                    connections.spawn(task);
                }
            }
        }
    }
}

/// An IPv4 address that came through an IPv6 socket is an IPv4 address.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
        IpAddr::V6(_) => address,
    }
}

/// The connections there are, and how many there may be.
#[derive(Debug)]
pub(crate) struct ConnectionLimits {
    most: usize,
    most_per_address: usize,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    all: usize,
    by_address: HashMap<IpAddr, usize>, // none of them 0: no longer than `all`
}

impl ConnectionLimits {
    pub(crate) fn new(most: usize, most_per_address: usize) -> Arc<ConnectionLimits> {
        Arc::new(ConnectionLimits { most, most_per_address, inside: Mutex::default() })
    }

    /// A place for a connection from `address`, held until it is dropped; or why there is none. An
    /// IPv4 address is the same whether it came by an IPv4 or an IPv6 socket.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Result<Permit, String> {
        let address = address.to_canonical();
        let mut inside = self.lock();
        if inside.all >= self.most {
            return Err(format!("all {} places are taken; try again later", self.most));
        }
        let here = inside.by_address.get(&address).copied().unwrap_or(0);
        if here >= self.most_per_address {
            return Err(format!("{here} connections from {address} are open already: close some first"));
        }
        inside.by_address.insert(address, here + 1);
        inside.all += 1;
        Ok(Permit { limits: Arc::clone(self), address })
    }

    fn leave(&self, address: IpAddr) {
        let mut inside = self.lock();
        inside.all -= 1;
        let left = inside.by_address.get(&address).map_or(0, |here| here - 1);
        if left == 0 {
            inside.by_address.remove(&address);
        } else {
            inside.by_address.insert(address, left);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place, given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    limits: Arc<ConnectionLimits>,
    address: IpAddr,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.limits.leave(self.address);
    }
}

/// Counts what happens again and again, and says so at most once a second.
#[derive(Debug, Default)]
pub(crate) struct Repeats {
    said: Option<Instant>,
    since: u64,
}

impl Repeats {
    /// Notes one more at `now`; `Some` when it is time to say it, with how many there were since
    /// it was last said.
    pub(crate) fn note(&mut self, now: Instant) -> Option<u64> {
        self.since += 1;
        if self.said.is_some_and(|said| now.duration_since(said) < Duration::from_secs(1)) {
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.since))
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
    fn places_are_bounded_in_all_and_by_address_and_come_free() {
        let limits = ConnectionLimits::new(3, 2);
        let [a, b, c] = ["10.0.0.1", "10.0.0.2", "::ffff:10.0.0.1"].map(|ip| ip.parse::<IpAddr>().unwrap());
        let first = limits.enter(a).unwrap();
        let second = limits.enter(c).unwrap();
        assert_eq!(
            limits.enter(a).unwrap_err(),
            "2 connections from 10.0.0.1 are open already: close some first"
        );
        let third = limits.enter(b).unwrap();
        assert_eq!(limits.enter(b).unwrap_err(), "all 3 places are taken; try again later");
        drop(first);
        let fourth = limits.enter(a).unwrap();
        drop((second, third, fourth));
        let inside = limits.lock();
        assert_eq!((inside.all, inside.by_address.len()), (0, 0), "nothing is kept of who has left");
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

    #[tokio::test(start_paused = true)]
    async fn repeats_are_said_once_a_second_with_their_count() {
        let mut repeats = Repeats::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let said: Vec<_> =
            [0, 1, 500, 999, 1000, 1001, 5000].into_iter().map(|ms| repeats.note(at(ms))).collect();
        assert_eq!(said, [Some(1), None, None, None, Some(4), None, Some(2)]);
    }
}
