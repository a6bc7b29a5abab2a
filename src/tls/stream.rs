//! A connection of a client: plain or TLS.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::door::Door;

/// A connection of a client.
pub(crate) struct Stream(pub(super) Kind);

pub(super) enum Kind {
    Plain(TcpStream, FirstBytes),
    Tls(Box<TlsStream<TcpStream>>),
}

/// The door that still has to look at the first bytes of a plain connection.
pub(crate) struct FirstBytes(Option<Door>);

impl FirstBytes {
    pub(super) fn check(&mut self, bytes: &[u8], tcp: &TcpStream) -> io::Result<()> {
        match self.0.take() {
            Some(door) => door.check_plain(bytes, tcp),
            None => Ok(()),
        }
    }
}

impl Stream {
    pub(super) fn plain(tcp: TcpStream, door: Door) -> Stream {
        Stream(Kind::Plain(tcp, FirstBytes(Some(door))))
    }

    pub(super) fn tls(stream: TlsStream<TcpStream>) -> Stream {
        Stream(Kind::Tls(stream.into()))
    }

    /// The connection below.
    pub(crate) fn tcp(&self) -> &TcpStream {
        match &self.0 {
            Kind::Plain(tcp, _) => tcp,
            Kind::Tls(stream) => stream.get_ref().0,
        }
    }

    /// Whether nobody between can read it.
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self.0, Kind::Tls(_))
    }
}

/// A plain connection, as tests make it.
#[cfg(test)]
impl From<TcpStream> for Stream {
    fn from(tcp: TcpStream) -> Stream {
        Stream(Kind::Plain(tcp, FirstBytes(None)))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Kind::Plain(tcp, first) => {
                let before = buffer.filled().len();
                ready!(Pin::new(&mut *tcp).poll_read(cx, buffer))?;
                Poll::Ready(first.check(&buffer.filled()[before..], tcp))
            }
            Kind::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Kind::Plain(tcp, _) => Pin::new(tcp).poll_write(cx, bytes),
            Kind::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Kind::Plain(tcp, _) => Pin::new(tcp).poll_write_vectored(cx, slices),
            Kind::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Kind::Plain(tcp, _) => Pin::new(tcp).poll_flush(cx),
            Kind::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Kind::Plain(tcp, _) => Pin::new(tcp).poll_shutdown(cx),
            Kind::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
