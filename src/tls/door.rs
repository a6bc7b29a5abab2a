//! The connections that a listener takes: plain ones, TLS, or both on one port.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info};

use super::stream::Stream;
use crate::limits::{Accept, ReplaceableListener, drain};
use crate::log::RateLimit;

/// Longest time from accepting a connection to the end of its handshake. Over the worst of networks a handshake takes two
/// seconds.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Time for a client to read why it is refused, and to close.
const CLOSING: Duration = Duration::from_secs(1);

/// Pause before the first bytes of a connection are looked at again, if too few of them have come to tell TLS from anything else.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The alert by which a plain port answers TLS: fatal, handshake_failure (RFC 8446 section 6). A client then fails at once, and
/// does not take a sentence for a broken record.
const ALERT: &[u8] = &[21, 3, 3, 0, 2, 2, 40];

/// The connections that a listener takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Security {
    /// Plain connections.
    #[default]
    Plain,
    /// TLS.
    Tls,
    /// Both on one port: a connection that begins with a TLS handshake is TLS.
    Both,
}

impl Security {
    /// Whether TLS is among what the listener takes.
    pub fn has_tls(self) -> bool {
        self != Security::Plain
    }
}

/// The rules of a listener: what it takes, and the certificate that it shows.
#[derive(Clone)]
pub struct Door(Arc<DoorRules>);

struct DoorRules {
    /// The name of the server, for the log.
    name: &'static str,
    security: Security,
    /// `None` if TLS is not taken.
    config: Option<watch::Receiver<Arc<ServerConfig>>>,
    /// The answer to a client that does not speak TLS where it must, in the protocol that it speaks.
    refusal: Vec<u8>,
    /// Limits the log lines about clients that speak the other.
    other: Mutex<RateLimit>,
}

impl Door {
    /// A door that takes plain connections.
    pub fn plain(name: &'static str) -> Door {
        Door::new(name, Security::Plain, None, Vec::new())
    }

    /// A door that takes `security`. Without `config`, which is the newest certificate, only plain connections are taken.
    /// `refusal` is the answer to a client that speaks no TLS where it must.
    pub(crate) fn new(
        name: &'static str,
        security: Security,
        config: Option<watch::Receiver<Arc<ServerConfig>>>,
        refusal: Vec<u8>,
    ) -> Door {
        let security = if config.is_some() { security } else { Security::Plain };
        Door(Arc::new(DoorRules { name, security, config, refusal, other: Mutex::default() }))
    }

    /// Looks at the first bytes of a plain connection.
    ///
    /// # Errors
    /// The client speaks TLS.
    pub(super) fn check_plain(&self, bytes: &[u8], tcp: &TcpStream) -> io::Result<()> {
        if self.0.security != Security::Plain || is_handshake(bytes) != Some(true) {
            return Ok(());
        }
        let sentence = "the client speaks TLS, and this port does not; `tls` in the line-up turns it on";
        self.report(tcp.peer_addr().ok(), sentence);
        // If the socket does not take it at once, the client goes without.
        let _ = tcp.try_write(ALERT);
        Err(io::Error::new(io::ErrorKind::InvalidData, sentence))
    }

    #[expect(clippy::disallowed_methods, reason = "a shell: the log has a line a second at most")]
    fn report(&self, peer: Option<SocketAddr>, sentence: &str) {
        let mut other = self.0.other.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = other.note(Instant::now()) {
            let peer = peer.map(|peer| peer.to_string()).unwrap_or_default();
            info!(%peer, count, "{}: closed a connection: {sentence}", self.0.name);
        }
    }

    /// Finishes the handshake of a connection. `Ok(None)`: it was refused, and told so.
    async fn open(&self, mut tcp: TcpStream) -> io::Result<Option<Stream>> {
        let Some(config) = &self.0.config else { return Ok(Some(Stream::plain(tcp, self.clone()))) };
        if begins_with_handshake(&tcp).await? {
            let config = config.borrow().clone();
            let stream = TlsAcceptor::from(config).accept(tcp).await?;
            return Ok(Some(Stream::tls(stream)));
        }
        if self.0.security == Security::Both {
            return Ok(Some(Stream::plain(tcp, self.clone())));
        }
        self.report(tcp.peer_addr().ok(), "the client does not speak TLS, and this port speaks nothing else");
        let tell = async {
            tcp.write_all(&self.0.refusal).await?;
            tcp.shutdown().await?;
            drain(&mut tcp).await;
            io::Result::Ok(())
        };
        let _ = timeout(CLOSING, tell).await;
        Ok(None)
    }
}

/// Whether a connection begins with a TLS handshake. Waits for its first bytes, which stay to be read.
#[expect(clippy::disallowed_methods, reason = "a shell: it waits for bytes")]
async fn begins_with_handshake(tcp: &TcpStream) -> io::Result<bool> {
    let mut first = [0; 3];
    loop {
        let length = tcp.peek(&mut first).await?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(is_handshake) = is_handshake(&first[..length]) {
            return Ok(is_handshake);
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// Whether `bytes` begin with a record of a TLS handshake, of version 1.0 to 1.3 (RFC 8446 section 5.1); `None` if they are too
/// few. No request of ours begins so: as a length of the directory it would be 64 KiB.
fn is_handshake(bytes: &[u8]) -> Option<bool> {
    match bytes {
        [22, 3, 1..=4, ..] => Some(true),
        [] | [22] | [22, 3] => None,
        _ => Some(false),
    }
}

/// A listener and its door.
pub struct Secured {
    listener: ReplaceableListener,
    door: Door,
}

impl Secured {
    /// `listener` behind `door`.
    pub fn new(listener: impl Into<ReplaceableListener>, door: Door) -> Secured {
        Secured { listener: listener.into(), door }
    }
}

/// Plain connections only.
impl From<ReplaceableListener> for Secured {
    fn from(listener: ReplaceableListener) -> Secured {
        Secured { listener, door: Door::plain("plain") }
    }
}

/// Plain connections only.
impl From<TcpListener> for Secured {
    fn from(listener: TcpListener) -> Secured {
        Secured { listener: listener.into(), door: Door::plain("plain") }
    }
}

impl Accept for Secured {
    type Stream = ArrivingStream;

    async fn accept(&mut self) -> io::Result<(ArrivingStream, SocketAddr)> {
        let (tcp, peer) = Accept::accept(&mut self.listener).await?;
        Ok((ArrivingStream { tcp, door: self.door.clone() }, peer))
    }
}

/// A connection that was accepted, before its handshake.
pub(crate) trait Arrive: Send + 'static {
    type Stream;
    /// Finishes the handshake, if there is one. `None`: the connection is over. Takes at most some seconds.
    fn secure(self) -> impl Future<Output = Option<Self::Stream>> + Send;
}

/// A TCP connection that was accepted, before its handshake.
pub(crate) struct ArrivingStream {
    tcp: TcpStream,
    door: Door,
}

#[cfg(feature = "broadcaster")]
impl ArrivingStream {
    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// Tells a client that is refused why, if it speaks plainly and the socket takes it at once.
    pub(crate) fn refuse(self, answer: &[u8]) {
        if self.door.0.security == Security::Plain {
            let _ = self.tcp.try_write(answer);
        }
    }
}

impl Arrive for ArrivingStream {
    type Stream = Stream;

    async fn secure(self) -> Option<Stream> {
        let ArrivingStream { tcp, door } = self;
        let peer = tcp.peer_addr().ok();
        match timeout(HANDSHAKE, door.open(tcp)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                debug!(?peer, %error, "{}: no handshake", door.0.name);
                None
            }
            Err(_) => {
                debug!(?peer, "{}: the handshake was not finished in time", door.0.name);
                None
            }
        }
    }
}

#[cfg(test)]
impl Arrive for tokio::io::DuplexStream {
    type Stream = tokio::io::DuplexStream;

    async fn secure(self) -> Option<Self> {
        Some(self)
    }
}
