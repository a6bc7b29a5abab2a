//! How a client reaches a directory: its address, whether by TLS, and the token that it shows.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpStream;

use super::framing::{ByteStream, Framed};
use super::message::Message;
use crate::access::Secret;
use crate::tls::pin::{Fingerprint, InsecureError, KnownServers, secure};

/// A directory, and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address.
    pub address: SocketAddr,
    /// How it is reached.
    pub reach: Reach,
}

/// How directories are reached, wherever they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// By TLS, even if the directory is not known yet.
    pub tls: bool,
    /// The fingerprint that the directory's certificate must have.
    pub fingerprint: Option<Fingerprint>,
    /// The directories that are known. They are reached by TLS, and one that is reached by TLS is known from then on.
    pub known: KnownServers,
    /// Shown to the directory.
    pub token: Option<Secret>,
}

/// By a plain connection.
impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Endpoint {
        Endpoint { address, reach: Reach::default() }
    }
}

/// Why a directory is not reached.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    /// The system's error.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// There is no TLS, or the certificate is not trusted.
    #[error(transparent)]
    Insecure(#[from] InsecureError),
}

/// A connection to a directory, plain or TLS.
pub(super) type Connected<In> = Framed<Box<dyn ByteStream>, In>;

impl Endpoint {
    /// Another directory that is reached in the same way.
    pub fn at(&self, address: SocketAddr) -> Endpoint {
        Endpoint { address, reach: self.reach.clone() }
    }

    /// Whether it is reached by TLS.
    pub fn is_tls(&self) -> bool {
        self.reach.tls || self.reach.fingerprint.is_some() || self.reach.known.get(self.address).is_some()
    }

    /// Whether nobody on the way can read or change the connection: the directory is reached by TLS, or is on this machine.
    pub fn is_safe(&self) -> bool {
        self.is_tls() || self.address.ip().to_canonical().is_loopback()
    }

    /// The token, if nobody between can read it.
    pub(super) fn token(&self) -> Option<&Secret> {
        self.reach.token.as_ref().filter(|_| self.is_safe())
    }

    /// Why the token is not shown, if it is not: anybody between could read it.
    pub fn token_is_unsafe(&self) -> Option<String> {
        let is_hidden = self.reach.token.is_some() && self.token().is_none();
        is_hidden.then(|| {
            format!(
                "the directory at {} is reached by a plain connection, and a token is not shown there: try --tls",
                self.address
            )
        })
    }

    /// Connects. Its caller puts a deadline on it. Returns our own address too.
    pub(super) async fn connect<In: Message>(&self) -> Result<(Connected<In>, SocketAddr), ConnectError> {
        let tcp = TcpStream::connect(self.address).await?;
        tcp.set_nodelay(true)?; // a zap waits for the few bytes of its Tune
        let local = tcp.local_addr()?;
        let stream: Box<dyn ByteStream> = if self.is_tls() {
            Box::new(secure(tcp, self.address, self.reach.fingerprint, &self.reach.known).await?)
        } else {
            Box::new(tcp)
        };
        Ok((Framed::new(stream), local))
    }
}
