//! A stream seen as messages, for both ends. No clock here: its users bound every wait.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::message::{Inbox, Message, MessageError};
use crate::limits;

/// A stream that carries a conversation: TCP, or a pipe in memory, whose time a test can hold.
pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Makes the coming close throw away what the peer has not fetched, so that one who does not
    /// read cannot keep megabytes of ours in the kernel.
    fn forget_unsent(&self) {}
}

impl Wire for tokio::net::TcpStream {
    fn forget_unsent(&self) {
        // When it fails the close is an ordinary one: nothing to add.
        let _ = self.set_zero_linger();
    }
}

#[cfg(test)]
impl Wire for tokio::io::DuplexStream {}

/// A stream and the message under way on it.
pub(super) struct Link<S, In> {
    stream: S,
    inbox: Inbox<In>,
}

impl<S: Wire, In: Message> Link<S, In> {
    pub(super) fn new(stream: S) -> Self {
        Link { stream, inbox: Inbox::default() }
    }

    /// The next message that is already here; see [`Inbox::take`].
    pub(super) fn take(&mut self) -> Result<Option<In>, MessageError> {
        self.inbox.take()
    }

    /// Whether a part of a message is here, [`take`](Self::take) having returned `None`.
    pub(super) fn is_midway(&self) -> bool {
        self.inbox.is_midway()
    }

    /// Waits for bytes, any number; `false` when the peer has closed. May be cancelled: nothing is lost.
    pub(super) async fn fill(&mut self) -> io::Result<bool> {
        Ok(self.stream.read_buf(self.inbox.room()).await? > 0)
    }

    /// Sends encoded messages. Cancelled, it may have sent a part: close then.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Closes so that the peer can still read our last message; see [`limits::drain`].
    pub(super) async fn part(mut self) {
        if self.stream.shutdown().await.is_ok() {
            limits::drain(&mut self.stream).await;
        }
    }

    pub(super) fn forget_unsent(&self) {
        self.stream.forget_unsent();
    }
}
