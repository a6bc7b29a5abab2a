//! The web's server: accepts connections, bounds them, and closes those that stall.
//!
//! A client's share is bounded in every direction: connections in all and from one address, the bytes of a request's head
//! and the time for it, the unsent bytes in the kernel, and the time in which the client takes none of them. Only a log-in and
//! an order have a body that is read; hyper closes a connection that sends one with anything else.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::Extension;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::net::TcpStream;
use tracing::debug;

use crate::access::{Grant, Secret};
use crate::limits::{ConnectionLimits, Permit, accept_loop, canonical};
use crate::tls::{Arrive, ArrivingStream, Secured};

/// Most bytes of a request's head. Browsers send 1 kB, and as much again in cookies of other programs on this host.
const HEAD: usize = 16 * 1024;

/// Most header lines of a request. Browsers send 15.
const HEADERS: usize = 64;

/// Most unsent bytes in the kernel: a picture that is queued there is old when it arrives. Two pictures of a usual station,
/// so that the kernel always has something to send.
const UNSENT: u32 = 64 * 1024;

/// Limits for one client and for all of them. `docs/web.md` documents the defaults.
#[derive(Debug, Clone)]
pub struct HttpLimits {
    /// Connections at one time. Any more are closed at once.
    pub connections: usize,
    /// Connections at one time from one address.
    pub per_address: usize,
    /// Time from accepting a connection, or from its last answer, to the end of the next request's head.
    pub head: Duration,
    /// Longest time in which the peer acknowledges none of the bytes sent.
    pub stuck: Duration,
}

impl Default for HttpLimits {
    fn default() -> HttpLimits {
        HttpLimits {
            connections: 1024,
            per_address: 128,
            head: Duration::from_secs(10),
            stuck: Duration::from_secs(10),
        }
    }
}

/// An admitted connection: its peer, the address at which the peer reached this machine, whether it is by TLS, and its permit. A
/// handler whose response outlives the request, as a stream or a WebSocket does, keeps this so that the connection goes on counting.
#[derive(Clone)]
pub(super) struct Admitted {
    pub(super) peer: SocketAddr,
    pub(super) local: IpAddr,
    pub(super) tls: bool,
    /// The token that was shown on this connection last, and what it grants.
    shown: Arc<Mutex<Option<(Secret, Grant)>>>,
    _permit: Arc<Permit>,
}

impl Admitted {
    /// What `token` grants, if it was shown on this connection last and is let in still.
    pub(super) fn known(&self, token: &Secret) -> Option<Grant> {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, grant) = shown.as_ref().filter(|(shown, grant)| shown == token && !grant.is_over())?;
        Some(grant.clone())
    }

    /// Remembers what `token` grants.
    pub(super) fn remember(&self, token: Secret, grant: Grant) {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some((token, grant));
    }
}

/// Serves `router` until `shutdown` is ready, then closes every connection and returns. Nothing else ends it.
pub async fn serve(
    listener: impl Into<Secured>,
    router: Router,
    limits: HttpLimits,
    shutdown: impl Future<Output = ()>,
) {
    let connections = ConnectionLimits::new(limits.connections, limits.per_address);
    let handler = |arriving: ArrivingStream, peer, permit: Result<Permit, String>| {
        // `?` drops the stream, which closes it.
        let local = canonical(arriving.tcp().local_addr().ok()?).ip();
        let permit = Arc::new(permit.ok()?);
        let admitted = Admitted { peer, local, tls: false, shown: Arc::default(), _permit: permit };
        Some(serve_connection(arriving, admitted, router.clone(), limits.clone()))
    };
    accept_loop(listener.into(), "http", connections, shutdown, handler).await.shutdown().await;
}

/// Serves one connection until it closes or becomes a WebSocket.
async fn serve_connection(arriving: ArrivingStream, admitted: Admitted, router: Router, limits: HttpLimits) {
    let peer = admitted.peer;
    if let Err(error) = prepare(arriving.tcp(), &limits) {
        debug!(%peer, %error, "http: lost");
        return;
    }
    let Some(stream) = arriving.secure().await else { return };
    let admitted = Admitted { tls: stream.is_tls(), ..admitted };
    let service = TowerToHyperService::new(router.layer(Extension(admitted)));
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

fn prepare(stream: &TcpStream, limits: &HttpLimits) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(limits.stuck))?;
    socket.set_tcp_notsent_lowat(UNSENT)
}

#[cfg(test)]
mod tests;
