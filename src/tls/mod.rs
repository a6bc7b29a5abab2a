//! TLS on the connections of clients, on both sides.
//!
//! Any room below may import it. Of ours it imports `limits`, `log` and `private_file`.
//!
//! A server hands its listener on as [`Secured`]: what it accepts is then a stream, which is plain or TLS, and nothing behind
//! it asks which. A client trusts a server by the fingerprint of its certificate, as ssh does.
//!
//! - `door`: decides whether a connection that arrives is plain or TLS, and finishes its handshake.
//! - `stream`, `halves`: a connection, whole and in halves.
//! - [`identity`]: the certificate and the key of a broadcaster: read from files and read again when they change, or made.
//! - [`pin`]: the fingerprint of a certificate, the file of those that are known, and the client's side of a connection.

mod door;
#[cfg(feature = "broadcaster")]
mod halves;
#[cfg(feature = "broadcaster")]
pub mod identity;
pub mod pin;
mod stream;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub(crate) use door::Arrive;
#[cfg(feature = "broadcaster")]
pub(crate) use door::ArrivingStream;
pub use door::{Door, Secured, Security};
#[cfg(feature = "broadcaster")]
pub(crate) use halves::{ReadHalf, Taken, WriteHalf};
pub(crate) use stream::Stream;

/// The algorithms.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

#[cfg(all(test, feature = "broadcaster"))]
mod tests;
