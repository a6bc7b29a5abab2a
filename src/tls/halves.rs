//! A connection in halves, which two tasks use: one reads, the other writes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_rustls::server::TlsStream;

use super::stream::{FirstBytes, Kind, Stream};

impl Stream {
    pub(crate) fn into_split(self) -> (ReadHalf, WriteHalf) {
        match self.0 {
            Kind::Plain(tcp, first) => {
                let (read, write) = tcp.into_split();
                (ReadHalf::Plain(read, first), WriteHalf::Plain(write))
            }
            Kind::Tls(stream) => {
                let stream = Arc::new(Mutex::new(*stream));
                (ReadHalf::Tls(stream.clone()), WriteHalf::Tls(stream))
            }
        }
    }
}

/// A TLS connection that both halves use, each for a moment.
type Shared = Arc<Mutex<TlsStream<TcpStream>>>;

fn lock(stream: &Shared) -> MutexGuard<'_, TlsStream<TcpStream>> {
    stream.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The half of a connection that is read.
pub(crate) enum ReadHalf {
    Plain(OwnedReadHalf, FirstBytes),
    Tls(Shared),
}

impl AsyncRead for ReadHalf {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            ReadHalf::Plain(half, first) => {
                let before = buffer.filled().len();
                ready!(Pin::new(&mut *half).poll_read(cx, buffer))?;
                Poll::Ready(first.check(&buffer.filled()[before..], half.as_ref()))
            }
            ReadHalf::Tls(stream) => Pin::new(&mut *lock(stream)).poll_read(cx, buffer),
        }
    }
}

/// The half of a connection that is written.
pub(crate) enum WriteHalf {
    Plain(OwnedWriteHalf),
    Tls(Shared),
}

/// How much of a message a connection took at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Bytes of the message.
    pub(crate) bytes: usize,
    /// Whether TLS holds some of these still, which go out with a flush.
    pub(crate) held: bool,
}

impl WriteHalf {
    /// Writes as much as the connection takes at once.
    ///
    /// # Errors
    /// The connection is over, or takes nothing now ([`io::ErrorKind::WouldBlock`]).
    pub(crate) fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<Taken> {
        let stream = match self {
            WriteHalf::Plain(half) => {
                return half.try_write_vectored(slices).map(|bytes| Taken { bytes, held: false });
            }
            WriteHalf::Tls(stream) => stream,
        };
        // The caller comes again by itself: nobody is to be woken.
        let (mut cx, mut stream) = (Context::from_waker(Waker::noop()), lock(stream));
        let mut bytes = 0;
        'all: for slice in slices {
            let mut rest = &slice[..];
            while !rest.is_empty() {
                match Pin::new(&mut *stream).poll_write(&mut cx, rest) {
                    Poll::Ready(written) => {
                        let written = written?;
                        if written == 0 {
                            return Err(io::ErrorKind::WriteZero.into());
                        }
                        bytes += written;
                        rest = &rest[written..];
                    }
                    Poll::Pending => break 'all,
                }
            }
        }
        let held = match Pin::new(&mut *stream).poll_flush(&mut cx) {
            Poll::Ready(flushed) => flushed.map(|()| false)?,
            Poll::Pending => true,
        };
        if bytes == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(Taken { bytes, held }) }
    }

    /// Writes past what the system says of the socket: Linux reports it as writable only when a third of its send buffer is free.
    /// Returns the bytes of the message that were written; `None` if the client has taken nothing.
    pub(crate) fn nudge(&self, slices: &[IoSlice<'_>]) -> Option<usize> {
        match self {
            WriteHalf::Plain(half) => {
                SockRef::from(half.as_ref()).send_vectored(slices).ok().filter(|&bytes| bytes > 0)
            }
            WriteHalf::Tls(stream) => {
                let mut stream = lock(stream);
                let (tcp, session) = stream.get_mut();
                let sent = session.write_tls(&mut &*SockRef::from(&*tcp)).ok();
                sent.filter(|&sent| sent > 0).map(|_| 0)
            }
        }
    }

    /// Makes the close discard what the peer has not fetched yet.
    pub(crate) fn discard_unsent(&self) {
        // On failure the close is an ordinary one.
        let _ = match self {
            WriteHalf::Plain(half) => half.as_ref().set_zero_linger(),
            WriteHalf::Tls(stream) => lock(stream).get_ref().0.set_zero_linger(),
        };
    }
}

impl AsyncWrite for WriteHalf {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            WriteHalf::Plain(half) => Pin::new(half).poll_write(cx, bytes),
            WriteHalf::Tls(stream) => Pin::new(&mut *lock(stream)).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            WriteHalf::Plain(half) => Pin::new(half).poll_write_vectored(cx, slices),
            WriteHalf::Tls(stream) => Pin::new(&mut *lock(stream)).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            WriteHalf::Plain(half) => Pin::new(half).poll_flush(cx),
            WriteHalf::Tls(stream) => Pin::new(&mut *lock(stream)).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            WriteHalf::Plain(half) => Pin::new(half).poll_shutdown(cx),
            WriteHalf::Tls(stream) => Pin::new(&mut *lock(stream)).poll_shutdown(cx),
        }
    }
}
