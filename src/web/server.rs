//! The web's connections: accepted, bounded, and ended when they stand still.
//!
//! What a stranger can take is bounded in every direction: connections in all and from one address, the bytes of a
//! request's head and the time for it, the bytes that wait to be sent, and the time in which none of them goes.
//! Nothing reads a request's body, so hyper closes the connection that sends one.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Extension;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tracing::debug;

use crate::limits::{self, ConnectionLimits, Permit};

/// Bytes of a request's head. Browsers send 1 kB, and as much again for the cookies of other programs on this host.
const HEAD: usize = 16 * 1024;

/// Header lines of a request. Browsers send 15.
const HEADERS: usize = 64;

/// Bytes that may wait in the kernel and are not yet on their way: what is queued there is old when it arrives. Two
/// pictures of a usual station, so that the kernel always has something to send.
const UNSENT: u32 = 64 * 1024;

/// What one client, and all of them, may take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at one time; the next is closed at once.
    pub connections: usize,
    /// Connections at one time from one address.
    pub per_address: usize,
    /// From a connection's beginning, or its last answer, to the end of the next request's head.
    pub head: Duration,
    /// How long what was sent may wait for the peer to take any of it.
    pub stuck: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 1024,
            per_address: 128,
            head: Duration::from_secs(10),
            stuck: Duration::from_secs(10),
        }
    }
}

/// Who asks: where they are, and their place among the connections, for whoever answers beyond the end of a request.
#[derive(Clone)]
pub(super) struct Guest {
    pub(super) peer: SocketAddr,
    _place: Arc<Permit>,
}

/// Serves `router` until `shutdown` is done, then closes every connection and returns. Nothing ends it before.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) {
    let connections = ConnectionLimits::new(limits.connections, limits.per_address);
    let visit = |stream, peer, place: Result<Permit, String>| {
        // Whoever has no place is closed at once.
        let guest = Guest { peer, _place: Arc::new(place.ok()?) };
        Some(attend(stream, guest, router.clone(), limits.clone()))
    };
    limits::accept_loop(listener, "http", connections, shutdown, visit).await.shutdown().await;
}

/// One connection. It ends at its end, or goes on as a WebSocket's.
async fn attend(stream: TcpStream, guest: Guest, router: Router, limits: Limits) {
    let peer = guest.peer;
    if let Err(error) = prepare(&stream, &limits) {
        debug!(%peer, %error, "http: lost");
        return;
    }
    let service = TowerToHyperService::new(router.layer(Extension(guest)));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_headers(HEADERS)
        .max_buf_size(HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        debug!(%peer, %error, "http: lost");
    }
}

fn prepare(stream: &TcpStream, limits: &Limits) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(limits.stuck))?;
    socket.set_tcp_notsent_lowat(UNSENT)
}

#[cfg(test)]
mod tests;
