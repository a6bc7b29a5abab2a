//! Where one message of a byte stream ends and the next begins: [`FrameReader`], which is pure, and `Framed`, a stream
//! with a reader in front. Neither reads a clock: callers put a deadline on every wait.

use std::io;
use std::marker::PhantomData;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::message::{Message, MessageError};
use super::serialization::{PREFIX, decode};
use crate::limits;
use crate::tls::Stream;

/// Cuts a stream of bytes into messages. Its buffer holds one incomplete message, and little more.
#[derive(Debug)]
pub struct FrameReader<M> {
    buffer: BytesMut,
    kind: PhantomData<fn() -> M>,
}

impl<M> Default for FrameReader<M> {
    fn default() -> Self {
        FrameReader { buffer: BytesMut::new(), kind: PhantomData }
    }
}

impl<M: Message> FrameReader<M> {
    /// The buffer to which the caller appends the next bytes. Its spare capacity is the rest of the incomplete message,
    /// but at most 64 KiB: memory grows with the bytes that have arrived, not with the length that a prefix claims.
    pub fn room(&mut self) -> &mut BytesMut {
        let whole = match self.buffer.first_chunk::<PREFIX>() {
            Some(prefix) => PREFIX + M::MAX_BODY.min(u32::from_le_bytes(*prefix) as usize),
            None => PREFIX,
        };
        let missing = whole.saturating_sub(self.buffer.len());
        self.buffer.reserve(missing.clamp(256, 64 * 1024));
        &mut self.buffer
    }

    /// Takes the next complete message; `None` if more bytes are needed.
    ///
    /// # Errors
    /// Those of [`decode`]. A prefix beyond the limit is an error before any byte of its body has arrived. After an
    /// error the message boundaries are lost: close the stream.
    pub fn take(&mut self) -> Result<Option<M>, MessageError> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX>() else { return Ok(None) };
        let length = u32::from_le_bytes(*prefix) as usize;
        if length > M::MAX_BODY {
            return Err(MessageError::TooLong { kind: M::KIND, length, limit: M::MAX_BODY });
        }
        let Some(body) = self.buffer.get(PREFIX..PREFIX + length) else { return Ok(None) };
        let message = decode(body)?;
        self.buffer.advance(PREFIX + length);
        Ok(Some(message))
    }

    /// Whether a part of a message has arrived. Valid after [`take`](Self::take) has returned `None`.
    pub fn is_midway(&self) -> bool {
        !self.buffer.is_empty()
    }
}

/// A stream of bytes to a peer: TCP, or in tests a pipe in memory, which works in virtual time.
pub(super) trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Whether nobody between can read what is sent.
    fn is_tls(&self) -> bool {
        false
    }

    /// Makes the close discard what the peer has not fetched yet: a client that stops reading must not keep megabytes
    /// in the kernel's send buffer.
    fn discard_unsent(&self) {}
}

impl ByteStream for TcpStream {
    fn discard_unsent(&self) {
        // On failure the close is an ordinary one.
        let _ = self.set_zero_linger();
    }
}

impl ByteStream for tokio_rustls::client::TlsStream<TcpStream> {}

impl ByteStream for Box<dyn ByteStream> {
    fn discard_unsent(&self) {
        (**self).discard_unsent();
    }
}

impl ByteStream for Stream {
    fn is_tls(&self) -> bool {
        Stream::is_tls(self)
    }

    fn discard_unsent(&self) {
        let _ = self.tcp().set_zero_linger();
    }
}

#[cfg(test)]
impl ByteStream for tokio::io::DuplexStream {}

/// A stream that sends encoded messages and receives messages of the type `In`.
pub(super) struct Framed<S, In> {
    stream: S,
    reader: FrameReader<In>,
}

impl<S: ByteStream, In: Message> Framed<S, In> {
    pub(super) fn new(stream: S) -> Self {
        Framed { stream, reader: FrameReader::default() }
    }

    /// Takes the next message that has arrived; see [`FrameReader::take`].
    pub(super) fn take(&mut self) -> Result<Option<In>, MessageError> {
        self.reader.take()
    }

    /// See [`FrameReader::is_midway`].
    pub(super) fn is_midway(&self) -> bool {
        self.reader.is_midway()
    }

    /// Waits for bytes, any number; `false` when the peer has closed. Cancel-safe.
    pub(super) async fn fill(&mut self) -> io::Result<bool> {
        Ok(self.stream.read_buf(self.reader.room()).await? > 0)
    }

    /// Sends encoded messages. Not cancel-safe: a part may have been sent, so the caller must close.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Closes so that the peer can still read our last message: ends our side, then [drains](limits::drain) the peer's.
    pub(super) async fn drain_and_close(mut self) {
        if self.stream.shutdown().await.is_err() {
            return;
        }
        limits::drain(&mut self.stream).await;
    }

    /// See [`ByteStream::is_tls`].
    pub(super) fn is_tls(&self) -> bool {
        self.stream.is_tls()
    }

    pub(super) fn discard_unsent(&self) {
        self.stream.discard_unsent();
    }
}
